//! Looks at the workers now and then, as often as the limits of the configuration demand, and asks `limit_check` about
//! them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::generation::{Generations, SupervisorEvent, WorkerId};
use super::limit_check::{LimitAction, LimitCheck, WorkerSample};
use super::worker_handle::WorkerHandle;
use crate::config::WorkerLimits;
use crate::limits::MEMORY_PAUSE;
use crate::scoreboard::{Scoreboard, WorkerSnapshot};
use crate::sys::{clock, memory};

/// When to look at the workers next, and the limits to check them against.
#[derive(Debug)]
pub(super) struct Inspection {
    limit_check: LimitCheck,
    due: Option<Instant>,
    memory_due: Instant,
}

impl Inspection {
    pub(super) fn new(limits: WorkerLimits, now: Instant) -> Self {
        let limit_check = LimitCheck::new(limits, RandomState::new().hash_one(std::process::id()));
        let due = limit_check.pause().map(|pause| now + pause);
        Self { limit_check, due, memory_due: now }
    }

    /// When to look next; `None` is never.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Looks if it is time to, and returns what the machine is to be told. `status` is the status process.
    pub(super) fn look_if_due(
        &mut self,
        workers: &BTreeMap<WorkerId, WorkerHandle>,
        status: Option<u32>,
        generations: &Generations,
        scoreboard: &Scoreboard,
        now: Instant,
    ) -> Vec<SupervisorEvent> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = self.limit_check.pause().map(|pause| now + pause);
        let memory = if self.limit_check.wants_memory() && now >= self.memory_due {
            self.memory_due = now + MEMORY_PAUSE;
            Some(measure(workers.values().map(|worker| worker.pid).chain(status)))
        } else {
            None
        };
        let samples = see(workers, generations, scoreboard, memory.as_ref(), now);
        let total = memory.map(|memory| memory.values().sum());
        let actions = self.limit_check.look(&samples, generations.unrest(), total, now);
        actions.into_iter().map(told).collect()
    }
}

/// The memory of these processes and of this one.
fn measure(children: impl Iterator<Item = u32>) -> BTreeMap<u32, u64> {
    let pids = children.chain([std::process::id()]);
    // Who has just ended has none.
    pids.filter_map(|pid| Some((pid, memory::bytes_of(pid).ok()?))).collect()
}

fn see(
    workers: &BTreeMap<WorkerId, WorkerHandle>,
    generations: &Generations,
    scoreboard: &Scoreboard,
    memory: Option<&BTreeMap<u32, u64>>,
    now: Instant,
) -> Vec<WorkerSample> {
    let snapshot = scoreboard.snapshot();
    let now_ms = clock::monotonic_ms();
    let established = generations.established().into_iter();
    let samples = established.filter_map(|(id, since)| {
        let worker = workers.get(&id)?;
        let row: &WorkerSnapshot = snapshot.workers.iter().find(|row| row.row == worker.row)?;
        let heartbeat_age = |heartbeat_ms: u64| Duration::from_millis(now_ms.saturating_sub(heartbeat_ms));
        Some(WorkerSample {
            id,
            age: now.saturating_duration_since(since),
            requests: row.executors.iter().fold(0, |sum, it| sum.saturating_add(it.requests)),
            main_heartbeat_age: heartbeat_age(row.heartbeat_ms),
            executor_heartbeat_ages: row.executors.iter().map(|it| heartbeat_age(it.heartbeat_ms)).collect(),
            memory_bytes: memory.and_then(|memory| memory.get(&worker.pid).copied()),
        })
    });
    samples.collect()
}

fn told(limit_check: LimitAction) -> SupervisorEvent {
    match limit_check {
        LimitAction::Replace(id, replacement) => SupervisorEvent::Replace(id, replacement),
        LimitAction::Reload(reason) => {
            tracing::warn!(reason, "reloading every worker");
            SupervisorEvent::Reload
        }
    }
}
