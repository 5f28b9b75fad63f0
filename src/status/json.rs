//! `/status.json`: the keys of Spawning 0.9 as they were, times as texts included, and what is new beside them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::view::{StatusView, Totals, together};
use crate::config::{Bind, Config};
use crate::scoreboard::{
    Histogram, LastReload, ServerStage, ThreadSnapshot, WorkerSnapshot, WorkerState, bucket_upper_us,
};
use crate::sys::calendar;

/// Thousandths, and what they are called.
const QUANTILES: [(&str, u16); 4] = [("p50_us", 500), ("p90_us", 900), ("p99_us", 990), ("p999_us", 999)];

#[derive(Serialize)]
struct Status<'a> {
    // What Spawning 0.9 said.
    active_children_count: usize,
    killed_children_count: usize,
    configured_children_count: u64,
    now: String,
    pid: u64,
    uptime: String,
    started_at: String,
    config: Value,
    concurrent_requests: u64,
    children: BTreeMap<u64, ChildStatus>,
    // What is new.
    version: &'static str,
    stage: ServerStage,
    ready: bool,
    ready_reason: Option<String>,
    generation: u64,
    now_unix_s: i64,
    uptime_s: f64,
    supervisor_memory_bytes: Option<u64>,
    #[serde(rename = "status_pid")]
    own_pid: u32,
    memory_bytes: u64,
    workers_died: u64,
    reloads: u64,
    reloads_failed: u64,
    last_reload: Option<&'a LastReload>,
    #[serde(flatten)]
    work: WorkCounters,
    latency: Value,
}

#[derive(Serialize)]
struct ChildStatus {
    // What Spawning 0.9 said.
    pid: u64,
    active: bool,
    uptime: String,
    forked_at: String,
    concurrent_requests: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    // What is new.
    generation: u64,
    slot: u64,
    state: WorkerState,
    uptime_s: f64,
    silent_for_s: f64,
    memory_bytes: Option<u64>,
    #[serde(flatten)]
    work: WorkCounters,
    latency: Value,
    threads: Vec<ThreadStatus>,
}

/// What is counted of the server as a whole as of each worker.
#[derive(Serialize)]
struct WorkCounters {
    connections: u64,
    requests: u64,
    responses: BTreeMap<&'static str, u64>,
    refused: u64,
    bytes_in: u64,
    bytes_out: u64,
    queue_depth: u64,
    queue_timeouts: u64,
    threads_died: u64,
    interpreter_wait_s: f64,
    interpreter_hold_max_s: f64,
}

#[derive(Serialize)]
struct ThreadStatus {
    requests: u64,
    /// `null` while the thread waits for a request.
    busy_for_s: Option<f64>,
    request: Option<String>,
}

/// Everything, as JSON.
pub(super) fn render(view: &StatusView) -> Vec<u8> {
    // No key can be refused and no number is infinite, so this cannot fail.
    serde_json::to_vec(&status(view)).unwrap_or_default()
}

fn status(view: &StatusView) -> Status<'_> {
    let supervisor = view.supervisor();
    let totals = view.totals();
    let executors = &totals.executors;
    let uptime = view.since(supervisor.started_ms);
    let readiness = view.readiness();
    let children = view.snapshot.workers.iter().map(|worker| (worker.pid, child(view, worker)));
    Status {
        active_children_count: view.count(WorkerState::Accepting),
        killed_children_count: view.count(WorkerState::Draining),
        configured_children_count: supervisor.processes,
        now: calendar::ctime(view.now_unix_s),
        pid: supervisor.pid,
        uptime: in_words(uptime),
        started_at: calendar::ctime(view.unix_s(supervisor.started_ms)),
        config: config(&view.config),
        concurrent_requests: executors_in_flight(view),
        children: children.collect(),
        version: env!("CARGO_PKG_VERSION"),
        stage: supervisor.stage,
        ready: readiness.is_ok(),
        ready_reason: readiness.err(),
        generation: supervisor.generation,
        now_unix_s: view.now_unix_s,
        uptime_s: uptime.as_secs_f64(),
        supervisor_memory_bytes: view.memory_bytes(supervisor.pid),
        own_pid: std::process::id(),
        memory_bytes: view.memory_total_bytes(),
        workers_died: supervisor.workers_died,
        reloads: supervisor.reloads,
        reloads_failed: supervisor.reloads_failed,
        last_reload: view.snapshot.last_reload.as_ref(),
        latency: latency(&executors.latency),
        work: work(&totals),
    }
}

