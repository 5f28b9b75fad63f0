//! One connection: bytes from its stream through the HTTP machine to the application, and the answer back.
//!
//! An idle connection keeps the room of the largest state of its task, so what is rare waits in a box of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection_limit::ConnectionPermit;
use super::dispatch::{ConnectionHandle, ExecutorContext};
use super::lifecycle::Phase;
use super::peer::Peer;
use super::request_deadline::{DeadlineCheck, RequestDeadline};
use super::spill::Incoming;
use crate::gateway::{self, ConnectionFacts, End, Exchange, Message, Outcome, Reply, Request};
use crate::http::{self, BodyFraming, CONTINUE, Connection, Event, Forwarded, RequestHead};
use crate::limits::SWEEP_PAUSE;
use crate::reactor::{Accepted, Sender, Stream};
use crate::sys::clock;

mod ending;
mod health_check;
mod sending;
mod streaming;
mod upgrade;
mod waiting;

/// What the end of a connection counts in the socket's queue (RFC 9293 section 3.4).
const QUEUED_END_BYTES: usize = 1;
/// How long the first request of a connection is with the application before the kernel is asked to tell us when its
/// client leaves. Most are answered sooner, and the call is spared.
const WATCH_DELAY: Duration = SWEEP_PAUSE;

/// Adds a connection, counts it, and spawns the task that serves it until it closes.
pub(super) fn serve(executor: &Rc<ExecutorContext>, accepted: Accepted, permit: ConnectionPermit) {
    executor.reactor.spawn(ConnectionTask::open(Rc::clone(executor), accepted, permit).run());
}

/// Why a connection closes.
enum CloseReason {
    /// Everything was sent; the peer has read, or will read, it all.
    Finished,
    /// The last bytes may still be on their way: wait for the peer before closing, or they may be lost.
    Linger,
    /// The peer is gone, or broke off.
    PeerGone,
}

/// How a response came out of the application.
enum RelayOutcome {
    /// All of it is with the kernel.
    Complete(Box<End>),
    /// It ended after the client had gone.
    Truncated(Box<End>),
    /// No application thread had taken the request, and none will.
    Withdrawn(Box<Request>),
    /// The application took too long, and the client was answered in its place, or cut off.
    TimedOut,
    /// The application has taken over the connection, and has ended the call for the request or not yet.
    Upgraded(Option<Box<End>>),
}

struct ConnectionTask {
    executor: Rc<ExecutorContext>,
    handle: Rc<ConnectionHandle>,
    key: usize,
    machine: Connection,
    peer: Peer,
    exchange: Arc<Exchange>,
    // After the exchange, which holds it as well: the last holder closes it.
    stream: Stream,
    _permit: ConnectionPermit,
}

/// A request whose body is arriving.
struct Arriving {
    head: RequestHead,
    forwarded: Option<Box<Forwarded>>,
    body: Incoming,
}

impl ConnectionTask {
    fn open(executor: Rc<ExecutorContext>, accepted: Accepted, permit: ConnectionPermit) -> Self {
        let facts = ConnectionFacts { peer: accepted.peer, local: accepted.local, is_tls: false };
        let peer = Peer::new(facts, &executor.config.proxies);
        let stream = Stream::new(&executor.reactor, accepted);
        let key = executor.vacant_key();
        let exchange =
            Exchange::new(Box::new(SocketWriter(stream.sender())), Arc::clone(&executor.outbox), key);
        let handle = executor.add_connection(Rc::clone(stream.registration()));
        let machine = peer.machine(&executor);
        let exchange = Arc::new(exchange);
        Self { executor, handle, key, stream, machine, peer, exchange, _permit: permit }
    }

    async fn run(mut self) {
        match self.serve_requests().await {
            CloseReason::Finished | CloseReason::PeerGone => {}
            CloseReason::Linger => Box::pin(self.linger()).await,
        }
    }

