//! Answering a request from an application thread, without ever waiting for a slow client's socket.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{End, FlushPolicy, Message, Outbox, Outcome, Payload};
use crate::http::RequestFacts;
use crate::limits::{
    PART_BYTES_SMALL, PARTS_TOGETHER_BYTES, PARTS_TOGETHER_WITHIN, RESPONSE_MEMORY_BYTES_MAX,
};

/// The request has no answer yet.
const UNCLAIMED: u8 = 0;
/// The application thread answers it.
const THREAD: u8 = 1;
/// The executor answers it, or has cut it off.
const EXECUTOR: u8 = 2;
/// The application has taken over the connection, and the server writes nothing more to it.
const TAKEN_OVER: u8 = 3;

/// What an application thread does for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestProgress {
    /// The thread, never 0.
    pub thread: u64,
    /// Since it took the request.
    pub lasts: Duration,
    /// Pieces of the response it has sent.
    pub sends: u64,
}

/// A connection's socket as an application thread may use it.
pub trait ConnectionWriter: Send + Sync {
    /// Sends what the socket takes without waiting, and returns how many bytes that was; 0 also when it is broken.
    fn send(&self, bytes: &[u8]) -> usize;

    /// The same for the last words: if the socket takes them all, the peer is told that nothing more will come.
    fn send_last(&self, bytes: &[u8]) -> usize;

    /// Another descriptor of the socket.
    ///
    /// # Errors
    /// The kernel's, when there are no more.
    fn duplicate(&self) -> io::Result<OwnedFd>;
}

/// What an executor and an application thread share about one connection. At most one request of it is with the
/// application, so its fields speak of that request.
pub struct Exchange {
    writer: Box<dyn ConnectionWriter>,
    outbox: Arc<Outbox>,
    connection: usize,
    /// Bytes handed to the executor and not yet in the kernel.
    unsent_bytes: AtomicUsize,
    /// The request's body is still on its way.
    uploading: AtomicBool,
    /// The client is gone: nothing more needs to be produced.
    closed: AtomicBool,
    /// The executor wants to know at once when the response has ended.
    awaited: AtomicBool,
    /// The thread that works on the request, 0 while none does, and since when.
    worked_by: AtomicU64,
    worked_since_ms: AtomicU64,
    /// Pieces of the response that thread has sent.
    sends: AtomicU64,
    /// Bytes of the response that it has sent by itself.
    sent_bytes: AtomicU64,
    /// What it has said of the response: its status code, 0 until then, and how long its head is.
    status: AtomicU16,
    head_bytes: AtomicU64,
    /// Who answers the request: see [`Exchange::claim_for_executor`] and [`Upgrade`].
    responder: AtomicU8,
    /// The application is done with the connection that it had taken over.
    released: AtomicBool,
    /// Who waits for room.
    waiter: Mutex<Waiter>,
    room_made: Condvar,
}

/// Who waits until the client has taken enough of a response, or is gone.
enum Waiter {
    None,
    /// The application thread. Without it there is no system call to be made.
    Thread,
    /// Called then, once.
    Call(Box<dyn FnOnce() + Send>),
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Exchange").field("connection", &self.connection).finish_non_exhaustive()
    }
}

impl Exchange {
    /// An exchange over `writer`, whose executor reads `outbox` and knows the connection as `connection`.
    pub fn new(writer: Box<dyn ConnectionWriter>, outbox: Arc<Outbox>, connection: usize) -> Self {
        Self {
            writer,
            outbox,
            connection,
            unsent_bytes: AtomicUsize::new(0),
            uploading: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            worked_by: AtomicU64::new(0),
            worked_since_ms: AtomicU64::new(0),
            sends: AtomicU64::new(0),
            sent_bytes: AtomicU64::new(0),
            status: AtomicU16::new(0),
            head_bytes: AtomicU64::new(0),
            responder: AtomicU8::new(UNCLAIMED),
            released: AtomicBool::new(false),
            waiter: Mutex::new(Waiter::None),
            room_made: Condvar::new(),
        }
    }

    /// Executor: `count` bytes went to the kernel; a thread that waits for room may go on.
    pub fn note_written(&self, count: usize) {
        let before = self.unsent_bytes.fetch_sub(count, Ordering::SeqCst);
        if before > RESPONSE_MEMORY_BYTES_MAX / 2 && before - count <= RESPONSE_MEMORY_BYTES_MAX / 2 {
            self.notify();
        }
    }

