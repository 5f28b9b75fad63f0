//! How much CPU was used, and by whom.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process so far.
pub fn process() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// The CPU time of a thread, for others to read.
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

/// CPU time of the calling thread so far.
pub fn thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