fn executors_in_flight(view: &StatusView) -> u64 {
    let workers = view.snapshot.workers.iter();
    workers.map(|worker| together(worker).in_flight).fold(0, u64::saturating_add)
}

fn child(view: &StatusView, worker: &WorkerSnapshot) -> ChildStatus {
    let totals = totals_of(worker);
    let executors = &totals.executors;
    let uptime = view.since(worker.started_ms);
    let heartbeat_age = view.heartbeat_age(worker);
    ChildStatus {
        pid: worker.pid,
        active: worker.state == WorkerState::Accepting,
        uptime: in_words(uptime),
        forked_at: calendar::ctime(view.unix_s(worker.started_ms)),
        concurrent_requests: executors.in_flight,
        error: heartbeat_age.map(|heartbeat_age| format!("no heartbeat for {} s", heartbeat_age.as_secs())),
        generation: worker.generation,
        slot: worker.slot,
        state: worker.state,
        uptime_s: uptime.as_secs_f64(),
        silent_for_s: heartbeat_age.unwrap_or_default().as_secs_f64(),
        memory_bytes: view.memory_bytes(worker.pid),
        work: work(&totals),
        latency: latency(&executors.latency),
        threads: worker.threads.iter().map(|it| thread(view, it)).collect(),
    }
}

fn thread(view: &StatusView, thread: &ThreadSnapshot) -> ThreadStatus {
    ThreadStatus {
        requests: thread.requests,
        busy_for_s: thread.busy_since_ms.map(|since_ms| view.since(since_ms).as_secs_f64()),
        request: thread.request.clone(),
    }
}

fn totals_of(worker: &WorkerSnapshot) -> Totals {
    Totals {
        executors: together(worker),
        queue_depth: worker.queue_depth,
        queue_timeouts: worker.queue_timeouts,
        threads_died: worker.threads_died,
        interpreter_wait_us: worker.interpreter_wait_us,
        interpreter_hold_max_us: worker.interpreter_hold_max_us,
    }
}

fn work(totals: &Totals) -> WorkCounters {
    let executors = &totals.executors;
    WorkCounters {
        connections: executors.connections,
        requests: executors.requests,
        responses: ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(executors.responses).collect(),
        refused: executors.refused,
        bytes_in: executors.bytes_in,
        bytes_out: executors.bytes_out,
        queue_depth: totals.queue_depth,
        queue_timeouts: totals.queue_timeouts,
        threads_died: totals.threads_died,
        interpreter_wait_s: Duration::from_micros(totals.interpreter_wait_us).as_secs_f64(),
        interpreter_hold_max_s: Duration::from_micros(totals.interpreter_hold_max_us).as_secs_f64(),
    }
}

/// Upper bounds, and how many fell below each and not below the one before: `[[bound in us, count], ...]` without
/// those that nothing fell into. A reader who takes two of them, a minute apart, has the last minute's.
fn latency(histogram: &Histogram) -> Value {
    let mut object = Map::new();
    object.insert("count".to_owned(), histogram.count().into());
    object.insert("sum_us".to_owned(), histogram.sum_us.into());
    for (name, per_mille) in QUANTILES {
        object.insert(name.to_owned(), histogram.quantile_us(per_mille).into());
    }
    let buckets = histogram.counts.iter().enumerate().filter(|(_, count)| **count > 0);
    let buckets = buckets.map(|(bucket, count)| json!([bucket_upper_us(bucket), count]));
    object.insert("buckets".to_owned(), buckets.collect());
    Value::Object(object)
}

/// The options, times in seconds, and under their old names those that 0.9 had.
fn config(config: &Config) -> Value {
    let mut value = serde_json::to_value(config).map_or(Value::Null, in_seconds);
    if let Value::Object(options) = &mut value {
        options.insert("reactor".to_owned(), config.reactor.in_use().into());
        options.insert("num_processes".to_owned(), config.processes.into());
        options.insert("threadpool_workers".to_owned(), config.threads.into());
        options.insert("args".to_owned(), config.arguments.clone().into());
        if let Some(Bind::Tcp(address)) = config.binds.first() {
            options.insert("host".to_owned(), address.ip().to_string().into());
            options.insert("port".to_owned(), address.port().into());
        }
    }
    value
}

