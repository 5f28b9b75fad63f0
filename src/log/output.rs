//! The lines of this process on their way to standard error, which may be full, closed, or without a reader.
//!
//! A line is written at once where that is possible without waiting. Otherwise it waits in a bounded queue, and where
//! that is full, or standard error cannot be written at all, lines are lost and counted, and a line says so once there
//! is room for one. Logging never waits: an application thread does so while it holds the interpreter, and the
//! supervisor is alone with all its work.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::limits::{LOG_QUEUE_BYTES_MAX, LOG_RETRY_PAUSE};
use crate::sys::output;
use crate::sys::standard_streams::StandardStream;

/// The longest wait at the end before the time is looked at.
const FINISH_PAUSE: Duration = Duration::from_millis(10);

/// Makes the line that says how many lines were lost, and why.
pub(super) type LossNotice = fn(lines: u64, reason: &str) -> Vec<u8>;

/// Standard error with a bounded queue in front of it.
pub(super) struct Output {
    /// The process that the queue and the thread belong to. One that was forked off has a copy of the queue, perhaps
    /// locked for ever, and no thread.
    pid: AtomicU32,
    notice: LossNotice,
    queue: Mutex<LineQueue>,
    changed: Condvar,
    has_thread: AtomicBool,
}

/// What waits, and what was lost.
#[derive(Default)]
struct LineQueue {
    lines: VecDeque<PendingLine>,
    bytes: usize,
    /// Whether somebody writes the line that was first.
    is_writing: bool,
    lost: u64,
    reason: String,
    /// Whether only the beginning of a line could be written.
    is_cut: bool,
}

/// A line, or several that belong together.
struct PendingLine {
    bytes: Vec<u8>,
    written: usize,
    /// How many lines are lost if this one is.
    count: u64,
}

/// How far writing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    /// Nothing waits, unless somebody else is writing.
    Done,
    /// Standard error takes nothing now.
    Full,
}

impl LineQueue {
    /// Adds a line, or counts it as lost.
    fn push(&mut self, bytes: Vec<u8>, notice: LossNotice) {
        if self.bytes + bytes.len() > LOG_QUEUE_BYTES_MAX {
            self.lose(1, "they could not be written fast enough");
            return;
        }
        self.push_notice(notice);
        self.push_line(PendingLine { bytes, written: 0, count: 1 });
    }

    /// Adds the line that says what was lost, if something was.
    fn push_notice(&mut self, notice: LossNotice) {
        if self.lost == 0 {
            return;
        }
        let count = std::mem::take(&mut self.lost);
        self.push_line(PendingLine { bytes: notice(count, &self.reason), written: 0, count });
    }

    fn push_line(&mut self, line: PendingLine) {
        self.bytes += line.bytes.len();
        self.lines.push_back(line);
    }

    fn lose(&mut self, lines: u64, reason: &str) {
        self.lost += lines;
        reason.clone_into(&mut self.reason);
    }

    /// Takes the first line to write it, unless somebody does already.
    fn begin(&mut self) -> Option<PendingLine> {
        if self.is_writing {
            return None;
        }
        let mut line = self.lines.pop_front()?;
        self.bytes -= line.bytes.len();
        self.is_writing = true;
        if std::mem::take(&mut self.is_cut) {
            line.bytes.insert(0, b'\n');
        }
        Some(line)
    }

    /// Notes what became of a line that was begun.
    fn end(&mut self, mut line: PendingLine, outcome: &io::Result<usize>) -> Progress {
        self.is_writing = false;
        match outcome {
            Ok(bytes) => line.written += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => {
                self.is_cut = line.written > 0;
                self.lose(line.count, &error.to_string());
                return Progress::Done;
            }
        }
        if line.written < line.bytes.len() {
            self.bytes += line.bytes.len();
            self.lines.push_front(line);
        }
        if outcome.is_ok() { Progress::Done } else { Progress::Full }
    }
}

impl Output {
    pub(super) fn new(notice: LossNotice) -> Self {
        Self {
            pid: AtomicU32::new(std::process::id()),
            notice,
            queue: Mutex::default(),
            changed: Condvar::new(),
            has_thread: AtomicBool::new(false),
        }
    }

    /// Writes a line, or leaves it to be written.
    pub(super) fn emit(&self, bytes: Vec<u8>) {
        if !self.is_here() {
            let _ = output::write_now(StandardStream::Error.as_fd(), &bytes);
            return;
        }
        self.queue().push(bytes, self.notice);
        // A disk may take its time even for what it takes at once.
        let has_thread = self.has_thread.load(Ordering::Acquire);
        if has_thread && output::is_regular_file(StandardStream::Error.as_fd()) {
            self.changed.notify_all();
            return;
        }
        if self.pump() == Progress::Full && has_thread {
            self.changed.notify_all();
        }
    }

    /// Writes a line at once as far as that is possible without waiting: perhaps the last this process can say.
    pub(super) fn emit_last(&self, bytes: Vec<u8>) {
        self.emit(bytes);
        if self.is_here() {
            self.pump();
        }
    }

    /// Whether this is the process that it belongs to.
    fn is_here(&self) -> bool {
        std::process::id() == self.pid.load(Ordering::Relaxed)
    }

    /// Belongs to this process from now on, which was forked off from one with a single thread.
    pub(super) fn adopt(&self) {
        self.pid.store(std::process::id(), Ordering::Relaxed);
    }

