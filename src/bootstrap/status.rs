//! What the status process is started with: one listening socket, the scoreboard, and its supervisor's life line.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use super::{
    ControlChannel, SupervisorControl, WorkerControl, check_each_is_named_once, read_bootstrap, spawn,
};
use crate::config::Config;
use crate::scoreboard::{Dimensions, Scoreboard};
use crate::sys::control_socket::ControlSocket;
use crate::sys::process;

/// What the status process is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBootstrap {
    /// The configuration of the server.
    pub config: Config,
    /// The core its executor is pinned to.
    pub core: usize,
    listener: RawFd,
    control: RawFd,
    scoreboard: RawFd,
    dimensions: Dimensions,
}

/// What it is given.
#[derive(Clone, Copy, Debug)]
pub struct StatusInheritance<'a> {
    /// The command it runs, but for the number of its bootstrap descriptor and what follows that.
    pub command: &'a [OsString],
    /// See [`StatusBootstrap::config`].
    pub config: &'a Config,
    /// See [`StatusBootstrap::core`].
    pub core: usize,
    /// The socket it listens on.
    pub listener: BorrowedFd<'a>,
    /// The scoreboard's memory.
    pub scoreboard: BorrowedFd<'a>,
    /// How that memory is laid out.
    pub dimensions: Dimensions,
}

/// Starts the status process, and returns its process id and the supervisor's end of its control socket, on which it
/// says nothing.
///
/// # Errors
/// As of [`super::spawn_worker`].
pub fn spawn_status(inheritance: &StatusInheritance<'_>) -> io::Result<(u32, SupervisorControl)> {
    let (parent, child) = ControlSocket::pair()?;
    let bootstrap = StatusBootstrap {
        config: inheritance.config.clone(),
        core: inheritance.core,
        listener: inheritance.listener.as_raw_fd(),
        control: child.as_fd().as_raw_fd(),
        scoreboard: inheritance.scoreboard.as_raw_fd(),
        dimensions: inheritance.dimensions,
    };
    let inherited = vec![child.as_fd(), inheritance.scoreboard, inheritance.listener];
    Ok((
        spawn(
            (inheritance.command, &[inheritance.config.site()]),
            &bootstrap,
            inherited,
            process::Start::default(),
        )?,
        ControlChannel::new(parent),
    ))
}

/// The status process that has just started.
#[derive(Debug)]
pub struct StatusResources {
    /// What it was told.
    pub bootstrap: StatusBootstrap,
    /// The listening socket. Non-blocking, and to stay so: the one that comes after it uses it as well.
    pub listener: OwnedFd,
    /// Ends with its supervisor.
    pub control: WorkerControl,
    /// What it reads, and never writes.
    pub scoreboard: Scoreboard,
}

impl StatusResources {
    /// Takes what the supervisor left under the descriptor `bootstrap`. To be called once, first of all.
    ///
    /// # Errors
    /// `InvalidData` when this process was not started by a supervisor of this version.
    pub fn receive(bootstrap: RawFd) -> io::Result<Self> {
        let bootstrap: StatusBootstrap = read_bootstrap(process::adopt(bootstrap)?)?;
        check_each_is_named_once(vec![bootstrap.listener, bootstrap.control, bootstrap.scoreboard])?;
        let listener = process::adopt(bootstrap.listener)?;
        let control = ControlChannel::new(process::adopt(bootstrap.control)?.into());
        let scoreboard =
            Scoreboard::open(process::adopt(bootstrap.scoreboard)?.as_fd(), bootstrap.dimensions)?;
        Ok(Self { bootstrap, listener, control, scoreboard })
    }
}
