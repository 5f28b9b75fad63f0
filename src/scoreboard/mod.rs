//! What every worker is doing, in shared memory that all processes of the server can read.
//!
//! One row per live worker process: old and new generations sit side by side, and a row is handed out again only
//! after its worker is dead. Each word has a single writer, so counting is a relaxed load and a relaxed store. Readers
//! must expect anything: numbers that are moments apart from each other, and, from a worker gone mad, any bits at all.

mod histogram;
mod layout;
mod reader;
mod reload_record;
mod supervisor;
#[cfg(test)]
mod tests;
mod text;
mod writer;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

pub use histogram::{BUCKETS, Histogram, bucket_of, bucket_upper_us};
pub use layout::{Dimensions, WorkerState};
pub use reader::{ExecutorSnapshot, Others, Snapshot, ThreadSnapshot, WorkerSnapshot};
pub use reload_record::LastReload;
pub use supervisor::{ServerStage, SupervisorScore, SupervisorSnapshot};
pub use text::cut_in_the_middle;
pub use writer::{ExecutorScore, ProcessScore, ThreadScore};

use crate::sys::shared_memory::{self, SharedMemory};
use layout::Layout;

/// The shared memory, mapped.
#[derive(Clone, Debug)]
pub struct Scoreboard {
    memory: Arc<SharedMemory>,
    layout: Layout,
}

impl Scoreboard {
    /// Creates an empty scoreboard, and the descriptor by which children find it.
    ///
    /// # Errors
    /// The operating system's, for want of memory or descriptors.
    pub fn create(dimensions: Dimensions) -> io::Result<(Self, OwnedFd)> {
        let words = Layout::new(dimensions).ok_or(io::ErrorKind::InvalidInput)?.words();
        let fd = shared_memory::create(c"spawning-scoreboard", words)?;
        let scoreboard = Self::open(fd.as_fd(), dimensions)?;
        Ok((scoreboard, fd))
    }

    /// Maps the scoreboard a parent created with the same `dimensions`.
    ///
    /// # Errors
    /// `InvalidData` when the memory is smaller than `dimensions` say; otherwise the operating system's.
    pub fn open(fd: BorrowedFd<'_>, dimensions: Dimensions) -> io::Result<Self> {
        let layout = Layout::new(dimensions).ok_or(io::ErrorKind::InvalidInput)?;
        let memory = Arc::new(SharedMemory::map(fd, layout.words())?);
        Ok(Self { memory, layout })
    }
}
