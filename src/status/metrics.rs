//! `/metrics`: the Prometheus text format. Names and units follow its conventions; nothing has a label whose values
//! grow with time, such as a process id.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Result, TextEncoder};

use super::view::{StatusView, Totals};
use crate::scoreboard::{self, ServerStage, WorkerState, bucket_upper_us};

/// The format's media type.
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The buckets shown, of the scoreboard's half doublings: whole doublings from 128 us to 134 s.
const BUCKETS_SHOWN: std::ops::RangeInclusive<usize> = 13..=53;

/// Everything, as text.
pub(super) fn render(view: &StatusView) -> Result<String> {
    TextEncoder::new().encode_to_string(&families(view))
}

fn families(view: &StatusView) -> Vec<MetricFamily> {
    let mut families = server(view);
    families.extend(requests(&view.totals()));
    families.extend(workers(view));
    families
}

fn server(view: &StatusView) -> Vec<MetricFamily> {
    let supervisor = view.supervisor();
    let reload = view.snapshot.last_reload.as_ref();
    let last_reload = reload.map(|reload| {
        [
            gauge("last_reload_successful", "Whether the last reload ended well", u64::from(reload.ok)),
            gauge(
                "last_reload_timestamp_seconds",
                "When the last reload ended, in seconds since 1970",
                reload.at,
            ),
        ]
    });
    let start_unix_s = u64::try_from(view.unix_s(supervisor.started_ms)).unwrap_or(0);
    let labels = vec![("version", env!("CARGO_PKG_VERSION")), ("reactor", view.config.reactor.in_use())];
    let version = [(labels, 1)];
    let reloads = [
        (vec![("result", "ok")], supervisor.reloads),
        (vec![("result", "failed")], supervisor.reloads_failed),
    ];
    let mut families = vec![
        gauges("build_info", "The version that runs, and what its executors wait with", version),
        gauge("start_time_seconds", "When the supervisor started, in seconds since 1970", start_unix_s),
        gauge("ready", "Whether a worker accepts connections", u64::from(view.readiness().is_ok())),
        gauge(
            "stopping",
            "Whether the server is stopping",
            u64::from(supervisor.stage == ServerStage::Stopping),
        ),
        gauge("generation", "The generation that serves, counted from 1", supervisor.generation),
        counters("reloads_total", "Reloads, by how they ended", reloads),
    ];
    families.extend(last_reload.into_iter().flatten());
    families
}

fn requests(totals: &Totals) -> Vec<MetricFamily> {
    let Totals { executors, queue_depth, queue_timeouts, .. } = totals;
    let classes = ["2xx", "3xx", "4xx", "5xx"].into_iter().zip(executors.responses);
    let classes = classes.map(|(class, count)| (vec![("class", class)], count));
    vec![
        gauge("connections", "Connections open now", executors.connections),
        counter("requests_total", "Requests whose header was complete and valid", executors.requests),
        gauge("requests_in_flight", "Requests without a complete response yet", executors.in_flight),
        counters("responses_total", "Responses to requests, by class of status", classes),
        counter(
            "requests_refused_total",
            "Requests refused before the application saw them",
            executors.refused,
        ),
        gauge("queue_depth", "Requests that wait for an application thread", *queue_depth),
        counter("queue_timeouts_total", "Requests answered 503 because no thread took them", *queue_timeouts),
        counter(
            "threads_died_total",
            "Application threads that died of a bug of the server; their workers were replaced",
            totals.threads_died,
        ),
        seconds_counter(
            "interpreter_wait_seconds_total",
            "How long application threads waited for the interpreter, all waits together",
            totals.interpreter_wait_us,
        ),
        seconds_gauge(
            "interpreter_hold_max_seconds",
            "The longest time that one thread held the interpreter while another waited, of the workers there are",
            totals.interpreter_hold_max_us,
        ),
        counter("received_bytes_total", "Bytes of finished requests", executors.bytes_in),
        counter("sent_bytes_total", "Bytes of the bodies of finished responses", executors.bytes_out),
        histogram(
            "request_duration_seconds",
            "From the last byte of a request to the last byte of its response",
            &executors.latency,
        ),
    ]
}

