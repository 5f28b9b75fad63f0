//! The worker's side of its control channel, followed by the main thread for the rest of the process's life.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lifecycle::{Lifecycle, Phase};
use super::logs::Logs;
use super::notices::{Notice, Notices, Overdue};
use super::overload::{News, Overload};
use super::watch::FileWatch;
use crate::bootstrap::{Order, Report, WorkerControl};
use crate::config::Config;
use crate::gateway::{Application, InterpreterUse, LoadFailure};
use crate::limits::{DRAIN_CUT_LEAD_MAX, HEARTBEAT_PAUSE};
use crate::scoreboard::{ExecutorSnapshot, ProcessScore, Scoreboard, WorkerState};
use crate::sys::eventfd::EventFd;
use crate::sys::{clock, wait};

/// The exit status of a worker whose application could not be loaded (`EX_SOFTWARE` of sysexits.h).
const EXIT_LOAD_FAILED: i32 = 70;

/// What helps where threads are missing.
const OVERLOAD_HINT: &str =
    "see what the threads do (/status); more --threads, or less that they wait for; --queue-timeout";

/// The heartbeat of a process.
pub(super) struct Heartbeat {
    process: ProcessScore,
    scoreboard: Scoreboard,
    row: usize,
    /// Requests without a response at the last beat, and responses ever.
    progress: Cell<(u64, u64)>,
}

impl Heartbeat {
    /// The heartbeat of the worker in `row`; `None` where there is no such row.
    pub(super) fn new(scoreboard: &Scoreboard, row: usize, executors: usize) -> Option<Self> {
        let process = scoreboard.process(row)?;
        scoreboard.executor(row, executors.checked_sub(1)?)?;
        Some(Self { process, scoreboard: scoreboard.clone(), row, progress: Cell::new((0, 0)) })
    }

    /// The main thread is alive.
    fn beat(&self) {
        self.process.heartbeat(clock::monotonic_ms());
    }

    /// Requests without a response.
    fn requests(&self) -> u64 {
        let executors = self.scoreboard.worker_snapshot(self.row).map(|worker| worker.executors);
        executors.iter().flatten().map(|executor| executor.in_flight).fold(0, u64::wrapping_add)
    }

    /// Whether requests wait for the application and none was answered since the last call.
    fn is_suspicious(&self) -> bool {
        let Some(worker) = self.scoreboard.worker_snapshot(self.row) else { return false };
        let sum = |number: fn(&ExecutorSnapshot) -> u64| {
            worker.executors.iter().map(number).fold(0, u64::wrapping_add)
        };
        let in_flight = sum(|executor| executor.in_flight);
        let answered = sum(|executor| executor.requests).wrapping_sub(in_flight);
        let (was_in_flight, was_answered) = self.progress.replace((in_flight, answered));
        in_flight > 0 && was_in_flight > 0 && answered == was_answered
    }
}

/// The main thread's business: orders from the supervisor, signals for the application, and the end.
pub(super) struct ControlLoop {
    socket: WorkerControl,
    application: Arc<dyn Application>,
    heartbeat: Heartbeat,
    notices: Arc<Notices>,
    watch: Option<FileWatch>,
    config: Arc<Config>,
    /// Whether the supervisor knows already that this worker should be replaced.
    is_given_up: Cell<bool>,
    /// When a drain is ended.
    cut_at: Cell<Option<Instant>>,
    overload: RefCell<Overload>,
}

impl ControlLoop {
    pub(super) fn new(
        socket: WorkerControl,
        application: Arc<dyn Application>,
        heartbeat: Heartbeat,
        notices: Arc<Notices>,
        watch: Option<FileWatch>,
        config: Arc<Config>,
    ) -> Self {
        Self {
            socket,
            application,
            heartbeat,
            notices,
            watch,
            config,
            is_given_up: Cell::new(false),
            cut_at: Cell::new(None),
            overload: RefCell::default(),
        }
    }

    /// Tells the supervisor why this worker will never serve; returns the process's exit status.
    pub(super) fn fail(&self, failure: LoadFailure) -> i32 {
        let report = Report::Failed { summary: failure.summary, traceback: failure.traceback };
        let Some(watch) = self.watch.as_ref().filter(|_| self.config.reload.dev) else {
            self.report(&report);
            return EXIT_LOAD_FAILED;
        };
        watch.any_source();
        self.watch_new_files();
        self.report(&report);
        self.wait_for_change();
        EXIT_LOAD_FAILED
    }

