//! How workers go: drained, stopped or killed, alone or all of them.

use std::time::Instant;

use super::messages::{Action, Note, WorkerId};
use super::{Generations, Mode, Worker, WorkerStage};
use crate::limits::{REAP_TIMEOUT, STOP_TIMEOUT};

impl Generations {
    /// Stops after the delay for which those who send requests here need to learn that they should not; said again,
    /// or with nobody who serves, at once.
    pub(super) fn stop_soon(&mut self, now: Instant) {
        let delay = self.settings.drain_delay;
        if self.stop_at.is_some() || self.serving.is_none() || delay.is_zero() {
            return self.close_and_stop(now);
        }
        self.stop_at = Some(now + delay);
        self.actions.push(Action::Log(Note::StopsIn(delay)));
    }

    pub(super) fn close_and_stop(&mut self, now: Instant) {
        self.actions.push(Action::Close);
        self.leave(now);
    }

    pub(super) fn leave(&mut self, now: Instant) {
        self.actions.push(Action::Log(Note::Stopping));
        self.stop(0, now);
    }

    pub(super) fn stop(&mut self, status: i32, now: Instant) {
        self.begin_nothing_more(status);
        self.retire(|_| true, now);
    }

    pub(super) fn stop_now(&mut self, now: Instant) {
        if self.mode == Mode::Running {
            self.begin_nothing_more(0);
        }
        for id in self.ids_where(|worker| !matches!(worker.stage, WorkerStage::Killed { .. })) {
            self.kill(id, now);
        }
    }

    pub(super) fn begin_nothing_more(&mut self, status: i32) {
        self.mode = Mode::Stopping { status };
        self.serving = None;
        self.loading = None;
        self.reload_wanted = false;
        self.retry_at = None;
        self.stop_at = None;
    }

    /// Drains those that accept and stops those that load.
    pub(super) fn retire(&mut self, is_meant: impl Fn(&Worker) -> bool, now: Instant) {
        for id in self.ids_where(is_meant) {
            self.retire_worker(id, now);
        }
    }

    pub(super) fn retire_worker(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if let WorkerStage::Accepting = worker.stage {
            worker.stage = WorkerStage::Draining { until: now + self.settings.drain_timeout };
            self.actions.push(Action::Drain(id));
        } else {
            self.stop_worker(id, now);
        }
    }

    /// Stops a worker that has accepted nothing; others are left alone.
    pub(super) fn stop_worker(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if matches!(worker.stage, WorkerStage::Loading { .. } | WorkerStage::Ready | WorkerStage::Watching) {
            worker.stage = WorkerStage::Stopping { until: now + STOP_TIMEOUT };
            self.actions.push(Action::Stop(id));
        }
    }

    /// As [`Self::stop_worker`], but leaves one that has failed to watch.
    pub(super) fn stop_loader(&mut self, id: WorkerId, now: Instant) {
        if self.workers.get(&id).is_some_and(|worker| worker.stage != WorkerStage::Watching) {
            self.stop_worker(id, now);
        }
    }

    pub(super) fn kill_overdue(&mut self, now: Instant) {
        for id in
            self.ids_where(|worker| matches!(worker.stage, WorkerStage::Draining { until } if until <= now))
        {
            self.actions.push(Action::Log(Note::Overdue(id)));
            self.kill(id, now);
        }
        for id in
            self.ids_where(|worker| matches!(worker.stage, WorkerStage::Stopping { until } if until <= now))
        {
            self.kill(id, now);
        }
    }

    pub(super) fn kill(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.stage, WorkerStage::Killed { .. }) {
            worker.stage = WorkerStage::Killed { until: now + REAP_TIMEOUT };
            self.actions.push(Action::Kill(id));
        }
    }

    pub(super) fn exit_when_nothing_is_left(&mut self, now: Instant) {
        let Mode::Stopping { status } = self.mode else { return };
        // A process that hangs in the kernel cannot be waited for: the one that started the server must get its answer.
        let is_given_up =
            |worker: &Worker| matches!(worker.stage, WorkerStage::Killed { until } if until <= now);
        if self.workers.values().all(is_given_up) {
            self.mode = Mode::Exited;
            self.workers.clear();
            self.actions.push(Action::Exit(status));
        }
    }
}
