//! The room that all temporary files of a process share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes there may be in temporary files, and how many there are.
#[derive(Debug)]
pub struct Quota {
    bytes_max: u64,
    bytes: AtomicU64,
}

/// The part of a [`Quota`] that one file has; dropped with it.
#[derive(Debug)]
pub struct Share {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Quota {
    /// Room for `bytes_max` bytes, of which none is taken.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: AtomicU64::new(0) }
    }

    /// Whether `bytes` more would fit now.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.bytes_max
    }

    /// Whether half of the room is taken.
    pub fn is_half_taken(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max / 2
    }

    fn take(&self, more: u64) -> bool {
        let taken = |bytes: u64| bytes.checked_add(more).filter(|bytes| *bytes <= self.bytes_max);
        self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).is_ok()
    }
}

impl Share {
    /// A share of nothing yet.
    pub fn new(quota: &Arc<Quota>) -> Self {
        Self { quota: Arc::clone(quota), bytes: 0 }
    }

    /// Makes the share `bytes` large, if it is not already; false when there is no room for that.
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        let fits = bytes <= self.bytes || self.quota.take(bytes - self.bytes);
        if fits {
            self.bytes = self.bytes.max(bytes);
        }
        fits
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.quota.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_fit_into_their_quota_and_give_back_what_they_had() {
        let quota = Arc::new(Quota::new(10));
        let (mut one, mut other) = (Share::new(&quota), Share::new(&quota));
        assert!(one.grow_to(4) && one.grow_to(3) && other.grow_to(6));
        assert!(!quota.has_room(1) && !one.grow_to(5) && !other.grow_to(u64::MAX));
        drop(other);
        assert!(!quota.is_half_taken() && one.grow_to(10));
        assert!(quota.is_half_taken() && quota.has_room(0));
    }
}
