//! What the system tells of one thread, for other threads to ask.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The CPU time of a thread.
#[derive(Clone, Copy, Debug)]
pub struct ThreadClock(ClockId);

impl ThreadClock {
    /// That of the calling thread.
    ///
    /// # Errors
    /// The system's, where a thread has no clock (`pthread_getcpuclockid`, 3).
    pub fn of_this_thread() -> io::Result<Self> {
        let mut clock: libc::clockid_t = 0;
        // SAFETY: the calling thread exists, and `clock` has room for one clockid_t.
        match unsafe { libc::pthread_getcpuclockid(libc::pthread_self(), &raw mut clock) } {
            0 => Ok(Self(ClockId::from_raw(clock))),
            code => Err(io::Error::from_raw_os_error(code)),
        }
    }

    /// What it shows; zero once the thread has ended.
    pub fn read(self) -> Duration {
        clock_gettime(self.0).map_or(Duration::ZERO, Duration::from)
    }
}

/// Has timed waits of the calling thread, and of threads and processes that it starts, end when asked and not up to 50
/// us later (`PR_SET_TIMERSLACK`, `prctl`, 2).
pub fn be_punctual() {
    // At worst it is not.
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// What a thread waits for, if anything: its file in `/proc` (`proc_pid_stat`, 5), kept open.
#[derive(Debug)]
pub struct ThreadState(File);

/// Enough for a thread's number and name, and the letter behind them.
const STAT_BYTES: usize = 64;

impl ThreadState {
    /// That of the calling thread.
    ///
    /// # Errors
    /// The system's, where there is no `/proc`, or too many files are open.
    pub fn of_this_thread() -> io::Result<Self> {
        File::open("/proc/thread-self/stat").map(Self)
    }

    /// Whether it runs, or would if it were given a core.
    pub fn is_runnable(&self) -> bool {
        let mut stat = [0; STAT_BYTES];
        let length = self.0.read_at(&mut stat, 0).unwrap_or(0);
        stat.get(..length).and_then(letter) == Some(b'R')
    }
}

/// The state in the text of a `stat` file. It follows the name, which may itself have parentheses.
fn letter(stat: &[u8]) -> Option<u8> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    stat.get(name_end + 2).copied()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn a_state_follows_whatever_the_name_is() {
        assert_eq!(letter(b"7 (app-0) S 1 2"), Some(b'S'));
        assert_eq!(letter(b"7 (R) R) D 1 2"), Some(b'D'));
        assert_eq!(letter(b"7 (cut off"), None);
        assert_eq!(letter(b"7 (cut off)"), None);
    }

    #[test]
    fn a_thread_that_waits_is_not_runnable_and_one_that_runs_is() {
        assert!(ThreadState::of_this_thread().unwrap().is_runnable());
        let (said, hear) = mpsc::channel();
        let (let_go, wait) = mpsc::channel::<()>();
        let other = thread::spawn(move || {
            said.send(ThreadState::of_this_thread().unwrap()).unwrap();
            wait.recv()
        });
        let state = hear.recv().unwrap();
        while state.is_runnable() {
            thread::yield_now();
        }
        drop(let_go);
        assert!(other.join().unwrap().is_err());
        assert!(!state.is_runnable(), "it has ended");
    }
}
