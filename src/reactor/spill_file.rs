//! A temporary file that grows without blocking the executor: through glommio's ring, or through a helper thread where
//! there is none.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::Reactor;
use super::ring::RingFile;
use crate::limits::SPILL_WRITE_BYTES;
use crate::sys::{file, shared_memory};

/// An anonymous temporary file that grows without blocking the executor.
#[derive(Debug)]
pub struct SpillFile {
    /// `None` once it is being closed.
    backing: Option<Backing>,
    length_bytes: u64,
    reactor: Reactor,
}

#[derive(Debug)]
enum Backing {
    Ring(RingFile),
    Helper(Arc<File>),
}

impl SpillFile {
    /// Makes an empty file in `directory`, gone as soon as the last descriptor is closed.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be written or its file system is full.
    pub fn create(reactor: &Reactor, directory: &Path) -> io::Result<Self> {
        Self::of(reactor, file::anonymous(directory)?)
    }

    /// Makes an empty file in memory.
    ///
    /// # Errors
    /// The kernel's, when descriptors run out.
    pub fn in_memory(reactor: &Reactor) -> io::Result<Self> {
        Self::of(reactor, shared_memory::create_file(c"spawning-spill", &[])?.into())
    }

    fn of(reactor: &Reactor, file: File) -> io::Result<Self> {
        let backing = if reactor.has_ring() {
            Backing::Ring(RingFile::new(file)?)
        } else {
            Backing::Helper(Arc::new(file))
        };
        Ok(Self { backing: Some(backing), length_bytes: 0, reactor: reactor.clone() })
    }

    /// Bytes in the file.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The file, to be read.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(match self.backing.as_ref()? {
            Backing::Ring(file) => file.as_fd(),
            Backing::Helper(file) => file.as_fd(),
        })
    }

    /// Empties the file. What a socket has taken of it and not yet sent stays as it was; overwriting would change that.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub async fn clear(&mut self) -> io::Result<()> {
        let _operation = self.reactor.begin_operation();
        match self.backing.as_ref().ok_or(io::ErrorKind::BrokenPipe)? {
            Backing::Ring(file) => file.truncate().await?,
            Backing::Helper(file) => {
                let file = Arc::clone(file);
                blocking::unblock(move || file.set_len(0)).await?;
            }
        }
        self.length_bytes = 0;
        Ok(())
    }

    /// Appends all of `bytes`, or nothing.
    ///
    /// # Errors
    /// The kernel's, for example when the disk is full.
    pub async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut end = self.length_bytes;
        let _operation = self.reactor.begin_operation();
        let backing = self.backing.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        for piece in bytes.chunks(SPILL_WRITE_BYTES) {
            backing.write_all_at(piece.to_vec(), end).await?;
            end += piece.len() as u64;
        }
        self.length_bytes = end;
        Ok(())
    }

    /// The file and its length in bytes, for reading from the start.
    ///
    /// # Errors
    /// The kernel's, when descriptors run out.
    pub async fn finish(mut self) -> io::Result<(File, u64)> {
        let file = match self.backing.take().ok_or(io::ErrorKind::BrokenPipe)? {
            Backing::Ring(file) => {
                let _operation = self.reactor.begin_operation();
                file.into_file().await?
            }
            Backing::Helper(file) => match Arc::try_unwrap(file) {
                Ok(file) => file,
                Err(shared) => shared.try_clone()?,
            },
        };
        Ok((file, self.length_bytes))
    }
}

impl Backing {
    async fn write_all_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        match self {
            Self::Ring(file) => file.write_all_at(bytes, offset).await,
            Self::Helper(file) => {
                let file = Arc::clone(file);
                blocking::unblock(move || file.write_all_at(&bytes, offset)).await
            }
        }
    }
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        match self.backing.take() {
            Some(Backing::Ring(file)) => {
                let operation = self.reactor.begin_operation();
                self.reactor.spawn(async move {
                    let _operation = operation;
                    file.close().await;
                });
            }
            // To free the blocks of a large file takes long.
            Some(Backing::Helper(file)) if self.length_bytes > 0 => {
                blocking::unblock(move || drop(file)).detach();
            }
            None | Some(Backing::Helper(_)) => {}
        }
    }
}
