//! A pair of connected sockets that keep message boundaries: `AF_UNIX`, `SOCK_SEQPACKET` (unix(7)).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};

use super::fork::PrivateFd;

/// One end of the pair.
#[derive(Debug)]
pub struct ControlSocket(PrivateFd);

impl ControlSocket {
    /// A connected pair: a parent's end that never blocks, and a child's end that does. Both are close-on-exec.
    ///
    /// # Errors
    /// The operating system's, for want of descriptors or memory.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (parent, child) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // The flag belongs to an open file description, and each end of a pair has its own.
        fcntl(&parent, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok((Self(parent.into()), Self(child.into())))
    }

    /// Sends one message whole.
    ///
    /// # Errors
    /// `BrokenPipe` when the other end is gone, `WouldBlock` on a parent's end whose child does not read.
    pub fn send(&self, message: &[u8]) -> io::Result<()> {
        send(self.as_fd().as_raw_fd(), message, MsgFlags::MSG_NOSIGNAL)?;
        Ok(())
    }

    /// Receives one message into `buffer` and returns its length; `None` at end of file.
    ///
    /// # Errors
    /// `InvalidData` for a message longer than the buffer, `WouldBlock` on a parent's end with nothing to read,
    /// `Interrupted` when a signal handler ran on a child's end.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        // With MSG_TRUNC the kernel returns the message's real length, so a cut message cannot pass for a whole one.
        match recv(self.as_fd().as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
            // No message is empty, so an empty read is end of file. A peer that died with unread orders is gone too.
            Ok(0) | Err(nix::Error::ECONNRESET) => Ok(None),
            Ok(length) if length > buffer.len() => Err(io::ErrorKind::InvalidData.into()),
            Ok(length) => Ok(Some(length)),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for ControlSocket {
    fn from(fd: OwnedFd) -> Self {
        Self(fd.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_boundaries() {
        let (parent, child) = ControlSocket::pair().unwrap();
        parent.send(b"one").unwrap();
        parent.send(b"three").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(child.receive(&mut buffer).unwrap(), Some(3));
        assert_eq!(child.receive(&mut buffer).unwrap(), Some(5));
        assert_eq!(&buffer[..5], b"three");
    }

    #[test]
    fn the_parent_never_blocks_and_sees_the_end() {
        let (parent, child) = ControlSocket::pair().unwrap();
        let mut buffer = [0; 16];
        assert_eq!(parent.receive(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        parent.send(b"unread").unwrap();
        drop(child);
        assert_eq!(parent.receive(&mut buffer).unwrap(), None);
        assert_eq!(parent.send(b"late").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_message_longer_than_the_buffer_is_an_error_not_a_prefix() {
        let (parent, child) = ControlSocket::pair().unwrap();
        parent.send(&[7; 17]).unwrap();
        assert_eq!(child.receive(&mut [0; 16]).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }
}
