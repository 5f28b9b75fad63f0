//! The access log: lines formatted by the executors and written by a thread of its own, so that a full disk or a
//! blocked pipe never holds up a request.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::Instant;

use super::access_line::{self, AccessLogLine, FormattedTime};
use crate::config::{AccessLog, AccessLogFormat};
use crate::limits::{
    ACCESS_LOG_BATCH_BYTES, ACCESS_LOG_BATCHES_MAX, ACCESS_LOG_DELAY_MAX, LOG_FINISH_TIMEOUT,
};
use crate::sys::standard_streams::StandardStream;
use crate::sys::{file, output};

/// The writing thread of a process.
#[derive(Debug)]
pub(super) struct Writer {
    format: Arc<AccessLogFormat>,
    batches: SyncSender<Vec<u8>>,
    wishes: Arc<Wishes>,
    thread: JoinHandle<()>,
}

/// What others want of the writing thread.
#[derive(Debug, Default)]
struct Wishes {
    reopen: AtomicBool,
    /// Give up on a reader that takes nothing.
    finish: AtomicBool,
}

impl Writer {
    /// Opens the log and starts the thread; `None` when lines go nowhere.
    pub(super) fn start(target: &AccessLog, format: &AccessLogFormat) -> io::Result<Option<Self>> {
        let sink = match target {
            AccessLog::Off => return Ok(None),
            AccessLog::Stdout => Sink::Stdout,
            AccessLog::File(path) => Sink::File(file::append(path, None)?, path.clone()),
        };
        let (batches, receiver) = sync_channel(ACCESS_LOG_BATCHES_MAX);
        let wishes = Arc::<Wishes>::default();
        let of_thread = Arc::clone(&wishes);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write(&receiver, sink, &of_thread))?;
        Ok(Some(Self { format: Arc::new(format.clone()), batches, wishes, thread }))
    }

    /// A log for one executor.
    pub(super) fn log(&self) -> Log {
        Log {
            format: Arc::clone(&self.format),
            batch: Vec::new(),
            first_line_at: None,
            batches: self.batches.clone(),
            stamp: FormattedTime::default(),
            lost: 0,
        }
    }

    /// Writes to the file that has the log's name from now on, with the next batch at the latest.
    pub(super) fn reopen(&self) {
        self.wishes.reopen.store(true, Ordering::Release);
        // Nothing to write, but it wakes the thread; one whose queue is full is awake.
        let _ = self.batches.try_send(Vec::new());
    }

    /// Writes what is left, as long as somebody takes it. Call it once every [`Log`] is gone.
    pub(super) fn finish(self) {
        self.wishes.finish.store(true, Ordering::Release);
        drop(self.batches);
        let _ = self.thread.join();
    }
}

enum Sink {
    Stdout,
    File(File, PathBuf),
}

impl Sink {
    fn reopen(&mut self) {
        let Self::File(file, path) = self else { return };
        match file::append(path, None) {
            Ok(opened) => *file = opened,
            Err(error) => {
                tracing::error!(
                    %error,
                    path = %path.display(),
                    hint = file::REOPEN_HINT,
                    "cannot reopen access log; still writing to the old file"
                );
            }
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Stdout => StandardStream::Output.as_fd(),
            Self::File(file, _) => file.as_fd(),
        }
    }

    /// Writes all of `batch`, however long its reader takes; at the end of the process that must not be for ever.
    fn write(&self, mut batch: &[u8], is_last: &AtomicBool) -> io::Result<()> {
        while !batch.is_empty() {
            match output::write_now(self.fd(), batch) {
                Ok(bytes) => batch = batch.get(bytes..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let gives_up = is_last.load(Ordering::Acquire);
                    if !output::wait_until_writable(self.fd(), LOG_FINISH_TIMEOUT) && gives_up {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn write(batches: &Receiver<Vec<u8>>, mut sink: Sink, wishes: &Wishes) {
    let mut lost = 0;
    for batch in batches {
        if wishes.reopen.swap(false, Ordering::AcqRel) {
            sink.reopen();
        }
        match sink.write(&batch, &wishes.finish) {
            Ok(()) if lost > 0 && !batch.is_empty() => {
                tracing::warn!(lines = lost, "the access log can be written again; lines were lost");
                lost = 0;
            }
            Ok(()) => {}
            // Said once until it works again: the log of a full disk must not fill the other log.
            Err(error) => {
                if lost == 0 {
                    tracing::error!(%error, "cannot write the access log; lines are lost until it can be written again");
                }
                lost += lines(&batch);
            }
        }
    }
}

fn lines(batch: &[u8]) -> u64 {
    batch.split(|byte| *byte == b'\n').count().saturating_sub(1) as u64
}

/// The log as one executor writes it.
#[derive(Debug)]
pub(super) struct Log {
    format: Arc<AccessLogFormat>,
    batch: Vec<u8>,
    first_line_at: Option<Instant>,
    batches: SyncSender<Vec<u8>>,
    stamp: FormattedTime,
    lost: u64,
}

impl Log {
    /// Adds a line; it reaches the file within [`ACCESS_LOG_DELAY_MAX`].
    pub(super) fn record(&mut self, line: &AccessLogLine<'_>, now: Instant) {
        self.first_line_at.get_or_insert(now);
        self.stamp.renew();
        access_line::write(&mut self.batch, &self.format, line, &self.stamp);
        if self.batch.len() >= ACCESS_LOG_BATCH_BYTES {
            self.flush();
        }
    }

    /// When [`Log::flush`] must be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.first_line_at.map(|first| first + ACCESS_LOG_DELAY_MAX)
    }

    /// Hands the lines to the writing thread. When that is so far behind that its queue is full, they are dropped
    /// and counted: requests matter more than their log.
    pub(super) fn flush(&mut self) {
        self.first_line_at = None;
        let batch = std::mem::replace(&mut self.batch, Vec::with_capacity(ACCESS_LOG_BATCH_BYTES));
        if batch.is_empty() {
            return;
        }
        let Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) = self.batches.try_send(batch)
        else {
            if self.lost > 0 {
                tracing::warn!(
                    lines = self.lost,
                    "access log lines were lost: the log could not be written fast enough"
                );
                self.lost = 0;
            }
            return;
        };
        self.lost += lines(&batch);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.flush();
    }
}
