//! What the application makes of the CPU time that there is, as long as requests wait.
//!
//! One judge for all executors: each of them may offer a sample, and whoever is first when one is due is heard.

use std::time::{Duration, Instant};

use super::fault::{Fault, is_put_back};
use crate::limits::{BALANCE_PAUSE_MAX, BALANCE_PAUSE_MIN};

/// Who had used how much CPU at one moment.
#[derive(Clone, Copy, Debug)]
pub struct CpuSample {
    at: Instant,
    process: Duration,
    executors: Duration,
}

impl CpuSample {
    /// What the whole process had used `at` that time, and what of it each of the executors. Executor `asking` has
    /// asked.
    pub fn new(
        at: Instant,
        process: Duration,
        executors: impl Iterator<Item = Duration>,
        asking: usize,
    ) -> Self {
        let counts = |index: usize| index == asking || !is_put_back(Fault::SiblingsCount);
        let executors = executors.enumerate().filter(|(index, _)| counts(*index)).map(|(_, used)| used).sum();
        Self { at, process, executors }
    }
}

/// The cores of a process, and how many of them the application can use at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreCount {
    /// Those that the process may run on.
    pub all: usize,
    /// One under the interpreter's lock, else all of them.
    pub usable: usize,
}

/// What the application made of the time that it could have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// One more thread would have had a core for half of the time or more: its threads are blocked.
    Idle,
    /// Something between.
    Partial,
    /// As good as all.
    Full,
}

