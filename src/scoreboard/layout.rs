//! Where each number of the scoreboard lies, counted in 64-bit words.
//!
//! ```text
//! states       one word per row, dense: written a few times in a worker's life, read before every accept
//! row 0       process part, executor parts, thread parts, each starting on cache lines of its own
//! ...
//! row S - 1
//! retired      a process part and one executor part: what dead workers had counted
//! reload       how the last reload went
//! supervisor   what the supervisor says of the server
//! ```

use serde::{Deserialize, Serialize};

/// Words two writers must keep apart: two cache lines, because processors fetch lines in pairs.
const LINE_WORDS: usize = 16;

/// How many of everything a scoreboard has room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimensions {
    /// Worker processes alive at once, over all generations.
    pub rows: usize,
    /// Executors of one worker.
    pub executors: usize,
    /// Application threads of one worker.
    pub threads: usize,
}

/// Where a worker is in its life, as its siblings see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkerState {
    /// Free.
    #[default]
    Empty,
    /// It loads the application.
    Loading,
    /// The application is loaded; the generation is not yet live.
    Ready,
    /// It accepts connections.
    Accepting,
    /// It finishes what it holds.
    Draining,
}

impl WorkerState {
    pub(super) fn to_word(self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Loading => 1,
            Self::Ready => 2,
            Self::Accepting => 3,
            Self::Draining => 4,
        }
    }

    pub(super) fn from_word(word: u64) -> Self {
        match word {
            1 => Self::Loading,
            2 => Self::Ready,
            3 => Self::Accepting,
            4 => Self::Draining,
            _ => Self::Empty,
        }
    }
}

/// The words of a process part.
pub(super) mod process {
    use super::LINE_WORDS;

    pub(in crate::scoreboard) const PID: usize = 0;
    pub(in crate::scoreboard) const GENERATION: usize = 1;
    pub(in crate::scoreboard) const SLOT: usize = 2;
    pub(in crate::scoreboard) const EXECUTORS: usize = 3;
    pub(in crate::scoreboard) const HEARTBEAT_MS: usize = 4;
    pub(in crate::scoreboard) const STARTED_MS: usize = 5;
    pub(in crate::scoreboard) const INTERPRETER_WAIT_US: usize = 6;
    pub(in crate::scoreboard) const INTERPRETER_HOLD_MAX_US: usize = 7;
    pub(in crate::scoreboard) const THREADS_DIED: usize = 8;
    /// On a line of its own: written with every request, by another thread than the words before it.
    pub(in crate::scoreboard) const QUEUE_DEPTH: usize = LINE_WORDS;
    pub(in crate::scoreboard) const QUEUE_TIMEOUTS: usize = LINE_WORDS + 1;
    pub(in crate::scoreboard) const WORDS: usize = 2 * LINE_WORDS;

    /// What only ever grows, and is kept when a worker is gone.
    pub(in crate::scoreboard) fn is_counter(word: usize) -> bool {
        matches!(word, INTERPRETER_WAIT_US | THREADS_DIED | QUEUE_TIMEOUTS)
    }
}

/// The words of an executor part.
pub(super) mod executor {
    use super::LINE_WORDS;
    use crate::scoreboard::histogram::BUCKETS;

    /// On a line of its own: siblings read it before each accept, and it changes less often than the rest.
    pub(in crate::scoreboard) const CONNECTIONS: usize = 0;
    pub(in crate::scoreboard) const REQUESTS: usize = LINE_WORDS;
    pub(in crate::scoreboard) const IN_FLIGHT: usize = LINE_WORDS + 1;
    pub(in crate::scoreboard) const BYTES_IN: usize = LINE_WORDS + 2;
    pub(in crate::scoreboard) const BYTES_OUT: usize = LINE_WORDS + 3;
    pub(in crate::scoreboard) const REFUSED: usize = LINE_WORDS + 4;
    pub(in crate::scoreboard) const HEARTBEAT_MS: usize = LINE_WORDS + 5;
    pub(in crate::scoreboard) const LATENCY_SUM_US: usize = LINE_WORDS + 6;
    /// Four words: responses of the classes 2xx, 3xx, 4xx and 5xx.
    pub(in crate::scoreboard) const RESPONSES: usize = LINE_WORDS + 7;
    pub(in crate::scoreboard) const LATENCY: usize = 2 * LINE_WORDS;
    pub(in crate::scoreboard) const WORDS: usize = 2 * LINE_WORDS + BUCKETS;

