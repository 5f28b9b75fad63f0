//! The writing side: handles to the parts of one row, each for a single writer.
//!
//! Handles to executors and threads can be sent to the thread that uses them but not shared between threads, so the
//! compiler keeps the promise that makes a load and a store enough.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{WorkerState, executor, process, thread};
use super::{Scoreboard, bucket_of, text};
use crate::sys::clock;
use crate::sys::shared_memory::AtomicWords;

/// Makes a handle `Send` without being `Sync`.
type SingleWriter = PhantomData<Cell<()>>;

impl Scoreboard {
    /// The process part of a row; `None` beyond the last row.
    pub fn process(&self, row: usize) -> Option<ProcessScore> {
        Some(ProcessScore {
            state: AtomicWords::new(&self.memory, self.layout.state(row)?)?,
            words: AtomicWords::new(&self.memory, self.layout.process(row)?)?,
        })
    }

    /// One executor of a row; `None` beyond the last row or executor. To be taken once by each executor.
    pub fn executor(&self, row: usize, index: usize) -> Option<ExecutorScore> {
        let words = AtomicWords::new(&self.memory, self.layout.executor(row, index)?)?;
        Some(ExecutorScore { words, single_writer: PhantomData })
    }

    /// One application thread of a row; `None` beyond the last row or thread. To be taken once by each thread.
    pub fn thread(&self, row: usize, index: usize) -> Option<ThreadScore> {
        let words = AtomicWords::new(&self.memory, self.layout.thread(row, index)?)?;
        Some(ThreadScore { words, single_writer: PhantomData })
    }

    /// Empties the row of a worker that is dead, and keeps what it counted, so that no total ever falls.
    ///
    /// For the supervisor alone, which writes no row of a living worker.
    pub fn vacate(&self, row: usize) {
        let Some(process) = self.process(row) else { return };
        process.set_state(WorkerState::Empty);
        self.retire_process(&process);
        for index in 0..self.layout.dimensions().executors {
            if let Some(executor) = self.executor(row, index) {
                self.retire_executor(&executor);
            }
        }
        for index in 0..self.layout.dimensions().threads {
            if let Some(thread) = self.thread(row, index) {
                clear(&*thread.words);
            }
        }
    }

    fn retire_process(&self, process: &ProcessScore) {
        if let Some(retired) =
            AtomicWords::<{ process::WORDS }>::new(&self.memory, self.layout.retired_process())
        {
            for (index, (total, count)) in retired.iter().zip(process.words.iter()).enumerate() {
                if process::is_counter(index) {
                    add(total, count.load(Relaxed));
                }
            }
        }
        clear(&*process.words);
    }

    fn retire_executor(&self, executor: &ExecutorScore) {
        if let Some(retired) =
            AtomicWords::<{ executor::WORDS }>::new(&self.memory, self.layout.retired_executor())
        {
            for (index, (total, count)) in retired.iter().zip(executor.words.iter()).enumerate() {
                if executor::is_counter(index) {
                    add(total, count.load(Relaxed));
                }
            }
        }
        clear(&*executor.words);
    }
}

/// What a worker's main thread and queue say about the process. May be shared between threads.
#[derive(Clone, Debug)]
pub struct ProcessScore {
    state: AtomicWords<1>,
    words: AtomicWords<{ process::WORDS }>,
}

impl ProcessScore {
    /// Takes the row: who sits here from now on, in state [`WorkerState::Loading`].
    pub fn enter(&self, pid: u32, generation: u64, slot: usize, executors: usize) {
        self.words.at::<{ process::PID }>().store(u64::from(pid), Relaxed);
        self.words.at::<{ process::GENERATION }>().store(generation, Relaxed);
        self.words.at::<{ process::SLOT }>().store(slot as u64, Relaxed);
        self.words.at::<{ process::EXECUTORS }>().store(executors as u64, Relaxed);
        self.words.at::<{ process::STARTED_MS }>().store(clock::monotonic_ms(), Relaxed);
        self.set_state(WorkerState::Loading);
    }

    /// Tells the siblings where this worker is in its life.
    pub fn set_state(&self, state: WorkerState) {
        // A reader who sees the new state sees all that was written before it.
        self.state.at::<0>().store(state.to_word(), Release);
    }

    /// Where the worker of this row is in its life.
    pub fn state(&self) -> WorkerState {
        WorkerState::from_word(self.state.at::<0>().load(Acquire))
    }

    /// The main thread is alive; `now_ms` as of [`crate::sys::clock::monotonic_ms`].
    pub fn heartbeat(&self, now_ms: u64) {
        self.words.at::<{ process::HEARTBEAT_MS }>().store(now_ms, Relaxed);
    }

