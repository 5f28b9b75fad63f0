//! What the server says of itself: three lines when it starts, and afterwards what may be worth waking somebody.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::Supervisor;
use super::generation::{Failure, Note, SupervisorEvent};
use super::worker_handle::WorkerHandle;
use crate::config::Config;
use crate::limits::DESCRIPTORS_KEPT_PART;
use crate::log;
use crate::scoreboard::{LastReload, ServerStage};
use crate::sys::affinity::format_cores;
use crate::sys::listener::Address;
use crate::sys::process::ProcessExit;

impl Supervisor<'_> {
    /// Says what the machine wants said, to everybody whom it concerns.
    pub(super) fn note(&mut self, note: &Note) {
        match note {
            Note::Serving(generation) => self.note_serving(*generation),
            Note::GenerationFailed(generation, failure) => self.note_failure(*generation, failure),
            Note::Replacing(id, reason) => {
                if let Some(worker) = self.workers.get(id) {
                    replacing(worker, reason);
                }
            }
            Note::Resized(processes) => {
                self.score.set_processes(*processes);
                tracing::info!(processes, "the number of processes has changed");
            }
            Note::NotResized(processes) => {
                tracing::warn!(processes, "process count already at its limit; --processes sets it");
            }
            Note::ReplacementFailed(id, failure) => {
                replacement_failed(self.workers.get(id), failure);
            }
            Note::Died(id, ending, respawn_wait) => {
                self.score.worker_died();
                if let Some(worker) = self.workers.get(id) {
                    died(worker, *ending, *respawn_wait);
                }
            }
            Note::StopsIn(delay) => {
                tracing::info!(
                    drain_delay_s = delay.as_secs_f64(),
                    "stopping soon: not ready any more, and serving on; a second signal drains at once"
                );
            }
            Note::Stopping => {
                tracing::info!(
                    workers = self.workers.len(),
                    "stopping: draining every worker; a second signal stops at once"
                );
            }
            Note::Recovered(id) => {
                if let Some(worker) = self.workers.get(id) {
                    recovered(worker);
                }
            }
            Note::Overdue(id) => {
                if let Some(worker) = self.workers.get(id) {
                    overdue(worker, self.config.deadman_timeout);
                }
            }
        }
    }

    fn note_serving(&mut self, generation: u64) {
        if self.has_served {
            if self.config.verbose {
                say(&format!("{:#?}", self.config));
            }
            tracing::info!(generation, "a new generation serves");
            self.notify.ready(&format!("generation {generation} serves"));
            self.record_reload(generation, None);
            return;
        }
        self.has_served = true;
        self.score.set_stage(ServerStage::Serving);
        let ready = ready(&self.config, &self.cores.now);
        self.launch.say(&ready);
        self.notify.ready(&ready);
        self.succeed();
        if !self.launch.serving() {
            tracing::warn!("the command that started this server was interrupted; stopping");
            self.events.push_back(SupervisorEvent::Leave);
        }
    }

    fn note_failure(&mut self, generation: u64, failure: &Failure) {
        self.record_reload(generation, Some(failure));
        if self.has_served {
            let summary = &failure.summary;
            self.notify.ready(&format!("the reload failed; previous generation still serving: {summary}"));
            generation_failed(generation, failure);
            return;
        }
        self.notify.failed(&failure.summary);
        if self.config.reload.dev && self.predecessor.is_none() {
            waiting_for_change(failure);
        } else {
            self.launch.say(&first_generation_failed(failure));
        }
    }

    /// Keeps how the last reload went, for the status page.
    fn record_reload(&self, generation: u64, failure: Option<&Failure>) {
        self.scoreboard.record_reload(&LastReload {
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            ok: failure.is_none(),
            generation,
            summary: failure.map(|failure| failure.summary.clone()).unwrap_or_default(),
            traceback: failure.map(|failure| failure.traceback.clone()).unwrap_or_default(),
        });
        // Last, so that a reader who sees the count sees the reason.
        self.score.reloaded(failure.is_none());
    }
}

/// Writes a line for the person who started the server.
pub(super) fn say(line: &str) {
    log::say(line);
}

/// The first line: who speaks.
pub(super) fn greeting(python_version: &str) -> String {
    format!("Spawning {} on {python_version}, pid {}", env!("CARGO_PKG_VERSION"), std::process::id())
}

