//! What the supervisor says of the server as a whole. It alone writes these words.

use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use super::Scoreboard;
use super::layout::supervisor::{
    GENERATION, PID, PROCESSES, RELOADS, RELOADS_FAILED, STAGE, STARTED_MS, WORDS, WORKERS_DIED,
};
use crate::sys::shared_memory::AtomicWords;

/// How far the server is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServerStage {
    /// The first generation loads.
    #[default]
    Starting,
    /// A generation serves.
    Serving,
    /// Every worker drains.
    Stopping,
    /// Another supervisor serves at the same addresses; here every worker drains.
    HandedOver,
}

/// The supervisor's pen.
#[derive(Debug)]
pub struct SupervisorScore {
    words: AtomicWords<WORDS>,
}

/// What the supervisor says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SupervisorSnapshot {
    /// Its process id.
    pub pid: u64,
    /// When it began, by [`crate::sys::clock::monotonic_ms`].
    pub started_ms: u64,
    /// How far the server is in its life.
    pub stage: ServerStage,
    /// The generation that serves; 0 before the first does.
    pub generation: u64,
    /// Workers a generation has.
    pub processes: u64,
    /// Reloads that ended well.
    pub reloads: u64,
    /// Reloads whose generation was thrown away.
    pub reloads_failed: u64,
    /// Workers that exited unexpectedly.
    pub workers_died: u64,
}

impl Scoreboard {
    /// The supervisor's words. For the supervisor alone.
    pub fn supervisor(&self) -> Option<SupervisorScore> {
        AtomicWords::new(&self.memory, self.layout.supervisor()).map(|words| SupervisorScore { words })
    }

    /// Whether the server was told to stop, and nobody serves in its place.
    pub fn is_stopping(&self) -> bool {
        self.word(self.layout.supervisor() + STAGE) == ServerStage::Stopping as u64
    }

    pub(super) fn supervisor_snapshot(&self) -> SupervisorSnapshot {
        let word = |index: usize| self.word(self.layout.supervisor() + index);
        SupervisorSnapshot {
            pid: word(PID),
            started_ms: word(STARTED_MS),
            stage: match word(STAGE) {
                1 => ServerStage::Serving,
                2 => ServerStage::Stopping,
                3 => ServerStage::HandedOver,
                _ => ServerStage::Starting,
            },
            generation: word(GENERATION),
            processes: word(PROCESSES),
            reloads: word(RELOADS),
            reloads_failed: word(RELOADS_FAILED),
            workers_died: word(WORKERS_DIED),
        }
    }
}

impl SupervisorScore {
    /// The supervisor `pid` begins, at `now_ms` of [`crate::sys::clock::monotonic_ms`].
    pub fn begin(&self, pid: u32, now_ms: u64) {
        self.set::<PID>(u64::from(pid));
        self.set::<STARTED_MS>(now_ms);
    }

    /// How far the server is. Once it is [`ServerStage::HandedOver`] it stays that.
    pub fn set_stage(&self, stage: ServerStage) {
        if self.words.at::<STAGE>().load(Relaxed) != ServerStage::HandedOver as u64 {
            self.set::<STAGE>(stage as u64);
        }
    }

    /// Workers of `generation` have been told to accept.
    pub fn set_generation(&self, generation: u64) {
        self.set::<GENERATION>(generation);
    }

    /// Workers a generation has from now on.
    pub fn set_processes(&self, processes: usize) {
        self.set::<PROCESSES>(processes as u64);
    }

    /// A reload has ended.
    pub fn reloaded(&self, ok: bool) {
        if ok { self.count::<RELOADS>() } else { self.count::<RELOADS_FAILED>() }
    }

    /// A worker exited unexpectedly.
    pub fn worker_died(&self) {
        self.count::<WORKERS_DIED>();
    }

    fn set<const INDEX: usize>(&self, value: u64) {
        self.words.at::<INDEX>().store(value, Relaxed);
    }

    fn count<const INDEX: usize>(&self) {
        let word = self.words.at::<INDEX>();
        word.store(word.load(Relaxed).wrapping_add(1), Relaxed);
    }
}
