//! What a worker is started with, and how it is handed over: the supervisor's side and the worker's side of one
//! protocol.
//!
//! The supervisor writes a [`Bootstrap`] as JSON into a file in memory and executes
//! `python -m spawning.worker <number of that descriptor>`, followed by words that are for `ps` alone. Of all its
//! descriptors the child inherits that file, the listening sockets, the scoreboard and one end of a control socket, all
//! under the numbers they have in the parent. From then on both speak over the control socket: a [`Report`] up, an
//! [`Order`] down, and end of file when the other side is dead.

use std::ffi::OsString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::{Config, ReactorChoice};
use crate::limits::CONTROL_MESSAGE_BYTES_MAX;
use crate::scoreboard::{Dimensions, Scoreboard, cut_in_the_middle};
use crate::sys::control_socket::ControlSocket;
use crate::sys::event_loop::EventLoop;
use crate::sys::fork::PrivateFd;
use crate::sys::{process, shared_memory};

mod status;

pub use status::{StatusBootstrap, StatusInheritance, StatusResources, spawn_status};

/// What a worker says to its supervisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The application is loaded and the executors could accept.
    Ready,
    /// The application could not be loaded; the worker exits.
    Failed {
        /// One line: what went wrong.
        summary: String,
        /// The whole traceback, or nothing if there is none.
        traceback: String,
    },
    /// A file has changed: the application should be reloaded by a new generation.
    ReloadWanted {
        /// The file, or one of several.
        path: String,
        /// When the worker noticed, by [`crate::sys::clock::monotonic_ms`]: a generation begun later has it already.
        at_ms: u64,
        /// What the file was then. Another worker that says the same, however late, has seen the same change.
        version: String,
    },
    /// This worker cannot go on for long and should be replaced.
    ReplaceWanted {
        /// Why, for the log.
        reason: String,
    },
}

/// What a supervisor says to its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// Start to accept connections: the whole generation is ready.
    Accept,
    /// Stop accepting, finish what is held, exit. Who still waits in the kernel is for others, who listen there too.
    Drain,
    /// As [`Order::Drain`], but nobody else will listen: first accept who waits at the sockets that the server closes,
    /// until they are closed.
    Close,
    /// Said after [`Order::Close`]: the sockets are closed. The kernel tells only one of those who wait there.
    Closed,
    /// Reopen log files, which may have been renamed.
    Reopen,
    /// Exit now. Sent only to workers that were never told to accept.
    Stop,
}

/// One end of a control socket, which sends `S` and receives `R`.
#[derive(Debug)]
pub struct ControlChannel<S, R> {
    socket: ControlSocket,
    messages: PhantomData<fn(S) -> R>,
}

/// The worker's end: receiving blocks.
pub type WorkerControl = ControlChannel<Report, Order>;
/// The supervisor's end: nothing blocks.
pub type SupervisorControl = ControlChannel<Order, Report>;

impl<S: Serialize, R: DeserializeOwned> ControlChannel<S, R> {
    fn new(socket: ControlSocket) -> Self {
        Self { socket, messages: PhantomData }
    }

