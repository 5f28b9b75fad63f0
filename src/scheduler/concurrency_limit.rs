//! How many application threads should run at once.
//!
//! Under the interpreter's lock a second thread helps only while the first is blocked outside it; otherwise the two
//! fight, and everything takes longer. The lock does not tell who waits for it, but how much CPU the application used
//! while requests waited tells enough: little, and another thread could have run, unless others had the cores; all
//! there was, and one thread fewer may do. Whether it does is tried, and taken back if not, ever more rarely. Steps in
//! one direction become larger, so that sixty-four threads are soon reached, and soon left.

use std::time::{Duration, Instant};

use super::cpu_usage::Usage;
use crate::limits::{PROBE_PAUSE_MAX, PROBE_PAUSE_MIN};

/// So many steps upwards are single ones: a short pause of the application is no reason to run them all.
const STEPS_SINGLE: u32 = 4;
/// What is seen so soon after one thread fewer was allowed is seen because of it.
const PROBE_JUDGED_WITHIN: Duration = PROBE_PAUSE_MIN.saturating_mul(4);
/// So often in a row all of the CPU must be used, after it was not, before an old failure is forgotten.
const FULL_IN_A_ROW: u32 = 6;

/// See the module's page.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    threads: usize,
    /// So many get anywhere whatever they do: one for each core that they can use.
    least: usize,
    allowed: usize,
    /// Steps upwards since all of the CPU was used.
    growth: u32,
    /// The last change was to allow fewer than this, at that time, and has not proved right yet.
    probe: Option<(usize, Instant)>,
    /// How many fewer.
    probe_step: usize,
    probe_at: Option<Instant>,
    probe_pause: Duration,
    /// How often in a row all of the CPU was used; and whether it was not, since a probe last failed.
    full_in_a_row: u32,
    has_relented: bool,
}

impl ConcurrencyLimit {
    /// Of `threads` as many as there are cores that the application can use at once, to begin with and at least.
    pub(super) fn new(threads: usize, usable_cores: usize) -> Self {
        let least = usable_cores.min(threads).max(1);
        Self {
            threads,
            least,
            allowed: least,
            growth: 0,
            probe: None,
            probe_step: 1,
            probe_at: None,
            probe_pause: PROBE_PAUSE_MIN,
            full_in_a_row: 0,
            has_relented: false,
        }
    }

    /// Threads that should run at once.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Whether no more may run than do.
    pub(super) fn is_all(&self) -> bool {
        self.allowed >= self.threads
    }

    /// Learns from a measurement; `has_idle_core` says whether a thread more would have had a core to run on.
    pub(super) fn learn(&mut self, usage: Usage, has_idle_core: bool, now: Instant) {
        if usage == Usage::Full {
            self.learn_full(now);
            return;
        }
        self.full_in_a_row = 0;
        if !has_idle_core {
            self.has_relented = true;
        } else if let Some((before, _)) = self.probe.take_if(|(_, at)| now < *at + PROBE_JUDGED_WITHIN) {
            self.take_back(before, now);
        } else {
            self.has_relented = true;
            self.allow_more(now);
        }
    }

    /// So many threads fewer were too few.
    fn take_back(&mut self, before: usize, now: Instant) {
        self.allowed = before;
        self.has_relented = false;
        self.probe_pause = (self.probe_pause * 2).min(PROBE_PAUSE_MAX);
        self.probe_at = Some(now + self.probe_pause);
    }

    fn allow_more(&mut self, now: Instant) {
        self.growth = self.growth.saturating_add(1);
        let step = 1_usize.checked_shl(self.growth.saturating_sub(STEPS_SINGLE)).unwrap_or(self.threads);
        self.allowed = self.allowed.saturating_add(step).min(self.threads);
        self.probe = None;
        self.probe_at = Some(now + self.probe_pause);
    }

    fn learn_full(&mut self, now: Instant) {
        self.full_in_a_row = self.full_in_a_row.saturating_add(1);
        if self.full_in_a_row > 1 {
            // Once, it is what threads do that have just begun.
            self.growth = 0;
        }
        if self.has_relented && self.full_in_a_row >= FULL_IN_A_ROW {
            self.has_relented = false;
            self.probe_pause = PROBE_PAUSE_MIN;
            self.probe_at = None;
        }
        if self.allowed > self.least && self.probe_at.is_none_or(|at| at <= now) {
            self.allow_fewer(now);
        }
    }

