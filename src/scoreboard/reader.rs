//! The reading side: the one question asked before every accept, and the whole picture for the status page.

use std::array;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::layout::{WorkerState, executor, process, thread};
use super::{BUCKETS, Histogram, LastReload, Scoreboard, SupervisorSnapshot, text};

/// The whole scoreboard at one moment, not a consistent one: workers go on writing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// What workers that are gone had counted: add it to the living for totals that never fall.
    pub retired: ExecutorSnapshot,
    /// Queue timeouts of workers that are gone.
    pub retired_queue_timeouts: u64,
    /// How long threads of workers that are gone waited for the interpreter.
    pub retired_interpreter_wait_us: u64,
    /// Application threads of workers that are gone which had died before.
    pub retired_threads_died: u64,
    /// What the supervisor says.
    pub supervisor: SupervisorSnapshot,
    /// How the last reload went; `None` before the first.
    pub last_reload: Option<LastReload>,
    /// The living, by row.
    pub workers: Vec<WorkerSnapshot>,
}

/// One worker process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkerSnapshot {
    /// Its row on the scoreboard.
    pub row: usize,
    /// Its process id.
    pub pid: u64,
    /// The generation it belongs to.
    pub generation: u64,
    /// Its slot within that generation.
    pub slot: u64,
    /// Where it is in its life.
    pub state: WorkerState,
    /// When it was started, by [`crate::sys::clock::monotonic_ms`].
    pub started_ms: u64,
    /// When its main thread last showed life, by [`crate::sys::clock::monotonic_ms`].
    pub heartbeat_ms: u64,
    /// Requests that wait for an application thread.
    pub queue_depth: u64,
    /// Requests that waited too long for one.
    pub queue_timeouts: u64,
    /// How long its application threads have waited for the interpreter, all waits together.
    pub interpreter_wait_us: u64,
    /// The longest of those waits in which one thread held the interpreter all the time.
    pub interpreter_hold_max_us: u64,
    /// Its application threads that have died of a bug of the server.
    pub threads_died: u64,
    /// Its executors.
    pub executors: Vec<ExecutorSnapshot>,
    /// Its application threads.
    pub threads: Vec<ThreadSnapshot>,
}

/// One executor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExecutorSnapshot {
    /// Connections open now.
    pub connections: u64,
    /// Requests whose head was complete, ever.
    pub requests: u64,
    /// Requests without a complete response yet.
    pub in_flight: u64,
    /// Bytes received, in finished requests.
    pub bytes_in: u64,
    /// Bytes sent, in finished requests.
    pub bytes_out: u64,
    /// Responses by class: 2xx, 3xx, 4xx, 5xx.
    pub responses: [u64; 4],
    /// Requests refused before any application saw them.
    pub refused: u64,
    /// How long finished requests took.
    pub latency: Histogram,
    /// When the executor last showed life, by [`crate::sys::clock::monotonic_ms`].
    pub heartbeat_ms: u64,
}

/// One application thread.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadSnapshot {
    /// Since when it has been calling the application, by [`crate::sys::clock::monotonic_ms`]; `None` while idle.
    pub busy_since_ms: Option<u64>,
    /// Requests it took, ever.
    pub requests: u64,
    /// Method and path of the request it works on, cut to what fits; `None` while idle, or without a status process.
    pub request: Option<String>,
}

/// Which of the other workers are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Every worker that accepts.
    All,
    /// Those of them where no request waits.
    Idle,
}

impl Scoreboard {
    /// The live connections of the least loaded worker of these `others` that accepts, the one in `row` left out;
    /// `None` when there is none.
    pub fn connections_least_loaded_other(&self, row: usize, others: Others) -> Option<u64> {
        let states = self.memory.words().get(..self.layout.dimensions().rows)?;
        let accepting = WorkerState::Accepting.to_word();
        let accepting = states.iter().enumerate().filter(|(other, state)| {
            // The plain word, not `WorkerState`: this runs before every accept over every row.
            state.load(Relaxed) == accepting && *other != row
        });
        let meant = accepting.filter(|(other, _)| others == Others::All || !self.has_queue(*other));
        meant.map(|(other, _)| self.connections(other)).min()
    }

    /// Whether requests wait for an application thread there.
    fn has_queue(&self, row: usize) -> bool {
        self.layout.process(row).is_some_and(|offset| self.word(offset + process::QUEUE_DEPTH) > 0)
    }

