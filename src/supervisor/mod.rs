//! The parent of all workers: it owns the sockets, the process ids, the generations and the signals, and never sees a
//! request.
//!
//! One thread, one loop: what signals and workers say is put into a queue, `generation` decides, and the loop does as
//! told. As nothing runs beside it, forking is safe.

mod announcements;
mod changes;
mod children;
mod closing;
pub mod evaluate;
mod generation;
mod handover;
mod identity;
mod inspection;
mod launch;
mod limit_check;
mod listeners;
mod notify_socket;
mod pid_file;
mod preflight;
mod private_directory;
mod start;
mod start_failure;
mod status_process;
mod worker_handle;
mod working_directory;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use crate::bootstrap::{Inheritance, Order, Report, WorkerPlacement};
use crate::config::Config;
use crate::log;
use crate::scoreboard::{Dimensions, Scoreboard, ServerStage, SupervisorScore};
use crate::sys::process::{self, ProcessExit};
use crate::sys::signals::{Signal, Signals};
use crate::sys::{affinity, file, standard_streams, wait};
use changes::Changes;
use closing::Closing;
use generation::{Action, Failure, Farewell, Generations, Replacement, SupervisorEvent, WorkerId};
use handover::{Predecessor, Successor};
use inspection::Inspection;
use launch::{Launch, LaunchedAs};
use listeners::{Inherited, Listeners, Unbound};
use notify_socket::NotifySocket;
use pid_file::PidFile;
use preflight::{Cores, pause};
use private_directory::PrivateDirectory;
use start_failure::{EXIT_OPERATING_SYSTEM, StartFailure};
use status_process::StatusProcess;
use worker_handle::{Received, WorkerHandle};
use working_directory::WorkingDirectory;

/// Seats beyond the most workers there can be, for those whose end is not yet dealt with.
const SPARE_ROWS: usize = 4;

/// What starts a child when the number of its bootstrap descriptor is added.
#[derive(Clone, Debug)]
pub struct Commands {
    /// Starts a worker.
    pub worker: Vec<OsString>,
    /// Starts the status process.
    pub status: Vec<OsString>,
}

/// Supervises workers until told to stop, and returns the server's exit status.
///
/// `commands` start its children; `python_version` is for the greeting, as `CPython 3.13.1`. To be called on the only
/// thread of the process.
///
/// With `--daemonize` it returns twice: in the command that was started when the first generation serves or the server
/// has ended, and in the background at the server's end.
///
/// The status is 0 after a stop, 64 when an option turns out to be at fault, 69 when an address cannot be bound, 70
/// when the application cannot be loaded at the start, and 71 when the operating system refuses something.
pub fn run(config: Config, commands: Commands, python_version: &str) -> i32 {
    log::init(config.logging);
    let left = take_over(&config);
    // Who was started by a supervisor is where that one is already.
    let daemonize = config.service.daemonize && !matches!(left, Ok((_, Some(_))));
    let mut launch = match Launch::begin(daemonize) {
        Ok(LaunchedAs::Server(launch)) => launch,
        Ok(LaunchedAs::Command(status)) => return status,
        Err(error) => return end(&mut Launch::default(), refused("go into the background", &error)),
    };
    let started =
        left.and_then(|left| Supervisor::start(config, commands, python_version, left, &mut launch));
    let unbound = match started {
        Ok(mut supervisor) => return supervisor.run(),
        Err(unbound) => unbound,
    };
    end(&mut launch, unbound)
}

/// The sockets that this process was started with, and the supervisor that handed them over, if one did.
fn take_over(config: &Config) -> Result<(Vec<Inherited>, Option<Predecessor>), Unbound> {
    match handover::take().map_err(|error| refused("take over from another supervisor", &error))? {
        Some((sockets, predecessor)) => Ok((sockets, Some(predecessor))),
        None => Ok((listeners::inherit(config)?, None)),
    }
}

/// Ends a server that has not begun.
fn end(launch: &mut Launch, unbound: Unbound) -> i32 {
    let status = match unbound {
        Unbound::BrokenOff => 0,
        Unbound::Failed(failure) => {
            launch.say(&failure.to_string());
            failure.status
        }
    };
    launch.ended(status);
    status
}

