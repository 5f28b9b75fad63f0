//! Limits how often the same warning is logged.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::WARN_PAUSE;

/// A warning that is logged at most once in a while.
#[derive(Debug, Default)]
pub(super) struct LogThrottle {
    due_at_ms: AtomicU64,
}

impl LogThrottle {
    /// Whether to log it now, by the caller's clock.
    pub(super) fn is_due(&self, now_ms: u64) -> bool {
        let pause_ms = u64::try_from(WARN_PAUSE.as_millis()).unwrap_or(u64::MAX);
        let due = |at_ms: u64| (at_ms <= now_ms).then(|| now_ms.saturating_add(pause_ms));
        self.due_at_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, due).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thing_is_said_once_in_a_while() {
        let log_throttle = LogThrottle::default();
        let pause_ms = u64::try_from(WARN_PAUSE.as_millis()).unwrap();
        let said: Vec<bool> =
            [5, 6, pause_ms, pause_ms + 5, pause_ms + 6].map(|at| log_throttle.is_due(at)).to_vec();
        assert_eq!(said, [true, false, false, true, false]);
    }
}
