//! Waiting for the peer of a connection, or for what else concerns it.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::Conversation;
use crate::limits::{LINGER_BYTES_MAX, LINGER_SILENCE_MAX, LINGER_TIMEOUT};
use crate::worker::life::Phase;

/// What woke a task that waits for its peer.
pub(super) enum Woken {
    Ready,
    TimedOut,
}

impl Conversation {
    /// Waits until something concerns this connection: readiness, a message, a deadline, a phase.
    pub(super) async fn pause(&self) {
        self.stream.watch();
        self.pause_unwatched().await;
    }

    /// As [`Self::pause`], but nothing the peer does ends the wait, if nothing has made the kernel watch it yet.
    pub(super) async fn pause_unwatched(&self) {
        let mut paused = false;
        poll_fn(|context| {
            if paused {
                return Poll::Ready(());
            }
            paused = true;
            self.entry.registration.remember(context.waker());
            Poll::Pending
        })
        .await;
    }

    pub(super) async fn until(&self, deadline: Instant, ready: impl Fn() -> bool) -> Woken {
        self.desk.set_deadline(&self.entry, Some(deadline));
        let woken = loop {
            if ready() || self.entry.registration.is_hung_up() {
                break Woken::Ready;
            }
            if self.desk.reactor.now() >= deadline {
                break Woken::TimedOut;
            }
            self.pause().await;
        };
        self.desk.set_deadline(&self.entry, None);
        woken
    }

    /// Says that nothing more will come and reads what the peer still sends, for a moment: closing with unread bytes
    /// would reset the connection, and the reset may overtake our last words (RFC 9112 section 9.6).
    pub(super) async fn linger(&self) {
        self.stream.shut_down_write();
        let (end, mut discarded) = (self.desk.reactor.now() + LINGER_TIMEOUT, 0);
        while discarded <= LINGER_BYTES_MAX
            && self.desk.reactor.now() < end
            && self.desk.phase() < Phase::Stopping
        {
            let read = self.stream.try_read(&mut self.desk.scratch.borrow_mut());
            match read {
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(count)) => {
                    discarded += count;
                    // A client that sends as fast as we read must not keep the others waiting.
                    self.desk.reactor.next_turn().await;
                }
                Ok(None) => {
                    let until = end.min(self.desk.reactor.now() + LINGER_SILENCE_MAX);
                    if let Woken::TimedOut = self.until(until, || self.entry.registration.is_readable()).await
                    {
                        return;
                    }
                }
            }
        }
    }
}