/// A warning, where a process may not open as many files as green threads may hold connections.
pub(super) fn few_files(config: &Config, open_files_max: u64) -> Option<String> {
    let wanted = config.green.as_ref()?.requests_max as u64;
    let limit = wanted + wanted.div_ceil(DESCRIPTORS_KEPT_PART - 1);
    (open_files_max < limit).then(|| {
        format!(
            "spawn: --green-requests-max: {wanted} requests need {limit} open files, but no process may have more than \
             {open_files_max}; connections for which there is no room wait\n\
             hint: raise the hard limit: LimitNOFILE={limit} in a systemd unit, or docker run --ulimit nofile={limit}"
        )
    })
}

/// The second line: where it listens.
pub(super) fn listening(addresses: &[Address]) -> String {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("listening on {}", addresses.join(", "))
}

/// A line beside the three: where to look.
pub(super) fn status(addresses: &[Address]) -> String {
    let page = |address: &Address| match address {
        Address::Tcp(_) => format!("{address}/status"),
        _ => address.to_string(),
    };
    format!("status page: {}", addresses.iter().map(page).collect::<Vec<_>>().join(", "))
}

/// The third line: with what it serves.
fn ready(config: &Config, cores: &[usize]) -> String {
    format!(
        "ready: {} x {} on {} {}",
        counted(config.processes, "process", "processes"),
        match &config.green {
            None => counted(config.threads, "thread", "threads"),
            Some(green) => format!("green threads of {}", green.library.module()),
        },
        if cores.len() == 1 { "core" } else { "cores" },
        format_cores(cores),
    )
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The last words of a server that never served.
fn first_generation_failed(failure: &Failure) -> String {
    let mut text = format!("spawn: cannot load the application: {}", failure.summary);
    if !failure.traceback.is_empty() {
        text.push('\n');
        text.push_str(failure.traceback.trim_end());
    }
    text
}

fn generation_failed(generation: u64, failure: &Failure) {
    let Failure { summary, traceback } = failure;
    tracing::error!(
        generation,
        reason = summary,
        traceback,
        "the reload failed; previous generation still serving"
    );
}

fn waiting_for_change(failure: &Failure) {
    let Failure { summary, traceback } = failure;
    tracing::error!(reason = summary, traceback, "cannot load the application; waiting for a file to change");
}

fn replacing(worker: &WorkerHandle, reason: &str) {
    let WorkerHandle { pid, generation, slot, .. } = worker;
    tracing::warn!(worker_pid = pid, generation, slot, reason, "replacing a worker");
}

fn recovered(worker: &WorkerHandle) {
    let WorkerHandle { pid, generation, slot, .. } = worker;
    tracing::info!(worker_pid = pid, generation, slot, "a worker serves again in its slot");
}

fn replacement_failed(worker: Option<&WorkerHandle>, failure: &Failure) {
    let slot = worker.map(|worker| worker.slot);
    let Failure { summary, traceback } = failure;
    tracing::error!(slot, reason = summary, traceback, "cannot replace a worker; trying again");
}

fn died(worker: &WorkerHandle, ending: ProcessExit, respawn_wait: Option<Duration>) {
    let WorkerHandle { pid, generation, slot, .. } = worker;
    let from_outside = ending.is_sigkill() && !worker.was_killed;
    let hint = from_outside
        .then_some("killed from outside, perhaps by the kernel's out-of-memory killer: see dmesg");
    let respawn_wait_s = respawn_wait.map(|wait| wait.as_secs_f64());
    tracing::error!(worker_pid = pid, generation, slot, how = %ending, respawn_wait_s, hint, "a worker died");
}

fn overdue(worker: &WorkerHandle, deadman_timeout: Duration) {
    let WorkerHandle { pid, generation, slot, .. } = worker;
    let deadman_timeout_s = deadman_timeout.as_secs_f64();
    tracing::warn!(
        worker_pid = pid,
        generation,
        slot,
        deadman_timeout_s,
        "a worker did not drain in time; killing it"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_urls() {
        let tcp = ["127.0.0.1:8080", "[::1]:81"].map(|address| Address::Tcp(address.parse().unwrap()));
        let unix = [Address::Path("/run/app.sock".into()), Address::Abstract("app".into())];
        let expected = "listening on http://127.0.0.1:8080, http://[::1]:81, unix:/run/app.sock, unix:@app";
        assert_eq!(listening(&[tcp, unix].concat()), expected);
    }

    #[test]
    fn a_failure_without_a_traceback_is_one_line() {
        let mut failure = Failure { summary: "no app".into(), traceback: String::new() };
        assert_eq!(first_generation_failed(&failure), "spawn: cannot load the application: no app");
        failure.traceback = "Traceback\n".into();
        assert_eq!(
            first_generation_failed(&failure),
            "spawn: cannot load the application: no app\nTraceback"
        );
    }
}
