//! What goes into the machine and what comes out of it.

use std::time::{Duration, Instant};

use crate::limits::GENERATIONS_ALIVE_MAX;
use crate::sys::process::ProcessExit;

/// One worker process, from its spawning to its end; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::supervisor) struct WorkerId(pub(super) u64);

#[cfg(test)]
impl WorkerId {
    /// A worker that no machine knows.
    pub(in crate::supervisor) fn of_nobody(number: u64) -> Self {
        Self(number)
    }
}

impl WorkerId {
    /// The number by which a worker's jitter is chosen.
    pub(in crate::supervisor) fn number(self) -> u64 {
        self.0
    }
}

/// What the machine is told.
#[derive(Clone, Debug)]
pub(in crate::supervisor) enum SupervisorEvent {
    /// A worker has loaded the application and could accept.
    WorkerReady(WorkerId),
    /// A worker says that it could not load the application.
    WorkerFailed(WorkerId, Failure),
    /// A worker closed its control socket: it is ending, or can be told nothing any more.
    WorkerSilent(WorkerId),
    /// A worker is gone, or could not even be started. Comes once for each worker, and last.
    WorkerExited(WorkerId, ProcessExit),
    /// Load or reload the application.
    Reload,
    /// A file of the application changed at that time: reload it, unless a later generation already has it.
    Changed(Instant),
    /// A worker should give its slot to another, which starts first.
    Replace(WorkerId, Replacement),
    /// One process more in each generation.
    Grow,
    /// One process fewer in each generation.
    Shrink,
    /// Serve on for the time of a delay, then finish all work and exit; said again: begin that at once, or exit at
    /// once.
    Stop,
    /// Finish all work, then exit: others serve in this server's place, or nobody wants it.
    Leave,
    /// Exit at once.
    StopNow,
    /// Time has passed.
    Tick,
}

/// Why a worker should go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) struct Replacement {
    /// For the log.
    pub(in crate::supervisor) reason: String,
    /// How it goes once its successor accepts.
    pub(in crate::supervisor) farewell: Farewell,
}

/// How a worker goes once its successor accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Farewell {
    /// It finishes what it holds.
    Drain,
    /// It can be told nothing, so it is killed.
    Kill,
}

/// Why the application could not be loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::supervisor) struct Failure {
    /// One line: what went wrong.
    pub(in crate::supervisor) summary: String,
    /// The application's traceback; empty if there is none.
    pub(in crate::supervisor) traceback: String,
}

/// What the machine wants done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Action {
    /// Start a worker process.
    Spawn {
        /// Its name from now on.
        id: WorkerId,
        /// The generation it belongs to.
        generation: u64,
        /// Its slot there.
        slot: usize,
    },
    /// Tell a worker to accept connections.
    Accept(WorkerId),
    /// The server stops, and nobody will accept after its workers: let nobody new in.
    Close,
    /// Tell a worker to finish what it holds and exit.
    Drain(WorkerId),
    /// Tell a worker that was never told to accept to exit.
    Stop(WorkerId),
    /// End a worker at once.
    Kill(WorkerId),
    /// Exit with this status. Nothing follows.
    Exit(i32),
    /// Something an operator may want to know.
    Log(Note),
}

/// What is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Note {
    /// All workers of a generation accept.
    Serving(u64),
    /// A generation could not load and was thrown away.
    GenerationFailed(u64, Failure),
    /// A worker of the serving generation could not be replaced; tried again with growing waits, said once a reason.
    ReplacementFailed(WorkerId, Failure),
    /// A worker is being replaced for this reason.
    Replacing(WorkerId, String),
    /// A worker ended that should not have. Replaced after the wait, or not at all if it was leaving anyway.
    Died(WorkerId, ProcessExit, Option<Duration>),
    /// The server stops after this delay.
    StopsIn(Duration),
    /// The server drains, and ends.
    Stopping,
    /// A worker accepts in a slot where one had died, or could not be replaced.
    Recovered(WorkerId),
    /// A worker did not finish draining in time and is killed.
    Overdue(WorkerId),
    /// A generation has this many workers from now on.
    Resized(usize),
    /// A generation has this many workers, and can have no more, or no fewer.
    NotResized(usize),
}

/// How much is on its way among the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum Unrest {
    /// All workers there are serve.
    None,
    /// Some are leaving, and none comes.
    Leaving,
    /// Some are loading, or are to be started.
    Starting,
}

/// What of the configuration the machine needs.
#[derive(Clone, Copy, Debug)]
pub(in crate::supervisor) struct Settings {
    /// Workers of one generation, at first.
    pub(in crate::supervisor) processes: usize,
    /// And at most.
    pub(in crate::supervisor) processes_max: usize,
    /// How long a worker may load.
    pub(in crate::supervisor) start_timeout: Duration,
    /// How long the server serves on once it is to stop.
    pub(in crate::supervisor) drain_delay: Duration,
    /// How long a worker may drain.
    pub(in crate::supervisor) drain_timeout: Duration,
    /// Whether a worker whose application could not be loaded stays, to watch the files that it could not load.
    pub(in crate::supervisor) failures_watch: bool,
    /// Whether a server whose first generation fails waits for better code instead of exiting.
    pub(in crate::supervisor) waits_for_first: bool,
}

impl Settings {
    /// Worker processes there are at most, dying ones included.
    pub(in crate::supervisor) fn workers_max(&self) -> usize {
        self.processes_max.saturating_mul(GENERATIONS_ALIVE_MAX)
    }
}