fn workers(view: &StatusView) -> Vec<MetricFamily> {
    let supervisor = view.supervisor();
    let states = [
        ("loading", WorkerState::Loading),
        ("ready", WorkerState::Ready),
        ("accepting", WorkerState::Accepting),
        ("draining", WorkerState::Draining),
    ];
    let states = states.map(|(name, state)| (vec![("state", name)], view.count(state) as u64));
    let threads = || view.snapshot.workers.iter().flat_map(|worker| &worker.threads);
    let busy = threads().filter(|thread| thread.busy_since_ms.is_some()).count() as u64;
    let idle = (threads().count() as u64).saturating_sub(busy);
    let busy = [(vec![("state", "busy")], busy), (vec![("state", "idle")], idle)];
    let of_workers = view.snapshot.workers.iter().filter_map(|worker| view.memory_bytes(worker.pid));
    let memory = [
        ("workers", of_workers.fold(0, u64::saturating_add)),
        ("supervisor", view.memory_bytes(supervisor.pid).unwrap_or(0)),
        ("status", view.memory_bytes(u64::from(std::process::id())).unwrap_or(0)),
    ];
    let memory = memory.map(|(role, bytes)| (vec![("role", role)], bytes));
    vec![
        gauge("workers_configured", "Worker processes that a generation has", supervisor.processes),
        gauges("workers", "Worker processes, by state", states),
        counter("workers_died_total", "Worker processes that exited unexpectedly", supervisor.workers_died),
        gauges("threads", "Application threads, by what they do", busy),
        gauges("memory_bytes", "Memory by role of process, shared pages counted once", memory),
    ]
}

type Labelled = (Vec<(&'static str, &'static str)>, u64);

fn gauge(name: &str, help: &str, value: u64) -> MetricFamily {
    gauges(name, help, [(Vec::new(), value)])
}

fn counter(name: &str, help: &str, value: u64) -> MetricFamily {
    counters(name, help, [(Vec::new(), value)])
}

/// A gauge in seconds, of microseconds.
fn seconds_gauge(name: &str, help: &str, us: u64) -> MetricFamily {
    let mut gauge = Gauge::default();
    gauge.set_value(float(us) / 1e6);
    let mut metric = Metric::default();
    metric.set_gauge(gauge);
    family(name, help, MetricType::GAUGE, vec![metric])
}

/// A counter in seconds, of microseconds.
fn seconds_counter(name: &str, help: &str, us: u64) -> MetricFamily {
    let mut counter = Counter::default();
    counter.set_value(float(us) / 1e6);
    let mut metric = Metric::default();
    metric.set_counter(counter);
    family(name, help, MetricType::COUNTER, vec![metric])
}

fn gauges(name: &str, help: &str, values: impl IntoIterator<Item = Labelled>) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(float(value));
        let mut metric = labelled(labels);
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, metrics.collect())
}

fn counters(name: &str, help: &str, values: impl IntoIterator<Item = Labelled>) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(float(value));
        let mut metric = labelled(labels);
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, metrics.collect())
}

fn histogram(name: &str, help: &str, counted: &scoreboard::Histogram) -> MetricFamily {
    let (mut below, mut buckets) = (0, Vec::new());
    for (index, count) in counted.counts.iter().enumerate() {
        below += count;
        let Some(upper_us) = bucket_upper_us(index) else { continue };
        if BUCKETS_SHOWN.contains(&index) && index % 2 == 1 {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(float(upper_us) / 1e6);
            bucket.set_cumulative_count(below);
            buckets.push(bucket);
        }
    }
    let mut histogram = Histogram::default();
    histogram.set_sample_count(counted.count());
    histogram.set_sample_sum(float(counted.sum_us) / 1e6);
    histogram.set_bucket(buckets);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    family(name, help, MetricType::HISTOGRAM, vec![metric])
}

fn labelled(labels: Vec<(&'static str, &'static str)>) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("spawning_{name}"));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

/// Prometheus knows no other numbers; beyond 2^53 they are rounded.
#[expect(clippy::cast_precision_loss, reason = "of a format whose numbers are floats")]
fn float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::view::{Observer, tests::DIMENSIONS};
    use super::*;
    use crate::scoreboard::Scoreboard;

    #[test]
    fn a_histogram_counts_upwards_and_ends_with_everything() {
        let scoreboard = Scoreboard::create(DIMENSIONS).unwrap().0;
        scoreboard.process(0).unwrap().enter(1, 1, 0, 2);
        let executor = scoreboard.executor(0, 0).unwrap();
        for latency_us in [1, 127, 128, 1_000_000, u64::MAX >> 20] {
            executor.request_started();
            executor.request_finished(200, latency_us, 0, 0);
        }
        let config = crate::cli::configure(&["app".to_owned()], 1).unwrap();
        let text = render(&Observer::new(Arc::new(config), scoreboard).look()).unwrap();
        let count = |bound: &str| {
            let line = format!("spawning_request_duration_seconds_bucket{{le=\"{bound}\"}} ");
            text.lines().find_map(|it| it.strip_prefix(&line)).unwrap().to_owned()
        };
        assert_eq!((count("0.000128"), count("0.000256")), ("2".to_owned(), "3".to_owned()));
        assert_eq!((count("1.048576"), count("134.217728")), ("4".to_owned(), "4".to_owned()));
        assert_eq!(count("+Inf"), "5");
        assert!(text.contains("\nspawning_responses_total{class=\"2xx\"} 5\n"), "{text}");
    }
}
