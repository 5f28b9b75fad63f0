//! What the status process is born with: one listening socket, the scoreboard, and its supervisor's life line.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use serde::{Deserialize, Serialize};

use super::{Control, SupervisorControl, WorkerControl, check_each_is_named_once, read_birth, spawn};
use crate::config::Config;
use crate::scoreboard::{Dimensions, Scoreboard};
use crate::sys::control_socket::ControlSocket;
use crate::sys::process;

/// What the status process is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusBirth {
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
    /// The command it runs, but for its last argument, the number of the birth's descriptor.
    pub command: &'a [OsString],
    /// See [`StatusBirth::config`].
    pub config: &'a Config,
    /// See [`StatusBirth::core`].
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
/// As of [`super::bear`].
pub fn bear(inheritance: &StatusInheritance<'_>) -> io::Result<(u32, SupervisorControl)> {
    let (parent, child) = ControlSocket::pair()?;
    let birth = StatusBirth {
        config: inheritance.config.clone(),
        core: inheritance.core,
        listener: inheritance.listener.as_raw_fd(),
        control: child.as_fd().as_raw_fd(),
        scoreboard: inheritance.scoreboard.as_raw_fd(),
        dimensions: inheritance.dimensions,
    };
    let inherited = vec![child.as_fd(), inheritance.scoreboard, inheritance.listener];
    Ok((spawn(inheritance.command, &birth, inherited, process::Start::default())?, Control::new(parent)))
}

/// The status process when it has just been born.
#[derive(Debug)]
pub struct StatusNewborn {
    /// What it was told.
    pub birth: StatusBirth,
    /// The listening socket. Non-blocking, and to stay so: the one that comes after it uses it as well.
    pub listener: OwnedFd,
    /// Ends with its supervisor.
    pub control: WorkerControl,
    /// What it reads, and never writes.
    pub scoreboard: Scoreboard,
}

impl StatusNewborn {
    /// Takes what the supervisor left under the descriptor `birth`. To be called once, first of all.
    ///
    /// # Errors
    /// `InvalidData` when this process was not started by a supervisor of this version.
    pub fn receive(birth: RawFd) -> io::Result<Self> {
        let birth: StatusBirth = read_birth(process::adopt(birth)?)?;
        check_each_is_named_once(vec![birth.listener, birth.control, birth.scoreboard])?;
        let listener = process::adopt(birth.listener)?;
        let control = Control::new(process::adopt(birth.control)?.into());
        let scoreboard = Scoreboard::open(process::adopt(birth.scoreboard)?.as_fd(), birth.dimensions)?;
        Ok(Self { birth, listener, control, scoreboard })
    }
}
