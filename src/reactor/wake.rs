//! Waking a sleeping executor from another thread, at most once a sleep.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::Duration;

use crate::sys::eventfd::EventFd;

/// The executor's end: says when it is about to sleep.
///
/// A wake-up costs a system call only when the executor really sleeps. glommio's own foreign wake-ups are not used:
/// forty thousand of them outstanding overflow a counter and panic both threads.
#[derive(Debug)]
pub struct Wake {
    shared: Arc<Shared>,
}

/// Another thread's end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WakeHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    bell: EventFd,
    asleep: AtomicBool,
}

impl Wake {
    /// Creates a bell that has not rung.
    ///
    /// # Errors
    /// The kernel's, when descriptors run out.
    pub fn new() -> io::Result<Self> {
        Ok(Self { shared: Arc::new(Shared { bell: EventFd::new()?, asleep: AtomicBool::new(false) }) })
    }

    /// An end for another thread.
    pub fn handle(&self) -> WakeHandle {
        WakeHandle { shared: Arc::clone(&self.shared) }
    }

    /// Declares sleep. The caller must look for work once more after this and before it sleeps: what was sent
    /// before this call may have rung no bell.
    pub fn fall_asleep(&self) {
        self.shared.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Sleeps until the bell rings, at most `timeout`, blind to everything else.
    pub fn doze(&self, timeout: Duration) {
        self.shared.bell.wait(timeout);
    }

    /// Ends the sleep and silences the bell.
    pub fn get_up(&self) {
        if !self.shared.asleep.swap(false, Ordering::Relaxed) {
            self.shared.bell.lower();
        }
    }

    /// What becomes readable when the bell rings.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.shared.bell.as_fd()
    }
}

impl WakeHandle {
    /// Makes sure that the executor looks at what was sent before this call. Call it after sending.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.shared.asleep.load(Ordering::Relaxed) && self.shared.asleep.swap(false, Ordering::Relaxed) {
            self.shared.bell.raise();
        }
    }
}
