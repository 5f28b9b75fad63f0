//! An event counter that another thread or process raises (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::sys::time::TimeSpec;

/// A counter to poll: readable while it is raised.
#[derive(Debug)]
pub struct EventFd(Counter);

impl EventFd {
    /// Makes a lowered counter, non-blocking and closed on exec.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Counter::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?))
    }

    /// Makes the counter readable. A counter that is raised to its maximum stays readable, so nothing is lost.
    pub fn raise(&self) {
        let _ = self.0.write(1);
    }

    /// Waits until the counter is raised, at most `timeout`. A signal may end the wait early.
    pub fn wait(&self, timeout: Duration) {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // However it ends, the caller looks for itself.
        let _ = ppoll(&mut set, Some(TimeSpec::from_duration(timeout)), None);
    }

    /// Makes the counter unreadable again.
    pub fn lower(&self) {
        let _ = self.0.read();
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
