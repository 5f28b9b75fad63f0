//! What a process and its executors have used of the CPU.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::scheduler::CpuSample;
use crate::sys::cpu_time;
use crate::sys::thread::ThreadClock;

/// The clocks of all executors of a process, each of which can read those of the others.
#[derive(Debug)]
pub(super) struct CpuClocks(Vec<OnceLock<ThreadClock>>);

impl CpuClocks {
    /// For so many executors, none of which has begun.
    pub(super) fn new(executors: usize) -> Self {
        Self((0..executors).map(|_| OnceLock::new()).collect())
    }

    /// The calling thread is executor `index`. Where it has no clock, what it uses counts as the application's.
    pub(super) fn begin(&self, index: usize) {
        if let (Some(place), Ok(clock)) = (self.0.get(index), ThreadClock::of_this_thread()) {
            // An executor begins once.
            let _ = place.set(clock);
        }
    }

    /// What all have used by now, for executor `asking`.
    pub(super) fn sample(&self, asking: usize) -> CpuSample {
        let used = |clock: &OnceLock<ThreadClock>| clock.get().map_or(Duration::ZERO, |clock| clock.read());
        // In this order: what is counted of the executors only was counted of the process, too.
        let executors: Vec<Duration> = self.0.iter().map(used).collect();
        CpuSample::new(Instant::now(), cpu_time::process(), executors.into_iter(), asking)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_of_siblings_are_read_from_any_thread() {
        let clocks = CpuClocks::new(2);
        clocks.begin(0);
        std::thread::scope(|scope| {
            scope.spawn(|| clocks.begin(1));
        });
        assert!(clocks.0.iter().all(|clock| clock.get().is_some()));
        // The sibling has ended: its clock says nothing, and harms nobody.
        let _ = clocks.sample(0);
    }
}
