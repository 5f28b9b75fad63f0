//! The shutdown: another status process answers at the same address, and this one sends its last answers.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::reactor::WakeHandle;

/// Whether the shutdown has begun, as the main thread tells the executor.
#[derive(Debug)]
pub(super) struct Shutdown {
    is_begun: AtomicBool,
    executor: WakeHandle,
}

impl Shutdown {
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