    fn allow_fewer(&mut self, now: Instant) {
        if self.probe.is_some() {
            // The last probe went well.
            self.probe_pause = PROBE_PAUSE_MIN;
            self.probe_step *= 2;
        } else {
            self.probe_step = 1;
        }
        self.probe = Some((self.allowed, now));
        self.allowed = self.allowed.saturating_sub(self.probe_step).max(self.least);
        self.probe_at = Some(now + PROBE_PAUSE_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(500);

    /// Ticks `count` times against an application whose usage `app` derives from the threads allowed.
    fn run(
        limit: &mut ConcurrencyLimit,
        start: Instant,
        count: u32,
        app: impl Fn(usize) -> Usage,
    ) -> Vec<usize> {
        (0..count)
            .map(|tick| {
                let usage = app(limit.allowed());
                limit.learn(usage, usage == Usage::Idle, start + TICK * tick);
                limit.allowed()
            })
            .collect()
    }

    #[test]
    fn a_blocking_application_soon_gets_every_thread() {
        for threads in [2, 16, 64] {
            let mut limit = ConcurrencyLimit::new(threads, 1);
            let allowed = run(&mut limit, Instant::now(), 10, |_| Usage::Idle);
            assert_eq!(allowed.last(), Some(&threads));
        }
    }

    #[test]
    fn a_short_pause_is_worth_a_few_threads() {
        let mut limit = ConcurrencyLimit::new(64, 1);
        assert_eq!(run(&mut limit, Instant::now(), 4, |_| Usage::Idle), [2, 3, 4, 5]);
    }

    #[test]
    fn an_application_that_computes_soon_gets_one_thread() {
        let mut limit = ConcurrencyLimit::new(64, 1);
        let start = Instant::now();
        run(&mut limit, start, 10, |_| Usage::Idle);
        let allowed = run(&mut limit, start + TICK * 10, 36, |_| Usage::Full);
        assert_eq!(allowed.last(), Some(&1));
    }

    #[test]
    fn a_blocked_thread_does_not_count_and_is_probed_ever_more_rarely() {
        let mut limit = ConcurrencyLimit::new(16, 1);
        // One thread hangs in a slow call; a second one keeps the interpreter busy.
        let app = |allowed| if allowed > 1 { Usage::Full } else { Usage::Idle };
        let allowed = run(&mut limit, Instant::now(), 20_000, app);
        let wasted = |ticks: &[usize]| ticks.iter().filter(|allowed| **allowed < 2).count();
        assert!(wasted(&allowed[..2_000]) < 100);
        assert!(wasted(&allowed[18_000..]) <= 2);
    }

    #[test]
    fn a_probe_that_failed_in_another_time_is_forgotten() {
        let mut limit = ConcurrencyLimit::new(16, 1);
        let start = Instant::now();
        let app = |allowed| if allowed > 1 { Usage::Full } else { Usage::Idle };
        run(&mut limit, start, 20_000, app);
        assert_eq!(limit.allowed(), 2);
        limit.learn(Usage::Partial, false, start + TICK * 20_000);
        let allowed = run(&mut limit, start + TICK * 20_001, 8, |_| Usage::Full);
        assert_eq!(allowed.last(), Some(&1));
    }

    #[test]
    fn without_the_lock_no_core_is_left_without_a_thread() {
        let mut limit = ConcurrencyLimit::new(16, 4);
        let start = Instant::now();
        assert_eq!(run(&mut limit, start, 100, |_| Usage::Full).iter().min(), Some(&4));
        run(&mut limit, start + TICK * 100, 10, |_| Usage::Idle);
        let allowed = run(&mut limit, start + TICK * 110, 100, |_| Usage::Full);
        assert_eq!(allowed.iter().min(), Some(&4));
        assert_eq!(ConcurrencyLimit::new(2, 8).allowed(), 2);
    }

    #[test]
    fn one_more_runs_when_a_core_is_idle_now_and_then() {
        let mut limit = ConcurrencyLimit::new(16, 1);
        let now = Instant::now();
        limit.learn(Usage::Partial, false, now);
        assert_eq!(limit.allowed(), 1);
        limit.learn(Usage::Partial, true, now);
        assert_eq!(limit.allowed(), 2);
    }
}
