//! A request body on its way from the executor to an application that reads it as it arrives.

use std::io::{self, BufRead, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Exchange;
use crate::http::RequestFault;
use crate::limits::UPLOAD_MEMORY_BYTES_MAX;

/// The executor's end.
#[derive(Debug)]
pub struct Upload {
    state: Mutex<UploadState>,
    arrived: Condvar,
    exchange: Arc<Exchange>,
}

#[derive(Debug, Default)]
struct UploadState {
    /// Bytes that the application has not taken.
    bytes: Vec<u8>,
    /// Bytes that have arrived.
    length_bytes: u64,
    /// The application has asked for some.
    wanted: bool,
    /// How the body has ended, if it has.
    end: Option<Result<(), UploadFault>>,
}

/// Why a body will not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UploadFault {
    /// The client is gone.
    Gone,
    /// What it sent is refused.
    Refused(RequestFault),
}

impl From<UploadFault> for io::Error {
    fn from(fault: UploadFault) -> Self {
        match fault {
            UploadFault::Gone => Self::new(io::ErrorKind::ConnectionAborted, "the client is gone"),
            UploadFault::Refused(RequestFault::BodyTimeout) => {
                Self::new(io::ErrorKind::TimedOut, RequestFault::BodyTimeout)
            }
            UploadFault::Refused(fault) => Self::new(io::ErrorKind::InvalidData, fault),
        }
    }
}

/// The application's end: reading waits for what has not arrived.
#[derive(Debug)]
pub struct UploadReader {
    upload: Arc<Upload>,
    bytes: Vec<u8>,
    read: usize,
}

impl Upload {
    /// An upload of which nothing has arrived, for the request of `exchange`.
    pub fn new(exchange: Arc<Exchange>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), arrived: Condvar::new(), exchange })
    }

    /// The end for the application; there must be only one.
    pub fn reader(self: &Arc<Self>) -> UploadReader {
        UploadReader { upload: Arc::clone(self), bytes: Vec::new(), read: 0 }
    }

    /// Executor: more has arrived.
    pub fn push(&self, bytes: &[u8]) {
        let mut state = self.lock();
        state.bytes.extend_from_slice(bytes);
        state.length_bytes += bytes.len() as u64;
        drop(state);
        self.arrived.notify_one();
    }

    /// Bytes that have arrived.
    pub fn length_bytes(&self) -> u64 {
        self.lock().length_bytes
    }

    /// Executor: whether so much has arrived unread that nothing more should be taken from the client. When that
    /// changes the connection's task is woken.
    pub fn is_full(&self) -> bool {
        self.lock().bytes.len() >= UPLOAD_MEMORY_BYTES_MAX
    }

    /// Executor: whether the application has begun to read. When that changes the connection's task is woken.
    pub fn is_wanted(&self) -> bool {
        self.lock().wanted
    }

    /// Executor: nothing more will come, because that was all, or because of what reading shall raise.
    pub fn end(&self, how: Result<(), UploadFault>) {
        self.lock().end.get_or_insert(how);
        self.arrived.notify_one();
    }

    /// Takes everything that has arrived, waiting for something; nothing at the end.
    fn take(&self) -> io::Result<Vec<u8>> {
        let mut state = self.lock();
        loop {
            let is_news = !std::mem::replace(&mut state.wanted, true);
            let was_full = state.bytes.len() >= UPLOAD_MEMORY_BYTES_MAX;
            let bytes = std::mem::take(&mut state.bytes);
            if is_news || was_full {
                self.exchange.nudge();
            }
            match state.end {
                _ if !bytes.is_empty() => return Ok(bytes),
                Some(Ok(())) => return Ok(bytes),
                Some(Err(fault)) => return Err(fault.into()),
                None => state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, UploadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BufRead for UploadReader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read >= self.bytes.len() {
            self.bytes = self.upload.take()?;
            self.read = 0;
        }
        Ok(self.bytes.get(self.read..).unwrap_or_default())
    }

    fn consume(&mut self, count: usize) {
        self.read += count;
    }
}

impl Read for UploadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut available = self.fill_buf()?;
        let count = available.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}