impl Usage {
    /// Judges `used` CPU time out of `available` on so many cores.
    fn of(used: Duration, available: Duration, cores: u32) -> Self {
        let (unused, core) = (available.saturating_sub(used), available / cores);
        if unused > core / 2 {
            Self::Idle
        } else if unused > core / 8 {
            Self::Partial
        } else {
            Self::Full
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct CpuUsage {
    cores: CoreCount,
    last: Option<CpuSample>,
    due: Option<Instant>,
    pause: Duration,
}

impl CpuUsage {
    pub(super) fn new(cores: CoreCount) -> Self {
        Self { cores, last: None, due: None, pause: BALANCE_PAUSE_MIN }
    }

    /// A request waits where none did before: what was used until now says nothing.
    pub(super) fn begin(&mut self, now: Instant) {
        self.last = None;
        self.due = Some(now + BALANCE_PAUSE_MIN);
    }

    /// When a sample is wanted, if requests wait then.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Learns from a sample; `None` if it says nothing, or not yet.
    pub(super) fn observe(&mut self, sample: CpuSample) -> Option<Usage> {
        // Another executor was quicker.
        if self.due.is_some_and(|due| sample.at < due) {
            return None;
        }
        let last = self.last.replace(sample);
        let usage = last.and_then(|last| self.usage_between(last, sample));
        self.due = Some(sample.at + self.pause);
        usage
    }

    /// Says how soon to look again, after `usage`; one more thread would have helped, or not.
    pub(super) fn pace(&mut self, usage: Usage, would_help: bool) {
        self.pause = match usage {
            Usage::Idle if would_help => BALANCE_PAUSE_MIN,
            Usage::Partial if would_help => BALANCE_PAUSE_MIN * 2,
            // All is well as it is. Whatever changes that is noticed a little later, and looking costs less.
            _ => (self.pause * 2).min(BALANCE_PAUSE_MAX),
        };
        self.due = self.last.map(|last| last.at + self.pause);
    }

    fn usage_between(&self, last: CpuSample, this: CpuSample) -> Option<Usage> {
        let wall = this.at.saturating_duration_since(last.at);
        let executors = this.executors.saturating_sub(last.executors);
        let used = this.process.saturating_sub(last.process).saturating_sub(executors);
        let count = |cores: usize| u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        let usable = if is_put_back(Fault::OneCoreIsFull) { 1 } else { count(self.cores.usable) };
        // Executors are pinned to cores that the application may want as well: what they used was not available.
        let left = (wall * count(self.cores.all)).saturating_sub(executors);
        let available = left.min(wall * usable);
        (available >= BALANCE_PAUSE_MIN / 2).then(|| Usage::of(used, available, usable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// What is seen of an application that used so much in a millisecond, beside such executors.
    fn usage(cores: CoreCount, used: Duration, executors: &[Duration]) -> Option<Usage> {
        let (mut cpu, now) = (CpuUsage::new(cores), Instant::now());
        let none = executors.iter().map(|_| Duration::ZERO);
        assert_eq!(cpu.observe(CpuSample::new(now, Duration::ZERO, none, 0)), None);
        let process = used + executors.iter().sum::<Duration>();
        cpu.observe(CpuSample::new(now + MS, process, executors.iter().copied(), 0))
    }

    #[test]
    fn usage_is_judged_by_what_was_available() {
        let one = CoreCount { all: 1, usable: 1 };
        assert_eq!(usage(one, MS / 3, &[MS / 10]), Some(Usage::Idle));
        assert_eq!(usage(one, MS / 3, &[MS / 2]), Some(Usage::Partial));
        assert_eq!(usage(one, MS / 2, &[MS / 2]), Some(Usage::Full));
        assert_eq!(usage(one, Duration::ZERO, &[MS * 9 / 10]), None, "too little was left to tell");
    }

    #[test]
    fn what_all_executors_use_is_not_the_applications() {
        let cores = CoreCount { all: 4, usable: 1 };
        assert_eq!(usage(cores, MS / 10, &[MS / 2; 4]), Some(Usage::Idle));
        assert_eq!(usage(cores, MS, &[MS / 2; 4]), Some(Usage::Full));
    }

    #[test]
    fn without_the_lock_all_cores_can_be_used() {
        let cores = CoreCount { all: 4, usable: 4 };
        for (used, expected) in [(1, Usage::Idle), (2, Usage::Idle), (3, Usage::Idle), (4, Usage::Full)] {
            assert_eq!(usage(cores, MS * used, &[]), Some(expected));
        }
        assert_eq!(usage(cores, MS * 2, &[MS / 2; 4]), Some(Usage::Full), "executors had the rest");
    }

    #[test]
    fn of_many_executors_one_is_heard() {
        let (mut cpu, now) = (CpuUsage::new(CoreCount { all: 8, usable: 1 }), Instant::now());
        cpu.begin(now);
        let mut offer = |at| cpu.observe(CpuSample::new(now + at, Duration::ZERO, std::iter::empty(), 0));
        assert_eq!(offer(MS / 4), None, "nothing has waited for long");
        assert_eq!(offer(BALANCE_PAUSE_MIN), None, "the first");
        assert_eq!(offer(BALANCE_PAUSE_MIN * 3 / 2), None, "too soon");
        assert_eq!(offer(BALANCE_PAUSE_MIN * 2), Some(Usage::Idle));
        assert_eq!(offer(BALANCE_PAUSE_MIN * 2), None, "a sibling saw the same");
        assert_eq!(offer(BALANCE_PAUSE_MIN * 3), Some(Usage::Idle));
        cpu.begin(now + MS * 2);
        assert_eq!(cpu.due(), Some(now + MS * 2 + BALANCE_PAUSE_MIN));
    }

    #[test]
    fn what_cannot_be_helped_is_looked_at_rarely() {
        let (mut cpu, now) = (CpuUsage::new(CoreCount { all: 1, usable: 1 }), Instant::now());
        cpu.observe(CpuSample::new(now, Duration::ZERO, std::iter::empty(), 0));
        for _ in 0..4 {
            cpu.pace(Usage::Idle, false);
        }
        assert_eq!(cpu.due(), Some(now + BALANCE_PAUSE_MAX));
        cpu.pace(Usage::Idle, true);
        assert_eq!(cpu.due(), Some(now + BALANCE_PAUSE_MIN));
    }
}
