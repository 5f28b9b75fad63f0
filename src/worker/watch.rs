//! Watches files whose change is to load the application anew (inotify(7)).
//!
//! Not files are watched but the directories they are in: editors save by renaming a new file over the old one, and a
//! watch would stay with the old. Whether a file has really changed is told by its identity, time and size, after a
//! burst of events has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use notify::event::EventKind;
use notify::{ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::notices::{Notice, Notices};
use crate::limits::{CHANGE_SETTLE, CHANGE_SETTLE_MAX};
use crate::sys::clock;

/// How often a directory that has vanished is looked for.
const LOST_PAUSE: Duration = Duration::from_secs(1);

/// The watching thread.
#[derive(Debug)]
pub(super) struct Watch(Sender<Input>);

#[derive(Debug)]
enum Input {
    /// Watch these files as well, and say so when they are watched.
    Files(Vec<PathBuf>, Sender<()>),
    /// From now on any Python source counts that lies beside a watched file, known or new.
    AnySource,
    /// Something happened where we look.
    Event(notify::Result<notify::Event>),
}

impl Watch {
    /// Watches `paths`, files and directories, and posts what changes.
    ///
    /// # Errors
    /// The operating system's, when it gives no watcher or no thread.
    pub(super) fn start(paths: &[PathBuf], notices: Arc<Notices>) -> notify::Result<Self> {
        let (sender, inputs) = channel();
        let events = sender.clone();
        // Nobody listens any more when the worker ends.
        let watcher = notify::recommended_watcher(move |event| drop(events.send(Input::Event(event))))?;
        let (trees, files) = paths.iter().cloned().partition(|path| path.is_dir());
        let mut all = Watched {
            watcher,
            directories: Directories::default(),
            lost: BTreeSet::new(),
            complained: false,
        };
        all.add_trees(trees);
        all.add_files(files);
        let thread = std::thread::Builder::new().name("watch".to_owned());
        thread.spawn(move || all.follow(&inputs, &notices)).map_err(notify::Error::io)?;
        Ok(Self(sender))
    }

    /// Watches more files: every change after this call is noticed.
    pub(super) fn add(&self, files: Vec<PathBuf>) {
        if files.is_empty() {
            return;
        }
        let (done, is_done) = channel();
        if self.0.send(Input::Files(files, done)).is_ok() {
            // An error means that the thread is gone: then nothing is watched at all, as it has said.
            let _ = is_done.recv();
        }
    }

    /// Takes a change of any Python source beside a watched file for one that matters: a module that is missing now
    /// has no file yet.
    pub(super) fn any_source(&self) {
        let _ = self.0.send(Input::AnySource);
    }
}

struct Watched {
    watcher: RecommendedWatcher,
    directories: Directories,
    /// Directories that cannot be watched now.
    lost: BTreeSet<PathBuf>,
    complained: bool,
}

impl Watched {
    fn follow(mut self, inputs: &Receiver<Input>, notices: &Notices) {
        let mut burst: Option<Burst> = None;
        loop {
            let now = Instant::now();
            let pause = burst.as_ref().map(|burst| burst.settles_at().saturating_duration_since(now));
            let lost_pause = (!self.lost.is_empty()).then_some(LOST_PAUSE);
            let pause = [pause, lost_pause].into_iter().flatten().min();
            let input = match pause {
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(pause) => inputs.recv_timeout(pause),
            };
            let now = Instant::now();
            match input {
                Ok(Input::Files(files, done)) => {
                    self.add_files(files);
                    let _ = done.send(());
                }
                Ok(Input::AnySource) => self.directories.any_source = true,
                Ok(Input::Event(Ok(event))) if !matches!(event.kind, EventKind::Access(_)) => {
                    let burst = burst.get_or_insert_with(|| Burst::new(now));
                    burst.last_at = now;
                    burst.paths.extend(event.paths);
                }
                Ok(Input::Event(Ok(_))) => {}
                Ok(Input::Event(Err(error))) => tracing::warn!(%error, "cannot watch everything"),
                Err(RecvTimeoutError::Timeout) => self.find_lost(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if let Some(settled) = burst.take_if(|burst| burst.settles_at() <= now) {
                self.lost.extend(self.directories.vanished(&settled.paths));
                if let Some(path) = self.directories.changed(&settled.paths) {
                    let version = version(&path);
                    notices.post(Notice::Changed { path, at_ms: settled.noticed_ms, version });
                }
            }
        }
    }

    fn add_trees(&mut self, trees: Vec<PathBuf>) {
        for tree in trees {
            self.watch(&tree, RecursiveMode::Recursive);
            self.directories.trees.push(tree);
        }
    }

    fn add_files(&mut self, files: Vec<PathBuf>) {
        for file in files {
            for directory in self.directories.add(&file) {
                self.watch(&directory, RecursiveMode::NonRecursive);
            }
        }
    }

    fn watch(&mut self, directory: &Path, mode: RecursiveMode) {
        let Err(error) = self.watcher.watch(directory, mode) else { return };
        match error.kind {
            ErrorKind::PathNotFound => drop(self.lost.insert(directory.to_owned())),
            _ if self.complained => {}
            ErrorKind::MaxFilesWatch => {
                self.complained = true;
                tracing::warn!(
                    directory = %directory.display(),
                    "cannot watch every directory; hint: sysctl -w fs.inotify.max_user_watches=524288"
                );
            }
            _ => {
                self.complained = true;
                tracing::warn!(%error, directory = %directory.display(), "cannot watch a directory");
            }
        }
    }

    fn find_lost(&mut self) {
        for directory in std::mem::take(&mut self.lost) {
            self.watch(&directory, RecursiveMode::NonRecursive);
        }
    }
}

/// Events that belong together.
#[derive(Debug)]
struct Burst {
    noticed_ms: u64,
    first_at: Instant,
    last_at: Instant,
    paths: BTreeSet<PathBuf>,
}

impl Burst {
    fn new(now: Instant) -> Self {
        Self { noticed_ms: clock::monotonic_ms(), first_at: now, last_at: now, paths: BTreeSet::new() }
    }

    fn settles_at(&self) -> Instant {
        (self.last_at + CHANGE_SETTLE).min(self.first_at + CHANGE_SETTLE_MAX)
    }
}

/// What a file was when we looked at it; `None` if it was not there.
type Stamp = Option<(u64, u64, i64, i64, u64)>;

fn stamp(file: &Path) -> Stamp {
    let found = fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.mtime(), found.mtime_nsec(), found.size()))
}

/// A word for what a file is now. Unlike its stamp it differs after a change of permissions, too.
fn version(file: &Path) -> String {
    let status_changed = fs::metadata(file).map(|found| (found.ctime(), found.ctime_nsec())).ok();
    format!("{:?} {status_changed:?}", stamp(file))
}

/// What is watched, and what it was when last looked at.
#[derive(Debug, Default)]
struct Directories {
    files: BTreeMap<PathBuf, Stamp>,
    /// The files to look at when something happens in a directory.
    members: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    trees: Vec<PathBuf>,
    any_source: bool,
}

impl Directories {
    /// Adds a file, and returns the directories that are to be watched for it from now on.
    fn add(&mut self, file: &Path) -> Vec<PathBuf> {
        if self.files.contains_key(file) {
            return Vec::new();
        }
        self.files.insert(file.to_owned(), stamp(file));
        // A link changes where it lies or where it leads to.
        let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let parents: BTreeSet<PathBuf> =
            [file, &target].into_iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
        let mut new = Vec::new();
        for parent in parents {
            let members = self.members.entry(parent.clone()).or_default();
            if members.is_empty() && !self.trees.iter().any(|tree| parent.starts_with(tree)) {
                new.push(parent);
            }
            members.insert(file.to_owned());
        }
        new
    }

    /// Directories among `paths` that are not there any more.
    fn vanished(&self, paths: &BTreeSet<PathBuf>) -> Vec<PathBuf> {
        paths.iter().filter(|path| self.members.contains_key(*path) && !path.is_dir()).cloned().collect()
    }

    /// One of the files that have changed, when something happened at `paths`; remembers what they are now.
    fn changed(&mut self, paths: &BTreeSet<PathBuf>) -> Option<PathBuf> {
        let in_tree = paths.iter().find(|path| self.is_in_tree(path)).cloned();
        let source = paths
            .iter()
            .find(|path| self.any_source && path.extension().is_some_and(|it| it == "py"))
            .cloned();
        let directories: BTreeSet<&Path> =
            paths.iter().flat_map(|path| path.parent().into_iter().chain([path.as_path()])).collect();
        let members: BTreeSet<&PathBuf> =
            directories.iter().filter_map(|it| self.members.get(*it)).flatten().collect();
        let mut known = None;
        for file in members {
            // A file that is gone may be about to be replaced: what comes next is compared with what was before.
            let Some(now) = stamp(file) else { continue };
            if let Some(before) = self.files.get_mut(file)
                && *before != Some(now)
            {
                *before = Some(now);
                known = Some(file.clone());
            }
        }
        known.or(in_tree).or(source)
    }

    fn is_in_tree(&self, path: &Path) -> bool {
        self.trees.iter().filter_map(|tree| path.strip_prefix(tree).ok()).any(|inner| {
            let mut names = inner.iter().map(|name| name.to_string_lossy());
            inner.iter().next().is_some() && names.all(|name| !is_scratch(&name))
        })
    }
}

/// Names that editors and interpreters give to files of their own.
fn is_scratch(name: &str) -> bool {
    let is_backup = [".pyc", ".swp", ".swx", "~"].iter().any(|end| name.ends_with(end));
    // Vim tries by a file of this name whether it can write here.
    is_backup || name.starts_with('.') || name == "__pycache__" || name == "4913"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths<const N: usize>(paths: [&Path; N]) -> BTreeSet<PathBuf> {
        paths.into_iter().map(Path::to_owned).collect()
    }

    #[test]
    fn a_file_has_changed_when_it_was_written_or_replaced_but_not_when_it_was_touched_by_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("a.py"), directory.path().join("b"));
        fs::write(&file, "1").unwrap();
        let mut directories = Directories::default();
        assert_eq!(directories.add(&file), [directory.path()]);
        assert_eq!(directories.add(&file), Vec::<PathBuf>::new(), "known");
        assert_eq!(directories.changed(&paths([&file])), None);
        fs::write(&file, "12").unwrap();
        assert_eq!(directories.changed(&paths([&other])), Some(file.clone()), "its directory was mentioned");
        assert_eq!(directories.changed(&paths([&file])), None, "said once");
        fs::write(&other, "12").unwrap();
        fs::rename(&other, &file).unwrap();
        assert_eq!(directories.changed(&paths([&file])), Some(file.clone()));
    }

    #[test]
    fn a_file_that_is_gone_has_changed_only_when_it_is_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.py");
        fs::write(&file, "1").unwrap();
        let mut directories = Directories::default();
        directories.add(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(directories.changed(&paths([&file])), None);
        fs::write(&file, "123").unwrap();
        assert_eq!(directories.changed(&paths([&file])), Some(file));
    }

    #[test]
    fn a_link_changes_where_it_leads_to() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (link, target) = (here.path().join("link"), there.path().join("target"));
        fs::write(&target, "1").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        let mut directories = Directories::default();
        assert_eq!(directories.add(&link).len(), 2);
        fs::write(&target, "12").unwrap();
        assert_eq!(directories.changed(&paths([&target])), Some(link));
    }

    #[test]
    fn in_a_tree_everything_counts_but_scratch() {
        let mut directories = Directories { trees: vec!["/t".into()], ..Directories::default() };
        for (path, counts) in [
            ("/t/a.html", true),
            ("/t/deep/a.css", true),
            ("/t", false),
            ("/u/a.html", false),
            ("/t/.a.html.swp", false),
            ("/t/a.html~", false),
            ("/t/__pycache__/a.cpython-311.pyc", false),
            ("/t/.git/index", false),
        ] {
            assert_eq!(directories.changed(&paths([Path::new(path)])).is_some(), counts, "{path}");
        }
    }

    #[test]
    fn any_source_counts_only_when_that_was_asked_for() {
        let mut directories = Directories::default();
        assert_eq!(directories.changed(&paths([Path::new("/nonexistent/new.py")])), None);
        directories.any_source = true;
        assert!(directories.changed(&paths([Path::new("/nonexistent/new.py")])).is_some());
        assert_eq!(directories.changed(&paths([Path::new("/nonexistent/new.txt")])), None);
    }
}
