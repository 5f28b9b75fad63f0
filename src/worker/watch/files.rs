//! What is watched, and what it was when last looked at: says what has changed, however that was noticed.
//!
//! Files are named by their paths, and links on the way are followed at each look. So a file has changed, too, when a
//! link leads elsewhere: a release that was deployed, `..data` of a Kubernetes volume.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::limits::LINKS_FOLLOWED_MAX;

/// What a file was when we looked at it, and of a directory which one it was; `None` if it was not there.
type FileStamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(path: &Path) -> FileStamp {
    let found = fs::metadata(path).ok()?;
    if found.is_dir() {
        return Some((found.dev(), found.ino(), 0, 0, 0));
    }
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}

/// A word for what a file is now. Unlike its stamp it differs after a change of permissions, too.
pub(super) fn version(file: &Path) -> String {
    let status_changed = fs::metadata(file).map(|found| (found.ctime(), found.ctime_nsec())).ok();
    format!("{:?} {status_changed:?}", stamp(file))
}

/// The files to watch, the directories they are in, and what was last seen of them.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    files: BTreeMap<PathBuf, FileStamp>,
    /// Directories of which all that they contain is watched.
    trees: BTreeMap<PathBuf, BTreeMap<PathBuf, FileStamp>>,
    /// The files and trees to look at when something happens in a directory.
    members: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// The Python sources beside watched files, if any change of these counts.
    sources: Option<BTreeMap<PathBuf, FileStamp>>,
}

impl WatchedFiles {
    /// Adds a file, or a directory that counts as one when another takes its place. Returns the directories in which
    /// events matter from now on.
    pub(super) fn add_file(&mut self, file: &Path) -> Vec<PathBuf> {
        if self.files.contains_key(file) {
            return Vec::new();
        }
        self.files.insert(file.to_owned(), stamp(file));
        self.enter(file)
    }

    /// Adds a directory with all it contains. Returns as [`Self::add_file`], the directory itself left out.
    pub(super) fn add_tree(&mut self, tree: &Path) -> Vec<PathBuf> {
        self.trees.insert(tree.to_owned(), contents(tree));
        self.enter(tree)
    }

    /// All directories in which events matter for a path that leads elsewhere now, though their names may be known.
    pub(super) fn follow(&mut self, path: &Path) -> Vec<PathBuf> {
        let _ = self.enter(path);
        directories_on_the_way(path).into_iter().filter(|it| !self.covers(it)).collect()
    }

    fn enter(&mut self, path: &Path) -> Vec<PathBuf> {
        let mut new = Vec::new();
        for directory in directories_on_the_way(path) {
            let is_covered = self.covers(&directory);
            let members = self.members.entry(directory.clone()).or_default();
            if members.is_empty() && !is_covered {
                new.push(directory);
            }
            members.insert(path.to_owned());
        }
        new
    }

    fn covers(&self, directory: &Path) -> bool {
        self.trees.keys().any(|tree| directory.starts_with(tree))
    }

    /// The directories that are watched with all they contain.
    pub(super) fn trees(&self) -> Vec<PathBuf> {
        self.trees.keys().cloned().collect()
    }

    /// From now on any Python source beside a watched file counts, known or new.
    pub(super) fn any_source(&mut self) {
        self.sources = Some(self.find_sources());
    }

    /// Directories among `paths` that are not there any more.
    pub(super) fn vanished(&self, paths: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        paths.iter().filter(|path| self.members.contains_key(*path) && !path.is_dir()).cloned().collect()
    }

    /// One of the files that have changed, when something happened at `paths`; remembers what they are now.
    pub(super) fn changed_at(&mut self, paths: &BTreeSet<PathBuf>) -> Option<PathBuf> {
        let in_tree = paths.iter().find(|path| self.is_in_tree(path)).cloned();
        let source = paths
            .iter()
            .find(|path| self.sources.is_some() && path.extension().is_some_and(|it| it == "py"))
            .cloned();
        let directories: BTreeSet<&Path> =
            paths.iter().flat_map(|path| path.parent().into_iter().chain([path.as_path()])).collect();
        let members = directories.iter().filter_map(|it| self.members.get(*it)).flatten();
        // Links within a tree may have names that do not count by themselves, as `..data` has.
        let trees = self.trees.keys().filter(|tree| paths.iter().any(|path| path.starts_with(tree)));
        let candidates: BTreeSet<PathBuf> = members.chain(trees).cloned().collect();
        self.look_at(candidates).or(in_tree).or(source)
    }

    /// One of the files that have changed since the last look at all of them.
    pub(super) fn changed_anywhere(&mut self) -> Option<PathBuf> {
        let all: BTreeSet<PathBuf> = self.files.keys().chain(self.trees.keys()).cloned().collect();
        let known = self.look_at(all);
        known.or_else(|| {
            let now = self.find_sources();
            let before = self.sources.as_mut()?;
            let changed = difference(before, &now);
            *before = now;
            changed
        })
    }

