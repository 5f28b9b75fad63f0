//! Going on in the background, as a daemon does.

use std::io;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, setsid};

use super::process::end_at_once;

/// Which of two processes this is, after [`fork_daemon`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process that was started.
    Starter,
    /// The one in the background.
    Daemon,
}

/// Forks twice: the daemon is in a session of its own, in which it can never get a terminal, and a child of process 1.
///
/// To be called while this process has one thread.
///
/// # Errors
/// The operating system's, when it cannot fork.
pub fn fork_daemon() -> io::Result<Side> {
    // SAFETY: this process has one thread, so the child finds no lock held by one that it does not have.
    match unsafe { fork()? } {
        ForkResult::Parent { child } => match waitpid(child, None)? {
            WaitStatus::Exited(_, 0) => Ok(Side::Starter),
            _ => Err(io::Error::other("the process between this one and the daemon failed")),
        },
        ForkResult::Child => {
            // The process between the two runs nothing of what the starter means to run at its own end.
            if setsid().is_err() {
                end_at_once(1);
            }
            // SAFETY: as above.
            match unsafe { fork() } {
                Ok(ForkResult::Child) => Ok(Side::Daemon),
                Ok(ForkResult::Parent { .. }) => end_at_once(0),
                Err(_) => end_at_once(1),
            }
        }
    }
}