    /// What the main thread has learnt of the interpreter: how long application threads have waited for it so far, all
    /// waits together, and the longest of these in which one thread held it all the time.
    pub fn set_interpreter(&self, wait_us: u64, hold_max_us: u64) {
        self.words.at::<{ process::INTERPRETER_WAIT_US }>().store(wait_us, Relaxed);
        self.words.at::<{ process::INTERPRETER_HOLD_MAX_US }>().store(hold_max_us, Relaxed);
    }

    /// An application thread has died of a bug of the server.
    pub fn thread_died(&self) {
        add(self.words.at::<{ process::THREADS_DIED }>(), 1);
    }

    /// Requests that wait for an application thread.
    pub fn set_queue_depth(&self, requests: usize) {
        self.words.at::<{ process::QUEUE_DEPTH }>().store(requests as u64, Relaxed);
    }

    /// A request was answered 503 because it had waited too long for an application thread.
    pub fn queue_timed_out(&self) {
        // Any thread may find it out, and it is rare: the one counter that is worth an atomic addition.
        self.words.at::<{ process::QUEUE_TIMEOUTS }>().fetch_add(1, Relaxed);
    }

    /// How often that was so.
    pub fn queue_timeouts(&self) -> u64 {
        self.words.at::<{ process::QUEUE_TIMEOUTS }>().load(Relaxed)
    }
}

/// What one executor counts. All calls are a few loads and stores of memory with a single writer.
#[derive(Debug)]
pub struct ExecutorScore {
    words: AtomicWords<{ executor::WORDS }>,
    single_writer: SingleWriter,
}

impl ExecutorScore {
    /// A connection was accepted.
    pub fn connection_opened(&self) {
        add(self.words.at::<{ executor::CONNECTIONS }>(), 1);
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        subtract_one(self.words.at::<{ executor::CONNECTIONS }>());
    }

    /// Connections open now.
    pub fn connections(&self) -> u64 {
        self.words.at::<{ executor::CONNECTIONS }>().load(Relaxed)
    }

    /// A request's head is complete.
    pub fn request_started(&self) {
        add(self.words.at::<{ executor::REQUESTS }>(), 1);
        add(self.words.at::<{ executor::IN_FLIGHT }>(), 1);
    }

    /// A started request's response is out: its status, how long it took, and the bytes of both.
    pub fn request_finished(&self, status: u16, latency_us: u64, bytes_in: u64, bytes_out: u64) {
        subtract_one(self.words.at::<{ executor::IN_FLIGHT }>());
        add(self.words.at::<{ executor::BYTES_IN }>(), bytes_in);
        add(self.words.at::<{ executor::BYTES_OUT }>(), bytes_out);
        add(self.words.at::<{ executor::LATENCY_SUM_US }>(), latency_us);
        if let Some(class) = usize::from(status / 100).checked_sub(2).filter(|class| *class < 4)
            && let Some(responses) = self.words.get(executor::RESPONSES + class)
        {
            add(responses, 1);
        }
        if let Some(bucket) = self.words.get(executor::LATENCY + bucket_of(latency_us)) {
            add(bucket, 1);
        }
    }

    /// A request was refused before any application saw it.
    pub fn refused(&self) {
        add(self.words.at::<{ executor::REFUSED }>(), 1);
    }

    /// The executor is alive; `now_ms` as of [`crate::sys::clock::monotonic_ms`].
    pub fn heartbeat(&self, now_ms: u64) {
        self.words.at::<{ executor::HEARTBEAT_MS }>().store(now_ms, Relaxed);
    }
}

/// What one application thread is doing.
#[derive(Debug)]
pub struct ThreadScore {
    words: AtomicWords<{ thread::WORDS }>,
    single_writer: SingleWriter,
}

impl ThreadScore {
    /// The thread calls the application, since `now_ms` as of [`crate::sys::clock::monotonic_ms`].
    pub fn busy(&self, now_ms: u64) {
        self.words.at::<{ thread::SINCE_MS }>().store(now_ms, Relaxed);
        add(self.words.at::<{ thread::REQUESTS }>(), 1);
        self.words.at::<{ thread::BUSY }>().store(1, Relaxed);
    }

    /// On which request the thread is about to work, as far as it fits: as many bytes of `METHOD path` as there are
    /// words for. Call it before [`ThreadScore::busy`].
    pub fn request(&self, method: &[u8], path: &[u8]) {
        let words = self.words.get(thread::REQUEST..).unwrap_or_default();
        text::write(words, method.iter().chain(b" ").chain(path).copied());
    }

    /// The thread waits for a request.
    pub fn idle(&self) {
        self.words.at::<{ thread::BUSY }>().store(0, Relaxed);
    }
}

fn add(word: &AtomicU64, count: u64) {
    word.store(word.load(Relaxed).wrapping_add(count), Relaxed);
}

fn subtract_one(word: &AtomicU64) {
    word.store(word.load(Relaxed).saturating_sub(1), Relaxed);
}

fn clear(words: &[AtomicU64]) {
    for word in words {
        word.store(0, Relaxed);
    }
}
