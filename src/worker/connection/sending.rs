//! The bytes of a response on their way to the client, at the client's pace.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use futures_lite::FutureExt;

use super::ConnectionTask;
use super::waiting::Woken;
use crate::gateway::{End, Message, Outcome, Payload};
use crate::limits::{RESPONSE_BACKLOG_BYTES_MAX, RESPONSE_SPILL_DELAY, SEND_FILE_BYTES};
use crate::worker::backlog::Backlog;

/// Notices that a client takes nothing any more.
struct Stall {
    deadline: Instant,
    queued_bytes: usize,
}

impl ConnectionTask {
    /// Writes a part of a response. While a slow client takes it, what follows is taken in as well, up to the `end` of
    /// the response, which is left there also when writing fails.
    pub(super) async fn write_payload(&self, payload: Payload, end: &mut Option<Box<End>>) -> io::Result<()> {
        match payload {
            Payload::Memory(bytes) => {
                let is_last = end.as_ref().is_some_and(|end| end.outcome == Outcome::Close);
                let sent = self.write_at_once(&bytes, is_last)?;
                self.exchange.note_written(sent);
                if sent == bytes.len() {
                    return Ok(());
                }
                Box::pin(self.write_slowly(Backlog::new(bytes, sent), end)).await
            }
            Payload::File { prefix, file, offset, length_bytes } => {
                let written = self.write(&prefix).await;
                self.exchange.note_written(prefix.len());
                written?;
                Box::pin(self.write_file(file.as_fd(), offset, length_bytes)).await
            }
            Payload::Lent { prefix, body } => {
                let sent = self.stream.try_write_both(&prefix, body.as_bytes())?.unwrap_or(0);
                self.exchange.note_written(sent);
                let backlog = Backlog::lent(&prefix, body, sent);
                if backlog.is_empty() {
                    return Ok(());
                }
                Box::pin(self.write_slowly(backlog, end)).await
            }
        }
    }

    /// Writes what the send buffer takes of `bytes`, our last words or not, and returns how many that were.
    fn write_at_once(&self, bytes: &[u8], is_last: bool) -> io::Result<usize> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let count = if is_last { self.stream.try_write_last(rest) } else { self.stream.try_write(rest) };
            match count? {
                Some(count) => sent += count,
                None => break,
            }
        }
        Ok(sent)
    }

    /// Writes all of `bytes`, waiting for a slow peer as long as it takes some of them.
    pub(super) async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.try_write(bytes)? {
                Some(count) => bytes = bytes.get(count..).unwrap_or_default(),
                None => self.until_writable().await?,
            }
        }
        Ok(())
    }

    /// Writes a part of a file; one that has become shorter than it was is an error.
    async fn write_file(&self, file: BorrowedFd<'_>, mut offset: i64, length_bytes: u64) -> io::Result<()> {
        let mut rest = length_bytes;
        while rest > 0 {
            let count = usize::try_from(rest).unwrap_or(usize::MAX).min(SEND_FILE_BYTES);
            match self.stream.try_write_file(file, &mut offset, count)? {
                Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => {
                    rest -= count as u64;
                    self.executor.reactor.next_turn().await;
                }
                None => self.until_writable().await?,
            }
        }
        Ok(())
    }

    /// Writes `backlog` and what follows it, for a client that is slower than the application. What the client has not
    /// taken after a moment goes to a temporary file, lest an application thread wait for it, or memory grow.
    async fn write_slowly(&self, mut backlog: Backlog, end: &mut Option<Box<End>>) -> io::Result<()> {
        let mut stall = self.stall();
        let patient_until = self.executor.reactor.now() + RESPONSE_SPILL_DELAY;
        loop {
            while end.is_none()
                && let Some(message) = self.handle.next_message()
            {
                let Message { payload, end: is_end, .. } = message;
                backlog.push(payload)?;
                *end = is_end;
            }
            if self.write_some(&mut backlog)? {
                if backlog.is_empty() {
                    self.executor.set_deadline(&self.handle, None);
                    return Ok(());
                }
                stall = self.stall();
                self.executor.reactor.next_turn().await;
                continue;
            }
            let is_long = backlog.memory_bytes() > RESPONSE_BACKLOG_BYTES_MAX;
            if is_long && (backlog.is_stored() || patient_until <= self.executor.reactor.now()) {
                let was_empty = backlog.stored().is_none();
                let stored = backlog.store(&self.executor.storage, &self.executor.reactor).await;
                // One byte stays counted as long as the file holds any: nothing may overtake them.
                self.exchange.note_written(stored.saturating_sub(was_empty.into()));
                if stored > 0 {
                    continue;
                }
            }
            let wakes_at = is_long.then_some(patient_until).filter(|_| !backlog.is_stored());
            self.wait_slowly(wakes_at, &mut stall).await?;
        }
    }

    /// Writes some of the backlog; false when the client takes nothing now.
    fn write_some(&self, backlog: &mut Backlog) -> io::Result<bool> {
        if let Some((file, mut offset, count)) = backlog.stored() {
            return match self.stream.try_write_file(file, &mut offset, count.min(SEND_FILE_BYTES))? {
                Some(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(count) => {
                    backlog.sent_stored(count);
                    if backlog.stored().is_none() {
                        self.exchange.note_written(1);
                    }
                    Ok(true)
                }
                None => Ok(false),
            };
        }
        let sent = self.write_at_once(backlog.in_memory(), false)?;
        backlog.sent_memory(sent);
        self.exchange.note_written(sent);
        Ok(sent > 0)
    }

    /// Waits until the client takes more, the application sends more, or `wakes_at` has come.
    async fn wait_slowly(&self, wakes_at: Option<Instant>, stall: &mut Stall) -> io::Result<()> {
        let now = self.executor.reactor.now();
        if stall.deadline <= now {
            self.renew(stall)?;
        }
        self.executor.set_deadline(&self.handle, Some(stall.deadline));
        match wakes_at.filter(|at| now < *at) {
            Some(at) => self.wait_for_wakeup().or(self.executor.reactor.sleep_until(at)).await,
            None => self.wait_for_wakeup().await,
        }
        Ok(())
    }

    async fn until_writable(&self) -> io::Result<()> {
        let mut stall = self.stall();
        loop {
            if let Woken::Ready = self.until(stall.deadline, || self.handle.registration.is_writable()).await
            {
                return Ok(());
            }
            self.renew(&mut stall)?;
        }
    }

    fn stall(&self) -> Stall {
        let deadline = self.executor.reactor.now() + self.executor.http_limits.response_stall_timeout;
        Stall { deadline, queued_bytes: self.stream.queued_bytes() }
    }

    /// Gives a client as much time again, if it took anything.
    ///
    /// The kernel calls a socket writable once a third of its buffer is free. A slow client that takes less than that
    /// in the time allowed is taking some nevertheless.
    fn renew(&self, stall: &mut Stall) -> io::Result<()> {
        let before = std::mem::replace(stall, self.stall()).queued_bytes;
        if stall.queued_bytes < before { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
    }
}