    /// The live connections of all executors of one row.
    pub fn connections(&self, row: usize) -> u64 {
        (0..self.layout.dimensions().executors)
            .filter_map(|index| self.layout.executor(row, index))
            .fold(0, |sum, offset| sum.saturating_add(self.word(offset + executor::CONNECTIONS)))
    }

    /// Everything, as plain data.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            retired: self.executor_at(self.layout.retired_executor()),
            retired_queue_timeouts: self.word(self.layout.retired_process() + process::QUEUE_TIMEOUTS),
            retired_interpreter_wait_us: self
                .word(self.layout.retired_process() + process::INTERPRETER_WAIT_US),
            retired_threads_died: self.word(self.layout.retired_process() + process::THREADS_DIED),
            supervisor: self.supervisor_snapshot(),
            last_reload: self.last_reload(),
            workers: (0..self.layout.dimensions().rows).filter_map(|row| self.worker_snapshot(row)).collect(),
        }
    }

    /// The worker of one row; `None` when it is free.
    pub fn worker_snapshot(&self, row: usize) -> Option<WorkerSnapshot> {
        let state = self.process(row)?.state();
        if state == WorkerState::Empty {
            return None;
        }
        let offset = self.layout.process(row)?;
        let executors = usize::try_from(self.word(offset + process::EXECUTORS)).unwrap_or(usize::MAX);
        let executors = executors.min(self.layout.dimensions().executors);
        let executors = (0..executors).filter_map(|index| self.layout.executor(row, index));
        let threads =
            (0..self.layout.dimensions().threads).filter_map(|index| self.layout.thread(row, index));
        Some(WorkerSnapshot {
            row,
            pid: self.word(offset + process::PID),
            generation: self.word(offset + process::GENERATION),
            slot: self.word(offset + process::SLOT),
            state,
            started_ms: self.word(offset + process::STARTED_MS),
            heartbeat_ms: self.word(offset + process::HEARTBEAT_MS),
            queue_depth: self.word(offset + process::QUEUE_DEPTH),
            queue_timeouts: self.word(offset + process::QUEUE_TIMEOUTS),
            interpreter_wait_us: self.word(offset + process::INTERPRETER_WAIT_US),
            interpreter_hold_max_us: self.word(offset + process::INTERPRETER_HOLD_MAX_US),
            threads_died: self.word(offset + process::THREADS_DIED),
            executors: executors.map(|offset| self.executor_at(offset)).collect(),
            threads: threads.map(|offset| self.thread_at(offset)).collect(),
        })
    }

    fn executor_at(&self, offset: usize) -> ExecutorSnapshot {
        let latency = Histogram {
            counts: (0..BUCKETS).map(|bucket| self.word(offset + executor::LATENCY + bucket)).collect(),
            sum_us: self.word(offset + executor::LATENCY_SUM_US),
        };
        ExecutorSnapshot {
            connections: self.word(offset + executor::CONNECTIONS),
            requests: self.word(offset + executor::REQUESTS),
            in_flight: self.word(offset + executor::IN_FLIGHT),
            bytes_in: self.word(offset + executor::BYTES_IN),
            bytes_out: self.word(offset + executor::BYTES_OUT),
            responses: array::from_fn(|class| self.word(offset + executor::RESPONSES + class)),
            refused: self.word(offset + executor::REFUSED),
            latency,
            heartbeat_ms: self.word(offset + executor::HEARTBEAT_MS),
        }
    }

    fn thread_at(&self, offset: usize) -> ThreadSnapshot {
        let is_busy = self.word(offset + thread::BUSY) != 0;
        ThreadSnapshot {
            busy_since_ms: is_busy.then(|| self.word(offset + thread::SINCE_MS)),
            requests: self.word(offset + thread::REQUESTS),
            request: self.request_at(offset + thread::REQUEST).filter(|_| is_busy),
        }
    }

    fn request_at(&self, offset: usize) -> Option<String> {
        let words = self.memory.words().get(offset..)?.get(..thread::REQUEST_WORDS)?;
        let request = text::read(words).filter(|request| !request.is_empty())?;
        Some(String::from_utf8_lossy(&request).into_owned())
    }

    pub(super) fn word(&self, offset: usize) -> u64 {
        self.memory.words().get(offset).map_or(0, |word: &AtomicU64| word.load(Relaxed))
    }
}
