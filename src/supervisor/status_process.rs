//! The status process as its parent sees it: bound like any socket, started again when it dies, and of no weight for
//! what the workers do.

use std::ffi::OsString;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::listeners::{Inherited, Listeners, Unbound};
use super::{Supervisor, pause};
use crate::bootstrap::{Order, StatusInheritance, SupervisorControl, spawn_status};
use crate::config::Config;
use crate::limits::{REAP_TIMEOUT, RESPAWN_RESET, RESPAWN_WAIT_MAX, RESPAWN_WAIT_MIN};
use crate::scoreboard::Dimensions;
use crate::sys::account::Identity;
use crate::sys::process::{self, ProcessExit};
use crate::sys::unix_listener::Appearance;

/// How often its end is looked for when the server ends.
const REAP_PAUSE: Duration = Duration::from_millis(10);

/// The status process: its sockets, its state and its restarts.
#[derive(Debug)]
pub(super) struct StatusProcess {
    listeners: Listeners,
    state: StatusProcessState,
    respawn_wait: Duration,
}

#[derive(Debug)]
enum StatusProcessState {
    /// Not started, or started no more.
    Off,
    /// Started at that time.
    Due(Instant),
    Running {
        pid: u32,
        control: SupervisorControl,
        since: Instant,
    },
    /// Told to send its last answers, or killed, and not yet reaped.
    Ending {
        pid: u32,
        control: Option<SupervisorControl>,
    },
}

impl StatusProcess {
    /// Opens its socket; `None` when it is not wanted.
    pub(super) fn open(
        config: &Config,
        owner: Option<&Identity>,
        inherited: Option<Inherited>,
        pause: impl FnMut(Duration) -> ControlFlow<()>,
    ) -> Result<Option<Self>, Unbound> {
        let Some(bind) = &config.status else { return Ok(None) };
        let appearance = Appearance { mode: config.unix_socket.mode, owner };
        let listeners = Listeners::open_one(bind, appearance, inherited, pause)?;
        Ok(Some(Self { listeners, state: StatusProcessState::Off, respawn_wait: RESPAWN_WAIT_MIN }))
    }

    /// Where it listens.
    pub(super) fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Its process id, as long as it is to be reaped.
    pub(super) fn pid(&self) -> Option<u32> {
        match self.state {
            StatusProcessState::Running { pid, .. } | StatusProcessState::Ending { pid, .. } => Some(pid),
            StatusProcessState::Off | StatusProcessState::Due(_) => None,
        }
    }

    /// When it is to be started.
    pub(super) fn due(&self) -> Option<Instant> {
        if let StatusProcessState::Due(at) = self.state { Some(at) } else { None }
    }

    /// Gives an order; one that is dying need not hear it.
    pub(super) fn notify(&self, order: Order) {
        if let StatusProcessState::Running { control, .. } = &self.state {
            let _ = control.send(order);
        }
    }

    fn start(
        &mut self,
        command: &[OsString],
        config: &Config,
        core: usize,
        (scoreboard, dimensions): (BorrowedFd<'_>, Dimensions),
    ) -> io::Result<StatusProcessState> {
        let listener = self.listeners.first().ok_or(io::ErrorKind::NotFound)?.0.as_fd();
        let inheritance = StatusInheritance { command, config, core, listener, scoreboard, dimensions };
        let (pid, control) = spawn_status(&inheritance)?;
        Ok(StatusProcessState::Running { pid, control, since: Instant::now() })
    }

    /// It has been reaped: another takes its place, unless it was told to go.
    pub(super) fn ended(&mut self, ending: ProcessExit, now: Instant) {
        let StatusProcessState::Running { since, .. } = self.state else {
            self.state = StatusProcessState::Off;
            return;
        };
        if now.saturating_duration_since(since) >= RESPAWN_RESET {
            self.respawn_wait = RESPAWN_WAIT_MIN;
        }
        let respawn_wait_s = self.wait_and_start(now).as_secs_f64();
        tracing::error!(how = %ending, respawn_wait_s, "the status process died");
    }

    fn wait_and_start(&mut self, now: Instant) -> Duration {
        let wait = self.respawn_wait;
        self.state = StatusProcessState::Due(now + wait);
        self.respawn_wait = (wait * 2).min(RESPAWN_WAIT_MAX);
        wait
    }

    /// Ends it for good, at once.
    fn kill(&mut self) {
        self.state = match self.pid() {
            Some(pid) => {
                // If it cannot be killed, it is gone.
                let _ = process::terminate(pid);
                StatusProcessState::Ending { pid, control: None }
            }
            None => StatusProcessState::Off,
        };
    }

    /// Leaves the address to the status process of another supervisor, which may be asked there already.
    pub(super) fn hand_over(&mut self) {
        self.notify(Order::Drain);
        self.state = match std::mem::replace(&mut self.state, StatusProcessState::Off) {
            // Without the control socket it would end at once.
            StatusProcessState::Running { pid, control, .. } => {
                StatusProcessState::Ending { pid, control: Some(control) }
            }
            StatusProcessState::Due(_) | StatusProcessState::Off => StatusProcessState::Off,
            ending @ StatusProcessState::Ending { .. } => ending,
        };
        self.listeners.hand_over_files();
    }

    fn has_last_answers(&self) -> bool {
        matches!(self.state, StatusProcessState::Ending { control: Some(_), .. })
    }
}

impl Supervisor<'_> {
    /// From now on there is a status process.
    pub(super) fn begin_status(&mut self) {
        if let Some(status) = &mut self.status {
            status.state = StatusProcessState::Due(Instant::now());
        }
        self.tend_status(Instant::now());
    }

    /// Starts the status process if that is due.
    pub(super) fn tend_status(&mut self, now: Instant) {
        let Some(status) = self.status.as_mut().filter(|it| it.due().is_some_and(|due| due <= now)) else {
            return;
        };
        let core = self.cores.now.last().copied().unwrap_or(0);
        let scoreboard = (self.scoreboard_fd.as_fd(), self.dimensions);
        match status.start(&self.commands.status, &self.config, core, scoreboard) {
            Ok(state) => status.state = state,
            Err(error) => {
                let respawn_wait_s = status.wait_and_start(now).as_secs_f64();
                tracing::error!(%error, respawn_wait_s, "cannot start the status process; trying again");
            }
        }
    }

    /// Ends the status process, and waits a bounded time for its end.
    pub(super) fn end_status(&mut self) {
        self.await_status(StatusProcess::has_last_answers);
        if let Some(status) = &mut self.status {
            status.kill();
        }
        self.await_status(|status| status.pid().is_some());
    }

    fn await_status(&mut self, lasts: impl Fn(&StatusProcess) -> bool) {
        let until = Instant::now() + REAP_TIMEOUT;
        while self.status.as_ref().is_some_and(&lasts) && Instant::now() < until {
            self.reap();
            let _ = pause(&self.signals, REAP_PAUSE);
        }
    }
}
