//! From application threads back to one executor: messages in order, and few wake-ups.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::http::RequestHead;
use crate::limits::{
    BATCH_RESPONSES_MAX, BATCH_WAITING_MIN, FAST_APPLICATION, FAST_DELAY_MAX, PARTS_TOGETHER_BYTES,
    SLOW_DELAY_MAX,
};

/// What an application thread tells the executor about one connection.
#[derive(Debug)]
pub struct Message {
    /// The executor's key of the connection.
    pub connection: usize,
    /// Bytes to write after all bytes of earlier messages.
    pub payload: Payload,
    /// The response ends with this payload.
    pub end: Option<Box<End>>,
}

impl Message {
    /// Adds what `next` says of the same connection, if the two can be said in one call; else gives it back.
    ///
    /// # Errors
    /// `next`, unchanged.
    pub fn join(&mut self, next: Self) -> Result<(), Self> {
        match (&mut self.payload, next) {
            (Payload::Memory(bytes), Self { payload: Payload::Memory(more), end, .. })
                if self.end.is_none() && bytes.len() + more.len() <= PARTS_TOGETHER_BYTES =>
            {
                bytes.extend_from_slice(&more);
                self.end = end;
                Ok(())
            }
            (_, next) => Err(next),
        }
    }
}

/// Bytes of a response, framed already.
#[derive(Debug)]
pub enum Payload {
    /// Bytes in memory; may be none.
    Memory(Vec<u8>),
    /// Bytes in memory followed by a part of a file, which the executor sends without copying it.
    File {
        /// Bytes before the file's, usually the response head.
        prefix: Vec<u8>,
        /// The file.
        file: File,
        /// Where to start in it, in bytes.
        offset: i64,
        /// How many of its bytes to send.
        length_bytes: u64,
    },
    /// Bytes in memory followed by a large body of the application's, which is the rest of the response.
    Lent {
        /// Bytes before the body, usually the response head.
        prefix: Vec<u8>,
        /// The body.
        body: Lent,
    },
}

/// Bytes of the application's that it lends until they are sent: to copy many costs more than to keep them.
pub struct Lent(Box<dyn AsRef<[u8]> + Send>);

impl Lent {
    /// What `owner` holds. It is dropped on whatever thread is done with it.
    pub fn new(owner: impl AsRef<[u8]> + Send + 'static) -> Self {
        Self(Box::new(owner))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl std::fmt::Debug for Lent {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Lent").field("length_bytes", &self.as_bytes().len()).finish()
    }
}

/// How a response ended, and what the access log wants to know of it.
#[derive(Debug)]
pub struct End {
    /// Whether the client got what it was promised.
    pub outcome: Outcome,
    /// The status code; 0 when no head was sent.
    pub status: u16,
    /// Bytes of the response's body, without framing.
    pub body_bytes: u64,
    /// When the application had ended it.
    pub ended_at: Instant,
    /// Whether the application thread has sent all of it.
    pub is_sent: bool,
    /// The request's head; `None` when its thread was lost.
    pub head: Option<Arc<RequestHead>>,
    /// The response's head as sent, if [`Outbox::keep_response_heads`] was called.
    pub response_head: Option<Vec<u8>>,
}

/// When and by whom a finished response is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// At once, by the application thread itself if it can: this spares waking the executor.
    Immediate,
    /// By the executor, once `responses` responses wait for it or the first has waited for `delay_max`: one wake-up,
    /// and one of the client's, serves them all.
    Batched {
        /// Responses, this one included.
        responses: usize,
        /// The longest delay.
        delay_max: Duration,
    },
}

impl FlushPolicy {
    /// What suits a response that took the application `taken`, while `waiting` requests wait for a thread.
    ///
    /// When many wait, a fraction of their wait is a small price for sending together; when few do, it is not. An
    /// application that answers within microseconds loses nothing at all.
    pub fn for_load(waiting: usize, taken: Duration) -> Self {
        if waiting == 0 {
            return Self::Immediate;
        }
        if taken < FAST_APPLICATION {
            return Self::Batched { responses: BATCH_RESPONSES_MAX, delay_max: FAST_DELAY_MAX };
        }
        match (waiting / BATCH_WAITING_MIN).min(BATCH_RESPONSES_MAX) {
            0 | 1 => Self::Immediate,
            responses => Self::Batched { responses, delay_max: SLOW_DELAY_MAX },
        }
    }
}

impl End {
    /// An end, which [`super::Reply::finish`] completes.
    pub fn new(outcome: Outcome, status: u16, body_bytes: u64, head: Option<Arc<RequestHead>>) -> Self {
        Self {
            outcome,
            status,
            body_bytes,
            ended_at: Instant::now(),
            is_sent: false,
            head,
            response_head: None,
        }
    }
}

/// How a response ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Complete; the connection may carry another request.
    KeepAlive,
    /// Complete; the connection closes.
    Close,
    /// Cut off: the connection closes without the framing's end, so that it cannot be taken for complete.
    Broken,
}

/// The messages for one executor.
pub struct Outbox {
    messages: Mutex<Pending>,
    draining: AtomicBool,
    /// The executor looks here soon, told or not.
    is_polled: AtomicBool,
    keeps_response_heads: bool,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Pending {
    messages: Vec<Message>,
    unannounced: usize,
    unannounced_since: Option<Instant>,
}

impl std::fmt::Debug for Outbox {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Outbox").finish_non_exhaustive()
    }
}

