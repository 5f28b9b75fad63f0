//! A request body as it arrives: in memory while it is small, in an anonymous temporary file once it is not.
//!
//! What writes files is boxed: every connection keeps room for the largest thing it may ever wait for.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::log_throttle::LogThrottle;
use crate::config::Spill;
use crate::gateway::{Body, Quota, Share};
use crate::limits::{BODY_MEMORY_BYTES_MAX, SPILL_MEMORY_BYTES_MAX, SPILL_WRITE_BYTES};
use crate::reactor::{Reactor, SpillFile};
use crate::sys::{clock, file};

/// Where the temporary files of a process are made, and what room they have left.
#[derive(Debug)]
pub(super) struct Storage {
    settings: Spill,
    quota: Arc<Quota>,
    /// The room of files that are in memory, because the directory cannot be written.
    memory_quota: Arc<Quota>,
    /// Whether the last file had to be in memory.
    is_in_memory: AtomicBool,
    refused_response: LogThrottle,
    refused_directory: LogThrottle,
}

/// A temporary file within its room.
#[derive(Debug)]
pub(super) struct StoredFile {
    file: SpillFile,
    share: Share,
}

impl Storage {
    pub(super) fn new(settings: &Spill) -> Self {
        Self {
            settings: settings.clone(),
            quota: Arc::new(Quota::new(settings.bytes_max)),
            memory_quota: Arc::new(Quota::new(settings.bytes_max.min(SPILL_MEMORY_BYTES_MAX))),
            is_in_memory: AtomicBool::new(false),
            refused_response: LogThrottle::default(),
            refused_directory: LogThrottle::default(),
        }
    }

    /// Whether a body of `length_bytes` can be taken in, as far as that can be told before it comes.
    pub(super) fn has_room(&self, length_bytes: u64) -> bool {
        length_bytes <= BODY_MEMORY_BYTES_MAX as u64 || self.quota_now().has_room(length_bytes)
    }

    /// How many bytes more a response may store that has stored so many. Responses leave half of the room to bodies,
    /// which cannot wait for any.
    pub(super) fn response_room(&self, stored_bytes: u64) -> usize {
        if self.quota_now().is_half_taken() {
            return 0;
        }
        let room = self.settings.response_bytes_max.saturating_sub(stored_bytes);
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn quota_now(&self) -> &Arc<Quota> {
        if self.is_in_memory.load(Ordering::Relaxed) { &self.memory_quota } else { &self.quota }
    }

    /// A new, empty file. Where the directory cannot be written, it is in memory.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn create(&self, reactor: &Reactor) -> io::Result<StoredFile> {
        let file = match SpillFile::create(reactor, &self.settings.directory) {
            Err(error) if file::is_unwritable(&error) => {
                self.is_in_memory.store(true, Ordering::Relaxed);
                self.complain_of_directory(&error);
                SpillFile::in_memory(reactor)?
            }
            created => {
                self.is_in_memory.store(false, Ordering::Relaxed);
                created?
            }
        };
        Ok(StoredFile { file, share: Share::new(self.quota_now()) })
    }

    fn complain_of_directory(&self, error: &io::Error) {
        if self.refused_directory.is_due(clock::monotonic_ms()) {
            tracing::warn!(
                %error,
                directory = %self.settings.directory.display(),
                bytes_max = SPILL_MEMORY_BYTES_MAX,
                "cannot make temporary files: large bodies are kept in memory, a bounded number of bytes of each \
                 process; --spill-directory names another directory"
            );
        }
    }

    /// Says why a response cannot be stored for a slow client, but not each time.
    pub(super) fn complain_of_response(&self, error: &io::Error) {
        if self.refused_response.is_due(clock::monotonic_ms()) {
            tracing::warn!(
                %error,
                directory = %self.settings.directory.display(),
                "cannot store a response for a slow client: an application thread waits for it instead; likely cause: \
                 the disk is full (see `df -h`) or the directory is not writable (--spill-directory names another)"
            );
        }
    }

    /// Says why a body cannot be kept.
    pub(super) fn complain(&self, error: &io::Error) {
        tracing::error!(
            %error,
            directory = %self.settings.directory.display(),
            "cannot store a request body; likely cause: the disk is full (see `df -h`), the directory is not writable \
             (--spill-directory names another), or all temporary files together have reached --spill-bytes-max, or 64M \
             where they are in memory because the directory cannot be written"
        );
    }
}

impl StoredFile {
    /// Adds all of `bytes`, or nothing.
    ///
    /// # Errors
    /// The kernel's; [`io::ErrorKind::QuotaExceeded`] when all files together have no room for it.
    pub(super) async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.share.grow_to(self.file.length_bytes() + bytes.len() as u64) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.file.append(bytes).await
    }

    /// Bytes in the file.
    pub(super) fn length_bytes(&self) -> u64 {
        self.file.length_bytes()
    }

    /// The file, to be read.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.file.fd()
    }

    /// Empties the file. It keeps its share: it has become so large once and will again.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) async fn clear(&mut self) -> io::Result<()> {
        self.file.clear().await
    }
}

/// The decoded bytes so far.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    memory: Vec<u8>,
    stored: Option<StoredFile>,
    length_bytes: u64,
}

impl Incoming {
    /// Adds decoded bytes. Call [`Incoming::settle`] when [`Incoming::is_heavy`].
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.memory.extend_from_slice(bytes);
        self.length_bytes += bytes.len() as u64;
    }

    /// Decoded bytes so far.
    pub(super) fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// Whether what is in memory belongs in a file.
    pub(super) fn is_heavy(&self) -> bool {
        let bound = if self.stored.is_some() { SPILL_WRITE_BYTES } else { BODY_MEMORY_BYTES_MAX };
        self.memory.len() > bound
    }

    /// Moves what is in memory to the file, which it makes on the first call.
    pub(super) async fn settle(&mut self, reactor: &Reactor, storage: &Storage) -> io::Result<()> {
        let mut stored = match self.stored.take() {
            Some(stored) => stored,
            None => storage.create(reactor)?,
        };
        Box::pin(stored.append(&self.memory)).await?;
        self.memory.clear();
        self.stored = Some(stored);
        Ok(())
    }

    /// The complete body.
    pub(super) async fn finish(self) -> io::Result<Body> {
        match self.stored {
            None if self.memory.is_empty() => Ok(Body::Empty),
            None => Ok(Body::Memory(self.memory)),
            Some(stored) => Box::pin(close(stored, self.memory)).await,
        }
    }
}

async fn close(mut stored: StoredFile, rest: Vec<u8>) -> io::Result<Body> {
    stored.append(&rest).await?;
    let StoredFile { file, share } = stored;
    let (file, length_bytes) = file.finish().await?;
    Ok(Body::File { file, length_bytes, share })
}
