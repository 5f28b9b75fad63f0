//! What a slow client has not yet taken of a response: first the part in a temporary file, then the part in memory.

use std::io;
use std::os::fd::BorrowedFd;

use super::spill::{Storage, StoredFile};
use crate::gateway::{Lent, Payload};
use crate::reactor::Reactor;

/// The unsent rest of a response.
#[derive(Debug)]
pub(super) struct Backlog {
    memory: Memory,
    /// How much of `memory` was sent.
    memory_sent: usize,
    stored: SpillState,
}

#[derive(Debug)]
enum Memory {
    Own(Vec<u8>),
    /// The rest of the response.
    Lent(Lent),
}

impl Memory {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Lent(body) => body.as_bytes(),
        }
    }
}

#[derive(Debug)]
enum SpillState {
    /// Memory was enough until now.
    Nothing,
    /// The file, used from its start again whenever all of it was sent, and how much of it was.
    In { file: StoredFile, sent_bytes: u64 },
    /// A file could not be made or written: memory must do, and the application wait.
    Refused,
}

impl Backlog {
    /// The rest of `bytes`, of which `sent` were sent.
    pub(super) fn new(bytes: Vec<u8>, sent: usize) -> Self {
        Self { memory: Memory::Own(bytes), memory_sent: sent, stored: SpillState::Nothing }
    }

    /// The rest of `prefix` and `body`, of which together `sent` bytes were sent.
    pub(super) fn lent(prefix: &[u8], body: Lent, sent: usize) -> Self {
        match sent.checked_sub(prefix.len()) {
            Some(memory_sent) => {
                Self { memory: Memory::Lent(body), memory_sent, stored: SpillState::Nothing }
            }
            // So slow a client has time for a copy.
            None => Self::new([prefix, body.as_bytes()].concat(), sent),
        }
    }

    /// Adds what the application has sent next.
    ///
    /// # Errors
    /// What begins a response and is the whole of it, a file or something lent, cannot come here, nor follow it.
    pub(super) fn push(&mut self, payload: Payload) -> io::Result<()> {
        let Payload::Memory(bytes) = payload else { return Err(io::ErrorKind::InvalidInput.into()) };
        let is_over = self.memory_bytes() == 0;
        match &mut self.memory {
            memory if is_over => *memory = Memory::Own(bytes),
            Memory::Own(own) => {
                own.drain(..self.memory_sent);
                own.extend_from_slice(&bytes);
            }
            Memory::Lent(_) => return Err(io::ErrorKind::InvalidInput.into()),
        }
        self.memory_sent = 0;
        Ok(())
    }

    /// Whether everything was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.memory_bytes() == 0 && self.stored().is_none()
    }

    /// Whether there is a file already.
    pub(super) fn is_stored(&self) -> bool {
        matches!(self.stored, SpillState::In { .. })
    }

    /// Bytes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.memory.as_bytes().len().saturating_sub(self.memory_sent)
    }

    /// The part in memory, to be sent once [`Backlog::stored`] is `None`.
    pub(super) fn in_memory(&self) -> &[u8] {
        self.memory.as_bytes().get(self.memory_sent..).unwrap_or_default()
    }

    /// So much of the part in memory was sent.
    pub(super) fn sent_memory(&mut self, bytes: usize) {
        self.memory_sent += bytes;
    }

    /// The part in the file, as file, offset and length; `None` when there is none.
    pub(super) fn stored(&self) -> Option<(BorrowedFd<'_>, i64, usize)> {
        let SpillState::In { file, sent_bytes } = &self.stored else { return None };
        let left = file.length_bytes().checked_sub(*sent_bytes).filter(|left| *left > 0)?;
        Some((file.fd()?, i64::try_from(*sent_bytes).ok()?, usize::try_from(left).unwrap_or(usize::MAX)))
    }

    /// So much of the part in the file was sent.
    pub(super) fn sent_stored(&mut self, bytes: usize) {
        if let SpillState::In { sent_bytes, .. } = &mut self.stored {
            *sent_bytes += bytes as u64;
        }
    }

    /// Moves what is in memory to the file, as far as there is room, and returns how many bytes that was.
    pub(super) async fn store(&mut self, storage: &Storage, reactor: &Reactor) -> usize {
        match self.try_store(storage, reactor).await {
            Ok(bytes) => bytes,
            Err(error) => {
                storage.complain_of_response(&error);
                // What a file holds already is still sent from it.
                if !self.is_stored() {
                    self.stored = SpillState::Refused;
                }
                0
            }
        }
    }

    async fn try_store(&mut self, storage: &Storage, reactor: &Reactor) -> io::Result<usize> {
        if let SpillState::Nothing = self.stored {
            self.stored = SpillState::In { file: storage.create(reactor)?, sent_bytes: 0 };
        }
        let SpillState::In { file, sent_bytes } = &mut self.stored else { return Ok(0) };
        if *sent_bytes > 0 && *sent_bytes == file.length_bytes() {
            file.clear().await?;
            *sent_bytes = 0;
        }
        let rest = self.memory.as_bytes().get(self.memory_sent..).unwrap_or_default();
        let some = rest.get(..storage.response_room(file.length_bytes())).unwrap_or(rest);
        let bytes = some.len();
        file.append(some).await?;
        self.memory_sent += bytes;
        if bytes > 0 && self.memory_bytes() == 0 {
            self.memory = Memory::Own(Vec::new());
            self.memory_sent = 0;
        }
        Ok(bytes)
    }
}
