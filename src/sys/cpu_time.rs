//! How much CPU was used, and by whom.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CPU time of all threads of this process so far.
pub fn process() -> Duration {
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// CPU time of the calling thread so far.
pub fn thread() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