    /// Executor: the client is gone. Threads stop waiting, and learn of it.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.notify();
    }

    /// Executor: the client has sent more, or is gone, so the end of this response must wake the executor. A caller
    /// must look at the outbox once more afterwards.
    pub fn await_end(&self) {
        self.awaited.store(true, Ordering::SeqCst);
    }

    /// Executor: says whether the request's body is still on its way, so that its connection may have to be closed.
    pub fn set_uploading(&self, uploading: bool) {
        self.uploading.store(uploading, Ordering::Relaxed);
    }

    /// Executor: whether the application thread has begun its answer.
    pub fn is_answering(&self) -> bool {
        self.responder.load(Ordering::SeqCst) == THREAD
    }

    /// Thread: wakes the connection's task.
    pub(super) fn nudge(&self) {
        let payload = Payload::Memory(Vec::new());
        self.outbox.send_now(Message { connection: self.connection, payload, end: None });
    }

    /// Executor: a new request begins, whose end is `awaited` or need not wake the executor.
    pub fn reopen(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::SeqCst);
        self.worked_by.store(0, Ordering::Relaxed);
        self.sends.store(0, Ordering::Relaxed);
        self.sent_bytes.store(0, Ordering::Relaxed);
        self.status.store(0, Ordering::Relaxed);
        self.head_bytes.store(0, Ordering::Relaxed);
        self.responder.store(UNCLAIMED, Ordering::SeqCst);
    }

    /// Executor: which work an application thread does on the request, as of `now_ms`; `None` while it is queued.
    pub fn work(&self, now_ms: u64) -> Option<RequestProgress> {
        let thread = self.worked_by.load(Ordering::Acquire);
        let lasts_ms = now_ms.saturating_sub(self.worked_since_ms.load(Ordering::Relaxed));
        let sends = self.sends.load(Ordering::Relaxed);
        (thread != 0).then_some(RequestProgress { thread, lasts: Duration::from_millis(lasts_ms), sends })
    }

    /// Executor: the status code of the response, if the application thread has begun to send it.
    pub fn status(&self) -> Option<u16> {
        Some(self.status.load(Ordering::Relaxed)).filter(|status| *status != 0)
    }

    /// Executor: how many bytes of the response's body have arrived, if the executor has sent so many bytes of the
    /// response and so many of all are still on their way. The framing of chunks counts as well.
    pub fn arrived_bytes(&self, executor_bytes: u64, queued_bytes: u64) -> u64 {
        let sent = self.sent_bytes.load(Ordering::Relaxed).saturating_add(executor_bytes);
        sent.saturating_sub(self.head_bytes.load(Ordering::Relaxed)).saturating_sub(queued_bytes)
    }

    /// Executor: from now on nothing that the application thread says is sent. Returns whether it has said nothing yet,
    /// so that the executor may answer in its place. A connection that was taken over stays so.
    pub fn claim_for_executor(&self) -> bool {
        let kept = |responder| (responder != TAKEN_OVER).then_some(EXECUTOR);
        self.responder.fetch_update(Ordering::SeqCst, Ordering::SeqCst, kept) == Ok(UNCLAIMED)
    }

    /// Executor: whether the application has taken over the connection, of which nothing may be read or written then.
    pub fn is_taken_over(&self) -> bool {
        self.responder.load(Ordering::SeqCst) == TAKEN_OVER
    }

    /// Executor: whether the application is done with the connection that it had taken over.
    pub fn is_released(&self) -> bool {
        self.released.load(Ordering::SeqCst)
    }

    fn notify(&self) {
        let waiter = std::mem::replace(&mut *self.waiter(), Waiter::None);
        match waiter {
            Waiter::None => {}
            Waiter::Thread => self.room_made.notify_all(),
            Waiter::Call(call) => call(),
        }
    }

    /// A thread that panicked while it held the lock left a whole waiter behind.
    fn waiter(&self) -> MutexGuard<'_, Waiter> {
        self.waiter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one answer to one request. Dropped unfinished, it closes the connection.
#[derive(Debug)]
pub struct Reply {
    exchange: Arc<Exchange>,
    facts: RequestFacts,
    finished: bool,
    /// When the last part of the response was sent.
    part_at: Option<Instant>,
}

impl Reply {
    /// The answer to the request that `facts` tells about.
    pub fn new(exchange: Arc<Exchange>, facts: RequestFacts) -> Self {
        Self { exchange, facts, finished: false, part_at: None }
    }

    /// Whether this answers a request of that exchange.
    pub fn is_of(&self, exchange: &Arc<Exchange>) -> bool {
        Arc::ptr_eq(&self.exchange, exchange)
    }