/// A duration is an object of seconds and nanoseconds to serde, and a number to everybody else.
fn in_seconds(value: Value) -> Value {
    let duration = serde_json::from_value::<Duration>(value.clone()).ok().filter(|_| value.is_object());
    match (duration, value) {
        (Some(duration), _) => duration.as_secs_f64().into(),
        (None, Value::Object(fields)) => {
            fields.into_iter().map(|(name, value)| (name, in_seconds(value))).collect()
        }
        (None, value) => value,
    }
}

/// As 0.9 wrote it: `10d 14h`, `3h 20m`, `12m`, `15s`.
fn in_words(duration: Duration) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    match duration.as_secs() {
        s @ DAY.. => format!("{}d {}h", s / DAY, s % DAY / HOUR),
        s if s > HOUR => format!("{}h {}m", s / HOUR, s % HOUR / MINUTE),
        s if s > MINUTE => format!("{}m", s / MINUTE),
        s => format!("{s}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::view::{Observer, tests::DIMENSIONS};
    use super::*;
    use crate::scoreboard::Scoreboard;

    fn rendered(scoreboard: &Scoreboard) -> Value {
        let words = ["--threads=2", "--queue-timeout=1.5", "mysite.wsgi"].map(str::to_owned);
        let config = crate::cli::configure(&words, 3).unwrap();
        serde_json::from_slice(&render(&Observer::new(Arc::new(config), scoreboard.clone()).look())).unwrap()
    }

    #[test]
    fn times_are_written_as_before() {
        for (seconds, words) in [
            (0, "0s"),
            (60, "60s"),
            (61, "1m"),
            (3600, "60m"),
            (3661, "1h 1m"),
            (86_399, "23h 59m"),
            (86_400, "1d 0h"),
            (914_400, "10d 14h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words);
        }
    }

    #[test]
    fn an_empty_server_has_every_key() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        scoreboard.supervisor().unwrap().begin(std::process::id(), 1);
        let status = rendered(&scoreboard);
        for key in [
            "active_children_count",
            "killed_children_count",
            "configured_children_count",
            "now",
            "pid",
            "uptime",
            "started_at",
            "config",
            "concurrent_requests",
            "children",
        ] {
            assert!(status.get(key).is_some(), "{key} is missing");
        }
        assert_eq!(status["pid"], std::process::id());
        assert_eq!(status["last_reload"], Value::Null);
        assert_eq!(status["config"]["queue_timeout"], 1.5);
        assert_eq!(status["config"]["num_processes"], 3);
        assert_eq!(status["config"]["port"], 8080);
        assert!(status["memory_bytes"].as_u64().unwrap() > 0);
    }

    #[test]
    fn a_worker_is_a_child_under_its_pid() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        let process = scoreboard.process(1).unwrap();
        process.enter(4242, 7, 1, 2);
        process.set_state(WorkerState::Accepting);
        let executor = scoreboard.executor(1, 1).unwrap();
        executor.request_started();
        executor.request_finished(404, 1000, 1, 2);
        executor.request_started();
        let thread = scoreboard.thread(1, 0).unwrap();
        thread.request(b"GET", b"/a/path");
        thread.busy(1);
        let status = rendered(&scoreboard);
        assert_eq!(
            (&status["active_children_count"], &status["concurrent_requests"]),
            (&1.into(), &1.into())
        );
        let child = &status["children"]["4242"];
        assert_eq!((&child["pid"], &child["active"]), (&4242.into(), &true.into()));
        assert_eq!((&child["generation"], &child["requests"]), (&7.into(), &2.into()));
        assert_eq!(child["responses"], json!({"2xx": 0, "3xx": 0, "4xx": 1, "5xx": 0}));
        assert_eq!(child["latency"]["buckets"], json!([[1024, 1]]));
        assert_eq!(child["threads"][0]["request"], "GET /a/path");
        assert!(child["threads"][0]["busy_for_s"].as_f64().unwrap() > 0.0);
        assert_eq!(child["threads"][1]["busy_for_s"], Value::Null);
    }
}
