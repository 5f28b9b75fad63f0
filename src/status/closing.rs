//! Closing time: another status process answers at the same address, and this one sends its last answers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::reactor::WakeHandle;

/// Whether it is closing time, as the main thread tells the one that serves.
#[derive(Debug)]
pub(super) struct Closing {
    is_begun: AtomicBool,
    executor: WakeHandle,
}

impl Closing {
    pub(super) fn new(executor: WakeHandle) -> Self {
        Self { is_begun: AtomicBool::new(false), executor }
    }

    pub(super) fn begin(&self) {
        self.is_begun.store(true, Ordering::Release);
        self.executor.wake();
    }

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun.load(Ordering::Acquire)
    }
}
