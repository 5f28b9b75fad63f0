//! Listening unix sockets: with a file in some directory, or with a name in the abstract namespace (unix(7)).

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::sys::stat::{Mode, umask};
use serde::{Deserialize, Serialize};

use super::account::Identity;

/// How the file of a socket shall look.
#[derive(Clone, Copy, Debug)]
pub struct Appearance<'a> {
    /// Its permission bits: who may write may connect.
    pub mode: u32,
    /// Its owner, if not the user of this process.
    pub owner: Option<&'a Identity>,
}

/// Why there is no socket at a path.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody listens there.
    Live,
    /// Something is there that is no socket.
    NotASocket,
    /// Another server is just binding in that directory.
    Busy,
    /// It cannot be given to its owner.
    Owner(io::Error),
    /// The operating system's reason.
    Other(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Other(errno.into())
    }
}

/// The file of a socket that this process bound.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Removes the file, unless another one has taken its place. Whether it did.
    ///
    /// # Errors
    /// The operating system's, when the directory cannot be written (any more).
    pub fn remove(&self) -> io::Result<bool> {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode));
        if is_ours {
            fs::remove_file(&self.path)?;
        }
        Ok(is_ours)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds `path` and listens there; a file that a dead server left is replaced.
///
/// The socket is close-on-exec and non-blocking for ever, as a TCP listener is. Never, not for a moment, does the file
/// let more users in than `appearance` says. Servers that start at the same time take turns by a lock on the directory
/// (flock(2)), lest one remove what the other has just bound.
///
/// # Errors
/// See [`Refusal`].
pub fn listen_at(
    path: &Path,
    appearance: Appearance<'_>,
    backlog: i32,
) -> Result<(OwnedFd, SocketFile), Refusal> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    // A directory that may be written but not read cannot be locked: then there is no mutual exclusion.
    let _turn = match File::open(directory).map(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock)) {
        Ok(Err((_, Errno::EWOULDBLOCK))) => return Err(Refusal::Busy),
        other => other,
    };
    make_room(path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags(), None)?;
    bind_with_mode(&fd, path, appearance.mode)?;
    let found = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), device: found.dev(), inode: found.ino() };
    if let Some(owner) = appearance.owner
        && let Err(error) = lchown(path, Some(owner.uid), Some(owner.gid))
    {
        file.remove()?;
        return Err(Refusal::Owner(error));
    }
    listen(&fd, Backlog::new(backlog)?)?;
    Ok((fd, file))
}

/// Listens under a name in the abstract namespace, which leaves nothing behind.
///
/// # Errors
/// `AddrInUse` when somebody else has that name.
pub fn listen_as(name: &str, backlog: i32) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags(), None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(name.as_bytes())?)?;
    listen(&fd, Backlog::new(backlog)?)?;
    Ok(fd)
}

fn flags() -> SockFlag {
    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
}

/// The file has its permissions from the start; a chmod afterwards would come too late. The mask is the process's,
/// which has no other thread at that time.
fn bind_with_mode(fd: &OwnedFd, path: &Path, mode: u32) -> nix::Result<()> {
    let address = UnixAddr::new(path)?;
    let mask = umask(Mode::from_bits_truncate(!mode & 0o777));
    let bound = bind(fd.as_raw_fd(), &address);
    umask(mask);
    bound
}

/// Removes the file of a socket without a listener.
fn make_room(path: &Path) -> Result<(), Refusal> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    if !found.file_type().is_socket() {
        return Err(Refusal::NotASocket);
    }
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags(), None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Err(Errno::ECONNREFUSED) => Ok(fs::remove_file(path)?),
        Err(Errno::ENOENT) => Ok(()),
        // Its queue is full, or it is no stream socket: somebody is there.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(Refusal::Live),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    const PLAIN: Appearance<'_> = Appearance { mode: 0o660, owner: None };

    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.sock");
        (directory, path)
    }

    #[test]
    fn a_socket_has_its_mode_and_is_removed_at_the_end() {
        for mode in [0o600, 0o666, 0o777] {
            let (_directory, path) = directory();
            let (fd, file) = listen_at(&path, Appearance { mode, owner: None }, 8).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
            UnixStream::connect(&path).unwrap();
            drop(fd);
            assert!(file.remove().unwrap());
            assert!(!path.exists());
            assert!(!file.remove().unwrap());
        }
    }

    #[test]
    fn what_a_dead_server_left_is_replaced_and_then_not_its_own_any_more() {
        let (_directory, path) = directory();
        let (dead, old_file) = listen_at(&path, PLAIN, 8).unwrap();
        drop(dead);
        // While the old file is held under another name, the new one cannot get its inode number.
        fs::hard_link(&path, path.with_extension("old")).unwrap();
        let (_live, _file) = listen_at(&path, PLAIN, 8).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(!old_file.remove().unwrap());
        assert!(path.exists());
    }

    #[test]
    fn a_living_server_keeps_its_socket() {
        let (_directory, path) = directory();
        let (_live, _file) = listen_at(&path, PLAIN, 0).unwrap();
        // The second finds the queue full.
        let _waiting = UnixStream::connect(&path).unwrap();
        for _ in 0..3 {
            assert!(matches!(listen_at(&path, PLAIN, 8), Err(Refusal::Live)));
        }
        let other = path.with_extension("datagram");
        let _datagram = UnixDatagram::bind(&other).unwrap();
        assert!(matches!(listen_at(&other, PLAIN, 8), Err(Refusal::Live)));
    }

    #[test]
    fn nothing_but_a_socket_is_ever_removed() {
        let (_directory, path) = directory();
        fs::write(&path, "precious").unwrap();
        assert!(matches!(listen_at(&path, PLAIN, 8), Err(Refusal::NotASocket)));
        let link = path.with_extension("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(listen_at(&link, PLAIN, 8), Err(Refusal::NotASocket)));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn servers_that_start_together_take_turns() {
        let (directory, path) = directory();
        let turn = File::open(directory.path()).unwrap();
        let turn = Flock::lock(turn, FlockArg::LockExclusiveNonblock).unwrap();
        assert!(matches!(listen_at(&path, PLAIN, 8), Err(Refusal::Busy)));
        drop(turn);
        listen_at(&path, PLAIN, 8).unwrap();
    }

    #[test]
    fn an_abstract_name_belongs_to_one() {
        let name = format!("spawning-test-{}", std::process::id());
        let held = listen_as(&name, 8).unwrap();
        assert_eq!(listen_as(&name, 8).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(held);
        listen_as(&name, 8).unwrap();
    }
}
