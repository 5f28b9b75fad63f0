//! Which workers there should be: the life of generations, as a pure machine of events and `now` in, actions out.
//!
//! A generation loads beside the one that serves. When all its workers are ready they accept, and the older generation
//! drains; if any of them fails, all of them are thrown away and the older one keeps serving. The first generation is
//! no exception: it is a reload of nothing, and its failure leaves nothing to serve. Within a generation a worker that
//! has to go is replaced alike: its successor loads and accepts in the same slot before it drains.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::limits::{GENERATIONS_ALIVE_MAX, RESPAWN_RESET, RESPAWN_WAIT_MAX, RESPAWN_WAIT_MIN, STOP_TIMEOUT};
use crate::sys::process::ProcessExit;

mod ending;
mod messages;
mod serving;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;
mod worker;

pub(super) use messages::{
    Action, Failure, Farewell, Note, Replacement, Settings, SupervisorEvent, Unrest, WorkerId,
};
use serving::{Serving, Slot};
use worker::{Worker, WorkerStage};

/// Exit status when the first generation cannot load the application (`EX_SOFTWARE` of sysexits.h).
pub(super) const EXIT_LOAD_FAILED: i32 = 70;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Running,
    Stopping { status: i32 },
    Exited,
}

/// A generation on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loading {
    generation: u64,
    processes: usize,
}

/// All generations of one supervisor.
#[derive(Debug)]
pub(super) struct Generations {
    settings: Settings,
    mode: Mode,
    workers: BTreeMap<WorkerId, Worker>,
    serving: Option<Serving>,
    loading: Option<Loading>,
    reload_wanted: bool,
    /// Workers of a generation that begins now.
    processes: usize,
    /// When the application is loaded again although nothing has changed, because no worker watches for changes.
    retry_at: Option<Instant>,
    retry_wait: Duration,
    /// When the server stops that serves on for now.
    stop_at: Option<Instant>,
    /// What was said of the last generation that failed, so that a retry does not say it again.
    last_failure: Option<String>,
    /// The generation begun last; 0 before the first.
    newest: u64,
    newest_begun_at: Option<Instant>,
    workers_begun: u64,
    actions: Vec<Action>,
}

