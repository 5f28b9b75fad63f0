//! How many connections a process holds over all its executors, and how many it may.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::log_throttle::LogThrottle;
use crate::limits::DESCRIPTORS_KEPT_PART;
use crate::sys::clock;

/// The permits for connections.
#[derive(Debug)]
pub(super) struct ConnectionLimit {
    taken: AtomicUsize,
    max: usize,
    full: LogThrottle,
}

/// The permit of one connection; free again when dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit(Arc<ConnectionLimit>);

impl ConnectionLimit {
    /// `max` permits, but no more than the descriptors that the process may open have room for.
    pub(super) fn new(max: usize, descriptors_max: u64) -> Self {
        let room = descriptors_max - descriptors_max.div_ceil(DESCRIPTORS_KEPT_PART);
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        Self { taken: AtomicUsize::new(0), max: max.min(room).max(1), full: LogThrottle::default() }
    }

    /// Takes a permit; `None` when there is none left.
    pub(super) fn acquire(self: &Arc<Self>) -> Option<ConnectionPermit> {
        let one_more = |taken: usize| (taken < self.max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| ConnectionPermit(Arc::clone(self)))
    }

    /// Whether no permit is left.
    pub(super) fn is_full(&self) -> bool {
        self.taken.load(Ordering::Relaxed) >= self.max
    }

    /// Warns that no permit is left, but not each time.
    pub(super) fn warn_full(&self) {
        if self.full.is_due(clock::monotonic_ms()) {
            tracing::warn!(
                connections = self.max,
                "this process holds as many connections as it may; more wait to be accepted (--connections-max, and \
                 seven eighths of `ulimit -Hn`)"
            );
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_connection_is_gone() {
        let connection_limit = Arc::new(ConnectionLimit::new(2, 1000));
        let (one, _other) = (connection_limit.acquire().unwrap(), connection_limit.acquire().unwrap());
        assert!(connection_limit.is_full() && connection_limit.acquire().is_none());
        drop(one);
        assert!(!connection_limit.is_full() && connection_limit.acquire().is_some());
    }

    #[test]
    fn some_descriptors_are_for_others() {
        let connection_limit = Arc::new(ConnectionLimit::new(100, 16));
        let taken: Vec<ConnectionPermit> = std::iter::from_fn(|| connection_limit.acquire()).collect();
        assert_eq!(taken.len(), 14);
        assert!(Arc::new(ConnectionLimit::new(100, 0)).acquire().is_some());
    }
}
