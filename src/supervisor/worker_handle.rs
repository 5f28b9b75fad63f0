//! A worker process as its parent sees it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::bootstrap::{self, Inheritance, Order, Report, SupervisorControl, WorkerPlacement};
use crate::sys::process;

/// A worker from its start until the machine has been told of its end.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) pid: u32,
    pub(super) generation: u64,
    pub(super) slot: usize,
    pub(super) row: usize,
    /// `None` once the worker has closed its end.
    control: Option<SupervisorControl>,
    /// Whether this supervisor killed it, and its end is no riddle.
    pub(super) was_killed: bool,
    /// Whether it has been reaped: its number may belong to another process by now.
    is_gone: bool,
}

/// What was received from a worker.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    Report(Report),
    /// Its end of the control socket is closed.
    End,
}

impl WorkerHandle {
    pub(super) fn spawn(inheritance: &Inheritance<'_>, placement: WorkerPlacement) -> io::Result<Self> {
        let WorkerPlacement { generation, slot, row, .. } = placement;
        let (pid, control) = bootstrap::spawn_worker(inheritance, placement)?;
        Ok(Self { pid, generation, slot, row, control: Some(control), was_killed: false, is_gone: false })
    }

    /// The control socket, while there is somebody at its other end.
    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    /// All reports since the last call.
    pub(super) fn receive(&mut self) -> Vec<Received> {
        let mut received = Vec::new();
        while let Some(control) = &self.control {
            match control.receive() {
                Ok(Some(report)) => received.push(Received::Report(report)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Ok(None) => self.hang_up(&mut received),
                Err(error) => {
                    tracing::error!(worker_pid = self.pid, %error, "invalid message on worker control socket");
                    self.hang_up(&mut received);
                }
            }
        }
        received
    }

    fn hang_up(&mut self, received: &mut Vec<Received>) {
        self.control = None;
        received.push(Received::End);
    }

    /// Gives an order; a worker that cannot hear it is killed.
    pub(super) fn order(&mut self, order: Order) {
        let is_delivered = self.control.as_ref().is_some_and(|control| control.send(order).is_ok());
        if !is_delivered {
            self.kill();
        }
    }

    /// Gives an order that only a worker which goes on needs to hear.
    pub(super) fn notify(&self, order: Order) {
        // One that is ending, or deaf, is dealt with by other means.
        let _ = self.control.as_ref().map(|control| control.send(order));
    }

    /// Ends the process, if it is still there.
    pub(super) fn kill(&mut self) {
        if self.is_gone {
            return;
        }
        self.was_killed = true;
        if let Err(error) = process::terminate(self.pid) {
            tracing::error!(worker_pid = self.pid, %error, "cannot kill a worker");
        }
    }

    /// Its process id, until it has been reaped.
    pub(super) fn process(&self) -> Option<u32> {
        (!self.is_gone).then_some(self.pid)
    }

    /// Whether this is the living process of that number.
    pub(super) fn is_process(&self, pid: u32) -> bool {
        self.pid == pid && !self.is_gone
    }

    /// Notes that the process has been reaped.
    pub(super) fn reaped(&mut self) {
        self.is_gone = true;
    }
}