    /// Gives the reply up without a word: the executor answers for itself.
    pub fn discard(mut self) {
        self.finished = true;
    }

    /// What framing the response needs to know of the request.
    pub fn facts(&self) -> RequestFacts {
        self.facts
    }

    /// Whether the server wants the connection to live on after this response.
    pub fn may_keep_alive(&self) -> bool {
        !self.exchange.outbox.is_draining() && !self.exchange.uploading.load(Ordering::Relaxed)
    }

    /// Thread: notes what the executor could not tell from the response's bytes.
    pub fn note_head(&self, status: u16, head_bytes: usize) {
        self.exchange.head_bytes.store(head_bytes as u64, Ordering::Relaxed);
        self.exchange.status.store(status, Ordering::Relaxed);
    }

    /// Whether the access log wants to know the response's head: [`End::response_head`].
    pub fn wants_response_head(&self) -> bool {
        self.exchange.outbox.keeps_response_heads()
    }

    /// Thread: notes who works on the request, since `now_ms` by a clock that [`Exchange::work`] is asked by, too.
    pub fn begin(&self, thread: u64, now_ms: u64) {
        self.exchange.worked_since_ms.store(now_ms, Ordering::Relaxed);
        self.exchange.worked_by.store(thread, Ordering::Release);
    }

    /// Green thread: notes that it works on the request, of which [`Reply::begin`] knew only the thread below.
    pub fn begin_as(&self, green_thread: u64) {
        self.exchange.worked_by.store(green_thread, Ordering::Release);
    }

