//! What is seen of the server at one moment: the scoreboard, the memory of its processes, and whether it is ready.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::limits::{MEMORY_PAUSE, STATUS_HEARTBEAT_AGE_MAX};
use crate::scoreboard::{
    ExecutorSnapshot, Histogram, Scoreboard, ServerStage, Snapshot, SupervisorSnapshot, WorkerSnapshot,
    WorkerState,
};
use crate::sys::{calendar, clock, memory};

/// Who looks, and what was measured not long ago.
#[derive(Debug)]
pub(super) struct Observer {
    config: Arc<Config>,
    scoreboard: Scoreboard,
    /// To measure walks the page tables of every process, so it is done no more often than the supervisor does.
    memory: RefCell<Option<(Instant, ProcessMemory)>>,
}

/// Bytes of each process, shared pages counted once.
type ProcessMemory = Arc<BTreeMap<u64, u64>>;

/// What was seen.
#[derive(Debug)]
pub(super) struct StatusView {
    pub(super) config: Arc<Config>,
    pub(super) snapshot: Snapshot,
    memory: ProcessMemory,
    pub(super) now_ms: u64,
    pub(super) now_unix_s: i64,
}

/// Sums over the living and the dead, so that no total ever falls.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) executors: ExecutorSnapshot,
    pub(super) queue_depth: u64,
    pub(super) queue_timeouts: u64,
    pub(super) threads_died: u64,
    pub(super) interpreter_wait_us: u64,
    /// Of the living.
    pub(super) interpreter_hold_max_us: u64,
}

impl Observer {
    pub(super) fn new(config: Arc<Config>, scoreboard: Scoreboard) -> Self {
        Self { config, scoreboard, memory: RefCell::new(None) }
    }

    /// Looks.
    pub(super) fn look(&self) -> StatusView {
        let snapshot = self.scoreboard.snapshot();
        StatusView {
            config: Arc::clone(&self.config),
            memory: self.memory(&snapshot),
            snapshot,
            now_ms: clock::monotonic_ms(),
            now_unix_s: calendar::unix_s(),
        }
    }

    /// Whether a worker accepts, without looking at anything else.
    pub(super) fn readiness(&self) -> Result<(), String> {
        readiness(&self.scoreboard.snapshot(), self.config.worker_limits.stuck_timeout, clock::monotonic_ms())
    }

    fn memory(&self, snapshot: &Snapshot) -> ProcessMemory {
        let mut last = self.memory.borrow_mut();
        if let Some((at, memory)) = last.as_ref().filter(|(at, _)| at.elapsed() < MEMORY_PAUSE)
            && snapshot.workers.iter().all(|worker| memory.contains_key(&worker.pid))
        {
            let _ = at;
            return Arc::clone(memory);
        }
        let pids = snapshot.workers.iter().map(|worker| worker.pid);
        let pids = pids.chain([snapshot.supervisor.pid, u64::from(std::process::id())]);
        let measured: BTreeMap<u64, u64> =
            pids.filter_map(|pid| Some((pid, memory::bytes_of(u32::try_from(pid).ok()?).ok()?))).collect();
        let measured = Arc::new(measured);
        *last = Some((Instant::now(), Arc::clone(&measured)));
        measured
    }
}

impl StatusView {
    pub(super) fn supervisor(&self) -> SupervisorSnapshot {
        self.snapshot.supervisor
    }

    /// How long ago a moment of [`clock::monotonic_ms`] was.
    pub(super) fn since(&self, ms: u64) -> Duration {
        Duration::from_millis(self.now_ms.saturating_sub(ms))
    }

    /// A moment of [`clock::monotonic_ms`] in seconds since 1970.
    pub(super) fn unix_s(&self, ms: u64) -> i64 {
        let ago_s = i64::try_from(self.since(ms).as_secs()).unwrap_or(0);
        self.now_unix_s.saturating_sub(ago_s)
    }

    /// The memory of a process; `None` where it cannot be seen.
    pub(super) fn memory_bytes(&self, pid: u64) -> Option<u64> {
        self.memory.get(&pid).copied()
    }

