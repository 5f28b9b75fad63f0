//! One worker of a generation, and where it is in its life.

use std::time::Instant;

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerStage {
    Loading {
        until: Instant,
    },
    Ready,
    /// It could not load the application, and waits for a change of what it could not load.
    Watching,
    Accepting,
    Draining {
        until: Instant,
    },
    Stopping {
        until: Instant,
    },
    Killed {
        until: Instant,
    },
}

/// What is known of one worker.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    pub(super) generation: u64,
    pub(super) slot: usize,
    pub(super) stage: WorkerStage,
    pub(super) accepted_at: Option<Instant>,
}

impl Worker {
    /// It has been told to accept.
    pub(super) fn accept(&mut self, now: Instant) {
        self.stage = WorkerStage::Accepting;
        self.accepted_at = Some(now);
    }
}
