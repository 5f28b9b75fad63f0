//! How fast connections come and go. An imbalance among processes lasts as long as connections do.

use std::cell::Cell;
use std::time::Instant;

use crate::limits::TURNOVER_WINDOW;

/// Counts, in windows of time, the connections that close soon after they came.
#[derive(Debug, Default)]
pub(super) struct Turnover {
    window_began: Cell<Option<Instant>>,
    fleeting: Cell<usize>,
    fleeting_before: Cell<usize>,
}

impl Turnover {
    /// One more has closed that came at `admitted_at`.
    pub(super) fn count(&self, admitted_at: Instant, now: Instant) {
        if now.saturating_duration_since(admitted_at) < TURNOVER_WINDOW {
            self.roll(now);
            self.fleeting.set(self.fleeting.get() + 1);
        }
    }

    /// Whether in this window and the one before as many such connections closed as are open now.
    pub(super) fn outnumbers(&self, open: usize, now: Instant) -> bool {
        self.roll(now);
        self.fleeting.get() + self.fleeting_before.get() >= open
    }

    fn roll(&self, now: Instant) {
        let age = self.window_began.get().map(|began| now.saturating_duration_since(began));
        if age.is_some_and(|age| age < TURNOVER_WINDOW) {
            return;
        }
        let is_recent = age.is_some_and(|age| age < 2 * TURNOVER_WINDOW);
        self.fleeting_before.set(if is_recent { self.fleeting.get() } else { 0 });
        self.fleeting.set(0);
        self.window_began.set(Some(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_closed_long_ago_does_not_count() {
        let (turnover, start) = (Turnover::default(), Instant::now());
        assert!(!turnover.outnumbers(1, start));
        for _ in 0..3 {
            turnover.count(start, start);
        }
        assert!(turnover.outnumbers(3, start) && !turnover.outnumbers(4, start));
        let next = start + TURNOVER_WINDOW;
        turnover.count(next, next);
        assert!(turnover.outnumbers(4, next));
        assert!(turnover.outnumbers(1, next + TURNOVER_WINDOW));
        assert!(!turnover.outnumbers(2, next + TURNOVER_WINDOW));
        assert!(!turnover.outnumbers(1, next + 4 * TURNOVER_WINDOW));
    }

    #[test]
    fn many_old_connections_that_close_at_once_do_not_count() {
        let (turnover, start) = (Turnover::default(), Instant::now());
        turnover.count(start, start + TURNOVER_WINDOW);
        assert!(!turnover.outnumbers(1, start + TURNOVER_WINDOW));
    }
}