impl Outbox {
    /// An empty outbox whose executor is woken by `wake`.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            messages: Mutex::default(),
            draining: AtomicBool::new(false),
            is_polled: AtomicBool::new(false),
            keeps_response_heads: false,
            wake: Box::new(wake),
        }
    }

    /// The same, with the response's head in each [`End`] for the access log: a copy that only some formats need.
    #[must_use]
    pub fn keep_response_heads(self, keeps_response_heads: bool) -> Self {
        Self { keeps_response_heads, ..self }
    }

    pub(super) fn keeps_response_heads(&self) -> bool {
        self.keeps_response_heads
    }

    /// Sends a message and wakes the executor.
    pub fn send_now(&self, message: Message) {
        let mut pending = self.lock();
        pending.messages.push(message);
        pending.settle();
        drop(pending);
        (self.wake)();
    }

    /// Sends a message; the executor is woken once `responses` wait, or the first has waited for `delay_max`, or by
    /// [`Outbox::announce`], which a thread calls before it parks. It is woken at once if it would not look by itself:
    /// the thread may be busy with its next request for long.
    pub fn send_soon(&self, message: Message, responses: usize, delay_max: Duration, now: Instant) {
        let mut pending = self.lock();
        pending.messages.push(message);
        pending.unannounced += 1;
        let since = *pending.unannounced_since.get_or_insert(now);
        let is_early = pending.unannounced < responses && now.duration_since(since) < delay_max;
        if is_early && self.is_polled.load(Ordering::Relaxed) {
            return;
        }
        pending.settle();
        drop(pending);
        (self.wake)();
    }

    /// Sends a part of a response that more will follow: the executor is woken only if it would not look by itself.
    pub fn send_part(&self, message: Message) {
        let mut pending = self.lock();
        pending.messages.push(message);
        if self.is_polled.load(Ordering::Relaxed) {
            return;
        }
        pending.settle();
        drop(pending);
        (self.wake)();
    }

    /// Executor: says whether it will look within [`SLOW_DELAY_MAX`] without being woken. To be said before the last
    /// [`Outbox::take`] ahead of a sleep: the lock orders the two for senders.
    pub fn set_polled(&self, is_polled: bool) {
        self.is_polled.store(is_polled, Ordering::Relaxed);
    }

    /// Sends a message that the executor need not hear of before it wakes for another reason.
    pub fn send_without_wake(&self, message: Message) {
        self.lock().messages.push(message);
    }

    /// Wakes the executor if it has not been told of every message.
    pub fn announce(&self) {
        let mut pending = self.lock();
        if pending.unannounced == 0 {
            return;
        }
        pending.settle();
        drop(pending);
        (self.wake)();
    }

    /// Takes all messages, leaving `emptied` in their place to be filled. The executor calls this.
    pub fn take(&self, emptied: &mut Vec<Message>) {
        let mut pending = self.lock();
        std::mem::swap(&mut pending.messages, emptied);
        pending.settle();
    }

    /// From now on no response promises that its connection lives on, and each wakes the executor at once.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether [`Outbox::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Wakes the executor, message or not.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// A thread that panicked while it held the lock left whole messages behind, so the queue is as good as before.
    fn lock(&self) -> MutexGuard<'_, Pending> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn settle(&mut self) {
        self.unannounced = 0;
        self.unannounced_since = None;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn a_lone_response_is_sent_at_once() {
        assert_eq!(FlushPolicy::for_load(0, Duration::ZERO), FlushPolicy::Immediate);
        assert_eq!(FlushPolicy::for_load(0, Duration::from_millis(1)), FlushPolicy::Immediate);
    }

    #[test]
    fn an_executor_that_would_not_look_by_itself_is_woken_at_once() {
        let rung = Arc::new(AtomicUsize::new(0));
        let bell = Arc::clone(&rung);
        let outbox = Outbox::new(move || {
            bell.fetch_add(1, Ordering::Relaxed);
        });
        let send = || {
            let message = Message { connection: 0, payload: Payload::Memory(Vec::new()), end: None };
            outbox.send_soon(message, 32, Duration::from_secs(1), Instant::now());
            rung.load(Ordering::Relaxed)
        };
        assert_eq!(send(), 1);
        outbox.set_polled(true);
        assert_eq!(send(), 1);
        outbox.set_polled(false);
        assert_eq!(send(), 2);
    }

    #[test]
    fn parts_of_a_response_join_until_its_end() {
        let part = |text: &str, end: bool| {
            let end = end.then(|| Box::new(End::new(Outcome::KeepAlive, 200, 3, None)));
            Message { connection: 0, payload: Payload::Memory(text.into()), end }
        };
        let mut message = part("a", false);
        assert!(message.join(part("b", false)).is_ok());
        assert!(message.join(part(&"x".repeat(PARTS_TOGETHER_BYTES), false)).is_err(), "too long");
        assert!(message.join(part("c", true)).is_ok());
        assert!(message.join(part("next response", false)).is_err());
        assert!(
            matches!(&message, Message { payload: Payload::Memory(bytes), end: Some(_), .. } if bytes == b"abc")
        );
    }

    #[test]
    fn fast_responses_go_together_and_slow_ones_only_when_many_wait() {
        let responses = |waiting, taken| match FlushPolicy::for_load(waiting, taken) {
            FlushPolicy::Immediate => 1,
            FlushPolicy::Batched { responses, .. } => responses,
        };
        assert_eq!(responses(1, Duration::ZERO), BATCH_RESPONSES_MAX);
        let slow = Duration::from_millis(1);
        assert_eq!(responses(3, slow), 1);
        assert_eq!(responses(3 * BATCH_WAITING_MIN, slow), 3);
        assert_eq!(responses(1000, slow), BATCH_RESPONSES_MAX);
    }
}
