//! The life of a worker: load, report, accept, drain, end.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use super::accept::{Listening, accept};
use super::connection_limit::ConnectionLimit;
use super::control::{ControlLoop, Heartbeat};
use super::cpu_clocks::CpuClocks;
use super::dispatch::{ExecutorContext, ExecutorResources, Load};
use super::logs::Logs;
use super::notices::{Notice, Notices};
use super::spill::Storage;
use super::watch::FileWatch;
use crate::bootstrap::{self, Bootstrap, Owner, WorkerResources};
use crate::config::{Config, Pin};
use crate::gateway::{Application, LoadFailure, Outbox, Queue, Request, ThreadStat, ThreadWatch};
use crate::limits::JOIN_TIMEOUT;
use crate::reactor::{Executor, Wake, WakeHandle};
use crate::scheduler::CoreCount;
use crate::scoreboard::{Scoreboard, ThreadScore};
use crate::sys::eventfd::EventFd;
use crate::sys::fork::{self, PrivateFd};
use crate::sys::resource_limit::OPEN_FILES;
use crate::sys::thread::{ThreadClock, ThreadState};
use crate::sys::{affinity, clock, process};

/// The exit status of a worker that its supervisor gave no place to (`EX_SOFTWARE` of sysexits.h).
const EXIT_NO_ROW: i32 = 70;
/// The exit status of a worker that gets nothing from the operating system (`EX_OSERR` of sysexits.h).
const EXIT_OPERATING_SYSTEM: i32 = 71;
/// The exit status of a worker whose application threads did not end.
const EXIT_THREADS_LEFT: i32 = 1;

/// What the supervisor wants of a worker. The order is the order of a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Loaded or loading; accepts nothing yet.
    Waiting,
    /// Accepts connections.
    Accepting,
    /// Accepts nothing more and finishes what it holds.
    Draining,
    /// Drops what it holds.
    Stopping,
}

/// The phase, as the main thread tells it to the executors.
#[derive(Debug)]
pub(super) struct Lifecycle {
    phase: AtomicU8,
    /// Whether who waits in the kernel is accepted while this process drains.
    takes_who_waits: AtomicBool,
    /// Whether the sockets that the server closes are closed.
    are_closed: AtomicBool,
    outboxes: Vec<Arc<Outbox>>,
}

impl Lifecycle {
    fn new(outboxes: Vec<Arc<Outbox>>) -> Self {
        let phase = AtomicU8::new(Phase::Waiting as u8);
        Self { phase, takes_who_waits: AtomicBool::default(), are_closed: AtomicBool::default(), outboxes }
    }

    /// The phase now.
    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Waiting,
            1 => Phase::Accepting,
            2 => Phase::Draining,
            _ => Phase::Stopping,
        }
    }

    /// Goes on to `phase`, never back, and tells every executor.
    pub(super) fn advance(&self, phase: Phase) {
        // Responses say so first: when an executor has stopped accepting, none promises another request any more.
        if phase >= Phase::Draining {
            self.outboxes.iter().for_each(|outbox| outbox.drain());
        }
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
        self.rouse();
    }

    /// Has who waits at the sockets that the server closes be accepted in the phase to come, as nobody else will be
    /// there to do so.
    pub(super) fn take_who_waits(&self) {
        self.takes_who_waits.store(true, Ordering::Release);
    }

    /// Whether [`Lifecycle::take_who_waits`] was called.
    pub(super) fn takes_who_waits(&self) -> bool {
        self.takes_who_waits.load(Ordering::Acquire)
    }

    /// The sockets that the server closes are closed.
    pub(super) fn note_closed(&self) {
        self.are_closed.store(true, Ordering::Release);
        self.rouse();
    }

    /// Whether [`Lifecycle::note_closed`] was called.
    pub(super) fn are_closed(&self) -> bool {
        self.are_closed.load(Ordering::Acquire)
    }

    /// Has every executor turn once, and so show that it is alive.
    pub(super) fn rouse(&self) {
        for outbox in &self.outboxes {
            outbox.wake();
        }
    }
}

