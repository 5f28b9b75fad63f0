//! Signals as a descriptor to poll: a handler only notes which one came, and the loop decides.
//!
//! A handler, because it serves whatever thread the kernel picks. Blocking the signals and reading them from a
//! signalfd(2) needs them blocked in every thread, and there may be threads before ours: what runs when Python starts
//! (`sitecustomize`, the wrappers of monitoring vendors, a debugger) may have started some.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal as Number, sigaction};

use super::eventfd::EventFd;

/// What a signal asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload the application.
    Reload,
    /// SIGTERM or SIGINT: stop when all work is done.
    Stop,
    /// SIGQUIT: stop now.
    StopNow,
    /// SIGUSR1: reopen log files.
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

/// The numbers of the signals that have come and were not read yet, a bit each.
static PENDING: AtomicU64 = AtomicU64::new(0);
/// What to raise when one has come; -1 while they are not read.
static COUNTER: AtomicI32 = AtomicI32::new(-1);

/// The signals of this process, from now on read here. There is one at a time.
#[derive(Debug)]
pub struct Signals(EventFd);

impl Signals {
    /// Installs the handlers, and unblocks the signals for the calling thread: the parent of this process may have
    /// blocked them until now, so that none that came early would end it ([`block_until_taken`]).
    ///
    /// # Errors
    /// The operating system's, for want of descriptors.
    pub fn take() -> io::Result<Self> {
        let counter = EventFd::new()?;
        COUNTER.store(counter.as_fd().as_raw_fd(), Ordering::SeqCst);
        // SA_RESTART for the threads of others, one of which may run it; poll(2), in which we wait, ends all the same.
        let flags = SaFlags::SA_RESTART | SaFlags::SA_NOCLDSTOP;
        let action = SigAction::new(SigHandler::Handler(note), flags, SigSet::empty());
        for number in all() {
            // SAFETY: the handler calls nothing but write(2), touches nothing but atomics, and keeps errno.
            unsafe { sigaction(number, &action)? };
        }
        all().collect::<SigSet>().thread_unblock()?;
        Ok(Self(counter))
    }

    /// The next signal that has arrived, if any. Repeated ones are merged.
    pub fn next(&self) -> Option<Signal> {
        self.0.lower();
        loop {
            let pending = PENDING.load(Ordering::SeqCst);
            if pending == 0 {
                return None;
            }
            // More may be left: then the next look must find the counter raised.
            let lowest = pending & pending.wrapping_neg();
            if PENDING.fetch_and(!lowest, Ordering::SeqCst) != lowest {
                self.0.raise();
            }
            let number = lowest.trailing_zeros().cast_signed();
            if let Some((_, signal)) = SIGNALS.iter().find(|(known, _)| *known as i32 == number) {
                return Some(*signal);
            }
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        COUNTER.store(-1, Ordering::SeqCst);
    }
}

/// The handler of every signal.
extern "C" fn note(number: i32) {
    let errno = nix::errno::Errno::last_raw();
    PENDING.fetch_or(1_u64.checked_shl(number.cast_unsigned()).unwrap_or(0), Ordering::SeqCst);
    let counter = COUNTER.load(Ordering::SeqCst);
    if counter >= 0 {
        let one = 1_u64.to_ne_bytes();
        // SAFETY: writes from `one`, which is as long as said. A counter that is full is raised already.
        unsafe { libc::write(counter, one.as_ptr().cast(), one.len()) };
    }
    nix::errno::Errno::set_raw(errno);
}

/// Blocks the signals of a supervisor for the calling thread, and what it executes, until [`Signals::take`].
///
/// # Errors
/// The operating system's; none is expected.
pub fn block_until_taken() -> io::Result<()> {
    Ok(all().collect::<SigSet>().thread_block()?)
}

fn all() -> impl Iterator<Item = Number> {
    SIGNALS.iter().map(|(number, _)| *number).chain(IGNORED)
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::sys::wait;

    #[test]
    fn a_signal_is_read_though_another_thread_was_there_before_and_has_none_blocked() {
        let (end, ended) = mpsc::channel::<()>();
        let other = thread::spawn(move || ended.recv());
        let signals = Signals::take().unwrap();
        assert_eq!(signals.next(), None);
        for (number, meaning) in [(libc::SIGTTOU, Signal::Shrink), (libc::SIGTTIN, Signal::Grow)] {
            // SAFETY: both have a handler now.
            assert_eq!(unsafe { libc::kill(libc::getpid(), number) }, 0);
            while !wait::readable(&[signals.as_fd()], Some(Duration::from_secs(60))).unwrap()[0] {}
            assert_eq!(signals.next(), Some(meaning));
        }
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGTTIN) };
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGUSR1) };
        let mut both = [signals.next(), signals.next()];
        both.sort_by_key(|signal| *signal == Some(Signal::Grow));
        assert_eq!(both, [Some(Signal::Reopen), Some(Signal::Grow)]);
        assert_eq!(signals.next(), None);
        drop(end);
        assert!(other.join().unwrap().is_err());
    }
}
