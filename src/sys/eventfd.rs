//! An event counter that another thread or process raises (eventfd(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd as Counter};
use nix::sys::time::TimeSpec;
use nix::unistd::{read, write};

use super::fork::PrivateFd;

/// A counter to poll: readable while it is raised.
#[derive(Debug)]
pub struct EventFd(PrivateFd);

impl EventFd {
    /// Makes a lowered counter, non-blocking and closed on exec.
    ///
    /// # Errors
    /// The kernel's, when descriptors or memory run out.
    pub fn new() -> io::Result<Self> {
        let counter = Counter::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self(PrivateFd::new(counter.into())))
    }

    /// Makes the counter readable. A counter that is raised to its maximum stays readable, so nothing is lost.
    pub fn raise(&self) {
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    /// Waits until the counter is raised, at most `timeout`. A signal may end the wait early.
    pub fn wait(&self, timeout: Duration) {
        let mut set = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        // However it ends, the caller looks for itself.
        let _ = ppoll(&mut set, Some(TimeSpec::from_duration(timeout)), None);
    }

    /// Makes the counter unreadable again.
    pub fn lower(&self) {
        let _ = read(&self.0, &mut [0; size_of::<u64>()]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