/// Lives a worker's life on the process's main thread; returns the process's exit status.
pub fn run(resources: WorkerResources, application: &Arc<dyn Application>) -> i32 {
    let WorkerResources { bootstrap, listeners, control, scoreboard } = resources;
    let config = Arc::new(bootstrap.config.clone());
    process::name_this_process(&format!("worker-{}-g{}", bootstrap.slot, bootstrap.generation));
    // Before the application is loaded, so that its threads stay beside their executor as well.
    if config.pin == Pin::All
        && let Err(error) = affinity::pin_this_thread(&bootstrap.cores)
    {
        tracing::warn!(%error, cores = ?bootstrap.cores, "cannot pin this worker to its cores");
    }
    if let Err(error) = fork::guard_children() {
        tracing::error!(%error, "cannot protect this worker's descriptors from processes that the application forks");
        return EXIT_OPERATING_SYSTEM;
    }
    let Some(heartbeat) = Heartbeat::new(&scoreboard, bootstrap.row, bootstrap.cores.len()) else {
        return EXIT_NO_ROW;
    };
    let notices = match Notices::new() {
        Ok(notices) => Arc::new(notices),
        Err(error) => {
            tracing::error!(%error, "cannot create an eventfd");
            return EXIT_OPERATING_SYSTEM;
        }
    };
    let watch = watch_files(&config, &notices);
    let control = ControlLoop::new(
        control,
        Arc::clone(application),
        heartbeat,
        Arc::clone(&notices),
        watch,
        Arc::clone(&config),
    );
    if let Err(failure) = application.load() {
        return control.fail(failure);
    }
    match WorkerThreads::start(&config, &bootstrap, &scoreboard, listeners, &notices, application.as_ref()) {
        Ok(threads) => {
            control.ready();
            // Nothing here may lie on this thread's stack, of which green threads move parts aside.
            let beside = Arc::clone(application);
            application.run_beside(Box::new(move || {
                control.follow(&threads.lifecycle, &threads.logs, &threads.ended);
                threads.finish(beside.as_ref())
            }))
        }
        Err(failure) => control.fail(failure),
    }
}

/// Begins to watch, if anything is to be watched: before the application is loaded, so that no change is missed.
fn watch_files(config: &Config, notices: &Arc<Notices>) -> Option<FileWatch> {
    if !config.reload.is_wanted() {
        return None;
    }
    let watch = FileWatch::start(&config.reload, Arc::clone(notices));
    watch.inspect_err(|error| tracing::error!(%error, "cannot watch files: no thread for it")).ok()
}

/// The threads of a worker.
struct WorkerThreads {
    lifecycle: Arc<Lifecycle>,
    queue: Arc<Queue>,
    executors: Vec<JoinHandle<()>>,
    /// Executors that have not ended.
    alive: Arc<AtomicUsize>,
    /// Raised by the last of them.
    ended: Arc<EventFd>,
    logs: Logs,
}

impl WorkerThreads {
    /// Starts the application's threads, then one executor for each core. Returns once every executor runs.
    fn start(
        config: &Arc<Config>,
        bootstrap: &Bootstrap,
        scoreboard: &Scoreboard,
        listeners: Vec<(PrivateFd, Owner)>,
        notices: &Arc<Notices>,
        application: &dyn Application,
    ) -> Result<Self, LoadFailure> {
        let logs = Logs::open(config).map_err(|error| cannot("open the access log", &error))?;
        let wakes: io::Result<Vec<Wake>> = bootstrap.cores.iter().map(|_| Wake::new()).collect();
        let wakes = wakes.map_err(|error| cannot("make an executor's bell", &error))?;
        let outboxes: Vec<Arc<Outbox>> =
            wakes.iter().map(|wake| Arc::new(outbox(wake.handle(), config))).collect();
        let all = bootstrap.cores.len();
        let cores = CoreCount { all, usable: if application.is_parallel() { all } else { 1 } };
        let (length_max, threads) = (config.queue_length_max, config.application_threads());
        let queue = Arc::new(Queue::new(length_max, threads, cores, outboxes.clone()));
        let mourners = Arc::clone(notices);
        queue.when_a_thread_dies(move || mourners.post(Notice::ThreadDied));
        application.start(&queue, watches(config, scoreboard, bootstrap.row))?;
        let ended = EventFd::new().map_err(|error| cannot("make an event counter", &error))?;
        let mut threads = Self {
            lifecycle: Arc::new(Lifecycle::new(outboxes.clone())),
            queue,
            executors: Vec::new(),
            alive: Arc::new(AtomicUsize::new(bootstrap.cores.len())),
            ended: Arc::new(ended),
            logs,
        };
        let listeners: Vec<Listening> =
            listeners.into_iter().map(|(fd, owner)| (Arc::new(fd), owner)).collect();
        let connection_limit = Arc::new(ConnectionLimit::new(config.connections_max, OPEN_FILES.hard()));
        let storage = Arc::new(Storage::new(&config.spill));
        let clocks = Arc::new(CpuClocks::new(all));
        let (started, starts) = channel();
        for (index, (wake, outbox)) in wakes.into_iter().zip(outboxes).enumerate() {
            let resources = ExecutorResources {
                config: Arc::clone(config),
                lifecycle: Arc::clone(&threads.lifecycle),
                load: Load::new(scoreboard, bootstrap.row, index)
                    .ok_or_else(|| cannot("find its row", &"no such row"))?,
                outbox,
                queue: Arc::clone(&threads.queue),
                log: threads.logs.access_log(),
                notices: Arc::clone(notices),
                connection_limit: Arc::clone(&connection_limit),
                storage: Arc::clone(&storage),
                clocks: Arc::clone(&clocks),
                index,
            };
            let core = bootstrap.cores.get(index).copied().filter(|_| config.pin != Pin::None);
            let placement = ExecutorPlacement { index, core, wake };
            threads
                .spawn(placement, resources, listeners.clone(), &started)
                .map_err(|error| cannot("start an executor's thread", &error))?;
        }
        drop(started);
        starts.iter().collect::<Result<(), LoadFailure>>()?;
        Ok(threads)
    }

