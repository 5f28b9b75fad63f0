//! A directory for what is between the workers of one server and its own user: sockets of consoles, data of coverage.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::start_failure::{EXIT_OPERATING_SYSTEM, StartFailure};
use crate::config::Config;

/// The directory; removed with all it holds when dropped.
#[derive(Debug)]
pub(super) struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    /// Makes the directory if the configuration needs one, as the user whom the workers run as. `spawn console` finds
    /// it by its name.
    pub(super) fn create(config: &Config) -> Result<Option<Self>, StartFailure> {
        if !(config.coverage || config.backdoor) {
            return Ok(None);
        }
        let path = std::env::temp_dir().join(format!("spawning-{}", std::process::id()));
        match create(&path) {
            Ok(()) => Ok(Some(Self(path))),
            Err(error) => Err(StartFailure {
                status: EXIT_OPERATING_SYSTEM,
                message: format!("cannot make the directory {}: {error}", path.display()),
                hint: "name a directory that the server's user may write by the variable TMPDIR".to_owned(),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

/// Closed to others from its first moment. What a dead process of that number left is removed, where that is allowed.
fn create(path: &Path) -> io::Result<()> {
    let make = || DirBuilder::new().mode(0o700).create(path);
    match make() {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_dir_all(path)?;
            make()
        }
        outcome => outcome,
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "cannot remove the private directory");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_closed_to_others_and_takes_the_place_of_an_older_one() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("spawning-1");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("old"), "").unwrap();
        create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(!path.join("old").exists());
        drop(PrivateDirectory(path.clone()));
        assert!(!path.exists());
    }
}