    /// Receives the next message; `None` when the other side is dead.
    ///
    /// # Errors
    /// `InvalidData` for something that is no message; `WouldBlock` when nothing is there yet, on the supervisor's
    /// end; `Interrupted` when a signal handler ran, on the worker's.
    pub fn receive(&self) -> io::Result<Option<R>> {
        let mut buffer = vec![0; CONTROL_MESSAGE_BYTES_MAX];
        let Some(length) = self.socket.receive(&mut buffer)? else { return Ok(None) };
        let message = serde_json::from_slice(buffer.get(..length).unwrap_or_default());
        message.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

impl WorkerControl {
    /// Sends a report; a traceback too long for one message is cut in the middle.
    ///
    /// # Errors
    /// `BrokenPipe` when the supervisor is dead.
    pub fn send(&self, report: &Report) -> io::Result<()> {
        self.socket.send(&encode_report(report)?)
    }
}

impl SupervisorControl {
    /// Sends an order.
    ///
    /// # Errors
    /// `BrokenPipe` when the worker is dead, `WouldBlock` when it has stopped reading.
    pub fn send(&self, order: Order) -> io::Result<()> {
        self.socket.send(&serde_json::to_vec(&order)?)
    }
}

impl<S, R> AsFd for ControlChannel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn encode_report(report: &Report) -> io::Result<Vec<u8>> {
    let mut encoded = serde_json::to_vec(report)?;
    let Report::Failed { summary, traceback } = report else { return Ok(encoded) };
    // How long a text becomes in JSON depends on what is in it, so halve until it fits: at most six bytes for one.
    let mut text_bytes_max = CONTROL_MESSAGE_BYTES_MAX / 2;
    while encoded.len() > CONTROL_MESSAGE_BYTES_MAX {
        let summary = cut_in_the_middle(summary, text_bytes_max / 8);
        let traceback = cut_in_the_middle(traceback, text_bytes_max);
        encoded = serde_json::to_vec(&Report::Failed { summary, traceback })?;
        text_bytes_max /= 2;
    }
    Ok(encoded)
}

/// Whose a listening socket is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Owner {
    /// Bound by this server, which closes it when it stops.
    Server,
    /// Given to the server, by systemd for example: who connects while it stops is served by the next.
    #[default]
    Other,
}

/// What a worker is started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The configuration of the server.
    pub config: Config,
    /// The generation it belongs to, counted from 1.
    pub generation: u64,
    /// Which of its generation's processes it is, counted from 0.
    pub slot: usize,
    /// Its row on the scoreboard.
    pub row: usize,
    /// The cores its executors are pinned to, one executor each.
    pub cores: Vec<usize>,
    /// The process that started it.
    pub supervisor_pid: u32,
    /// A directory for what the workers of this server have between themselves, if they need one.
    pub private_directory: Option<PathBuf>,
    listeners: Vec<(RawFd, Owner)>,
    control: RawFd,
    scoreboard: RawFd,
    dimensions: Dimensions,
}

/// What executors run on, as the supervisor has found that they can.
pub fn event_loop(config: &Config) -> EventLoop {
    match config.reactor {
        ReactorChoice::Auto => EventLoop::Auto,
        ReactorChoice::IoUring => EventLoop::IoUring,
        ReactorChoice::Epoll => EventLoop::Epoll,
    }
}

/// What all workers of one supervisor have in common.
#[derive(Clone, Copy, Debug)]
pub struct Inheritance<'a> {
    /// The command a worker runs, but for the number of its bootstrap descriptor and what follows that.
    pub command: &'a [OsString],
    /// The configuration of the server.
    pub config: &'a Config,
    /// See [`Bootstrap::private_directory`].
    pub private_directory: Option<&'a Path>,
    /// Where they start.
    pub start: process::Start<'a>,
    /// The listening sockets.
    pub listeners: &'a [(OwnedFd, Owner)],
    /// The scoreboard's memory.
    pub scoreboard: BorrowedFd<'a>,
    /// How that memory is laid out.
    pub dimensions: Dimensions,
}

/// What distinguishes one worker from its siblings.
#[derive(Clone, Debug)]
pub struct WorkerPlacement {
    /// See [`Bootstrap::generation`].
    pub generation: u64,
    /// See [`Bootstrap::slot`].
    pub slot: usize,
    /// See [`Bootstrap::row`].
    pub row: usize,
    /// See [`Bootstrap::cores`].
    pub cores: Vec<usize>,
}

/// Starts a worker, and returns its process id and the supervisor's end of its control socket.
///
/// # Errors
/// The operating system's, when it cannot give descriptors, fork, or execute the command.
pub fn spawn_worker(
    inheritance: &Inheritance<'_>,
    placement: WorkerPlacement,
) -> io::Result<(u32, SupervisorControl)> {
    let (parent, child) = ControlSocket::pair()?;
    let shown = [
        inheritance.config.site(),
        format!("slot={}", placement.slot),
        format!("generation={}", placement.generation),
    ];
    let bootstrap = Bootstrap {
        config: inheritance.config.clone(),
        generation: placement.generation,
        slot: placement.slot,
        row: placement.row,
        cores: placement.cores,
        supervisor_pid: std::process::id(),
        private_directory: inheritance.private_directory.map(Path::to_owned),
        listeners: inheritance.listeners.iter().map(|(fd, owner)| (fd.as_raw_fd(), *owner)).collect(),
        control: child.as_fd().as_raw_fd(),
        scoreboard: inheritance.scoreboard.as_raw_fd(),
        dimensions: inheritance.dimensions,
    };
    let mut inherited = vec![child.as_fd(), inheritance.scoreboard];
    inherited.extend(inheritance.listeners.iter().map(|(fd, _)| fd.as_fd()));
    let pid = spawn((inheritance.command, &shown), &bootstrap, inherited, inheritance.start)?;
    Ok((pid, ControlChannel::new(parent)))
}

