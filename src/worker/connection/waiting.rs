//! Waiting for the peer of a connection, or for what else concerns it.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Instant;

use super::ConnectionTask;
use crate::limits::{LINGER_BYTES_MAX, LINGER_IDLE_MAX, LINGER_TIMEOUT};
use crate::worker::lifecycle::Phase;

/// What woke a task that waits for its peer.
pub(super) enum Woken {
    Ready,
    TimedOut,
}

impl ConnectionTask {
    /// Waits until something concerns this connection: readiness, a message, a deadline, a phase.
    pub(super) async fn wait_for_wakeup(&self) {
        self.stream.watch();
        self.wait_for_wakeup_unwatched().await;
    }

    /// As [`Self::wait_for_wakeup`], but nothing the peer does ends the wait, if nothing has made the kernel watch it
    /// yet.
    pub(super) async fn wait_for_wakeup_unwatched(&self) {
        let mut paused = false;
        poll_fn(|context| {
            if paused {
                return Poll::Ready(());
            }
            paused = true;
            self.handle.registration.remember(context.waker());
            Poll::Pending
        })
        .await;
    }

    pub(super) async fn until(&self, deadline: Instant, ready: impl Fn() -> bool) -> Woken {
        self.executor.set_deadline(&self.handle, Some(deadline));
        let woken = loop {
            if ready() || self.handle.registration.is_hung_up() {
                break Woken::Ready;
            }
            if self.executor.reactor.now() >= deadline {
                break Woken::TimedOut;
            }
            self.wait_for_wakeup().await;
        };
        self.executor.set_deadline(&self.handle, None);
        woken
    }

    /// Says that nothing more will come and reads what the peer still sends, for a moment: closing with unread bytes
    /// would reset the connection, and the reset may overtake the response (RFC 9112 section 9.6).
    pub(super) async fn linger(&self) {
        self.stream.shut_down_write();
        let (end, mut discarded) = (self.executor.reactor.now() + LINGER_TIMEOUT, 0);
        while discarded <= LINGER_BYTES_MAX
            && self.executor.reactor.now() < end
            && self.executor.phase() < Phase::Stopping
        {
            let read = self.stream.try_read(&mut self.executor.scratch.borrow_mut());
            match read {
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(count)) => {
                    discarded += count;
                    // A client that sends as fast as we read must not keep the others waiting.
                    self.executor.reactor.next_turn().await;
                }
                Ok(None) => {
                    let until = end.min(self.executor.reactor.now() + LINGER_IDLE_MAX);
                    if let Woken::TimedOut =
                        self.until(until, || self.handle.registration.is_readable()).await
                    {
                        return;
                    }
                }
            }
        }
    }
}