    /// The memory of all processes of the server.
    pub(super) fn memory_total_bytes(&self) -> u64 {
        self.memory.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    pub(super) fn readiness(&self) -> Result<(), String> {
        readiness(&self.snapshot, self.config.worker_limits.stuck_timeout, self.now_ms)
    }

    /// Since when a worker has shown no life, if that is long.
    pub(super) fn heartbeat_age(&self, worker: &WorkerSnapshot) -> Option<Duration> {
        // While it loads the application there is no heartbeat yet.
        let shows_life = worker.state != WorkerState::Loading && worker.heartbeat_ms > 0;
        Some(self.since(worker.heartbeat_ms))
            .filter(|heartbeat_age| shows_life && *heartbeat_age > STATUS_HEARTBEAT_AGE_MAX)
    }

    /// How many workers are in one state.
    pub(super) fn count(&self, state: WorkerState) -> usize {
        self.snapshot.workers.iter().filter(|worker| worker.state == state).count()
    }

    pub(super) fn totals(&self) -> Totals {
        let mut totals = Totals {
            executors: self.snapshot.retired.clone(),
            queue_depth: 0,
            queue_timeouts: self.snapshot.retired_queue_timeouts,
            threads_died: self.snapshot.retired_threads_died,
            interpreter_wait_us: self.snapshot.retired_interpreter_wait_us,
            interpreter_hold_max_us: 0,
        };
        for worker in &self.snapshot.workers {
            totals.executors = sum(&totals.executors, &together(worker));
            totals.queue_depth = totals.queue_depth.saturating_add(worker.queue_depth);
            totals.queue_timeouts = totals.queue_timeouts.saturating_add(worker.queue_timeouts);
            totals.threads_died = totals.threads_died.saturating_add(worker.threads_died);
            totals.interpreter_wait_us =
                totals.interpreter_wait_us.saturating_add(worker.interpreter_wait_us);
            totals.interpreter_hold_max_us =
                totals.interpreter_hold_max_us.max(worker.interpreter_hold_max_us);
        }
        totals
    }
}

/// All executors of a worker as one.
pub(super) fn together(worker: &WorkerSnapshot) -> ExecutorSnapshot {
    worker.executors.iter().fold(ExecutorSnapshot::default(), |sum_so_far, it| sum(&sum_so_far, it))
}

fn sum(one: &ExecutorSnapshot, other: &ExecutorSnapshot) -> ExecutorSnapshot {
    let mut responses = one.responses;
    for (count, more) in responses.iter_mut().zip(other.responses) {
        *count = count.saturating_add(more);
    }
    let mut latency: Histogram = one.latency.clone();
    latency.add(&other.latency);
    ExecutorSnapshot {
        connections: one.connections.saturating_add(other.connections),
        requests: one.requests.saturating_add(other.requests),
        in_flight: one.in_flight.saturating_add(other.in_flight),
        bytes_in: one.bytes_in.saturating_add(other.bytes_in),
        bytes_out: one.bytes_out.saturating_add(other.bytes_out),
        responses,
        refused: one.refused.saturating_add(other.refused),
        latency,
        heartbeat_ms: one.heartbeat_ms.max(other.heartbeat_ms),
    }
}

/// Whether a new connection would find somebody, or why not.
fn readiness(snapshot: &Snapshot, stuck_timeout: Option<Duration>, now_ms: u64) -> Result<(), String> {
    let SupervisorSnapshot { stage, generation, .. } = snapshot.supervisor;
    if stage == ServerStage::Stopping {
        return Err("the server is stopping".to_owned());
    }
    if stage == ServerStage::HandedOver {
        return Ok(());
    }
    // Workers that are ready in the generation that serves have been told to accept, and do so in a moment.
    let accepts = |worker: &&WorkerSnapshot| match worker.state {
        WorkerState::Accepting => true,
        WorkerState::Ready => worker.generation == generation,
        WorkerState::Empty | WorkerState::Loading | WorkerState::Draining => false,
    };
    let is_stuck = |worker: &&WorkerSnapshot| {
        let heartbeat_age = Duration::from_millis(now_ms.saturating_sub(worker.heartbeat_ms));
        worker.heartbeat_ms > 0 && stuck_timeout.is_some_and(|timeout| heartbeat_age > timeout)
    };
    let accepting: Vec<&WorkerSnapshot> = snapshot.workers.iter().filter(accepts).collect();
    if accepting.iter().any(|worker| !is_stuck(worker)) {
        return Ok(());
    }
    let failure = snapshot.last_reload.as_ref().filter(|reload| !reload.ok);
    Err(match (accepting.len(), stage, failure) {
        (1.., _, _) => "no worker has had a heartbeat for a while".to_owned(),
        (0, ServerStage::Starting, Some(failure)) => {
            format!("the application cannot be loaded: {}", failure.summary)
        }
        (0, ServerStage::Starting, None) => "the first generation is loading".to_owned(),
        (0, _, _) => "no worker accepts".to_owned(),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::scoreboard::{Dimensions, LastReload};

    pub(in crate::status) const DIMENSIONS: Dimensions = Dimensions { rows: 4, executors: 2, threads: 2 };

    fn enter(scoreboard: &Scoreboard, row: usize, generation: u64, state: WorkerState) {
        let process = scoreboard.process(row).unwrap();
        process.enter(100 + u32::try_from(row).unwrap(), generation, row, 2);
        process.heartbeat(clock::monotonic_ms());
        process.set_state(state);
    }

    fn ready(scoreboard: &Scoreboard) -> Result<(), String> {
        readiness(&scoreboard.snapshot(), Some(Duration::from_secs(60)), clock::monotonic_ms())
    }

    #[test]
    fn it_is_ready_while_a_worker_accepts() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        let supervisor = scoreboard.supervisor().unwrap();
        assert_eq!(ready(&scoreboard), Err("the first generation is loading".to_owned()));
        enter(&scoreboard, 0, 1, WorkerState::Ready);
        assert_eq!(ready(&scoreboard), Err("the first generation is loading".to_owned()));
        supervisor.set_generation(1);
        supervisor.set_stage(ServerStage::Serving);
        assert_eq!(ready(&scoreboard), Ok(()), "told to accept");
        enter(&scoreboard, 0, 1, WorkerState::Accepting);
        assert_eq!(ready(&scoreboard), Ok(()));
        enter(&scoreboard, 1, 2, WorkerState::Loading);
        assert_eq!(ready(&scoreboard), Ok(()), "a reload is no reason");
        scoreboard.vacate(0);
        assert_eq!(ready(&scoreboard), Err("no worker accepts".to_owned()));
        enter(&scoreboard, 0, 1, WorkerState::Draining);
        assert_eq!(ready(&scoreboard), Err("no worker accepts".to_owned()));
    }

    #[test]
    fn it_is_not_ready_while_it_stops_or_all_workers_are_stuck_or_nothing_could_be_loaded() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        let supervisor = scoreboard.supervisor().unwrap();
        let (at, summary) = (1, "no module named x".to_owned());
        scoreboard.record_reload(&LastReload {
            at,
            ok: false,
            generation: 1,
            summary,
            traceback: String::new(),
        });
        assert_eq!(ready(&scoreboard), Err("the application cannot be loaded: no module named x".to_owned()));
        supervisor.set_stage(ServerStage::Serving);
        enter(&scoreboard, 0, 1, WorkerState::Accepting);
        let later_ms = clock::monotonic_ms() + 61_000;
        let stuck = readiness(&scoreboard.snapshot(), Some(Duration::from_secs(60)), later_ms);
        assert_eq!(stuck, Err("no worker has had a heartbeat for a while".to_owned()));
        assert_eq!(readiness(&scoreboard.snapshot(), None, later_ms), Ok(()));
        supervisor.set_stage(ServerStage::Stopping);
        assert_eq!(ready(&scoreboard), Err("the server is stopping".to_owned()));
        supervisor.set_stage(ServerStage::HandedOver);
        supervisor.set_stage(ServerStage::Stopping);
        assert_eq!(ready(&scoreboard), Ok(()), "another serves in its place");
    }

    #[test]
    fn totals_are_those_of_the_living_and_the_dead() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        for row in 0..3 {
            enter(&scoreboard, row, 1, WorkerState::Accepting);
            for executor in (0..2).map(|index| scoreboard.executor(row, index).unwrap()) {
                executor.request_started();
                executor.request_finished(200, 1000, 10, 20);
            }
            scoreboard.process(row).unwrap().queue_timed_out();
        }
        scoreboard.vacate(1);
        let config = crate::cli::configure(&["app".to_owned()], 1).unwrap();
        let view = Observer::new(Arc::new(config), scoreboard).look();
        let totals = view.totals();
        assert_eq!((totals.executors.requests, totals.executors.bytes_out), (6, 120));
        assert_eq!((totals.executors.responses, totals.executors.latency.count()), ([6, 0, 0, 0], 6));
        assert_eq!(totals.queue_timeouts, 3);
    }
}
