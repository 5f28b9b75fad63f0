//! The scoreboard as a worker gone mad may leave it: any bytes as memory.
//!
//! Input: a byte where to begin, then bytes that are repeated to the end of the memory.
#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spawning::scoreboard::{Dimensions, Histogram, LastReload, Others, Scoreboard, WorkerState};

const DIMENSIONS: Dimensions = Dimensions { rows: 2, executors: 2, threads: 2 };

struct Board {
    scoreboard: Scoreboard,
    memory: File,
    bytes: usize,
}

static BOARD: LazyLock<Board> = LazyLock::new(|| {
    let (scoreboard, memory) = Scoreboard::create(DIMENSIONS).unwrap();
    let memory = File::from(memory);
    let bytes = usize::try_from(memory.metadata().unwrap().len()).unwrap();
    Board { scoreboard, memory, bytes }
});

fuzz_target!(|input: &[u8]| {
    let Some((start, pattern)) = input.split_first() else { return };
    if pattern.is_empty() {
        return;
    }
    let Board { scoreboard, memory, bytes } = &*BOARD;
    let start = usize::from(*start) * 8 % bytes;
    let mut image = vec![0; *bytes];
    for part in image[start..].chunks_mut(pattern.len()) {
        part.copy_from_slice(&pattern[..part.len()]);
    }
    memory.write_all_at(&image, 0).unwrap();

    read(scoreboard);
    serde_json::to_vec(&scoreboard.snapshot()).expect("a snapshot is always JSON");
    write(scoreboard);
    read(scoreboard);
    for row in 0..=DIMENSIONS.rows {
        scoreboard.vacate(row);
        assert_eq!(scoreboard.worker_snapshot(row), None);
    }
    let record =
        LastReload { at: 1, ok: false, generation: 2, summary: "why".to_owned(), traceback: String::new() };
    scoreboard.record_reload(&record);
    assert_eq!(scoreboard.last_reload(), Some(record));
});

fn read(scoreboard: &Scoreboard) {
    let snapshot = scoreboard.snapshot();
    assert!(snapshot.workers.len() <= DIMENSIONS.rows);
    let mut latency = Histogram::default();
    for worker in &snapshot.workers {
        assert!(worker.executors.len() <= DIMENSIONS.executors && worker.threads.len() == DIMENSIONS.threads);
        for executor in &worker.executors {
            latency.add(&executor.latency);
        }
    }
    for per_mille in [0, 500, 990, 1000, u16::MAX] {
        latency.quantile_us(per_mille);
    }
    for row in 0..=DIMENSIONS.rows {
        scoreboard.connections_least_loaded_other(row, Others::All);
        scoreboard.connections_least_loaded_other(row, Others::Idle);
        scoreboard.connections(row);
    }
}

fn write(scoreboard: &Scoreboard) {
    let process = scoreboard.process(0).unwrap();
    process.enter(1, 2, 3, 4);
    process.queue_timed_out();
    process.set_state(WorkerState::Accepting);
    let executor = scoreboard.executor(0, 1).unwrap();
    executor.request_started();
    for status in [0, 200, 599, u16::MAX] {
        executor.request_finished(status, u64::MAX, u64::MAX, u64::MAX);
    }
    let thread = scoreboard.thread(0, 1).unwrap();
    thread.busy(u64::MAX);
    thread.idle();
}
