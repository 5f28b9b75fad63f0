//! The executor that glommio gives where `io_uring` may be used: tasks, file writes that do not block, and a park that
//! both a finished write and a ready socket end.
//!
//! The one place of the reactor with `unsafe`: glommio adopts descriptors only so.
#![allow(unsafe_code)]

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd};
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_lite::{AsyncReadExt, FutureExt};
use glommio::io::BufferedFile;
use glommio::net::TcpStream;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement};

use crate::limits::{EXECUTOR_ATTEMPTS_MAX, EXECUTOR_RETRY_PAUSE};
use crate::sys::open_files;
use crate::sys::resource_limit::LOCKED_MEMORY;

/// Entries of each of glommio's rings. More brought nothing.
const RING_DEPTH: usize = 128;

/// How long glommio lets tasks run before it looks at its rings. Our loop says itself when that is worth it.
const PREEMPT_TIMER: Duration = Duration::from_secs(3600);

/// glommio's executor on the calling thread.
#[derive(Debug)]
pub(super) struct RingExecutor(LocalExecutor);

impl RingExecutor {
    /// Makes an executor and pins the calling thread to `core`.
    ///
    /// The memory of rings that died with another process is given back a little later than the process ends, so
    /// running out of it is retried for a second.
    ///
    /// # Errors
    /// When the kernel refuses rings or the core, with glommio's words for it.
    pub(super) fn new(core: Option<usize>) -> io::Result<Self> {
        let _raised = LOCKED_MEMORY.raise()?;
        let mut attempt = 1;
        loop {
            let made = LocalExecutorBuilder::new(core.map_or(Placement::Unbound, Placement::Fixed))
                .io_memory(0)
                .ring_depth(RING_DEPTH)
                .preempt_timer(PREEMPT_TIMER)
                .make();
            match made {
                Ok(executor) => return Ok(Self(executor)),
                Err(error) if attempt == EXECUTOR_ATTEMPTS_MAX => {
                    return Err(io::Error::other(error.to_string()));
                }
                Err(_) => {
                    attempt += 1;
                    std::thread::sleep(EXECUTOR_RETRY_PAUSE);
                }
            }
        }
    }

    /// Runs `future`, and what is spawned beside it, until it is done.
    pub(super) fn run<T>(self, future: impl Future<Output = T>) -> T {
        self.0.run(future)
    }
}

/// Runs `task` beside the others of this thread's executor. A panic ends that task alone, and is logged by the panic
/// hook.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    // Not an async block: that would keep room for the task twice, once as captured and once as pinned.
    glommio::spawn_local(AssertUnwindSafe(task).catch_unwind()).detach();
}

/// Waits in the ring until `fd` is readable or `timeout` has passed.
///
/// glommio has no public wait for a foreign descriptor. A stream made of a duplicate does it: reading one arms a
/// poll in the ring first, and the receive that follows fails at once because an epoll set is no socket. Dropping
/// the future cancels the poll; nothing can be lost, since a poll consumes nothing.
pub(super) async fn park(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> io::Result<()> {
    let duplicate = open_files::duplicate(fd)?;
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

/// A file that is written through the ring. While an operation is under way the loop has to park in the ring, see
/// `Reactor::begin_operation`.
#[derive(Debug)]
pub(super) struct RingFile(BufferedFile);

impl RingFile {
    #[expect(clippy::unnecessary_wraps, reason = "it fails where there is no ring")]
    pub(super) fn new(file: File) -> io::Result<Self> {
        // SAFETY: the descriptor is ours alone, and glommio closes it.
        Ok(Self(unsafe { BufferedFile::from_raw_fd(file.into_raw_fd()) }))
    }

    pub(super) async fn truncate(&self) -> io::Result<()> {
        Ok(self.0.truncate(0).await?)
    }

    pub(super) async fn write_all_at(&self, bytes: Vec<u8>, mut offset: u64) -> io::Result<()> {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = self.0.write_at(rest.to_vec(), offset).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            offset += written as u64;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// The file, no longer the ring's.
    pub(super) async fn into_file(self) -> io::Result<File> {
        let file = open_files::duplicate(self.as_fd());
        self.0.close().await?;
        Ok(File::from(file?))
    }

    /// Closes the file now: glommio would close it when its ring is next looked at, which may be never.
    pub(super) async fn close(self) {
        let _ = self.0.close().await;
    }
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the file is ours, which `self` is borrowed for.
        unsafe { BorrowedFd::borrow_raw(self.0.as_raw_fd()) }
    }
}
