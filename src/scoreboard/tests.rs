//! The scoreboard as its users see it: what is written is read, by another mapping too, and garbage is harmless.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;

use proptest::prelude::*;

use super::layout::{executor, process, thread};
use super::*;

const DIMENSIONS: Dimensions = Dimensions { rows: 4, executors: 2, threads: 3 };

fn scoreboard() -> Scoreboard {
    Scoreboard::create(DIMENSIONS).unwrap().0
}

fn accepting(scoreboard: &Scoreboard, row: usize, connections: u64) {
    let process = scoreboard.process(row).unwrap();
    process.enter(100, 1, row, 2);
    process.set_state(WorkerState::Accepting);
    let executor = scoreboard.executor(row, 1).unwrap();
    (0..connections).for_each(|_| executor.connection_opened());
}

#[test]
#[cfg_attr(miri, ignore = "no shared mappings")]
fn what_one_process_writes_another_reads() {
    let (writer, fd) = Scoreboard::create(DIMENSIONS).unwrap();
    let reader = Scoreboard::open(fd.as_fd(), DIMENSIONS).unwrap();
    let process = writer.process(2).unwrap();
    process.enter(4242, 7, 1, 1);
    process.heartbeat(99);
    process.set_queue_depth(5);
    process.queue_timed_out();
    process.set_interpreter(7, 3);
    process.thread_died();
    let executor = writer.executor(2, 0).unwrap();
    executor.connection_opened();
    executor.request_started();
    executor.request_started();
    executor.request_finished(404, 100, 10, 20);
    executor.refused();
    executor.heartbeat(98);
    let thread = writer.thread(2, 2).unwrap();
    thread.request(b"GET", b"/a");
    thread.busy(97);

    let snapshot = reader.snapshot();
    let [worker] = snapshot.workers.as_slice() else { panic!("one worker, not {:?}", snapshot.workers) };
    assert_eq!((worker.row, worker.pid, worker.generation, worker.slot), (2, 4242, 7, 1));
    assert_eq!((worker.state, worker.heartbeat_ms), (WorkerState::Loading, 99));
    assert_eq!((worker.queue_depth, worker.queue_timeouts), (5, 1));
    assert_eq!((worker.interpreter_wait_us, worker.interpreter_hold_max_us), (7, 3));
    assert_eq!(worker.threads_died, 1);
    let [read] = worker.executors.as_slice() else { panic!("one executor, not {:?}", worker.executors) };
    assert_eq!((read.connections, read.requests, read.in_flight), (1, 2, 1));
    assert_eq!((read.bytes_in, read.bytes_out, read.refused, read.heartbeat_ms), (10, 20, 1, 98));
    assert_eq!(read.responses, [0, 0, 1, 0]);
    assert_eq!((read.latency.count(), read.latency.sum_us), (1, 100));
    let request = Some("GET /a".to_owned());
    assert_eq!(worker.threads[2], ThreadSnapshot { busy_since_ms: Some(97), requests: 1, request });
    thread.idle();
    let idle = ThreadSnapshot { busy_since_ms: None, requests: 1, request: None };
    assert_eq!(reader.snapshot().workers[0].threads[2], idle);
}

#[test]
fn what_the_supervisor_says_is_read() {
    let (writer, fd) = Scoreboard::create(DIMENSIONS).unwrap();
    let reader = Scoreboard::open(fd.as_fd(), DIMENSIONS).unwrap();
    let supervisor = writer.supervisor().unwrap();
    supervisor.begin(42, 7);
    supervisor.set_stage(ServerStage::Stopping);
    supervisor.set_generation(3);
    supervisor.set_processes(5);
    supervisor.reloaded(true);
    supervisor.reloaded(false);
    supervisor.reloaded(false);
    supervisor.worker_died();
    let expected = SupervisorSnapshot {
        pid: 42,
        started_ms: 7,
        stage: ServerStage::Stopping,
        generation: 3,
        processes: 5,
        reloads: 1,
        reloads_failed: 2,
        workers_died: 1,
    };
    assert_eq!(reader.snapshot().supervisor, expected);
}

#[test]
fn a_request_too_long_for_its_words_keeps_its_beginning() {
    let scoreboard = scoreboard();
    scoreboard.process(0).unwrap().enter(1, 1, 0, 1);
    let thread = scoreboard.thread(0, 0).unwrap();
    thread.request(b"GET", &[b'/'; 1000]);
    thread.busy(1);
    let request = scoreboard.snapshot().workers[0].threads[0].request.clone().unwrap();
    assert!(request.starts_with("GET ///") && request.len() > 60 && request.len() < 100, "{request}");
}

#[test]
fn the_least_loaded_other_is_one_that_accepts() {
    let scoreboard = scoreboard();
    assert_eq!(scoreboard.connections_least_loaded_other(0, Others::All), None);
    accepting(&scoreboard, 0, 1);
    assert_eq!(
        scoreboard.connections_least_loaded_other(0, Others::All),
        None,
        "a worker does not wait for itself"
    );
    accepting(&scoreboard, 1, 5);
    accepting(&scoreboard, 2, 3);
    assert_eq!(scoreboard.connections_least_loaded_other(0, Others::All), Some(3));
    scoreboard.process(2).unwrap().set_queue_depth(1);
    assert_eq!(scoreboard.connections_least_loaded_other(0, Others::Idle), Some(5));
    scoreboard.process(2).unwrap().set_state(WorkerState::Draining);
    assert_eq!(scoreboard.connections_least_loaded_other(0, Others::All), Some(5));
}