    async fn serve_requests(&mut self) -> CloseReason {
        let mut arriving: Option<Arriving> = None;
        loop {
            match self.machine.next(self.executor.reactor.now()) {
                Event::Wait => {
                    if let Some(reason) = self.receive().await {
                        return reason;
                    }
                }
                Event::Continue => {
                    if self.write(CONTINUE).await.is_err() {
                        return CloseReason::PeerGone;
                    }
                }
                Event::Proxied(header) => {
                    self.peer = self.peer.relayed(&header, &self.executor.config.proxies);
                }
                Event::Head(mut head) => {
                    let forwarded = match self.peer.resolve_client(&mut head, &self.executor.config.proxies) {
                        Ok(forwarded) => forwarded,
                        Err(fault) => return Box::pin(self.reject(&fault, Some(&head))).await,
                    };
                    if streaming::suits(&head, &self.executor.config) {
                        if let Some(reason) = Box::pin(self.stream(head, forwarded)).await {
                            return reason;
                        }
                        continue;
                    }
                    if let BodyFraming::Length(length_bytes) = head.framing()
                        && !self.executor.storage.has_room(length_bytes)
                    {
                        return self.refuse_body(&head, &io::ErrorKind::QuotaExceeded.into()).await;
                    }
                    arriving = Some(Arriving { head, forwarded, body: Incoming::default() });
                }
                Event::Body(bytes) => {
                    let Some(arriving) = arriving.as_mut() else { return CloseReason::PeerGone };
                    arriving.body.push(bytes);
                    if arriving.body.is_heavy()
                        && let Err(error) =
                            arriving.body.settle(&self.executor.reactor, &self.executor.storage).await
                    {
                        return Box::pin(self.refuse_body(&arriving.head, &error)).await;
                    }
                }
                Event::BodyEnd => {
                    let Some(arriving) = arriving.take() else { return CloseReason::PeerGone };
                    if let Some(reason) = self.answer(arriving).await {
                        return reason;
                    }
                }
                Event::Reject(fault) => {
                    let head = arriving.as_ref().map(|arriving| &arriving.head);
                    return Box::pin(self.reject(&fault, head)).await;
                }
                Event::Close => return CloseReason::Finished,
                Event::Aborted => return CloseReason::PeerGone,
            }
        }
    }

    /// Feeds the machine what the peer sends next, or the deadline that has passed.
    async fn receive(&mut self) -> Option<CloseReason> {
        let mut drain_until: Option<Instant> = None;
        loop {
            if self.executor.is_queue_full()
                && self.machine.is_idle()
                && self.handle.registration.is_readable()
            {
                self.executor.set_deadline(&self.handle, None);
                self.stream.watch();
                Box::pin(self.executor.until_queue_has_room(&self.handle.registration)).await;
            }
            match self.read_available() {
                Ok(true) => return None,
                Ok(false) => {}
                Err(_) => return Some(CloseReason::PeerGone),
            }
            // Only now: what has arrived while we were busy, or stopped, has not come too late.
            match self.machine.expire(self.executor.reactor.now()) {
                Event::Wait => {}
                Event::Reject(fault) => return Some(Box::pin(self.reject(&fault, None)).await),
                _ => return Some(CloseReason::Finished),
            }
            drain_until = self.drain_deadline(drain_until);
            if drain_until.is_some_and(|until| until <= self.executor.reactor.now()) {
                return Some(CloseReason::Finished);
            }
            let deadline = self.machine.deadline().into_iter().chain(drain_until).min();
            self.executor.set_deadline(&self.handle, deadline);
            self.wait_for_wakeup().await;
        }
    }

    /// Until when an idle connection stays open once the process drains, `until` being what was said of it before. A
    /// request that comes meanwhile is answered, with `Connection: close`. A process that stops waits for none.
    fn drain_deadline(&mut self, until: Option<Instant>) -> Option<Instant> {
        let (phase, now) = (self.executor.phase(), self.executor.reactor.now());
        if phase < Phase::Draining {
            return None;
        }
        self.machine.drain();
        if !self.machine.is_idle() {
            return None;
        }
        Some(if phase >= Phase::Stopping { now } else { http::drain_deadline(until, now) })
    }

    /// Feeds the machine what has arrived; false when nothing has.
    fn read_available(&mut self) -> io::Result<bool> {
        read_available(&self.executor, &self.stream, &mut self.machine)
    }

    /// Has the application answer a complete request, and writes the answer.
    async fn answer(&mut self, arriving: Arriving) -> Option<CloseReason> {
        let Arriving { head, forwarded, body } = arriving;
        let head = Arc::new(head);
        if health_check::is_meant(&head, self) {
            return Box::pin(self.answer_health_check(&head)).await;
        }
        let received_at = self.executor.reactor.now();
        let request_bytes = head.length_bytes() as u64 + body.length_bytes();
        let body = match body.finish().await {
            Ok(body) => body,
            Err(error) => return Some(Box::pin(self.refuse_body(&head, &error)).await),
        };
        // The next request of a pipeline is here already: nothing else will wake this task for it.
        self.exchange.reopen(self.machine.buffered_bytes() > 0);
        let mut request_deadline = RequestDeadline::new(&self.executor.config, &head, received_at);
        let first_check = request_deadline.first_check(received_at);
        let watch_at = received_at + WATCH_DELAY;
        let look_at = if self.stream.is_watched() { first_check } else { first_check.min(watch_at) };
        self.executor.set_deadline(&self.handle, Some(look_at));
        let early = upgrade::suits(&head).then(|| self.machine.buffered().to_vec());
        let mut facts = head.facts();
        // An application that keeps the offer must not meet the next request of the connection with it.
        facts.keep_alive &= early.is_none();
        let reply = Reply::new(Arc::clone(&self.exchange), facts);
        let connection = Arc::clone(&self.peer.facts);
        self.executor.submit(Box::new(Request {
            head,
            body,
            connection,
            forwarded,
            early,
            reply,
            received_at,
        }));
        let (end, all_written) = match self.relay(&mut request_deadline, received_at, request_bytes).await {
            RelayOutcome::Complete(end) => (end, true),
            RelayOutcome::Truncated(end) => (end, false),
            RelayOutcome::Withdrawn(request) => {
                return Some(Box::pin(self.give_up(*request, request_bytes)).await);
            }
            RelayOutcome::TimedOut => return Some(CloseReason::PeerGone),
            RelayOutcome::Upgraded(end) => {
                return Some(Box::pin(self.wait_for_upgrade_end(end, received_at, request_bytes)).await);
            }
        };
        self.record_response(&end, received_at, request_bytes);
        if !all_written {
            return Some(CloseReason::PeerGone);
        }
        match end.outcome {
            Outcome::Broken => Some(CloseReason::PeerGone),
            Outcome::Close => Some(self.close_reason()),
            Outcome::KeepAlive => {
                // A promise is kept, also by a process that drains: the next request may be on its way.
                self.machine.respond_done(true, self.executor.reactor.now());
                None
            }
        }
    }

