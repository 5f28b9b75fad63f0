//! Writing to a standard stream without ever waiting for its reader.
//!
//! The streams are shared with other processes, so they cannot be made non-blocking: that would be so for all of them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::write;

use super::standard_streams::StandardStream;

/// What a pipe takes whole whenever it says that it can be written (pipe(7)).
const PIPE_BYTES: usize = libc::PIPE_BUF;
/// What a terminal takes at once.
const TERMINAL_BYTES: usize = 256;

impl AsFd for StandardStream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            // SAFETY: the standard streams are open from the start (`fill_standard_streams`) and never closed.
            Self::Output => unsafe { BorrowedFd::borrow_raw(libc::STDOUT_FILENO) },
            // SAFETY: as above.
            Self::Error => unsafe { BorrowedFd::borrow_raw(libc::STDERR_FILENO) },
        }
    }
}

/// Whether the descriptor leads to a regular file. Writing to one never waits for a reader, but perhaps for a disk.
pub fn is_regular_file(fd: BorrowedFd<'_>) -> bool {
    kind(fd) == Some(SFlag::S_IFREG)
}

/// Writes what can be written at once, at least one byte, and says how many were.
///
/// # Errors
/// `WouldBlock` when nothing can be written now; otherwise the kernel's (write(2)).
pub fn write_now(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    loop {
        let written = match kind(fd) {
            Some(SFlag::S_IFSOCK) => {
                send(fd.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)
            }
            Some(SFlag::S_IFIFO) => write_to_pipe(fd, bytes),
            Some(SFlag::S_IFCHR) => write_if_ready(fd, bytes, TERMINAL_BYTES),
            _ => write(fd, bytes),
        };
        match written {
            Err(Errno::EINTR) => {}
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            written => return Ok(written?),
        }
    }
}

/// Waits until something can be written or is wrong, at most `timeout`; false when that has passed.
pub fn wait_until_writable(fd: BorrowedFd<'_>, timeout: Duration) -> bool {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    // What goes wrong here, the next write finds out.
    poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout) != Ok(0)
}

fn kind(fd: BorrowedFd<'_>) -> Option<SFlag> {
    let mode = fstat(fd).ok()?.st_mode;
    Some(SFlag::from_bits_truncate(mode) & SFlag::S_IFMT)
}

/// The kernel is asked not to wait for this one call; before Linux 6.4 it cannot be, and another process that fills
/// the pipe in the moment between two calls could make this one wait.
fn write_to_pipe(fd: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<usize> {
    let part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: the kernel reads one vector of bytes, which outlive the call; offset -1 is the stream's own position.
    let written = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const part, 1, -1, libc::RWF_NOWAIT) };
    match Errno::result(written) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::ESPIPE | Errno::EINVAL) => {
            write_if_ready(fd, bytes, PIPE_BYTES)
        }
        written => written.map(isize::unsigned_abs),
    }
}

fn write_if_ready(fd: BorrowedFd<'_>, bytes: &[u8], bytes_max: usize) -> nix::Result<usize> {
    let mut ready = [PollFd::new(fd, PollFlags::POLLOUT)];
    match poll(&mut ready, PollTimeout::ZERO)? {
        0 => Err(Errno::EAGAIN),
        _ => write(fd, bytes.get(..bytes_max).unwrap_or(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    static LARGE: [u8; 1 << 20] = [b'x'; 1 << 20];

    fn fill(fd: BorrowedFd<'_>) -> usize {
        let mut total = 0;
        loop {
            match write_now(fd, &LARGE) {
                Ok(bytes) => total += bytes,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    return total;
                }
            }
        }
    }

    #[test]
    fn a_full_pipe_or_socket_is_not_waited_for() {
        let (mut reader, writer) = io::pipe().unwrap();
        let total = fill(writer.as_fd());
        assert!(total >= PIPE_BYTES);
        reader.read_exact(&mut vec![0; total]).unwrap();
        wait_until_writable(writer.as_fd(), Duration::from_secs(60));
        assert_eq!(write_now(writer.as_fd(), b"line\n").unwrap(), 5);
        let (_peer, socket) = UnixStream::pair().unwrap();
        fill(socket.as_fd());
    }

    #[test]
    fn a_pipe_that_others_fill_is_not_waited_for_by_old_kernels_either() {
        let (_reader, writer) = io::pipe().unwrap();
        let mut total = 0;
        while let Ok(bytes) = write_if_ready(writer.as_fd(), &LARGE, PIPE_BYTES) {
            total += bytes;
        }
        assert!(total >= PIPE_BYTES);
    }

    #[test]
    fn a_pipe_without_a_reader_and_a_full_disk_are_errors() {
        let (reader, mut writer) = io::pipe().unwrap();
        drop(reader);
        assert_eq!(write_now(writer.as_fd(), b"line\n").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        assert!(writer.write(b"line\n").is_err());
        let full = File::options().write(true).open("/dev/full").unwrap();
        assert_eq!(write_now(full.as_fd(), b"line\n").unwrap_err().raw_os_error(), Some(libc::ENOSPC));
    }
}