struct Supervisor<'a> {
    launch: &'a mut Launch,
    notify: NotifySocket,
    config: Config,
    commands: Commands,
    cores: Cores,
    signals: Signals,
    listeners: Listeners,
    pid_file: Option<PidFile>,
    working_directory: WorkingDirectory,
    private_directory: Option<PrivateDirectory>,
    status: Option<StatusProcess>,
    scoreboard: Scoreboard,
    score: SupervisorScore,
    scoreboard_fd: OwnedFd,
    dimensions: Dimensions,
    rows_free: BTreeSet<usize>,
    workers: BTreeMap<WorkerId, WorkerHandle>,
    generations: Generations,
    inspection: Inspection,
    /// The supervisor before this one, which goes when this one serves.
    predecessor: Option<Predecessor>,
    /// The supervisor after this one, until it serves.
    successor: Option<Successor>,
    events: VecDeque<SupervisorEvent>,
    changes: Changes,
    has_served: bool,
    is_stopping: bool,
    /// The end of listening, once it has begun and until the sockets are closed.
    closing: Option<Closing>,
}

impl Supervisor<'_> {
    fn run(&mut self) -> i32 {
        if self.predecessor.is_none() {
            self.begin_status();
        }
        loop {
            while let Some(event) = self.events.pop_front() {
                if let ControlFlow::Break(status) = self.decide(event) {
                    self.end_status();
                    self.launch.ended(status);
                    return status;
                }
            }
            if let Err(error) = self.wait() {
                tracing::error!(%error, "cannot wait for events; stopping");
                self.events.push_back(SupervisorEvent::StopNow);
            }
        }
    }

    /// Asks the machine what an event means, and does it.
    fn decide(&mut self, event: SupervisorEvent) -> ControlFlow<i32> {
        self.tell_systemd(&event);
        let exited = if let SupervisorEvent::WorkerExited(id, _) = event { Some(id) } else { None };
        for action in self.generations.handle(event, Instant::now()) {
            match action {
                Action::Spawn { id, generation, slot } => self.spawn(id, generation, slot),
                Action::Accept(id) => self.accept(id),
                Action::Close => self.begin_closing(),
                Action::Drain(id) => self.order(id, self.farewell()),
                Action::Stop(id) => self.order(id, Order::Stop),
                Action::Kill(id) => self.kill(id),
                Action::Log(note) => self.note(&note),
                Action::Exit(status) => return ControlFlow::Break(status),
            }
        }
        if let Some(id) = exited {
            self.workers.remove(&id);
        }
        ControlFlow::Continue(())
    }

    fn tell_systemd(&mut self, event: &SupervisorEvent) {
        match event {
            SupervisorEvent::Reload if self.has_served => self.notify.reloading(),
            SupervisorEvent::Stop | SupervisorEvent::Leave | SupervisorEvent::StopNow => {
                self.is_stopping = true;
                self.score.set_stage(ServerStage::Stopping);
                self.notify.stopping();
            }
            _ => {}
        }
    }

    /// Sleeps until something happens or is due, and puts what it is into the queue.
    fn wait(&mut self) -> io::Result<()> {
        self.notify.show_life(Instant::now());
        let status = self.status.as_ref().and_then(StatusProcess::due);
        log::retry();
        let log = log::retry_due(Instant::now());
        let closing = self.closing.as_ref().map(Closing::due);
        let due =
            [self.generations.deadline(), self.notify.due(), self.inspection.due(), status, log, closing];
        let due = due.into_iter().flatten().min();
        let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
        let mut ids = Vec::new();
        let mut fds = vec![self.signals.as_fd()];
        fds.extend(self.successor.as_ref().map(Successor::channel));
        for (id, worker) in &self.workers {
            if let Some(control) = worker.control() {
                ids.push(*id);
                fds.push(control);
            }
        }
        let mut readable = wait::readable(&fds, timeout)?.into_iter();
        let has_signals = readable.next().unwrap_or(false);
        let has_successor = self.successor.is_some() && readable.next().unwrap_or(false);
        for (id, _) in ids.into_iter().zip(readable).filter(|(_, is_readable)| *is_readable) {
            self.receive_reports(id);
        }
        if has_successor {
            self.receive_from_successor();
        }
        if has_signals {
            self.take_signals();
        }
        let (inspection, now) = (&mut self.inspection, Instant::now());
        let status = self.status.as_ref().and_then(StatusProcess::pid);
        let told = inspection.look_if_due(&self.workers, status, &self.generations, &self.scoreboard, now);
        self.events.extend(told);
        self.tend_status(now);
        self.tend_closing(now);
        self.events.push_back(SupervisorEvent::Tick);
        Ok(())
    }

    fn receive_reports(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let received = worker.receive();
        self.events.extend(received.into_iter().map(|received| match received {
            Received::Report(Report::Ready) => SupervisorEvent::WorkerReady(id),
            Received::Report(Report::Failed { summary, traceback }) => {
                SupervisorEvent::WorkerFailed(id, Failure { summary, traceback })
            }
            Received::Report(Report::ReloadWanted { path, at_ms, version }) => {
                tracing::info!(path, "a file has changed");
                self.changes.record(path, version, at_ms)
            }
            Received::Report(Report::ReplaceWanted { reason }) => {
                SupervisorEvent::Replace(id, Replacement { reason, farewell: Farewell::Drain })
            }
            Received::End => SupervisorEvent::WorkerSilent(id),
        }));
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                Signal::Reload => self.events.push_back(SupervisorEvent::Reload),
                Signal::Grow => self.events.push_back(SupervisorEvent::Grow),
                Signal::Shrink => self.events.push_back(SupervisorEvent::Shrink),
                Signal::HandOver => self.hand_over(),
                Signal::Stop => {
                    self.stop_successor();
                    self.events.push_back(SupervisorEvent::Stop);
                }
                Signal::StopNow => {
                    self.stop_successor();
                    self.events.push_back(SupervisorEvent::StopNow);
                }
                Signal::Reopen => self.reopen(),
                Signal::ChildEnded => self.reap(),
            }
        }
    }

    /// Reopens log files, here and in every worker.
    fn reopen(&mut self) {
        let service = &self.config.service;
        match standard_streams::reopen(service.stdout.as_deref(), service.stderr.as_deref()) {
            Ok(()) => tracing::info!("log files reopened"),
            Err(error) => {
                tracing::error!(
                    %error,
                    hint = file::REOPEN_HINT,
                    "cannot reopen --stdout and --stderr; still writing to the old files"
                );
            }
        }
        self.workers.values().for_each(|worker| worker.notify(Order::Reopen));
        if let Some(status) = &self.status {
            status.notify(Order::Reopen);
        }
    }

    fn spawn(&mut self, id: WorkerId, generation: u64, slot: usize) {
        match self.try_spawn(generation, slot) {
            Ok(worker) => {
                self.workers.insert(id, worker);
            }
            Err(error) => {
                let summary = format!("cannot start a worker process: {error}");
                self.events.push_back(SupervisorEvent::WorkerFailed(
                    id,
                    Failure { summary, traceback: String::new() },
                ));
                self.events
                    .push_back(SupervisorEvent::WorkerExited(id, ProcessExit::Exited(EXIT_OPERATING_SYSTEM)));
            }
        }
    }

    fn try_spawn(&mut self, generation: u64, slot: usize) -> io::Result<WorkerHandle> {
        if let Err(error) = self.cores.look_again() {
            tracing::warn!(%error, "cannot tell which cores may be used; assuming the previous ones");
        }
        let row = self.rows_free.first().copied().ok_or(io::ErrorKind::QuotaExceeded)?;
        let directory = self.working_directory.of_generation(generation);
        let inheritance = Inheritance {
            command: &self.commands.worker,
            config: &self.config,
            private_directory: self.private_directory.as_ref().map(PrivateDirectory::path),
            start: process::Start {
                directory: directory.as_deref(),
                directory_name: self.working_directory.name(),
                keeps_input: self.has_terminal_for_worker(),
            },
            listeners: &self.listeners,
            scoreboard: self.scoreboard_fd.as_fd(),
            dimensions: self.dimensions,
        };
        // A slot that was added later shares the cores of one that was there from the start.
        let mut cores =
            affinity::share_out(&self.cores.now, self.config.processes, slot % self.config.processes.max(1));
        cores.truncate(self.dimensions.executors);
        let worker = WorkerHandle::spawn(&inheritance, WorkerPlacement { generation, slot, row, cores })?;
        self.rows_free.remove(&row);
        Ok(worker)
    }

    /// Whether a person at a terminal may talk to the one worker there is: `breakpoint()` in a view opens a prompt.
    fn has_terminal_for_worker(&self) -> bool {
        self.config.processes == 1 && !self.config.service.daemonize && io::stdin().is_terminal()
    }

    fn accept(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get(&id) {
            // Before anybody drains: the status page must not see a serving generation without an accepting worker.
            self.score.set_generation(worker.generation);
        }
        self.order(id, Order::Accept);
    }

    fn order(&mut self, id: WorkerId, order: Order) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.order(order);
        }
    }

    fn kill(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.kill();
        }
    }
}

fn refused(what: &str, error: &dyn std::fmt::Display) -> Unbound {
    Unbound::Failed(StartFailure {
        status: EXIT_OPERATING_SYSTEM,
        message: format!("cannot {what}: {error}"),
        hint: "see the limits of this process: ulimit -a".to_owned(),
    })
}