impl Generations {
    /// No workers yet: the first [`SupervisorEvent::Reload`] begins the first generation.
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            mode: Mode::Running,
            workers: BTreeMap::new(),
            serving: None,
            loading: None,
            reload_wanted: false,
            processes: settings.processes,
            retry_at: None,
            retry_wait: RESPAWN_WAIT_MIN,
            stop_at: None,
            last_failure: None,
            newest: 0,
            newest_begun_at: None,
            workers_begun: 0,
            actions: Vec::new(),
        }
    }

    /// Takes an event, and returns what is to be done about it and about all that is due at `now`.
    pub(super) fn handle(&mut self, event: SupervisorEvent, now: Instant) -> Vec<Action> {
        match event {
            SupervisorEvent::WorkerReady(id) => self.worker_ready(id, now),
            SupervisorEvent::WorkerFailed(id, failure) => {
                self.worker_failed(id, failure, self.settings.failures_watch, now);
            }
            SupervisorEvent::WorkerSilent(id) => self.worker_silent(id, now),
            SupervisorEvent::WorkerExited(id, ending) => self.worker_exited(id, ending, now),
            SupervisorEvent::Reload => self.reload(now),
            SupervisorEvent::Changed(at) => self.changed(at, now),
            SupervisorEvent::Replace(id, replacement) => self.replace(id, replacement, now),
            SupervisorEvent::Grow => self.resize(self.processes.saturating_add(1)),
            SupervisorEvent::Shrink => self.resize(self.processes.saturating_sub(1)),
            SupervisorEvent::Stop if self.mode == Mode::Running => self.stop_soon(now),
            SupervisorEvent::Leave if self.mode == Mode::Running => self.leave(now),
            SupervisorEvent::Stop | SupervisorEvent::StopNow => self.stop_now(now),
            SupervisorEvent::Leave | SupervisorEvent::Tick => {}
        }
        if self.stop_at.is_some_and(|at| at <= now) && self.mode == Mode::Running {
            self.close_and_stop(now);
        }
        if self.mode == Mode::Running {
            self.fail_late_starters(now);
            self.go_live_when_all_are_ready(now);
            self.retry(now);
            self.fit_slots(now);
            self.spawn_into_slots(now);
            self.begin_wanted_generation(now);
        }
        self.kill_overdue(now);
        self.exit_when_nothing_is_left(now);
        std::mem::take(&mut self.actions)
    }

    fn worker_ready(&mut self, id: WorkerId, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.stage, WorkerStage::Loading { .. }) {
            return;
        }
        let Some(serving) = self.serving.as_mut().filter(|it| it.generation == worker.generation) else {
            worker.stage = WorkerStage::Ready;
            return;
        };
        // A replacement has no siblings to wait for.
        worker.accept(now);
        self.actions.push(Action::Accept(id));
        if serving.mends(id) {
            self.actions.push(Action::Log(Note::Recovered(id)));
        }
        match serving.succeed(id) {
            Some((before, Farewell::Drain)) => self.retire_worker(before, now),
            Some((before, Farewell::Kill)) => self.kill(before, now),
            None => {}
        }
    }

    /// `is_watching`: the worker is alive, and watches the files that it could not load.
    fn worker_failed(&mut self, id: WorkerId, failure: Failure, is_watching: bool, now: Instant) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.stage, WorkerStage::Loading { .. } | WorkerStage::Ready) {
            return;
        }
        let generation = worker.generation;
        if is_watching && self.loading.is_some_and(|loading| loading.generation == generation) {
            worker.stage = WorkerStage::Watching;
        }
        self.load_failed(id, generation, failure, now);
        self.stop_loader(id, now);
    }

    /// All of a loading generation fails with any of its workers; a replacement fails alone.
    fn load_failed(&mut self, id: WorkerId, generation: u64, failure: Failure, now: Instant) {
        if self.loading.is_none_or(|loading| loading.generation != generation) {
            return self.log_replacement_failure(id, failure);
        }
        if self.last_failure.as_ref() != Some(&failure.summary) {
            self.last_failure = Some(failure.summary.clone());
            self.actions.push(Action::Log(Note::GenerationFailed(generation, failure)));
        }
        self.abandon_loading(now);
        if self.serving.is_none() && !self.settings.waits_for_first {
            self.stop(EXIT_LOAD_FAILED, now);
        }
        self.retry_if_nobody_watches(now);
    }

    /// With no generation serving and no worker watching, only a retry can tell that the application is fixed.
    fn retry_if_nobody_watches(&mut self, now: Instant) {
        let somebody_watches = self.workers.values().any(|worker| worker.stage == WorkerStage::Watching);
        let is_at_work = self.serving.is_some() || self.loading.is_some() || self.reload_wanted;
        if self.mode == Mode::Running && !somebody_watches && !is_at_work && self.retry_at.is_none() {
            self.retry_at = Some(now + self.retry_wait);
            self.retry_wait = (self.retry_wait * 2).min(RESPAWN_WAIT_MAX);
        }
    }

    fn retry(&mut self, now: Instant) {
        if self.retry_at.take_if(|at| *at <= now).is_some() {
            self.reload_wanted = true;
        }
    }

    fn log_replacement_failure(&mut self, id: WorkerId, failure: Failure) {
        let Some(serving) = &mut self.serving else { return };
        if serving.last_failure.as_ref() != Some(&failure.summary) {
            serving.last_failure = Some(failure.summary.clone());
            self.actions.push(Action::Log(Note::ReplacementFailed(id, failure)));
        }
    }

    fn worker_silent(&mut self, id: WorkerId, now: Instant) {
        let until = now + self.settings.drain_timeout;
        match self.workers.get_mut(&id).map(|worker| &mut worker.stage) {
            // It cannot be told to drain: it gets the time of a drain to exit, then its slot gets a new worker.
            Some(stage @ WorkerStage::Accepting) => *stage = WorkerStage::Draining { until },
            // It cannot report any more: the time to load ends early, unless its exit says more.
            Some(stage @ WorkerStage::Watching) => {
                *stage = WorkerStage::Stopping { until: now + STOP_TIMEOUT }
            }
            Some(stage @ WorkerStage::Ready) => *stage = WorkerStage::Loading { until: now + STOP_TIMEOUT },
            Some(WorkerStage::Loading { until }) => *until = (*until).min(now + STOP_TIMEOUT),
            _ => {}
        }
    }

    fn worker_exited(&mut self, id: WorkerId, ending: ProcessExit, now: Instant) {
        let Some(worker) = self.workers.remove(&id) else { return };
        if matches!(worker.stage, WorkerStage::Loading { .. } | WorkerStage::Ready) {
            let summary = format!("a worker ended before it was ready: {ending}");
            self.load_failed(id, worker.generation, Failure { summary, traceback: String::new() }, now);
        }
        let has_proved_itself =
            worker.accepted_at.is_some_and(|at| now.saturating_duration_since(at) >= RESPAWN_RESET);
        let serving = self.serving.as_mut().filter(|serving| serving.generation == worker.generation);
        let respawn_wait = serving.and_then(|serving| serving.ended(id, has_proved_itself, now));
        self.retry_if_nobody_watches(now);
        let is_news = match worker.stage {
            WorkerStage::Accepting => true,
            WorkerStage::Draining { .. } => respawn_wait.is_some() || ending != ProcessExit::Exited(0),
            // Said already, or our own doing.
            WorkerStage::Loading { .. }
            | WorkerStage::Ready
            | WorkerStage::Watching
            | WorkerStage::Stopping { .. }
            | WorkerStage::Killed { .. } => false,
        };
        if is_news {
            self.actions.push(Action::Log(Note::Died(id, ending, respawn_wait)));
        }
    }

    /// The newest wish wins: what is still loading is older code than what is wanted now.
    fn reload(&mut self, now: Instant) {
        if self.mode == Mode::Running {
            self.abandon_loading(now);
            self.reload_wanted = true;
            self.last_failure = None;
        }
    }

    fn changed(&mut self, at: Instant, now: Instant) {
        if self.newest_begun_at.is_none_or(|begun_at| begun_at < at) && !self.reload_wanted {
            self.reload(now);
        }
    }

    fn replace(&mut self, id: WorkerId, replacement: Replacement, now: Instant) {
        let is_accepting = self.is_accepting(id);
        let Some(serving) = self.serving.as_mut().filter(|_| is_accepting) else { return };
        if serving.replace(id, replacement.farewell, now) {
            self.actions.push(Action::Log(Note::Replacing(id, replacement.reason)));
        }
    }

    fn resize(&mut self, processes: usize) {
        if self.mode != Mode::Running {
            return;
        }
        if !(1..=self.settings.processes_max).contains(&processes) {
            self.actions.push(Action::Log(Note::NotResized(self.processes)));
            return;
        }
        self.processes = processes;
        self.actions.push(Action::Log(Note::Resized(processes)));
    }

    /// Gives the serving generation as many slots as it should have, but takes none whose worker serves alone.
    fn fit_slots(&mut self, now: Instant) {
        let Some(mut serving) = self.serving.take() else { return };
        while serving.slots.len() < self.processes {
            serving.add_slot(now);
        }
        while serving.slots.len() > self.processes {
            let accepts = |slot: &Slot| slot.worker.is_some_and(|id| self.is_accepting(id));
            let Some(last) = serving.slots.pop_if(|last| !accepts(last) || self.accepting() > 1) else {
                break;
            };
            for id in [last.worker, last.successor].into_iter().flatten() {
                self.retire_worker(id, now);
            }
        }
        self.serving = Some(serving);
    }

    fn is_accepting(&self, id: WorkerId) -> bool {
        self.workers.get(&id).is_some_and(|worker| worker.stage == WorkerStage::Accepting)
    }

    fn accepting(&self) -> usize {
        self.workers.values().filter(|worker| worker.stage == WorkerStage::Accepting).count()
    }

    fn abandon_loading(&mut self, now: Instant) {
        let Some(loading) = self.loading.take() else { return };
        for id in self.ids_where(|worker| worker.generation == loading.generation) {
            self.stop_loader(id, now);
        }
    }

    fn begin_wanted_generation(&mut self, now: Instant) {
        let workers_max = self.processes.saturating_mul(GENERATIONS_ALIVE_MAX);
        if !self.reload_wanted || self.workers.len() + self.processes > workers_max {
            return;
        }
        for watcher in self.ids_where(|worker| worker.stage == WorkerStage::Watching) {
            self.stop_worker(watcher, now);
        }
        self.reload_wanted = false;
        self.retry_at = None;
        self.newest += 1;
        self.newest_begun_at = Some(now);
        self.loading = Some(Loading { generation: self.newest, processes: self.processes });
        for slot in 0..self.processes {
            self.spawn(self.newest, slot, now);
        }
    }

    fn has_room_for_one(&self) -> bool {
        self.workers.len() < self.settings.workers_max()
    }

    fn spawn(&mut self, generation: u64, slot: usize, now: Instant) -> WorkerId {
        self.workers_begun += 1;
        let id = WorkerId(self.workers_begun);
        let stage = WorkerStage::Loading { until: now + self.settings.start_timeout };
        self.workers.insert(id, Worker { generation, slot, stage, accepted_at: None });
        self.actions.push(Action::Spawn { id, generation, slot });
        id
    }

    fn fail_late_starters(&mut self, now: Instant) {
        for id in
            self.ids_where(|worker| matches!(worker.stage, WorkerStage::Loading { until } if until <= now))
        {
            let seconds = self.settings.start_timeout.as_secs_f64();
            let summary = format!("a worker was not ready after {seconds} s (--start-timeout)");
            self.worker_failed(id, Failure { summary, traceback: String::new() }, false, now);
        }
    }

    fn go_live_when_all_are_ready(&mut self, now: Instant) {
        let Some(Loading { generation, processes }) = self.loading else { return };
        let is_ready =
            |worker: &Worker| worker.generation == generation && worker.stage == WorkerStage::Ready;
        let mut ready = self.ids_where(is_ready);
        if ready.len() < processes {
            return;
        }
        ready.sort_by_key(|id| self.workers.get(id).map(|worker| worker.slot));
        self.loading = None;
        let older = self.serving.take();
        for id in &ready {
            if let Some(worker) = self.workers.get_mut(id) {
                worker.accept(now);
                self.actions.push(Action::Accept(*id));
            }
        }
        self.serving = Some(Serving::new(generation, ready));
        self.retry_wait = RESPAWN_WAIT_MIN;
        self.actions.push(Action::Log(Note::Serving(generation)));
        if let Some(older) = older {
            self.retire(|worker| worker.generation == older.generation, now);
        }
    }

    fn spawn_into_slots(&mut self, now: Instant) {
        let Some(mut serving) = self.serving.take() else { return };
        for (index, slot) in serving.slots.iter_mut().enumerate() {
            if self.has_room_for_one() && slot.spawn_at.take_if(|at| *at <= now).is_some() {
                let id = self.spawn(serving.generation, index, now);
                let vacancy = if slot.worker.is_none() { &mut slot.worker } else { &mut slot.successor };
                *vacancy = Some(id);
            }
        }
        self.serving = Some(serving);
    }

    fn ids_where(&self, is_meant: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.workers.iter().filter(|(_, worker)| is_meant(worker)).map(|(id, _)| *id).collect()
    }
}
