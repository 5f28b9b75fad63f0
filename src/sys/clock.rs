//! A clock whose readings mean the same in every process of this machine.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since some fixed point before the machine's start (`CLOCK_MONOTONIC`).
///
/// [`std::time::Instant`] cannot be written into shared memory; this can, and is compared by the reader.
pub fn monotonic_ms() -> u64 {
    monotonic_us() / 1000
}

/// As [`monotonic_ms`], in microseconds.
pub fn monotonic_us() -> u64 {
    // The clock is mandatory on Linux: a failure would be a kernel without POSIX timers, and reads as time zero.
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return 0 };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
    seconds * 1_000_000 + nanoseconds / 1000
}

#[cfg(test)]
mod tests {
    use super::monotonic_ms;

    #[test]
    fn time_does_not_run_backwards() {
        let earlier = monotonic_ms();
        assert!(earlier > 0);
        assert!(monotonic_ms() >= earlier);
    }
}
