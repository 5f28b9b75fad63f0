//! Stands for `ring` in a build without glommio: nothing in here can come to be, so nothing is ever called.

use std::convert::Infallible;
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct RingExecutor(Infallible);

impl RingExecutor {
    pub(super) fn new(_: Option<usize>) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn run<T>(self, _: impl Future<Output = T>) -> T {
        match self.0 {}
    }
}

pub(super) fn spawn(_: impl Future<Output = ()> + 'static) {}

pub(super) fn park(_: BorrowedFd<'_>, _: Option<Duration>) -> std::future::Ready<io::Result<()>> {
    std::future::ready(Err(io::ErrorKind::Unsupported.into()))
}

#[derive(Debug)]
pub(super) struct RingFile(Infallible);

impl RingFile {
    pub(super) fn new(_: File) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    #[expect(clippy::unused_async, reason = "as where there is a ring")]
    pub(super) async fn truncate(&self) -> io::Result<()> {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a ring")]
    pub(super) async fn write_all_at(&self, _: Vec<u8>, _: u64) -> io::Result<()> {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a ring")]
    pub(super) async fn into_file(self) -> io::Result<File> {
        match self.0 {}
    }

    #[expect(clippy::unused_async, reason = "as where there is a ring")]
    pub(super) async fn close(self) {
        match self.0 {}
    }
}

impl AsFd for RingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.0 {}
    }
}
