//! What other threads of a worker have for its main thread, which alone speaks with the supervisor.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use std::{io, mem};

use crate::sys::eventfd::EventFd;

/// One of those things.
#[derive(Debug)]
pub(super) enum Notice {
    /// A watched file has changed, to this version; noticed at that time by [`crate::sys::clock::monotonic_ms`].
    Changed { path: PathBuf, at_ms: u64, version: String },
    /// The application has worked on a request for too long.
    Overdue(Overdue),
    /// An application thread has died of a bug of the server.
    ThreadDied,
    /// The drain ended by force before the application had answered.
    Cut(Overdue),
}

/// A request that takes too long, or longer than a drain.
#[derive(Debug)]
pub(super) struct Overdue {
    /// Its method and target.
    pub(super) request: String,
    /// The thread that works on it, as [`crate::sys::process::thread_number`] names it; 0 while it waits for one.
    pub(super) thread: u64,
    /// Since when it does.
    pub(super) working_for: Duration,
}

/// Notices from other threads, with the descriptor that wakes the main thread for them.
#[derive(Debug)]
pub(super) struct Notices {
    waiting: Mutex<Vec<Notice>>,
    bell: EventFd,
}

impl Notices {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { waiting: Mutex::default(), bell: EventFd::new()? })
    }

    pub(super) fn post(&self, notice: Notice) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(notice);
        self.bell.raise();
    }

    /// Readable when there is something to take.
    pub(super) fn bell(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }

    pub(super) fn take(&self) -> Vec<Notice> {
        self.bell.lower();
        mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
