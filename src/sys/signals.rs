//! Signals as a descriptor to poll: nothing runs in a handler, the loop decides (signalfd(2)).

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Number, sigaction};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: load the application anew.
    Reload,
    /// SIGTERM or SIGINT: stop when all work is done.
    Stop,
    /// SIGQUIT: stop now.
    StopNow,
    /// SIGUSR1: open log files anew.
    Reopen,
    /// SIGTTIN: one process more in each generation.
    Grow,
    /// SIGTTOU: one process fewer.
    Shrink,
    /// SIGUSR2: hand over to a new supervisor.
    HandOver,
    /// SIGCHLD: a child has ended.
    ChildEnded,
}

const SIGNALS: [(Number, Signal); 9] = [
    (Number::SIGHUP, Signal::Reload),
    (Number::SIGTERM, Signal::Stop),
    (Number::SIGINT, Signal::Stop),
    (Number::SIGQUIT, Signal::StopNow),
    (Number::SIGUSR1, Signal::Reopen),
    (Number::SIGTTIN, Signal::Grow),
    (Number::SIGTTOU, Signal::Shrink),
    (Number::SIGUSR2, Signal::HandOver),
    (Number::SIGCHLD, Signal::ChildEnded),
];

/// Signals that mean nothing here and would end the process by default: a typing error must not stop a server.
const IGNORED: [Number; 5] =
    [Number::SIGALRM, Number::SIGVTALRM, Number::SIGPROF, Number::SIGIO, Number::SIGPWR];

/// The signals of this process, from now on read here instead of handled.
#[derive(Debug)]
pub struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals for the calling thread, which must be the only one, and reads them from a descriptor.
    ///
    /// # Errors
    /// The operating system's, for want of descriptors.
    pub fn block() -> io::Result<Self> {
        let mask: SigSet = SIGNALS.iter().map(|(number, _)| *number).chain(IGNORED).collect();
        mask.thread_block()?;
        // A parent may have left SIGCHLD ignored: then the kernel would reap the children itself, and tell nobody.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action installs no handler.
        unsafe { sigaction(Number::SIGCHLD, &default)? };
        Ok(Self(SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?))
    }

    /// The next signal that has arrived, if any. The kernel merges repeated ones.
    ///
    /// # Errors
    /// The operating system's; none is expected.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        while let Some(info) = self.0.read_signal()? {
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            let known = SIGNALS.iter().find(|(known, _)| *known as i32 == number);
            if let Some((_, signal)) = known {
                return Ok(Some(*signal));
            }
        }
        Ok(None)
    }
}

/// Ignores what is meant for the supervisor when somebody signals its whole group.
pub fn leave_to_supervisor() {
    let ignore = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    for (number, _) in SIGNALS.iter().filter(|(_, signal)| *signal != Signal::ChildEnded) {
        // SAFETY: ignoring a signal installs no handler. It cannot fail for a signal that may be ignored.
        let _ = unsafe { sigaction(*number, &ignore) };
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
