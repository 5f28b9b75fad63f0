//! The end of children: workers, the status process, and a supervisor to come.

use std::time::Instant;

use super::Supervisor;
use super::generation::{SupervisorEvent, WorkerId};
use super::handover::Successor;
use super::status_process::StatusProcess;
use super::worker_handle::WorkerHandle;
use crate::sys::process::{self, ProcessExit};

impl Supervisor<'_> {
    /// Collects the children that have ended. Others in this process, such as what a vendor's wrapper runs beside us,
    /// may have children of their own, whose end they wait for; strangers are collected only where they are inherited.
    pub(super) fn reap(&mut self) {
        let workers = self.workers.values().filter_map(WorkerHandle::process);
        let own: Vec<u32> =
            workers.chain(self.successor.as_ref().map(Successor::pid)).chain(self.status_pid()).collect();
        for pid in own {
            if let Some(ending) = process::reap(pid) {
                self.reaped(pid, ending);
            }
        }
        if process::inherits_orphans() {
            while let Some((pid, ending)) = process::reap_any() {
                self.reaped(pid, ending);
            }
        }
    }

    fn status_pid(&self) -> Option<u32> {
        self.status.as_ref().and_then(StatusProcess::pid)
    }

    fn reaped(&mut self, pid: u32, ending: ProcessExit) {
        let ended = self.workers.iter().find(|(_, worker)| worker.is_process(pid));
        if let Some(id) = ended.map(|(id, _)| *id) {
            // Its last words first.
            self.receive_reports(id);
            self.worker_exited(id, ending);
        } else if self.successor.as_ref().is_some_and(|successor| successor.is_process(pid)) {
            self.successor_ended(ending);
        } else if let Some(status) = self.status.as_mut().filter(|status| status.pid() == Some(pid)) {
            status.ended(ending, Instant::now());
        }
    }

    fn worker_exited(&mut self, id: WorkerId, ending: ProcessExit) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.reaped();
        self.scoreboard.vacate(worker.row);
        self.rows_free.insert(worker.row);
        self.events.push_back(SupervisorEvent::WorkerExited(id, ending));
    }
}