    /// How to close after a complete response: with unread bytes, not at once.
    fn close_reason(&self) -> CloseReason {
        let has_unread = self.machine.buffered_bytes() > 0 || self.stream.has_input();
        if has_unread && !self.handle.registration.has_peer_ended() {
            CloseReason::Linger
        } else {
            CloseReason::Finished
        }
    }

    /// Writes what the application sends until the response ends.
    async fn relay(
        &self,
        request_deadline: &mut RequestDeadline,
        received_at: Instant,
        request_bytes: u64,
    ) -> RelayOutcome {
        let (mut all_written, mut timed_out) = (true, false);
        let written_before = self.stream.written_bytes();
        loop {
            while let Some(Message { payload, mut end, .. }) = self.handle.next_message() {
                if all_written && self.write_payload(payload, &mut end).await.is_err() {
                    all_written = false;
                    self.exchange.close();
                }
                if let Some(mut end) = end {
                    if self.exchange.is_taken_over() {
                        return RelayOutcome::Upgraded(Some(end));
                    }
                    if timed_out {
                        return RelayOutcome::TimedOut;
                    }
                    // One that has read it all and left may be seen to leave before the end is heard of.
                    if all_written || end.is_sent && self.stream.queued_bytes() <= QUEUED_END_BYTES {
                        return RelayOutcome::Complete(end);
                    }
                    end.outcome = Outcome::Broken;
                    end.body_bytes = end.body_bytes.min(self.arrived_bytes(written_before));
                    return RelayOutcome::Truncated(end);
                }
            }
            if self.exchange.is_taken_over() {
                return RelayOutcome::Upgraded(None);
            }
            if self.executor.phase() >= Phase::Stopping && !timed_out {
                self.cut(request_deadline.give_up(), received_at, request_bytes, written_before);
                return RelayOutcome::TimedOut;
            }
            let is_hung_up = self.handle.registration.is_hung_up();
            if is_hung_up {
                all_written = false;
                self.exchange.close();
            }
            if is_hung_up || self.handle.registration.is_readable() {
                self.exchange.await_end();
            }
            let now = self.executor.reactor.now();
            if (request_deadline.is_queue_time_over(now) || !all_written)
                && self.exchange.work(0).is_none()
                && let Some(request) = self.executor.withdraw(&self.exchange)
            {
                return RelayOutcome::Withdrawn(request);
            }
            if self.handle.deadline.get().is_none_or(|look_at| look_at <= now) {
                self.stream.watch();
                match request_deadline.check(self.exchange.work(clock::monotonic_ms()), now) {
                    DeadlineCheck::Pending(look_at) => self.executor.set_deadline(&self.handle, look_at),
                    DeadlineCheck::Exceeded => {
                        all_written = false;
                        let head = request_deadline.give_up();
                        timed_out = Box::pin(self.time_out(head, received_at, request_bytes)).await;
                    }
                }
            }
            self.wait_for_wakeup_unwatched().await;
        }
    }
}

/// Feeds `machine` what has arrived; false when nothing has.
fn read_available(executor: &ExecutorContext, stream: &Stream, machine: &mut Connection) -> io::Result<bool> {
    let mut scratch = executor.scratch.borrow_mut();
    let Some(count) = stream.try_read(&mut scratch)? else { return Ok(false) };
    match scratch.get(..count) {
        Some(bytes) if count > 0 => machine.receive(bytes, executor.reactor.now()),
        _ => machine.receive_end(),
    }
    Ok(true)
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.exchange.close();
        self.executor.remove_connection(self.key);
    }
}

/// The socket as application threads may use it.
struct SocketWriter(Sender);

impl gateway::ConnectionWriter for SocketWriter {
    fn send(&self, bytes: &[u8]) -> usize {
        self.0.send(bytes)
    }

    fn send_last(&self, bytes: &[u8]) -> usize {
        self.0.send_last(bytes)
    }

    fn duplicate(&self) -> io::Result<OwnedFd> {
        self.0.duplicate()
    }
}
