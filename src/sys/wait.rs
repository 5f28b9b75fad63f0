//! Waiting on many descriptors at once (poll(2)).

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of `fds` is readable or at its end, at most `timeout` (`None`: for ever), and says of each whether
/// it is. A signal handler ends the wait early, with none.
///
/// # Errors
/// The operating system's; none is expected on open descriptors.
pub fn readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> io::Result<Vec<bool>> {
    let mut set: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        // Rounded up, so that a deadline has passed on return.
        PollTimeout::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut set, timeout) {
        Ok(_) => Ok(set.iter().map(|fd| fd.any().unwrap_or(true)).collect()),
        Err(Errno::EINTR) => Ok(vec![false; fds.len()]),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::sys::control_socket::ControlSocket;

    #[test]
    fn only_what_has_something_to_read_is_readable() {
        let (one, other) = ControlSocket::pair().unwrap();
        let fds = [one.as_fd(), other.as_fd()];
        assert_eq!(readable(&fds, Some(Duration::ZERO)).unwrap(), [false, false]);
        one.send(b"message").unwrap();
        assert_eq!(readable(&fds, None).unwrap(), [false, true]);
    }

    #[test]
    fn an_end_of_file_is_readable() {
        let (one, other) = ControlSocket::pair().unwrap();
        drop(other);
        assert_eq!(readable(&[one.as_fd()], None).unwrap(), [true]);
    }
}
