//! What is said of requests that were answered 503 because no thread was free for them: seldom, and when it is over.

use std::time::{Duration, Instant};

use crate::limits::{OVERLOAD_COLLECT, WARN_PAUSE};

/// See the module's page.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// Requests answered so, as far as they were told of, and at the last look.
    told: u64,
    seen: u64,
    /// When the number was last seen to change.
    changed_at: Option<Instant>,
    /// When to tell of the change.
    due_at: Option<Instant>,
    /// Since when it is known to whoever reads the log.
    is_known: bool,
}

/// What is worth a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum News {
    /// So many requests more were answered 503.
    Refused(u64),
    /// None was for a while.
    Over,
}

impl Overload {
    /// Looks at how many requests were answered so in all.
    pub(super) fn look(&mut self, total: u64, now: Instant) -> Option<News> {
        if total != self.seen {
            self.seen = total;
            self.changed_at = Some(now);
            self.due_at.get_or_insert(now + OVERLOAD_COLLECT);
        }
        if self.seen > self.told {
            return self.due_at.filter(|at| *at <= now).and_then(|_| self.tell(now));
        }
        let quiet_for = self.changed_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        if self.is_known && quiet_for >= WARN_PAUSE {
            *self = Self { told: self.told, seen: self.seen, ..Self::default() };
            return Some(News::Over);
        }
        None
    }

    /// What has not been told yet, if anything.
    pub(super) fn tell(&mut self, now: Instant) -> Option<News> {
        let refused = self.seen.saturating_sub(self.told);
        self.told = self.seen;
        self.is_known |= refused > 0;
        self.due_at = Some(now + WARN_PAUSE);
        (refused > 0).then_some(News::Refused(refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_told_once_and_the_rest_a_minute_later() {
        let (mut overload, now) = (Overload::default(), Instant::now());
        assert_eq!(overload.look(0, now), None);
        assert_eq!(overload.look(1, now), None, "others may follow at once");
        assert_eq!(overload.look(4, now + OVERLOAD_COLLECT), Some(News::Refused(4)));
        assert_eq!(overload.look(9, now + WARN_PAUSE / 2), None);
        let later = now + OVERLOAD_COLLECT + WARN_PAUSE;
        assert_eq!(overload.look(11, later), Some(News::Refused(7)));
    }

    #[test]
    fn the_end_is_told_after_a_quiet_minute_and_what_follows_is_new() {
        let (mut overload, now) = (Overload::default(), Instant::now());
        overload.look(3, now);
        assert_eq!(overload.look(3, now + OVERLOAD_COLLECT), Some(News::Refused(3)));
        assert_eq!(overload.look(3, now + WARN_PAUSE / 2), None);
        assert_eq!(overload.look(3, now + WARN_PAUSE), Some(News::Over));
        assert_eq!(overload.look(3, now + 9 * WARN_PAUSE), None);
        let again = now + 10 * WARN_PAUSE;
        assert_eq!(overload.look(5, again), None);
        assert_eq!(overload.look(5, again + OVERLOAD_COLLECT), Some(News::Refused(2)));
    }

    #[test]
    fn a_process_that_ends_tells_what_is_left() {
        let (mut overload, now) = (Overload::default(), Instant::now());
        overload.look(2, now);
        assert_eq!(overload.tell(now), Some(News::Refused(2)));
        assert_eq!(overload.tell(now), None);
    }
}
