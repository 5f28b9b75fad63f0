//! The file that tells others the supervisor's process id, and that one is alive.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::start_failure::{EXIT_OPERATING_SYSTEM, EXIT_UNAVAILABLE, StartFailure};
use crate::sys::file::LockedFile;

/// The file, locked for as long as this process lives, and removed with it.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    file: LockedFile,
}

impl PidFile {
    /// Writes the file, unless a living server holds it. One that a dead server left holds no lock, and is taken over,
    /// whichever process has its number by now.
    pub(super) fn write(path: &Path) -> Result<Self, StartFailure> {
        let refused = |error: io::Error| StartFailure {
            status: EXIT_OPERATING_SYSTEM,
            message: format!("--pidfile: cannot write {}: {error}", path.display()),
            hint: "name a file that the user who starts the server may write".to_owned(),
        };
        let Some(file) = LockedFile::take(path).map_err(refused)? else { return Err(held(path)) };
        let file = Self { path: path.to_owned(), file };
        file.fill().map_err(refused)?;
        Ok(file)
    }

    /// Writes the number of this process into the file that the supervisor before it holds and has passed on.
    pub(super) fn inherit(path: &Path, fd: OwnedFd) -> io::Result<Self> {
        let file = Self { path: path.to_owned(), file: LockedFile::share(fd)? };
        file.fill()?;
        Ok(file)
    }

    fn fill(&self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
    }

    /// Leaves the file, and the lock, to the process that has inherited it.
    pub(super) fn hand_over(self) {
        // To drop it would remove the file; the descriptor goes with this process.
        std::mem::forget(self);
    }
}

impl AsFd for PidFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if !self.file.is_at(&self.path) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.path) {
            // The directory may be closed to the user that --chuid names; then the file is at least empty.
            let emptied = self.file.set_len(0).is_ok();
            tracing::info!(path = %self.path.display(), %error, emptied, "cannot remove the pid file");
        }
    }
}

fn held(path: &Path) -> StartFailure {
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(32).read_to_string(&mut text));
    let pid = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    let (holder, hint) = match pid {
        Some(pid) => (format!("process {pid}, which is alive"), format!("stop it first: kill {pid}")),
        None => ("another process".to_owned(), format!("see which: fuser -v {}", path.display())),
    };
    StartFailure {
        status: EXIT_UNAVAILABLE,
        message: format!("--pidfile: {} is held by {holder}", path.display()),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Option<u32> {
        fs::read_to_string(path).ok()?.trim().parse().ok()
    }

    #[test]
    fn one_server_at_a_time_holds_it_and_takes_it_away() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        let held = PidFile::write(&path).unwrap();
        assert_eq!(number(&path), Some(std::process::id()));
        let failure = PidFile::write(&path).unwrap_err();
        assert_eq!(failure.status, 69);
        assert!(failure.message.contains(&format!("held by process {}", std::process::id())), "{failure}");
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_dead_server_left_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        // A long number, of a process that certainly lives.
        fs::write(&path, "1\n000000000000000000").unwrap();
        let _held = PidFile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn a_file_that_has_become_somebody_elses_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.pid");
        let held = PidFile::write(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(held);
        assert_eq!(number(&path), Some(1));
    }
}
