//! Files: anonymous ones, files that are appended to, and locked ones that say that a process lives.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::{AccessFlags, access};

use super::account::Identity;
use super::open_files;

/// Makes a file without a name in `directory`: its space is free again when it is closed, whatever happens.
///
/// # Errors
/// The kernel's (open(2)), for example when the directory cannot be written or its file system is full.
pub fn anonymous(directory: &Path) -> io::Result<File> {
    // With `O_TMPFILE`; where the file system has none, as overlayfs before Linux 6.3, it is made and unlinked.
    tempfile::tempfile_in(directory).map(open_files::make_way_for_file)
}

/// Whether no file can be made in a directory, as long as nobody changes that: it is missing, another user's, or on a
/// file system that is read-only.
pub fn is_unwritable(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), NotADirectory | NotFound | PermissionDenied | ReadOnlyFilesystem)
}

/// How to make a renamed log reopenable.
pub const REOPEN_HINT: &str =
    "make it for the server's user when the old one is moved, as logrotate's `create` does";

/// Opens a file to append to; one that does not exist is made, and given to `owner`.
///
/// A file that exists keeps its owner: root must not give away what a symbolic link may lead to.
///
/// # Errors
/// The operating system's.
pub fn append(path: &Path, owner: Option<&Identity>) -> io::Result<File> {
    match File::options().append(true).create_new(true).mode(0o644).open(path) {
        Ok(file) => {
            if let Some(owner) = owner {
                fchown(&file, Some(owner.uid), Some(owner.gid))?;
            }
            Ok(file)
        }
        // With `create`, because it may have been moved away meanwhile.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            File::options().append(true).create(true).mode(0o644).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Whether the user of this process may execute a file.
///
/// # Errors
/// The operating system's reason why not (access(2)).
pub fn may_execute(path: &Path) -> io::Result<()> {
    Ok(access(path, AccessFlags::X_OK)?)
}

/// A file that one living process at most holds (flock(2)): the kernel lets go of it when that process ends, however
/// it ends.
#[derive(Debug)]
pub struct LockedFile(Flock<File>);

impl LockedFile {
    /// Opens or makes the file and takes the lock, unless another process has it: `None`.
    ///
    /// # Errors
    /// The operating system's, when it cannot be opened.
    pub fn take(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            match Flock::lock(options.open(path)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => {
                    let locked = Self(lock);
                    // The last holder may have removed it between the two calls: then this is a file without a name.
                    if locked.is_at(path) {
                        return Ok(Some(locked));
                    }
                }
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, Errno::EINTR)) => {}
                Err((_, errno)) => return Err(errno.into()),
            }
        }
    }

    /// The file of another process that has locked it and passed on the descriptor: from now on both hold it, and the
    /// first to be dropped lets go of it for both.
    ///
    /// # Errors
    /// The operating system's.
    pub fn share(fd: OwnedFd) -> io::Result<Self> {
        let lock = Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock);
        lock.map(Self).map_err(|(_, errno)| errno.into())
    }

    /// Whether the file still has this name.
    pub fn is_at(&self, path: &Path) -> bool {
        let number = |found: fs::Metadata| (found.dev(), found.ino());
        let ours = self.0.metadata().ok().map(number);
        ours.is_some() && ours == fs::metadata(path).ok().map(number)
    }
}

impl Deref for LockedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_locked_file_is_held_by_one_and_free_again_when_that_one_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let held = LockedFile::take(&path).unwrap().unwrap();
        assert!(LockedFile::take(&path).unwrap().is_none());
        drop(held);
        let held = LockedFile::take(&path).unwrap().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(!held.is_at(&path));
        assert!(LockedFile::take(&path).unwrap().is_some(), "a new file of that name");
    }

    #[test]
    fn a_file_is_appended_to_under_whatever_name_it_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        append(&path, None).unwrap().write_all(b"one ").unwrap();
        let mut file = append(&path, None).unwrap();
        file.write_all(b"two").unwrap();
        fs::rename(&path, path.with_extension("1")).unwrap();
        file.write_all(b" three").unwrap();
        append(&path, None).unwrap().write_all(b"four").unwrap();
        assert_eq!(fs::read_to_string(path.with_extension("1")).unwrap(), "one two three");
        assert_eq!(fs::read_to_string(&path).unwrap(), "four");
    }
}
