//! The directory that workers are started in: found by its name for each generation, so that a deploy that moves a
//! symbolic link needs no more than a reload, and a release that was removed stops no replacement.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Config, current_directory};

/// The working directory, by the names that its links have.
#[derive(Debug)]
pub(super) struct WorkingDirectory {
    /// Where the server was started, by its name.
    started_in: Option<PathBuf>,
    /// As its user names it.
    named: Option<PathBuf>,
    /// Whether the user named it, and wants to be told when it cannot be had.
    is_chosen: bool,
    /// Where the name led to when this generation began.
    current: Option<(u64, PathBuf)>,
}

impl WorkingDirectory {
    pub(super) fn new(config: &Config) -> Self {
        let chosen = config.application.directory.clone();
        let started_in = current_directory();
        let is_chosen = chosen.is_some();
        Self { named: chosen.or_else(|| started_in.clone()), started_in, is_chosen, current: None }
    }

    /// As its user names it; what leads somewhere else by then is not believed by who is told it.
    pub(super) fn name(&self) -> Option<&Path> {
        self.named.as_deref()
    }

    /// Where a supervisor that takes over is started, which reads relative paths as this one did.
    pub(super) fn of_successor(&self) -> Option<&Path> {
        self.started_in.as_deref().filter(|directory| can_be_entered(directory))
    }

    /// Where a worker of that generation starts; `None` is where this process is.
    ///
    /// All workers of a generation start in the same directory as long as it is there, wherever its name leads by then:
    /// none of them has other code than its siblings.
    pub(super) fn of_generation(&mut self, generation: u64) -> Option<PathBuf> {
        if let Some((known, directory)) = &self.current
            && *known == generation
            && can_be_entered(directory)
        {
            return Some(directory.clone());
        }
        let found = self
            .named
            .as_ref()
            .filter(|named| can_be_entered(named))
            .and_then(|it| fs::canonicalize(it).ok());
        if let Some(directory) = &found {
            self.current = Some((generation, directory.clone()));
        }
        found.or_else(|| self.substitute())
    }

    /// Code that is installed, or that `PYTHONPATH` leads to, needs no working directory of its own.
    fn substitute(&self) -> Option<PathBuf> {
        let has_one = env::current_dir().is_ok();
        if has_one && !self.is_chosen {
            return None;
        }
        let directory = self.named.as_ref().map_or_else(String::new, |named| named.display().to_string());
        tracing::error!(
            directory,
            "the working directory does not exist or cannot be entered; the worker starts in /; hint: restore it, or \
             start the server with --chdir DIRECTORY"
        );
        Some(PathBuf::from("/"))
    }
}

/// The dot asks for more than that it is there.
fn can_be_entered(directory: &Path) -> bool {
    fs::metadata(directory.join(".")).is_ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn directory(named: &Path) -> WorkingDirectory {
        WorkingDirectory { started_in: None, named: Some(named.to_owned()), is_chosen: true, current: None }
    }

    #[test]
    fn a_link_is_followed_for_each_generation_and_not_within_one() {
        let there = tempfile::tempdir().unwrap();
        let path = |name: &str| fs::canonicalize(there.path()).unwrap().join(name);
        fs::create_dir(path("1")).unwrap();
        fs::create_dir(path("2")).unwrap();
        symlink(path("1"), path("current")).unwrap();
        let mut directory = directory(&path("current"));
        assert_eq!(directory.of_generation(1), Some(path("1")));
        fs::remove_file(path("current")).unwrap();
        symlink(path("2"), path("current")).unwrap();
        assert_eq!(directory.of_generation(1), Some(path("1")), "as its siblings");
        assert_eq!(directory.of_generation(2), Some(path("2")));
    }

    #[test]
    fn a_release_that_is_gone_is_replaced_by_what_the_name_leads_to_or_by_the_root() {
        let there = tempfile::tempdir().unwrap();
        let path = |name: &str| fs::canonicalize(there.path()).unwrap().join(name);
        fs::create_dir(path("1")).unwrap();
        symlink(path("1"), path("current")).unwrap();
        let mut directory = directory(&path("current"));
        assert_eq!(directory.of_generation(1), Some(path("1")));
        fs::remove_dir(path("1")).unwrap();
        assert_eq!(directory.of_generation(1), Some(PathBuf::from("/")));
        fs::create_dir(path("2")).unwrap();
        fs::remove_file(path("current")).unwrap();
        symlink(path("2"), path("current")).unwrap();
        assert_eq!(directory.of_generation(1), Some(path("2")));
    }
}
