//! An application thread's place at the queue, and what it spends on each request.

use std::sync::Arc;
use std::time::Duration;

use super::Queue;
use crate::limits::{CPU_READ_AFTER, LONG_REQUEST};
use crate::scheduler::Place;

/// What the operating system tells of one thread, to any thread.
pub trait ThreadStat: Send + Sync {
    /// The CPU time it has used.
    fn cpu(&self) -> Duration;

    /// Whether it runs, or would if it were given a core.
    fn is_runnable(&self) -> bool;
}

/// Of a thread that nobody asks about.
impl ThreadStat for () {
    fn cpu(&self) -> Duration {
        Duration::ZERO
    }

    fn is_runnable(&self) -> bool {
        false
    }
}

/// The place of one application thread, which keeps it to itself. A thread that gives it up before the queue is closed
/// has died.
pub struct Seat {
    queue: Arc<Queue>,
    place: Place,
    stat: Arc<dyn ThreadStat>,
    /// The CPU time it has told: that takes a system call, so it is not asked for every request.
    read: Duration,
    /// How long the requests since then have taken.
    worked: Duration,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Seat").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Seat {
    /// `place` at `queue`, for the thread that `stat` is about.
    pub(super) fn new(queue: Arc<Queue>, place: Place, stat: Arc<dyn ThreadStat>) -> Self {
        Self { queue, place, read: stat.cpu(), stat, worked: Duration::ZERO }
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// The thread's CPU time now, or a moment ago.
    pub(super) fn cpu(&mut self) -> Duration {
        if self.worked >= CPU_READ_AFTER {
            self.read();
        }
        self.read
    }

    /// How much CPU at most a request used that has `taken` so long: quick ones since the last reading are counted in.
    pub(super) fn used(&mut self, taken: Duration) -> Duration {
        if taken < LONG_REQUEST {
            self.worked += taken;
            return taken;
        }
        let before = self.read;
        self.read();
        self.read.saturating_sub(before)
    }

    fn read(&mut self) {
        self.read = self.stat.cpu();
        self.worked = Duration::ZERO;
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.queue.vacate(self.place);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::scheduler::CoreCount;

    #[derive(Default)]
    struct Clock {
        reads: AtomicU64,
        millis: AtomicU64,
    }

    impl ThreadStat for Clock {
        fn cpu(&self) -> Duration {
            self.reads.fetch_add(1, Ordering::Relaxed);
            Duration::from_millis(self.millis.load(Ordering::Relaxed))
        }

        fn is_runnable(&self) -> bool {
            false
        }
    }

    #[test]
    fn the_clock_is_read_for_long_requests_and_now_and_then() {
        let clock = Arc::new(Clock::default());
        let mut seat =
            Arc::new(Queue::new(1, 1, CoreCount { all: 1, usable: 1 }, Vec::new()))
                .seat(Arc::<Clock>::clone(&clock));
        let (reads, millis) = (&clock.reads, &clock.millis);
        for _ in 0..4 {
            assert_eq!(seat.cpu(), Duration::ZERO);
            assert_eq!(seat.used(CPU_READ_AFTER / 4), CPU_READ_AFTER / 4);
        }
        assert_eq!(reads.load(Ordering::Relaxed), 1);
        millis.store(3, Ordering::Relaxed);
        assert_eq!(seat.cpu(), Duration::from_millis(3));
        millis.store(4, Ordering::Relaxed);
        assert_eq!(seat.used(Duration::from_millis(20)), Duration::from_millis(1), "it waited for the rest");
        assert_eq!(reads.load(Ordering::Relaxed), 3);
    }
}