    /// What only ever grows, and is kept when a worker is gone.
    pub(in crate::scoreboard) fn is_counter(word: usize) -> bool {
        !matches!(word, CONNECTIONS | IN_FLIGHT | HEARTBEAT_MS)
    }
}

/// The words of a thread part.
pub(super) mod thread {
    use super::LINE_WORDS;

    pub(in crate::scoreboard) const BUSY: usize = 0;
    pub(in crate::scoreboard) const SINCE_MS: usize = 1;
    pub(in crate::scoreboard) const REQUESTS: usize = 2;
    /// A text: the method and the path of the request.
    pub(in crate::scoreboard) const REQUEST: usize = 3;
    pub(in crate::scoreboard) const REQUEST_WORDS: usize = WORDS - REQUEST;
    pub(in crate::scoreboard) const WORDS: usize = LINE_WORDS;
}

/// The words that say how the last reload went.
pub(super) mod reload {
    use crate::limits::{RELOAD_SUMMARY_BYTES_MAX, RELOAD_TRACEBACK_BYTES_MAX};
    use crate::scoreboard::text;

    /// A text in JSON, with room for what surrounds the long parts of it.
    pub(in crate::scoreboard) const WORDS: usize =
        text::words_for(RELOAD_SUMMARY_BYTES_MAX + RELOAD_TRACEBACK_BYTES_MAX + 400);
}

/// The words in which the supervisor speaks of the server.
pub(super) mod supervisor {
    use super::LINE_WORDS;

    pub(in crate::scoreboard) const PID: usize = 0;
    pub(in crate::scoreboard) const STARTED_MS: usize = 1;
    pub(in crate::scoreboard) const STAGE: usize = 2;
    pub(in crate::scoreboard) const GENERATION: usize = 3;
    pub(in crate::scoreboard) const PROCESSES: usize = 4;
    pub(in crate::scoreboard) const RELOADS: usize = 5;
    pub(in crate::scoreboard) const RELOADS_FAILED: usize = 6;
    pub(in crate::scoreboard) const WORKERS_DIED: usize = 7;
    pub(in crate::scoreboard) const WORDS: usize = LINE_WORDS;
}

/// Offsets into the words of a scoreboard of some [`Dimensions`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    dimensions: Dimensions,
    first_row: usize,
    row_words: usize,
    words: usize,
}

impl Layout {
    /// `None` when nothing would fit into an address space.
    pub(super) fn new(dimensions: Dimensions) -> Option<Self> {
        let first_row = dimensions.rows.checked_next_multiple_of(LINE_WORDS)?;
        let executors = dimensions.executors.checked_mul(executor::WORDS)?;
        let threads = dimensions.threads.checked_mul(thread::WORDS)?;
        let row_words = executors.checked_add(threads)?.checked_add(process::WORDS)?;
        let shared_words = process::WORDS + executor::WORDS + reload::WORDS + supervisor::WORDS;
        let words =
            row_words.checked_mul(dimensions.rows)?.checked_add(first_row)?.checked_add(shared_words)?;
        Some(Self { dimensions, first_row, row_words, words })
    }

    pub(super) fn dimensions(&self) -> Dimensions {
        self.dimensions
    }

    pub(super) fn words(&self) -> usize {
        self.words
    }

    pub(super) fn state(&self, row: usize) -> Option<usize> {
        (row < self.dimensions.rows).then_some(row)
    }

    pub(super) fn process(&self, row: usize) -> Option<usize> {
        (row < self.dimensions.rows).then(|| self.first_row + row * self.row_words)
    }

    pub(super) fn executor(&self, row: usize, index: usize) -> Option<usize> {
        let process = self.process(row)?;
        (index < self.dimensions.executors).then(|| process + process::WORDS + index * executor::WORDS)
    }

    pub(super) fn thread(&self, row: usize, index: usize) -> Option<usize> {
        let executors_end = self.process(row)? + process::WORDS + self.dimensions.executors * executor::WORDS;
        (index < self.dimensions.threads).then(|| executors_end + index * thread::WORDS)
    }

    pub(super) fn retired_process(&self) -> usize {
        self.first_row + self.dimensions.rows * self.row_words
    }

    pub(super) fn retired_executor(&self) -> usize {
        self.retired_process() + process::WORDS
    }

    pub(super) fn reload(&self) -> usize {
        self.retired_executor() + executor::WORDS
    }

    pub(super) fn supervisor(&self) -> usize {
        self.reload() + reload::WORDS
    }
}