    /// Claims the response for the application thread; false when the executor has it.
    fn claim_for_thread(&self) -> bool {
        let exchange = &self.exchange;
        exchange.sends.store(exchange.sends.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let before =
            exchange.responder.compare_exchange(UNCLAIMED, THREAD, Ordering::SeqCst, Ordering::SeqCst);
        matches!(before, Ok(_) | Err(THREAD))
    }

    /// The way to take over the connection.
    pub fn upgrade(&self) -> Upgrade {
        Upgrade { exchange: Arc::clone(&self.exchange) }
    }

    /// Whether the application has taken over the connection: nothing that is sent here arrives.
    pub fn is_taken_over(&self) -> bool {
        self.exchange.is_taken_over()
    }

    /// Whether the client is gone.
    pub fn is_closed(&self) -> bool {
        self.exchange.closed.load(Ordering::Relaxed)
    }

    /// Sends a part of the response, at once if the socket takes it, else through the executor. Small parts in quick
    /// succession go through the executor too, which sends in one call what has come within a moment.
    pub fn send(&mut self, mut bytes: Vec<u8>) {
        if !self.claim_for_thread() {
            return;
        }
        let now = Instant::now();
        let last = self.part_at.replace(now);
        let follows = last.is_some_and(|last| now.duration_since(last) < PARTS_TOGETHER_WITHIN);
        let is_one_of_many = follows && bytes.len() < PART_BYTES_SMALL;
        if !is_one_of_many && self.exchange.unsent_bytes.load(Ordering::SeqCst) == 0 {
            let sent = self.send_directly(&bytes, false);
            if sent == bytes.len() {
                return;
            }
            bytes.drain(..sent);
        }
        let length = bytes.len();
        let unsent = self.exchange.unsent_bytes.fetch_add(length, Ordering::SeqCst) + length;
        let message = self.message(Payload::Memory(bytes), None);
        if is_one_of_many && unsent < PARTS_TOGETHER_BYTES {
            self.exchange.outbox.send_part(message);
        } else {
            self.exchange.outbox.send_now(message);
        }
    }

    /// Whether so much is unsent that the caller should [`Reply::wait_for_room`] before it produces more.
    pub fn is_congested(&self) -> bool {
        self.exchange.unsent_bytes.load(Ordering::SeqCst) > RESPONSE_MEMORY_BYTES_MAX && !self.is_closed()
    }

    /// Waits until the client has taken enough, or is gone. Never call it holding what others wait for.
    pub fn wait_for_room(&self) {
        let mut waiter = self.exchange.waiter();
        while self.lacks_room() {
            *waiter = Waiter::Thread;
            waiter = self.exchange.room_made.wait(waiter).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Has `call` called, from any thread, once the client has taken enough or is gone; at once if that is so already.
    pub fn when_room(&self, call: impl FnOnce() + Send + 'static) {
        let mut waiter = self.exchange.waiter();
        if self.lacks_room() {
            *waiter = Waiter::Call(Box::new(call));
        } else {
            drop(waiter);
            call();
        }
    }

    fn lacks_room(&self) -> bool {
        self.exchange.unsent_bytes.load(Ordering::SeqCst) > RESPONSE_MEMORY_BYTES_MAX / 2 && !self.is_closed()
    }

    /// Ends the response with `payload`, sent as `flush_policy` says.
    pub fn finish(mut self, mut payload: Payload, mut end: End, flush_policy: FlushPolicy) {
        self.finished = true;
        if self.is_taken_over() {
            let message = self.message(Payload::Memory(Vec::new()), Some(Box::new(end)));
            return self.exchange.outbox.send_now(message);
        }
        if !self.claim_for_thread() {
            payload = Payload::Memory(Vec::new());
            end.outcome = Outcome::Broken;
        }
        let is_complete = end.outcome != Outcome::Broken;
        let nothing_unsent = self.exchange.unsent_bytes.load(Ordering::SeqCst) == 0;
        let payload = match payload {
            Payload::Memory(mut bytes)
                if flush_policy == FlushPolicy::Immediate && is_complete && nothing_unsent =>
            {
                let sent = self.send_directly(&bytes, end.outcome == Outcome::Close);
                bytes.drain(..sent);
                Payload::Memory(bytes)
            }
            other => other,
        };
        let unsent = payload.memory_bytes();
        let all_sent = unsent == 0 && matches!(payload, Payload::Memory(_)) && nothing_unsent;
        self.exchange.unsent_bytes.fetch_add(unsent, Ordering::SeqCst);
        end.is_sent = all_sent;
        let ended_at = end.ended_at;
        let message = self.message(payload, Some(Box::new(end)));
        self.deliver(message, flush_policy, all_sent && is_complete, ended_at);
    }

    fn deliver(&self, message: Message, flush_policy: FlushPolicy, without_wake: bool, now: Instant) {
        let outbox = &self.exchange.outbox;
        if !without_wake {
            match flush_policy {
                FlushPolicy::Immediate => outbox.send_now(message),
                FlushPolicy::Batched { responses, delay_max } => {
                    outbox.send_soon(message, responses, delay_max, now);
                }
            }
            return;
        }
        outbox.send_without_wake(message);
        // The executor sets either before it looks into the outbox for the last time.
        fence(Ordering::SeqCst);
        if self.exchange.awaited.load(Ordering::SeqCst) || outbox.is_draining() {
            outbox.wake();
        }
    }

    fn send_directly(&self, bytes: &[u8], is_last: bool) -> usize {
        // A broken connection is the executor's to find: it closes, and logs, in one place.
        let writer = &self.exchange.writer;
        let sent = if is_last { writer.send_last(bytes) } else { writer.send(bytes) };
        // Nobody else writes it now.
        let before = self.exchange.sent_bytes.load(Ordering::Relaxed);
        self.exchange.sent_bytes.store(before + sent as u64, Ordering::Relaxed);
        sent
    }

    fn message(&self, payload: Payload, end: Option<Box<End>>) -> Message {
        Message { connection: self.exchange.connection, payload, end }
    }
}

impl Payload {
    /// Bytes of it that sit in memory.
    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Memory(bytes) | Self::File { prefix: bytes, .. } => bytes.len(),
            Self::Lent { prefix, body } => prefix.len() + body.as_bytes().len(),
        }
    }
}

/// What the application takes over a connection by, once. It is done with it when this is dropped.
#[derive(Debug)]
pub struct Upgrade {
    exchange: Arc<Exchange>,
}

impl Upgrade {
    /// A descriptor of the connection, which from now on is the caller's alone to read and to write.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] when the request is answered already, or has been given up; the kernel's.
    pub fn take(&self) -> io::Result<OwnedFd> {
        let exchange = &self.exchange;
        let descriptor = exchange.writer.duplicate()?;
        let before =
            exchange.responder.compare_exchange(UNCLAIMED, TAKEN_OVER, Ordering::SeqCst, Ordering::SeqCst);
        if before.is_err() {
            let what = "the request is answered already, or its connection was taken over";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        // Nothing more needs to be produced for the response.
        exchange.close();
        exchange.nudge();
        Ok(descriptor)
    }
}

impl Drop for Upgrade {
    fn drop(&mut self) {
        if self.exchange.is_taken_over() {
            self.exchange.released.store(true, Ordering::SeqCst);
            self.exchange.nudge();
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.finished {
            let end = End::new(Outcome::Broken, 0, 0, None);
            let message = self.message(Payload::Memory(Vec::new()), Some(Box::new(end)));
            self.exchange.outbox.send_now(message);
        }
    }
}