    fn spawn(
        &mut self,
        placement: ExecutorPlacement,
        resources: ExecutorResources,
        listeners: Vec<Listening>,
        started: &Sender<Result<(), LoadFailure>>,
    ) -> io::Result<()> {
        let (started, alive, ended) = (started.clone(), Arc::clone(&self.alive), Arc::clone(&self.ended));
        let event_loop = bootstrap::event_loop(&resources.config);
        let thread = std::thread::Builder::new().name("glommio".to_owned()).spawn(move || {
            let executor = Executor::new(placement.core, event_loop);
            // Only now, so that the helper thread that glommio has just started is not called an executor as well.
            process::name_this_thread(&format!("executor-{}", placement.index));
            let outcome = executor.as_ref().map(drop);
            let _ = started.send(outcome.map_err(|error| cannot("start an executor", error)));
            drop(started);
            let Ok(executor) = executor else { return };
            resources.clocks.begin(placement.index);
            let main = |reactor| attend(Rc::new(ExecutorContext::new(reactor, resources)), listeners);
            if let Err(error) = executor.run(placement.wake, main) {
                tracing::error!(%error, core = ?placement.core, "an executor ended; its connections are lost");
            }
            if alive.fetch_sub(1, Ordering::AcqRel) == 1 {
                ended.raise();
            }
        })?;
        self.executors.push(thread);
        Ok(())
    }

    /// Waits for every thread, and says how the process ends.
    fn finish(self, application: &dyn Application) -> i32 {
        for executor in self.executors {
            let _ = executor.join();
        }
        self.queue.close();
        let all_ended = application.join(JOIN_TIMEOUT);
        self.logs.finish();
        if all_ended { 0 } else { EXIT_THREADS_LEFT }
    }
}

/// Where an executor runs and how it is woken.
struct ExecutorPlacement {
    index: usize,
    /// `None` where the kernel decides.
    core: Option<usize>,
    wake: Wake,
}

/// How application threads show on the scoreboard what they do.
struct AppThreadWatch {
    index: usize,
    score: ThreadScore,
    /// Whether somebody looks at what the thread works on.
    is_watched: bool,
}

impl ThreadWatch for AppThreadWatch {
    fn begin(&self) -> Arc<dyn ThreadStat> {
        // Python names its threads for the operating system only since 3.14.
        process::name_this_thread(&format!("app-{}", self.index));
        Arc::new(AppThreadStat {
            clock: ThreadClock::of_this_thread().ok(),
            state: ThreadState::of_this_thread().ok(),
        })
    }

    fn busy(&self, request: &Request) {
        let now_ms = clock::monotonic_ms();
        if self.is_watched {
            self.score.request(request.head.method(), request.head.path());
        }
        self.score.busy(now_ms);
        request.reply.begin(process::thread_number(), now_ms);
    }

    fn idle(&self) {
        self.score.idle();
    }
}

/// What the system tells of an application thread. Where it does not, no request seems to compute for long, and no
/// thread to lack a core.
struct AppThreadStat {
    clock: Option<ThreadClock>,
    state: Option<ThreadState>,
}

impl ThreadStat for AppThreadStat {
    fn cpu(&self) -> Duration {
        self.clock.map_or(Duration::ZERO, ThreadClock::read)
    }

    fn is_runnable(&self) -> bool {
        self.state.as_ref().is_some_and(ThreadState::is_runnable)
    }
}

fn watches(config: &Config, scoreboard: &Scoreboard, row: usize) -> Vec<Box<dyn ThreadWatch>> {
    let is_watched = config.status.is_some();
    let watches = (0..config.application_threads()).filter_map(|index| {
        Some(AppThreadWatch { index, score: scoreboard.thread(row, index)?, is_watched })
    });
    watches.map(|watch| Box::new(watch) as Box<dyn ThreadWatch>).collect()
}

fn outbox(executor: WakeHandle, config: &Config) -> Outbox {
    Outbox::new(move || executor.wake()).keep_response_heads(config.access_log_format.wants_response_fields())
}

/// The main task of an executor.
async fn attend(executor: Rc<ExecutorContext>, listeners: Vec<Listening>) {
    executor.reactor.set_turn(Rc::<ExecutorContext>::clone(&executor));
    executor.until(|executor| executor.phase() >= Phase::Accepting).await;
    for listening in listeners {
        executor.reactor.spawn(accept(Rc::clone(&executor), listening));
    }
    executor
        .until(|executor| {
            executor.phase() >= Phase::Stopping
                || (executor.phase() >= Phase::Draining
                    && executor.connections() == 0
                    && !executor.is_listening())
        })
        .await;
    // Who is told so only now may have something to log.
    executor.reactor.next_turn().await;
    executor.close_log();
}

fn cannot(action: &str, error: &dyn std::fmt::Display) -> LoadFailure {
    LoadFailure { summary: format!("cannot {action}: {error}"), traceback: String::new() }
}
