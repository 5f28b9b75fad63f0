//! How fast connections come and go. An imbalance among processes lasts as long as connections do.

use std::cell::Cell;
use std::time::Instant;

use crate::limits::CHURN_WINDOW;

/// Counts, in windows of time, the connections that close soon after they came.
#[derive(Debug, Default)]
pub(super) struct ConnectionChurn {
    window_began: Cell<Option<Instant>>,
    fleeting: Cell<usize>,
    fleeting_before: Cell<usize>,
}

impl ConnectionChurn {
    /// One more has closed that came at `admitted_at`.
    pub(super) fn count(&self, admitted_at: Instant, now: Instant) {
        if now.saturating_duration_since(admitted_at) < CHURN_WINDOW {
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
        if age.is_some_and(|age| age < CHURN_WINDOW) {
            return;
        }
        let is_recent = age.is_some_and(|age| age < 2 * CHURN_WINDOW);
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
        let (connection_churn, start) = (ConnectionChurn::default(), Instant::now());
        assert!(!connection_churn.outnumbers(1, start));
        for _ in 0..3 {
            connection_churn.count(start, start);
        }
        assert!(connection_churn.outnumbers(3, start) && !connection_churn.outnumbers(4, start));
        let next = start + CHURN_WINDOW;
        connection_churn.count(next, next);
        assert!(connection_churn.outnumbers(4, next));
        assert!(connection_churn.outnumbers(1, next + CHURN_WINDOW));
        assert!(!connection_churn.outnumbers(2, next + CHURN_WINDOW));
        assert!(!connection_churn.outnumbers(1, next + 4 * CHURN_WINDOW));
    }

    #[test]
    fn many_old_connections_that_close_at_once_do_not_count() {
        let (connection_churn, start) = (ConnectionChurn::default(), Instant::now());
        connection_churn.count(start, start + CHURN_WINDOW);
        assert!(!connection_churn.outnumbers(1, start + CHURN_WINDOW));
    }
}
