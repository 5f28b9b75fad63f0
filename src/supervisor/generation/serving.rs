//! The generation that serves, slot by slot: who works there, who comes next, and when.

use std::time::{Duration, Instant};

use super::messages::{Farewell, WorkerId};
use crate::limits::{RESPAWN_WAIT_MAX, RESPAWN_WAIT_MIN};

/// A place in the serving generation, and how it fares.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    /// Who works here, or is to: it may still be loading, after a crash.
    pub(super) worker: Option<WorkerId>,
    /// Who loads to take its place.
    pub(super) successor: Option<WorkerId>,
    /// How the worker goes when it has a successor that accepts; `None` while it is to stay.
    pub(super) farewell: Option<Farewell>,
    /// When the next worker or successor is started.
    pub(super) spawn_at: Option<Instant>,
    respawn_wait: Duration,
    /// A worker has died here, and none has accepted since.
    is_broken: bool,
}

impl Slot {
    fn of(worker: Option<WorkerId>, spawn_at: Option<Instant>) -> Self {
        Self {
            worker,
            successor: None,
            farewell: None,
            spawn_at,
            respawn_wait: RESPAWN_WAIT_MIN,
            is_broken: false,
        }
    }

    /// Starts the next process here later, and the one after that later still; returns the wait.
    fn wait_and_spawn(&mut self, now: Instant) -> Duration {
        let wait = self.respawn_wait;
        self.spawn_at = Some(now + wait);
        self.respawn_wait = (wait * 2).min(RESPAWN_WAIT_MAX);
        wait
    }
}

#[derive(Clone, Debug)]
pub(super) struct Serving {
    pub(super) generation: u64,
    pub(super) slots: Vec<Slot>,
    /// Why the last replacement failed, so that the same reason is logged once.
    pub(super) last_failure: Option<String>,
}

impl Serving {
    /// A generation whose workers all accept, in the order of their slots.
    pub(super) fn new(generation: u64, workers: Vec<WorkerId>) -> Self {
        let slots = workers.into_iter().map(|id| Slot::of(Some(id), None)).collect();
        Self { generation, slots, last_failure: None }
    }

    /// Adds a slot, to be filled a moment later.
    pub(super) fn add_slot(&mut self, now: Instant) {
        self.slots.push(Slot::of(None, Some(now + RESPAWN_WAIT_MIN)));
    }

    /// Wants another worker in the place of `id`; false when `id` works in no slot, or is being replaced already.
    pub(super) fn replace(&mut self, id: WorkerId, farewell: Farewell, now: Instant) -> bool {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.worker == Some(id)) else { return false };
        if slot.farewell.is_some() {
            return false;
        }
        slot.farewell = Some(farewell);
        // A worker that is replaced again and again must not keep the supervisor busy.
        slot.spawn_at = Some(now + RESPAWN_WAIT_MIN);
        true
    }

    /// Whether `id`, which accepts now, mends what was logged as an error: a slot whose worker had died or could not be
    /// replaced.
    pub(super) fn mends(&mut self, id: WorkerId) -> bool {
        let had_failed = self.last_failure.take().is_some();
        let slot = self.slots.iter_mut().find(|slot| [slot.worker, slot.successor].contains(&Some(id)));
        slot.is_some_and(|slot| std::mem::take(&mut slot.is_broken)) || had_failed
    }

    /// Lets the successor `id` take its slot over; returns who worked there before, and how it goes.
    pub(super) fn succeed(&mut self, id: WorkerId) -> Option<(WorkerId, Farewell)> {
        let slot = self.slots.iter_mut().find(|slot| slot.successor == Some(id))?;
        slot.successor = None;
        slot.worker.replace(id).zip(slot.farewell.take())
    }

    /// Forgets a worker that has ended, and returns after which wait the next is started, if one is.
    ///
    /// `has_proved_itself` says that it lived long enough for its end to be no part of a crash loop.
    pub(super) fn ended(&mut self, id: WorkerId, has_proved_itself: bool, now: Instant) -> Option<Duration> {
        let slot = self.slots.iter_mut().find(|slot| [slot.worker, slot.successor].contains(&Some(id)))?;
        if has_proved_itself {
            slot.respawn_wait = RESPAWN_WAIT_MIN;
        }
        if slot.successor == Some(id) {
            slot.successor = None;
            return Some(slot.wait_and_spawn(now));
        }
        slot.farewell = None;
        slot.is_broken = true;
        slot.worker = slot.successor.take();
        if slot.worker.is_some() { None } else { Some(slot.wait_and_spawn(now)) }
    }
}