/// Starts `command` with a descriptor of `bootstrap` as an argument, and after it the words `shown`, which the child
/// ignores: `ps` shows them.
fn spawn(
    (command, shown): (&[OsString], &[String]),
    bootstrap: &impl Serialize,
    inherited: Vec<BorrowedFd<'_>>,
    start: process::Start<'_>,
) -> io::Result<u32> {
    let file = shared_memory::create_file(c"spawning-bootstrap", &serde_json::to_vec(bootstrap)?)?;
    let mut command = command.to_vec();
    command.push(file.as_raw_fd().to_string().into());
    command.extend(shown.iter().map(OsString::from));
    let mut inherited: Vec<BorrowedFd<'_>> = inherited;
    inherited.push(file.as_fd());
    process::spawn(&command, &inherited, start)
}

/// A worker that has just started: all that it owns.
#[derive(Debug)]
pub struct WorkerResources {
    /// What it was told.
    pub bootstrap: Bootstrap,
    /// The listening sockets. Non-blocking, and to stay so: siblings share them.
    pub listeners: Vec<(PrivateFd, Owner)>,
    /// The way to its supervisor.
    pub control: WorkerControl,
    /// The scoreboard, on which it already sits in its row, loading.
    pub scoreboard: Scoreboard,
}

impl WorkerResources {
    /// Takes what the supervisor left under the descriptor `bootstrap`. To be called once, first of all.
    ///
    /// # Errors
    /// `InvalidData` when this process was not started by a supervisor of this version.
    pub fn receive(bootstrap: RawFd) -> io::Result<Self> {
        let bootstrap: Bootstrap = read_bootstrap(process::adopt(bootstrap)?)?;
        let mut numbers: Vec<RawFd> = bootstrap.listeners.iter().map(|(fd, _)| *fd).collect();
        numbers.extend([bootstrap.control, bootstrap.scoreboard]);
        check_each_is_named_once(numbers)?;
        let adopt = |fd| process::adopt(fd).map(PrivateFd::new);
        let listeners = bootstrap.listeners.iter().map(|(fd, owner)| Ok((adopt(*fd)?, *owner)));
        let listeners = listeners.collect::<io::Result<_>>()?;
        let control = ControlChannel::new(process::adopt(bootstrap.control)?.into());
        let scoreboard =
            Scoreboard::open(process::adopt(bootstrap.scoreboard)?.as_fd(), bootstrap.dimensions)?;
        let process = scoreboard.process(bootstrap.row).ok_or(io::ErrorKind::InvalidData)?;
        process.enter(std::process::id(), bootstrap.generation, bootstrap.slot, bootstrap.cores.len());
        Ok(Self { bootstrap, listeners, control, scoreboard })
    }
}

impl WorkerResources {
    /// A worker in the process that also plays its supervisor, with one row and no other process: for tests.
    ///
    /// # Errors
    /// The operating system's, when descriptors or memory run out.
    pub fn in_process(
        config: Config,
        cores: Vec<usize>,
        listeners: Vec<OwnedFd>,
    ) -> io::Result<(Self, SupervisorControl)> {
        let (parent, child) = ControlSocket::pair()?;
        let dimensions =
            Dimensions { rows: 1, executors: cores.len(), threads: config.application_threads() };
        let (scoreboard, _memory) = Scoreboard::create(dimensions)?;
        let (generation, slot, row) = (1, 0, 0);
        let bootstrap = Bootstrap {
            config,
            generation,
            slot,
            row,
            cores,
            supervisor_pid: std::process::id(),
            private_directory: None,
            listeners: Vec::new(),
            control: -1,
            scoreboard: -1,
            dimensions,
        };
        let listeners = listeners.into_iter().map(|fd| (PrivateFd::new(fd), Owner::Server)).collect();
        Ok((
            Self { bootstrap, listeners, control: ControlChannel::new(child), scoreboard },
            ControlChannel::new(parent),
        ))
    }
}

fn read_bootstrap<B: DeserializeOwned>(fd: OwnedFd) -> io::Result<B> {
    let file = std::fs::File::from(fd);
    let length = usize::try_from(file.metadata()?.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut json = vec![0; length];
    // The parent wrote through the same open file description, so its position is at the end.
    file.read_exact_at(&mut json, 0)?;
    Ok(serde_json::from_slice(&json)?)
}

/// A number adopted twice would be closed twice, the second time under somebody else's feet.
fn check_each_is_named_once(mut numbers: Vec<RawFd>) -> io::Result<()> {
    numbers.sort_unstable();
    if numbers.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
