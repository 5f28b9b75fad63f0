//! Looks at the workers now and then, as often as the limits of the configuration demand, and asks `verdict` about
//! them.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::generation::{Event, Generations, WorkerId};
use super::verdict::{Judge, Sighting, Verdict};
use super::worker_handle::WorkerHandle;
use crate::config::WorkerLimits;
use crate::limits::MEMORY_PAUSE;
use crate::scoreboard::{Scoreboard, WorkerSnapshot};
use crate::sys::{clock, memory};

/// See the module's page.
#[derive(Debug)]
pub(super) struct Inspection {
    judge: Judge,
    due: Option<Instant>,
    memory_due: Instant,
}

impl Inspection {
    pub(super) fn new(limits: WorkerLimits, now: Instant) -> Self {
        let judge = Judge::new(limits, RandomState::new().hash_one(std::process::id()));
        let due = judge.pause().map(|pause| now + pause);
        Self { judge, due, memory_due: now }
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
    ) -> Vec<Event> {
        if self.due.is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.due = self.judge.pause().map(|pause| now + pause);
        let memory = if self.judge.wants_memory() && now >= self.memory_due {
            self.memory_due = now + MEMORY_PAUSE;
            Some(measure(workers.values().map(|worker| worker.pid).chain(status)))
        } else {
            None
        };
        let sightings = see(workers, generations, scoreboard, memory.as_ref(), now);
        let total = memory.map(|memory| memory.values().sum());
        let verdicts = self.judge.look(&sightings, generations.unrest(), total, now);
        verdicts.into_iter().map(told).collect()
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
) -> Vec<Sighting> {
    let snapshot = scoreboard.snapshot();
    let now_ms = clock::monotonic_ms();
    let established = generations.established().into_iter();
    let sightings = established.filter_map(|(id, since)| {
        let worker = workers.get(&id)?;
        let seat: &WorkerSnapshot = snapshot.workers.iter().find(|seat| seat.seat == worker.seat)?;
        let silence = |heartbeat_ms: u64| Duration::from_millis(now_ms.saturating_sub(heartbeat_ms));
        Some(Sighting {
            id,
            age: now.saturating_duration_since(since),
            requests: seat.executors.iter().fold(0, |sum, it| sum.saturating_add(it.requests)),
            main_silence: silence(seat.heartbeat_ms),
            executor_silences: seat.executors.iter().map(|it| silence(it.heartbeat_ms)).collect(),
            memory_bytes: memory.and_then(|memory| memory.get(&worker.pid).copied()),
        })
    });
    sightings.collect()
}

fn told(verdict: Verdict) -> Event {
    match verdict {
        Verdict::Replace(id, replacement) => Event::Replace(id, replacement),
        Verdict::Reload(reason) => {
            tracing::warn!(reason, "reloading every worker");
            Event::Reload
        }
    }
}
