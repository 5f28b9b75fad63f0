//! How many application threads should run at once. Pure: measurements and `now` in, a number out.
//!
//! Under the interpreter's lock a second thread helps only while the first is blocked outside it; otherwise the two
//! fight, and everything takes longer. Nobody can ask the lock who waits for it, but how much CPU the application used
//! while requests waited tells enough: little, and another thread could have run, unless others had the cores; all
//! there was, and one thread fewer may do. Whether it does is tried, and taken back if not, ever more rarely.

use std::time::{Duration, Instant};

use crate::limits::{PROBE_PAUSE_MAX, PROBE_PAUSE_MIN};

/// What the application made of a core's time while requests waited for a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Less than half: its threads are blocked.
    Idle,
    /// Something between.
    Partial,
    /// As good as all.
    Full,
}

impl Usage {
    /// Judges `used` CPU time out of `available`.
    pub fn of(used: Duration, available: Duration) -> Self {
        if used < available / 2 {
            Self::Idle
        } else if used < available * 7 / 8 {
            Self::Partial
        } else {
            Self::Full
        }
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct Concurrency {
    threads: usize,
    allowed: usize,
    /// The last change was to allow one thread fewer, and has not proved right yet.
    is_probing: bool,
    probe_at: Option<Instant>,
    probe_pause: Duration,
}

impl Concurrency {
    /// Begins with one of `threads`.
    pub(super) fn new(threads: usize) -> Self {
        Self { threads, allowed: 1, is_probing: false, probe_at: None, probe_pause: PROBE_PAUSE_MIN }
    }

    /// Threads that should run at once, at least one.
    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    /// Learns from a measurement.
    pub(super) fn learn(&mut self, usage: Usage, now: Instant) {
        match usage {
            Usage::Idle => self.allow_one_more(now),
            Usage::Full if self.allowed > 1 && self.probe_at.is_none_or(|at| at <= now) => self.probe(now),
            Usage::Partial | Usage::Full => {}
        }
    }

    fn allow_one_more(&mut self, now: Instant) {
        self.allowed = (self.allowed + 1).min(self.threads);
        if self.is_probing {
            self.is_probing = false;
            self.probe_pause = (self.probe_pause * 2).min(PROBE_PAUSE_MAX);
        }
        self.probe_at = Some(now + self.probe_pause);
    }

    fn probe(&mut self, now: Instant) {
        if self.is_probing {
            // The last probe went well.
            self.probe_pause = PROBE_PAUSE_MIN;
        }
        self.allowed -= 1;
        self.is_probing = true;
        self.probe_at = Some(now + PROBE_PAUSE_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_micros(500);

    /// Ticks `count` times against an application whose usage `app` derives from the threads allowed.
    fn run(
        concurrency: &mut Concurrency,
        start: Instant,
        count: u32,
        app: impl Fn(usize) -> Usage,
    ) -> Vec<usize> {
        (0..count)
            .map(|tick| {
                concurrency.learn(app(concurrency.allowed()), start + TICK * tick);
                concurrency.allowed()
            })
            .collect()
    }

    #[test]
    fn a_blocking_application_gets_every_thread() {
        let mut concurrency = Concurrency::new(16);
        let allowed = run(&mut concurrency, Instant::now(), 16, |_| Usage::Idle);
        assert_eq!(allowed.last(), Some(&16));
    }

    #[test]
    fn an_application_that_computes_gets_one_thread() {
        let mut concurrency = Concurrency::new(16);
        let start = Instant::now();
        run(&mut concurrency, start, 16, |_| Usage::Idle);
        let allowed = run(&mut concurrency, start + TICK * 16, 400, |_| Usage::Full);
        assert_eq!(allowed.last(), Some(&1));
    }

    #[test]
    fn a_blocked_thread_does_not_count_and_is_probed_ever_more_rarely() {
        let mut concurrency = Concurrency::new(16);
        // One thread hangs in a slow call; a second one keeps the interpreter busy.
        let app = |allowed| if allowed > 1 { Usage::Full } else { Usage::Idle };
        let allowed = run(&mut concurrency, Instant::now(), 20_000, app);
        let wasted = |ticks: &[usize]| ticks.iter().filter(|allowed| **allowed < 2).count();
        assert!(wasted(&allowed[..2_000]) < 100);
        assert!(wasted(&allowed[18_000..]) <= 2);
    }

    #[test]
    fn usage_is_judged_by_what_was_available() {
        let available = Duration::from_micros(400);
        assert_eq!(Usage::of(Duration::from_micros(199), available), Usage::Idle);
        assert_eq!(Usage::of(Duration::from_micros(300), available), Usage::Partial);
        assert_eq!(Usage::of(Duration::from_micros(390), available), Usage::Full);
    }
}
