//! What glommio's ring does for us: file writes that do not block the executor, and a park that both a finished
//! write and a ready socket end. The one place of the reactor with `unsafe`: glommio adopts descriptors only so.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::path::Path;

use futures_lite::{AsyncReadExt, FutureExt};
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::timer::Timer;

use super::Reactor;
use crate::limits::SPILL_WRITE_BYTES;
use crate::sys::file;

/// Waits in the ring until `fd` is readable or `timeout` has passed.
///
/// glommio has no public wait for a foreign descriptor. A stream made of a duplicate does it: reading one arms a
/// poll in the ring first, and the receive that follows fails at once because an epoll set is no socket. Dropping
/// the future cancels the poll; nothing can be lost, since a poll consumes nothing.
pub(super) async fn park(fd: BorrowedFd<'_>, timeout: Option<std::time::Duration>) -> io::Result<()> {
    let duplicate = fd.try_clone_to_owned()?;
    // SAFETY: the duplicate is ours alone, and the stream closes it.
    let mut stream = unsafe { TcpStream::from_raw_fd(duplicate.into_raw_fd()) };
    let readable = async {
        let _ = stream.read(&mut [0]).await;
    };
    match timeout {
        None => readable.await,
        Some(timeout) => {
            let elapsed = async {
                Timer::new(timeout).await;
            };
            readable.or(elapsed).await;
        }
    }
    Ok(())
}

/// An anonymous temporary file that grows without blocking the executor.
#[derive(Debug)]
pub struct SpillFile {
    /// `None` once it is being closed.
    file: Option<BufferedFile>,
    length_bytes: u64,
    reactor: Reactor,
}

impl SpillFile {
    /// Makes an empty file in `directory`, gone as soon as the last descriptor is closed.
    ///
    /// # Errors
    /// The kernel's, when the directory cannot be written or its file system is full.
    pub fn create(reactor: &Reactor, directory: &Path) -> io::Result<Self> {
        let file = file::anonymous(directory)?;
        // SAFETY: the descriptor is ours alone, and glommio closes it.
        let file = unsafe { BufferedFile::from_raw_fd(file.into_raw_fd()) };
        Ok(Self { file: Some(file), length_bytes: 0, reactor: reactor.clone() })
    }

    /// Bytes in the file.
    pub fn length_bytes(&self) -> u64 {
        self.length_bytes
    }

    /// The file, to be read.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        // SAFETY: the descriptor is open as long as the file is ours, which `self` is borrowed for.
        self.file.as_ref().map(|file| unsafe { BorrowedFd::borrow_raw(file.as_raw_fd()) })
    }

    /// Empties the file. What a socket has taken of it and not yet sent stays as it was; overwriting would change that.
    ///
    /// # Errors
    /// The kernel's; none is expected.
    pub async fn clear(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let _owed = self.reactor.ring_owes();
        file.truncate(0).await?;
        self.length_bytes = 0;
        Ok(())
    }

    /// Appends all of `bytes`, or nothing.
    ///
    /// # Errors
    /// The kernel's, for example when the disk is full.
    pub async fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut end = self.length_bytes;
        let Some(file) = &self.file else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let _owed = self.reactor.ring_owes();
        for piece in bytes.chunks(SPILL_WRITE_BYTES) {
            let mut rest = piece;
            while !rest.is_empty() {
                let written = file.write_at(rest.to_vec(), end).await?;
                if written == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                end += written as u64;
                rest = rest.get(written..).unwrap_or_default();
            }
        }
        self.length_bytes = end;
        Ok(())
    }

    /// The file and its length in bytes, for reading from the start.
    ///
    /// # Errors
    /// The kernel's, when descriptors run out.
    pub async fn finish(mut self) -> io::Result<(File, u64)> {
        let Some(ring_file) = self.file.take() else { return Err(io::ErrorKind::BrokenPipe.into()) };
        // SAFETY: the descriptor is open as long as `ring_file`, which outlives the borrow.
        let file = unsafe { BorrowedFd::borrow_raw(ring_file.as_raw_fd()) }.try_clone_to_owned();
        let _owed = self.reactor.ring_owes();
        ring_file.close().await?;
        Ok((File::from(file?), self.length_bytes))
    }
}

impl Drop for SpillFile {
    /// Closes the file now: glommio would close it when its ring is next looked at, which may be never.
    fn drop(&mut self) {
        let Some(file) = self.file.take() else { return };
        let owed = self.reactor.ring_owes();
        self.reactor.spawn(async move {
            let _owed = owed;
            let _ = file.close().await;
        });
    }
}
