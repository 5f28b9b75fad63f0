//! From one supervisor to the next, of a new version perhaps: SIGUSR2.
//!
//! The old supervisor starts the command it was started with once more, and leaves it the listening sockets, the pid
//! file and one end of a socket pair. When the new one serves it says so there, and the old one drains; if the new one
//! ends before, the old one keeps serving. Files that go with a supervisor go with the one that serves. What both must
//! agree on is kept small, as they may be of different versions: a variable of JSON, and one message.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Supervisor;
use super::generation::SupervisorEvent;
use super::listeners::{Inherited, Listeners};
use super::pid_file::PidFile;
use super::status_process::StatusProcess;
use crate::bootstrap::Owner;
use crate::scoreboard::ServerStage;
use crate::sys::control_socket::ControlSocket;
use crate::sys::process::{self, HANDOVER_VARIABLE, ProcessExit};
use crate::sys::unix_listener::SocketFile;

/// What a new supervisor says when it serves.
const SERVING: &[u8] = b"serving";

#[derive(Debug, Serialize, Deserialize)]
struct HandoverState {
    listeners: Vec<HandedOverListener>,
    /// Where the status process listens.
    #[serde(default)]
    status: Option<HandedOverListener>,
    /// The files of unix sockets among them.
    files: Vec<SocketFile>,
    pid_file: Option<RawFd>,
    channel: RawFd,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandedOverListener {
    /// The address as configured, in JSON: a port that the kernel chose is inherited by who asks for such a port.
    bind: Option<String>,
    fd: RawFd,
    /// A supervisor that does not know of owners leaves sockets that nobody closes.
    #[serde(default)]
    owner: Owner,
}

/// The old supervisor's view of the new one.
#[derive(Debug)]
pub(super) struct Successor {
    pid: u32,
    channel: ControlSocket,
}

impl Successor {
    /// Starts a new supervisor with the interpreter `program`.
    fn start(
        program: OsString,
        directory: Option<&Path>,
        listeners: &Listeners,
        status: Option<&Listeners>,
        pid_file: Option<&PidFile>,
    ) -> io::Result<Self> {
        let (channel, successor_end) = ControlSocket::pair()?;
        let mut files = listeners.files().to_vec();
        files.extend(status.into_iter().flat_map(|status| status.files().iter().cloned()));
        let state = HandoverState {
            listeners: named(listeners).collect::<io::Result<_>>()?,
            status: status.and_then(|status| named(status).next()).transpose()?,
            files,
            pid_file: pid_file.map(|file| file.as_fd().as_raw_fd()),
            channel: successor_end.as_fd().as_raw_fd(),
        };
        let mut command = process::own_command()?;
        // The kernel found the interpreter by the path of the script; only Python itself knows which one it is.
        if let Some(first) = command.first_mut() {
            *first = program;
        }
        let mut inherited = vec![successor_end.as_fd()];
        inherited.extend(listeners.iter().map(|(fd, _)| fd.as_fd()));
        inherited.extend(status.into_iter().flat_map(|status| status.iter().map(|(fd, _)| fd.as_fd())));
        inherited.extend(pid_file.map(AsFd::as_fd));
        let state = serde_json::to_string(&state)?;
        let pid = process::spawn_like_self(&command, &inherited, directory, (HANDOVER_VARIABLE, &state))?;
        Ok(Self { pid, channel })
    }

    /// Readable when the new supervisor has something to say.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it is the process `pid`.
    pub(super) fn is_process(&self, pid: u32) -> bool {
        self.pid == pid
    }