    fn look_at(&mut self, candidates: BTreeSet<PathBuf>) -> Option<PathBuf> {
        let mut changed = None;
        for path in candidates {
            if let Some(before) = self.trees.get_mut(&path) {
                let now = contents(&path);
                // One that is gone may be about to be replaced.
                if !now.is_empty() {
                    changed = changed.or(difference(before, &now));
                    *before = now;
                }
            } else if let (Some(now), Some(before)) = (stamp(&path), self.files.get_mut(&path))
                && *before != Some(now)
            {
                *before = Some(now);
                changed = Some(path);
            }
        }
        changed
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        self.trees.keys().filter_map(|tree| path.strip_prefix(tree).ok()).any(|inner| {
            let mut names = inner.iter().map(|name| name.to_string_lossy());
            inner.iter().next().is_some() && names.all(|name| !is_scratch(&name))
        })
    }

    fn find_sources(&self) -> BTreeMap<PathBuf, FileStamp> {
        let entries = self.members.keys().filter_map(|it| fs::read_dir(it).ok()).flatten().flatten();
        let paths = entries.map(|entry| entry.path());
        paths
            .filter(|path| path.extension().is_some_and(|it| it == "py"))
            .map(|path| (path.clone(), stamp(&path)))
            .collect()
    }
}

/// A path that one of the two has and the other has not, or has otherwise.
fn difference(before: &BTreeMap<PathBuf, FileStamp>, now: &BTreeMap<PathBuf, FileStamp>) -> Option<PathBuf> {
    let changed = now.iter().find(|(path, stamp)| before.get(*path) != Some(stamp));
    let gone = || before.keys().find(|path| !now.contains_key(*path));
    changed.map(|(path, _)| path).or_else(gone).cloned()
}

/// The directory and all it contains, links followed, what is scratch left out; nothing if it is not there.
fn contents(tree: &Path) -> BTreeMap<PathBuf, FileStamp> {
    let (mut found, mut seen) = (BTreeMap::new(), BTreeSet::new());
    let mut waiting = vec![tree.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Some(mark) = stamp(&directory) else { continue };
        found.insert(directory.clone(), Some(mark));
        // A link may lead back up.
        if !seen.insert((mark.0, mark.1)) {
            continue;
        }
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            if is_scratch(&entry.file_name().to_string_lossy()) {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                found.insert(path.clone(), stamp(&path));
            }
        }
    }
    found
}

/// Every directory in which something on the way to `path` can be replaced: the one it is in, and those of the links it
/// goes through.
fn directories_on_the_way(path: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![path.to_owned()];
    let mut links = 0;
    while let Some(path) = waiting.pop() {
        found.extend(path.parent().map(Path::to_owned));
        for part in path.ancestors() {
            let (Ok(target), Some(directory)) = (fs::read_link(part), part.parent()) else { continue };
            found.insert(directory.to_owned());
            links += 1;
            if links <= LINKS_FOLLOWED_MAX
                && let Ok(rest) = path.strip_prefix(part)
            {
                let target = directory.join(target);
                waiting.push(if rest.as_os_str().is_empty() { target } else { target.join(rest) });
            }
        }
    }
    found
}