    /// Reports changes of what could not be loaded until the supervisor says that it is enough, or is dead.
    fn wait_for_change(&self) {
        loop {
            match wait::readable(&[self.socket.as_fd(), self.notices.bell()], None).as_deref() {
                Ok([false, false]) => {}
                Ok([false, true]) => self.take_notices(),
                _ => return,
            }
        }
    }

    /// Tells the supervisor that this worker could accept.
    pub(super) fn ready(&self) {
        self.watch_new_files();
        self.heartbeat.process.set_state(WorkerState::Ready);
        self.report(&Report::Ready);
    }

    /// A supervisor that is dead hears nothing; the next look at the channel finds that out.
    fn report(&self, report: &Report) {
        let _ = self.socket.send(report);
    }

    /// Obeys the supervisor until `ended` says that every executor has ended.
    pub(super) fn follow(&self, lifecycle: &Lifecycle, logs: &Logs, ended: &EventFd) {
        let mut alone_until: Option<Instant> = None;
        let (mut beat_at, mut rouse_at) =
            (Instant::now(), self.rouse_pause().map(|pause| Instant::now() + pause));
        loop {
            if beat_at <= Instant::now() {
                beat_at = Instant::now() + self.heartbeat_pause();
                self.show_life(lifecycle);
            }
            if rouse_at.take_if(|at| *at <= Instant::now()).is_some() {
                rouse_at = self.rouse_pause().map(|pause| Instant::now() + pause);
                lifecycle.rouse();
            }
            let watched =
                [ended.as_fd(), self.application.attention(), self.notices.bell(), self.socket.as_fd()];
            // Once the supervisor is dead its channel is readable for ever, and is not watched any more.
            let watched = if alone_until.is_some() { watched.split_at(3).0 } else { &watched };
            if self.cut_at.get().is_some_and(|at| at <= Instant::now()) {
                self.cut_at.set(None);
                self.end_drain(lifecycle);
            }
            let due_at = self.cut_at.get().map_or(beat_at, |at| at.min(beat_at));
            let pause = due_at.saturating_duration_since(Instant::now());
            let ready = wait::readable(watched, Some(pause)).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot wait for orders; draining");
                vec![false, false, false, true]
            });
            let is_ready = |index: usize| ready.get(index).copied().unwrap_or(false);
            let (end, attention, notice, order) = (is_ready(0), is_ready(1), is_ready(2), is_ready(3));
            if end {
                // The last words of the executors.
                self.take_notices();
                let (total, now) = (self.heartbeat.process.queue_timeouts(), Instant::now());
                let mut overload = self.overload.borrow_mut();
                let news = overload.look(total, now).or_else(|| overload.tell(now));
                return self.tell_overload(news);
            }
            if attention && self.application.attend() {
                self.obey(Order::Drain, lifecycle, logs);
            }
            if notice {
                self.take_notices();
            }
            if order {
                alone_until = self.receive_order(lifecycle, logs);
            }
            if alone_until.is_some_and(|until| until <= Instant::now()) {
                lifecycle.advance(Phase::Stopping);
            }
        }
    }

    fn heartbeat_pause(&self) -> Duration {
        self.rouse_pause().map_or(HEARTBEAT_PAUSE, |pause| pause.min(HEARTBEAT_PAUSE))
    }

    /// An idle executor sleeps for ever, as a stuck one seems to: it is roused just often enough to tell them apart.
    fn rouse_pause(&self) -> Option<Duration> {
        self.config.worker_limits.stuck_timeout.map(|timeout| timeout / 4)
    }

    fn show_life(&self, lifecycle: &Lifecycle) {
        self.heartbeat.beat();
        let news = self.overload.borrow_mut().look(self.heartbeat.process.queue_timeouts(), Instant::now());
        self.tell_overload(news);
        self.application.tidy();
        let InterpreterUse { wait_us, hold_max_us } = self.application.interpreter();
        self.heartbeat.process.set_interpreter(wait_us, hold_max_us);
        if self.config.reload.dev && lifecycle.phase() < Phase::Draining {
            self.watch_new_files();
        }
        if self.heartbeat.is_suspicious() {
            // The application may be slow, or hold the interpreter for ever: then this thread, too, falls silent here,
            // and the supervisor notices.
            self.application.probe();
            self.heartbeat.beat();
        }
    }

    fn watch_new_files(&self) {
        if let Some(watch) = self.watch.as_ref().filter(|_| self.config.reload.dev) {
            watch.add(self.application.new_files());
        }
    }

    fn take_notices(&self) {
        for notice in self.notices.take() {
            match notice {
                Notice::Changed { path, at_ms, version } => {
                    let path = path.display().to_string();
                    self.report(&Report::ReloadWanted { path, at_ms, version });
                }
                Notice::Overdue(overdue) => self.give_up(&overdue),
                Notice::ThreadDied => self.mourn(),
                Notice::Cut(overdue) => self.tell_cut(&overdue),
            }
        }
    }

    /// A dead thread is not replaced, but its process is.
    fn mourn(&self) {
        self.heartbeat.process.thread_died();
        self.want_replacement("an application thread died of a bug of the server");
    }

    fn want_replacement(&self, reason: &str) {
        if !self.is_given_up.replace(true) {
            self.report(&Report::ReplaceWanted { reason: reason.to_owned() });
        }
    }

    /// A thread that does not come back cannot be ended, but the process can.
    fn give_up(&self, Overdue { request, thread, working_for }: &Overdue) {
        self.want_replacement("the application works on a request for too long (--request-timeout)");
        tracing::error!(
            request,
            working_for_s = working_for.as_secs_f64(),
            traceback = self.application.stack_of(*thread),
            "a request is overdue; the stack of its thread follows"
        );
    }

    /// A request that the end of the drain has cut off.
    fn tell_cut(&self, Overdue { request, thread, working_for }: &Overdue) {
        if *thread == 0 {
            return tracing::warn!(request, "cut off: no thread had taken the request");
        }
        tracing::warn!(
            request,
            working_for_s = working_for.as_secs_f64(),
            traceback = self.application.stack_of(*thread),
            "cut off: the application has not answered the request; the stack of its thread follows"
        );
    }

    /// Ends a drain shortly before the supervisor would by force, so that those who wait learn of it, and the log.
    fn end_drain(&self, lifecycle: &Lifecycle) {
        let deadman_timeout_s = self.config.deadman_timeout.as_secs_f64();
        tracing::warn!(
            requests = self.heartbeat.requests(),
            deadman_timeout_s,
            "the drain takes too long: cutting off the requests that are left"
        );
        lifecycle.advance(Phase::Stopping);
    }

    /// Tells of requests that found no free thread.
    fn tell_overload(&self, news: Option<News>) {
        let waited_s = self.config.queue_timeout.as_secs_f64();
        match (news, &self.config.green) {
            (None, _) => {}
            (Some(News::Over), _) => {
                tracing::info!("threads are free again: no request was answered 503 for a minute");
            }
            (Some(News::Refused(requests)), None) => {
                let threads = counted(self.config.threads as u64, "thread");
                let answered = counted(requests, "request");
                tracing::warn!(
                    requests,
                    hint = OVERLOAD_HINT,
                    "all {threads} busy for {waited_s} s, {answered} answered 503"
                );
            }
            (Some(News::Refused(requests)), Some(_)) => {
                let answered = counted(requests, "request");
                tracing::warn!(
                    requests,
                    hint = OVERLOAD_HINT,
                    "no green thread was free, or got to run, for {waited_s} s, {answered} answered 503"
                );
            }
        }
    }

    /// Takes one order. When the supervisor is dead, drains, and returns when to give up on that.
    fn receive_order(&self, lifecycle: &Lifecycle, logs: &Logs) -> Option<Instant> {
        match self.socket.receive() {
            Ok(Some(order)) => self.obey(order, lifecycle, logs),
            Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock) => {}
            Ok(None) | Err(_) => {
                tracing::warn!("the supervisor is dead; draining");
                self.obey(Order::Drain, lifecycle, logs);
                return Some(Instant::now() + self.config.deadman_timeout);
            }
        }
        None
    }

    fn obey(&self, order: Order, lifecycle: &Lifecycle, logs: &Logs) {
        let (phase, state) = match order {
            Order::Accept => (Phase::Accepting, WorkerState::Accepting),
            Order::Drain => (Phase::Draining, WorkerState::Draining),
            Order::Close => {
                lifecycle.take_who_waits();
                (Phase::Draining, WorkerState::Draining)
            }
            Order::Stop => (Phase::Stopping, WorkerState::Draining),
            Order::Closed => return lifecycle.note_closed(),
            Order::Reopen => return logs.reopen(),
        };
        if phase == Phase::Draining && lifecycle.phase() < phase {
            let patience = self.config.deadman_timeout;
            let lead = (patience / 4).min(DRAIN_CUT_LEAD_MAX);
            self.cut_at.set(Some(Instant::now() + patience.saturating_sub(lead)));
        }
        self.heartbeat.process.set_state(state);
        lifecycle.advance(phase);
    }
}

fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
