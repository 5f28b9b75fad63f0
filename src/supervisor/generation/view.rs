//! What can be seen of the machine from outside.

use std::time::Instant;

#[cfg(doc)]
use super::SupervisorEvent;
use super::{Generations, Mode, Unrest, WorkerId, WorkerStage};

impl Generations {
    /// When [`SupervisorEvent::Tick`] is due, if nothing else happens before.
    pub(in crate::supervisor) fn deadline(&self) -> Option<Instant> {
        let workers = self.workers.values().filter_map(|worker| match worker.stage {
            WorkerStage::Loading { until }
            | WorkerStage::Draining { until }
            | WorkerStage::Stopping { until } => Some(until),
            WorkerStage::Killed { until } => (self.mode != Mode::Running).then_some(until),
            WorkerStage::Ready | WorkerStage::Accepting | WorkerStage::Watching => None,
        });
        // Without room the next worker's end is what is waited for, and an event of its own.
        let slots =
            self.serving.iter().filter(|_| self.has_room_for_one()).flat_map(|serving| &serving.slots);
        workers.chain(slots.filter_map(|slot| slot.spawn_at)).chain(self.retry_at).chain(self.stop_at).min()
    }

    /// Workers that one generation has now.
    #[cfg(test)]
    pub(super) fn processes(&self) -> usize {
        self.processes
    }

    /// How much is on its way.
    pub(in crate::supervisor) fn unrest(&self) -> Unrest {
        let phases = || self.workers.values().map(|worker| worker.stage);
        let is_starting = |stage| matches!(stage, WorkerStage::Loading { .. } | WorkerStage::Ready);
        let slots = self.serving.iter().flat_map(|serving| &serving.slots);
        let is_due = self.reload_wanted || slots.filter(|slot| slot.spawn_at.is_some()).count() > 0;
        if self.mode != Mode::Running || is_due || phases().any(is_starting) {
            Unrest::Starting
        } else if phases().all(|stage| stage == WorkerStage::Accepting) {
            Unrest::None
        } else {
            Unrest::Leaving
        }
    }

    /// The workers that accept and are not to be replaced, with the time since when they accept.
    pub(in crate::supervisor) fn established(&self) -> Vec<(WorkerId, Instant)> {
        let slots = self.serving.iter().flat_map(|serving| &serving.slots);
        let workers = slots.filter(|slot| slot.farewell.is_none()).filter_map(|slot| slot.worker);
        let accepting = workers.filter_map(|id| self.workers.get(&id).map(|worker| (id, worker)));
        let accepting = accepting.filter(|(_, worker)| worker.stage == WorkerStage::Accepting);
        accepting.filter_map(|(id, worker)| Some((id, worker.accepted_at?))).collect()
    }
}