    /// Whether it serves; `None` when it never will.
    fn serves(&self) -> Option<bool> {
        let mut message = [0; SERVING.len()];
        match self.channel.receive(&mut message) {
            Ok(Some(_)) => Some(message == *SERVING),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Some(false),
            Ok(None) | Err(_) => None,
        }
    }
}

fn named(listeners: &Listeners) -> impl Iterator<Item = io::Result<HandedOverListener>> {
    listeners.named().map(|(bind, (fd, owner))| {
        let bind = bind.map(serde_json::to_string).transpose()?;
        Ok(HandedOverListener { bind, fd: fd.as_raw_fd(), owner: *owner })
    })
}

/// The supervisor before this one, and what is this one's as soon as it serves.
#[derive(Debug)]
pub(super) struct Predecessor {
    /// Where its status process listens, for ours.
    pub(super) status: Option<Inherited>,
    files: Vec<SocketFile>,
    pid_file: Option<OwnedFd>,
    channel: ControlSocket,
}

/// Takes what an old supervisor left; `None` when there is none. To be called once.
pub(super) fn take() -> io::Result<Option<(Vec<Inherited>, Predecessor)>> {
    let Ok(state) = std::env::var(HANDOVER_VARIABLE) else { return Ok(None) };
    let HandoverState { listeners, status, files, pid_file, channel } = serde_json::from_str(&state)?;
    let inherited = |HandedOverListener { bind, fd, owner }| {
        // One that this version does not know how to ask for is served all the same.
        let bind = bind.and_then(|bind| serde_json::from_str(&bind).ok());
        Inherited::handed_over(fd, bind, owner)
    };
    let listeners = listeners.into_iter().map(inherited).collect::<io::Result<_>>()?;
    let status = status.map(inherited).transpose()?;
    let pid_file = pid_file.map(process::adopt).transpose()?;
    let channel = process::adopt(channel)?.into();
    Ok(Some((listeners, Predecessor { status, files, pid_file, channel })))
}

impl Supervisor<'_> {
    /// Starts a new supervisor beside this one.
    pub(super) fn hand_over(&mut self) {
        if let Some(successor) = &self.successor {
            return tracing::warn!(successor_pid = successor.pid, "a new supervisor is already starting");
        }
        if self.is_stopping {
            return tracing::warn!("the server is stopping, no other supervisor is started");
        }
        let Some(program) = self.commands.worker.first().cloned() else { return };
        let status = self.status.as_ref().map(StatusProcess::listeners);
        match Successor::start(
            program,
            self.working_directory.of_successor(),
            &self.listeners,
            status,
            self.pid_file.as_ref(),
        ) {
            Ok(successor) => {
                tracing::info!(successor_pid = successor.pid, "starting a new supervisor to hand over to");
                self.successor = Some(successor);
            }
            Err(error) => tracing::error!(%error, "cannot start a new supervisor; this one keeps serving"),
        }
    }

    pub(super) fn receive_from_successor(&mut self) {
        match self.successor.as_ref().map(|successor| (successor.pid, successor.serves())) {
            Some((successor_pid, Some(true))) => {
                tracing::info!(
                    successor_pid,
                    "the new supervisor is serving; this one drains its workers and exits"
                );
                self.successor = None;
                // Before any worker drains: the status must not say that no server is left.
                self.score.set_stage(ServerStage::HandedOver);
                self.listeners.hand_over_files();
                if let Some(status) = &mut self.status {
                    status.hand_over();
                }
                if let Some(file) = self.pid_file.take() {
                    file.hand_over();
                }
                self.notify.hand_over(successor_pid);
                self.events.push_back(SupervisorEvent::Leave);
            }
            // Its end says more, and comes at once.
            Some((_, None)) => self.reap(),
            _ => {}
        }
    }

    /// Ends a new supervisor that does not serve yet: who stops this one wants no other.
    pub(super) fn stop_successor(&mut self) {
        if let Some(successor) = &self.successor {
            // If it cannot be told, it is gone.
            let _ = process::ask_to_end(successor.pid);
        }
    }

    pub(super) fn successor_ended(&mut self, ending: ProcessExit) {
        if let Some(successor) = self.successor.take() {
            let successor_pid = successor.pid;
            tracing::error!(successor_pid, how = %ending, "the new supervisor exited before it was ready; this one keeps serving");
        }
    }

    /// Takes the place of the supervisor before this one, if there was one, and tells it to go.
    pub(super) fn succeed(&mut self) {
        let Some(Predecessor { files, pid_file, channel, .. }) = self.predecessor.take() else { return };
        self.listeners.inherit_files(files);
        if let (Some(path), Some(fd)) = (self.config.service.pid_file.as_deref(), pid_file) {
            match PidFile::inherit(path, fd) {
                Ok(file) => self.pid_file = Some(file),
                Err(error) => tracing::error!(path = %path.display(), %error, "cannot write the pid file"),
            }
        }
        self.begin_status();
        // If it is dead, it is gone.
        let _ = channel.send(SERVING);
    }
}