    /// Tries once more what could not be written.
    pub(super) fn retry(&self) {
        self.queue().push_notice(self.notice);
        self.pump();
    }

    /// Whether something waits to be written or said.
    pub(super) fn is_behind(&self) -> bool {
        self.has_lines() || self.queue().lost > 0
    }

    /// Waits until everything is written, at most `timeout`.
    pub(super) fn finish(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.retry();
        // What is only counted could not be written just now, and will not be.
        while self.has_lines() && Instant::now() < deadline {
            output::wait_until_writable(StandardStream::Error.as_fd(), FINISH_PAUSE);
            if self.pump() == Progress::Done {
                // Somebody else may be writing.
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn has_lines(&self) -> bool {
        let queue = self.queue();
        queue.is_writing || !queue.lines.is_empty()
    }

    /// Has a thread of its own write what cannot be written at once.
    ///
    /// # Errors
    /// The operating system's; then lines wait until the next one is logged.
    pub(super) fn start_thread(&'static self) -> io::Result<()> {
        std::thread::Builder::new().name("log".to_owned()).spawn(|| self.follow())?;
        self.has_thread.store(true, Ordering::Release);
        Ok(())
    }

    fn follow(&self) {
        loop {
            self.wait_for_line();
            if self.pump() == Progress::Full {
                output::wait_until_writable(StandardStream::Error.as_fd(), LOG_RETRY_PAUSE);
            }
        }
    }

    /// Waits for a line, or a moment for the loss of some to be said.
    fn wait_for_line(&self) {
        let mut queue = self.queue();
        while queue.lines.is_empty() || queue.is_writing {
            if queue.lost == 0 {
                queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let waited = self.changed.wait_timeout(queue, LOG_RETRY_PAUSE);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            queue.push_notice(self.notice);
        }
    }

    /// Writes what waits, as far as that goes without waiting.
    fn pump(&self) -> Progress {
        loop {
            // Not locked while it is written.
            let Some(line) = self.queue().begin() else { return Progress::Done };
            let rest = line.bytes.get(line.written..).unwrap_or_default();
            let outcome = output::write_now(StandardStream::Error.as_fd(), rest);
            if self.queue().end(line, &outcome) == Progress::Full {
                return Progress::Full;
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, LineQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(lines: u64, reason: &str) -> Vec<u8> {
        format!("lost {lines}: {reason}\n").into_bytes()
    }

    fn push(queue: &mut LineQueue, text: &str) {
        queue.push(text.as_bytes().to_vec(), notice);
    }

    fn write(queue: &mut LineQueue, outcome: &io::Result<usize>) -> String {
        let line = queue.begin().unwrap();
        let rest = String::from_utf8(line.bytes[line.written..].to_vec()).unwrap();
        queue.end(line, outcome);
        rest
    }

    fn write_all(queue: &mut LineQueue) -> String {
        write(queue, &Ok(usize::MAX / 2))
    }

    fn full() -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }

    #[test]
    fn what_cannot_be_written_now_is_written_later_and_in_order() {
        let mut queue = LineQueue::default();
        push(&mut queue, "one\n");
        push(&mut queue, "two\n");
        assert_eq!(write(&mut queue, &full()), "one\n");
        assert_eq!(write(&mut queue, &Ok(1)), "one\n");
        assert_eq!(write_all(&mut queue), "ne\n");
        assert_eq!(write_all(&mut queue), "two\n");
        assert!(queue.begin().is_none() && queue.bytes == 0 && queue.lost == 0);
    }

    #[test]
    fn the_line_after_a_loss_says_how_many_were_lost() {
        let mut queue = LineQueue::default();
        push(&mut queue, "one\n");
        push(&mut queue, "two\n");
        write(&mut queue, &Err(io::ErrorKind::StorageFull.into()));
        write(&mut queue, &Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(queue.lost, 2);
        push(&mut queue, "three\n");
        assert!(write(&mut queue, &Err(io::ErrorKind::BrokenPipe.into())).starts_with("lost 2:"));
        assert_eq!(write_all(&mut queue), "three\n");
        push(&mut queue, "four\n");
        assert_eq!(write_all(&mut queue), "lost 2: broken pipe\n");
        assert_eq!(write_all(&mut queue), "four\n");
    }

    #[test]
    fn a_line_of_which_only_the_beginning_was_written_is_ended_first() {
        let mut queue = LineQueue::default();
        push(&mut queue, "one\n");
        write(&mut queue, &Ok(2));
        write(&mut queue, &Err(io::ErrorKind::StorageFull.into()));
        push(&mut queue, "two\n");
        assert_eq!(write_all(&mut queue), "\nlost 1: no storage space\n");
        assert_eq!(write_all(&mut queue), "two\n");
    }

    #[test]
    fn a_queue_that_is_full_loses_lines_not_memory() {
        let mut queue = LineQueue::default();
        push(&mut queue, &"x".repeat(LOG_QUEUE_BYTES_MAX));
        push(&mut queue, "lost\n");
        push(&mut queue, "lost\n");
        assert_eq!((queue.lost, queue.lines.len()), (2, 1));
        write_all(&mut queue);
        push(&mut queue, "kept\n");
        assert_eq!(write_all(&mut queue), "lost 2: they could not be written fast enough\n");
        assert_eq!(write_all(&mut queue), "kept\n");
    }
}
