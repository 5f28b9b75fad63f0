//! The end of children: workers, the status process, and a supervisor to come.

use std::time::Instant;

use super::Supervisor;
use super::generation::{Event, WorkerId};
use super::handover::Heir;
use super::status_process::StatusProcess;
use super::worker_handle::WorkerHandle;
use crate::sys::process::{self, Ending};

impl Supervisor<'_> {
    /// Collects the children that have ended. Others in this process, such as what a vendor's wrapper runs beside us,
    /// may have children of their own, whose end they wait for; strangers are collected only where they are inherited.
    pub(super) fn reap(&mut self) {
        let workers = self.workers.values().filter_map(WorkerHandle::process);
        let own: Vec<u32> =
            workers.chain(self.heir.as_ref().map(Heir::pid)).chain(self.status_pid()).collect();
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

    fn reaped(&mut self, pid: u32, ending: Ending) {
        let ended = self.workers.iter().find(|(_, worker)| worker.is_process(pid));
        if let Some(id) = ended.map(|(id, _)| *id) {
            // Its last words first.
            self.hear(id);
            self.bury(id, ending);
        } else if self.heir.as_ref().is_some_and(|heir| heir.is_process(pid)) {
            self.heir_ended(ending);
        } else if let Some(status) = self.status.as_mut().filter(|status| status.pid() == Some(pid)) {
            status.ended(ending, Instant::now());
        }
    }

    fn bury(&mut self, id: WorkerId, ending: Ending) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.reaped();
        self.scoreboard.vacate(worker.seat);
        self.seats_free.insert(worker.seat);
        self.events.push_back(Event::WorkerExited(id, ending));
    }
}