#[test]
fn a_vacated_seat_is_empty_and_its_counts_are_kept() {
    let scoreboard = scoreboard();
    for round in 1..=2 {
        accepting(&scoreboard, 1, 3);
        let executor = scoreboard.executor(1, 0).unwrap();
        executor.request_started();
        executor.request_finished(200, 1, 10, 20);
        executor.request_started();
        scoreboard.process(1).unwrap().queue_timed_out();
        scoreboard.process(1).unwrap().set_interpreter(7, 3);
        scoreboard.process(1).unwrap().thread_died();
        scoreboard.thread(1, 0).unwrap().busy(1);
        scoreboard.vacate(1);

        let snapshot = scoreboard.snapshot();
        assert_eq!(snapshot.workers, []);
        assert_eq!((snapshot.retired.requests, snapshot.retired.bytes_out), (2 * round, 20 * round));
        assert_eq!((snapshot.retired.responses, snapshot.retired.latency.count()), ([round, 0, 0, 0], round));
        assert_eq!((snapshot.retired.connections, snapshot.retired.in_flight), (0, 0));
        assert_eq!(snapshot.retired_queue_timeouts, round);
        assert_eq!(snapshot.retired_interpreter_wait_us, 7 * round);
        assert_eq!(snapshot.retired_threads_died, round);
        assert_eq!(scoreboard.connections(1), 0);
    }
}

#[test]
fn closing_more_than_was_opened_stops_at_zero() {
    let executor = scoreboard().executor(0, 0).unwrap();
    executor.connection_closed();
    assert_eq!(executor.connections(), 0);
}

#[test]
fn nothing_lies_beyond_the_dimensions() {
    let scoreboard = scoreboard();
    assert!(scoreboard.process(4).is_none());
    assert!(scoreboard.executor(4, 0).is_none());
    assert!(scoreboard.executor(0, 2).is_none());
    assert!(scoreboard.thread(0, 3).is_none());
    scoreboard.vacate(4);
    let endless = Dimensions { rows: usize::MAX, executors: 1, threads: 1 };
    assert_eq!(Scoreboard::create(endless).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
#[cfg_attr(miri, ignore = "no memfd")]
fn a_scoreboard_of_other_dimensions_is_refused() {
    let (_, fd) = Scoreboard::create(DIMENSIONS).unwrap();
    let larger = Dimensions { rows: 5, ..DIMENSIONS };
    assert_eq!(Scoreboard::open(fd.as_fd(), larger).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

proptest! {
    #[test]
    fn no_two_parts_share_a_word(rows in 1_usize..40, executors in 1_usize..9, threads in 0_usize..20) {
        let layout = Layout::new(Dimensions { rows, executors, threads }).unwrap();
        let mut parts = vec![
            (0, rows),
            (layout.retired_process(), process::WORDS),
            (layout.retired_executor(), executor::WORDS),
            (layout.reload(), layout::reload::WORDS),
            (layout.supervisor(), layout::supervisor::WORDS),
        ];
        for row in 0..rows {
            parts.push((layout.process(row).unwrap(), process::WORDS));
            parts.extend((0..executors).map(|index| (layout.executor(row, index).unwrap(), executor::WORDS)));
            parts.extend((0..threads).map(|index| (layout.thread(row, index).unwrap(), thread::WORDS)));
        }
        parts.sort_unstable();
        for pair in parts.windows(2) {
            prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:?}");
        }
        let last = parts[parts.len() - 1];
        prop_assert_eq!(last.0 + last.1, layout.words());
    }

    #[test]
    fn garbage_in_the_memory_is_read_as_some_numbers(
        words in prop::collection::vec(prop_oneof![any::<u64>(), 0_u64..6, Just(u64::MAX)], 1..400),
        start in 0_usize..2000,
        row in 0_usize..6,
    ) {
        let scoreboard = scoreboard();
        let memory = scoreboard.memory.words();
        for (index, word) in words.iter().enumerate() {
            memory[(start + index) % memory.len()].store(*word, Relaxed);
        }
        let snapshot = scoreboard.snapshot();
        prop_assert!(snapshot.workers.len() <= DIMENSIONS.rows);
        for worker in &snapshot.workers {
            prop_assert!(worker.executors.len() <= DIMENSIONS.executors);
            prop_assert_eq!(worker.threads.len(), DIMENSIONS.threads);
            worker.executors.iter().for_each(|executor| { executor.latency.quantile_us(999); });
        }
        serde_json::to_string(&snapshot).unwrap();
        let _ = scoreboard.connections_least_loaded_other(row, Others::Idle);
        if let Some(executor) = scoreboard.executor(row, 0) {
            executor.connection_opened();
            executor.request_finished(u16::MAX, u64::MAX, u64::MAX, u64::MAX);
        }
        scoreboard.vacate(row);
    }
}