/// Names that editors and interpreters give to files of their own.
fn is_scratch(name: &str) -> bool {
    let is_backup = [".pyc", ".swp", ".swx", "~"].iter().any(|end| name.ends_with(end));
    // Emacs saves unsaved work between number signs; Vim tries by a file of this name whether it can write here.
    let is_autosave = name.starts_with('#') && name.ends_with('#');
    is_backup || is_autosave || name.starts_with('.') || name == "__pycache__" || name == "4913"
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn paths<const N: usize>(paths: [&Path; N]) -> BTreeSet<PathBuf> {
        paths.into_iter().map(Path::to_owned).collect()
    }

    /// Puts a link in the place of another, as `mv -T` does.
    fn swap(link: &Path, target: &Path) {
        let scratch = link.with_file_name(".scratch");
        symlink(target, &scratch).unwrap();
        fs::rename(scratch, link).unwrap();
    }

    #[test]
    fn a_file_has_changed_when_it_was_written_or_replaced_but_not_when_it_was_touched_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a.py"), directory.path().join("b"));
        fs::write(&file, "1").unwrap();
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.add_file(&file), [directory.path()]);
        assert_eq!(watched.add_file(&file), Vec::<PathBuf>::new(), "known");
        assert_eq!(watched.changed_at(&paths([&file])), None);
        fs::write(&file, "12").unwrap();
        assert_eq!(watched.changed_at(&paths([&other])), Some(file.clone()), "its directory was mentioned");
        assert_eq!(watched.changed_at(&paths([&file])), None, "said once");
        fs::write(&other, "12").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(watched.changed_anywhere(), Some(file.clone()));
        assert_eq!(watched.changed_anywhere(), None, "said once");
    }

    #[test]
    fn a_file_that_is_gone_has_changed_only_when_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.py");
        fs::write(&file, "1").unwrap();
        let mut watched = WatchedFiles::default();
        watched.add_file(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.changed_at(&paths([&file])), None);
        assert_eq!(watched.changed_anywhere(), None);
        fs::write(&file, "123").unwrap();
        assert_eq!(watched.changed_at(&paths([&file])), Some(file));
    }

    #[test]
    fn a_link_changes_where_it_leads_to() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (here.path().join("link"), there.path().join("target"));
        fs::write(&target, "1").unwrap();
        symlink(&target, &link).unwrap();
        let mut watched = WatchedFiles::default();
        assert_eq!(watched.add_file(&link).len(), 2);
        fs::write(&target, "12").unwrap();
        assert_eq!(watched.changed_at(&paths([&target])), Some(link));
    }

    #[test]
    fn whatever_lies_behind_a_link_has_changed_when_the_link_leads_elsewhere() {
        let site = tempfile::tempdir().unwrap();
        let path = |name: &str| site.path().join(name);
        for release in ["1", "2"] {
            fs::create_dir_all(path(release).join("templates")).unwrap();
            fs::write(path(release).join("a.py"), release).unwrap();
        }
        symlink("1", path("current")).unwrap();
        let (file, tree) = (path("current/a.py"), path("current/templates"));
        let mut watched = WatchedFiles::default();
        let directories = watched.add_file(&file);
        assert!(directories.iter().any(|it| it == site.path()), "where the link lies: {directories:?}");
        watched.add_tree(&tree);
        watched.add_file(&path("current"));
        swap(&path("current"), Path::new("2"));
        let mut changed = BTreeSet::new();
        changed.extend(watched.look_at(paths([&file])));
        changed.extend(watched.look_at(paths([&tree])));
        changed.extend(watched.changed_at(&paths([&path("current")])));
        assert_eq!(changed, paths([&file, &tree, &path("current")]));
    }

    #[test]
    fn a_kubernetes_volume_changes_though_its_link_has_a_hidden_name() {
        let volume = tempfile::tempdir().unwrap();
        let path = |name: &str| volume.path().join(name);
        for version in ["..1", "..2"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("settings.toml"), version).unwrap();
        }
        symlink("..1", path("..data")).unwrap();
        symlink("..data/settings.toml", path("settings.toml")).unwrap();
        for by_tree in [true, false] {
            let mut watched = WatchedFiles::default();
            let settings = path("settings.toml");
            if by_tree {
                watched.add_tree(volume.path())
            } else {
                watched.add_file(&settings)
            };
            assert_eq!(watched.changed_at(&paths([&path("..data")])), None);
            swap(&path("..data"), Path::new(if by_tree { "..2" } else { "..1" }));
            assert_eq!(watched.changed_at(&paths([&path("..data")])), Some(settings), "{by_tree}");
        }
    }

    #[test]
    fn in_a_tree_everything_counts_but_scratch() {
        let mut watched = WatchedFiles::default();
        watched.trees.insert("/t".into(), BTreeMap::new());
        for (path, counts) in [
            ("/t/a.html", true),
            ("/t/deep/a.css", true),
            ("/t", false),
            ("/u/a.html", false),
            ("/t/.a.html.swp", false),
            ("/t/a.html~", false),
            ("/t/#a.html#", false),
            ("/t/__pycache__/a.cpython-311.pyc", false),
            ("/t/.git/index", false),
        ] {
            assert_eq!(watched.changed_at(&paths([Path::new(path)])).is_some(), counts, "{path}");
        }
    }

    #[test]
    fn a_look_at_a_tree_finds_what_was_written_added_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("deep")).unwrap();
        symlink("..", path("deep/up")).unwrap();
        let mut watched = WatchedFiles::default();
        watched.add_tree(directory.path());
        for change in [path("deep/a.html"), path("b.html")] {
            fs::write(&change, "1").unwrap();
            assert_eq!(watched.changed_anywhere(), Some(change.clone()));
            fs::write(&change, "12").unwrap();
            assert_eq!(watched.changed_anywhere(), Some(change.clone()));
            fs::remove_file(&change).unwrap();
            assert_eq!(watched.changed_anywhere(), Some(change));
        }
        fs::write(path(".b.html.swp"), "").unwrap();
        assert_eq!(watched.changed_anywhere(), None);
    }

    #[test]
    fn any_source_counts_only_when_that_was_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let new = directory.path().join("new.py");
        let mut watched = WatchedFiles::default();
        watched.add_file(&directory.path().join("app.py"));
        assert_eq!(watched.changed_at(&paths([&new])), None);
        watched.any_source();
        assert!(watched.changed_at(&paths([&new])).is_some());
        assert_eq!(watched.changed_at(&paths([Path::new("/nonexistent/new.txt")])), None);
        assert_eq!(watched.changed_anywhere(), None);
        fs::write(&new, "1").unwrap();
        assert_eq!(watched.changed_anywhere(), Some(new));
    }
}
