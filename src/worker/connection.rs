//! One connection: bytes from its stream through the HTTP machine to the application, and the answer back.
//!
//! An idle connection keeps the room of the largest state of its task, so what is rare waits in a box of its own.

use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::access_line::Line;
use super::dispatch::{Desk, Entry};
use super::life::Phase;
use super::notices::{Notice, Overdue};
use super::overdue::{Patience, Standing};
use super::peer::Peer;
use super::places::Place;
use super::spill::Incoming;
use crate::gateway::{self, ConnectionFacts, End, Exchange, Message, Outcome, Reply, Request};
use crate::http::{self, BodyFraming, CONTINUE, Connection, Event, Forwarded, RequestFault, RequestHead};
use crate::limits::SWEEP_PAUSE;
use crate::reactor::{Accepted, Sender, Stream};
use crate::sys::clock;

mod handover;
mod sending;
mod streaming;
mod waiting;

/// How long the first request of a connection is with the application before the kernel is asked to tell us when its
/// client leaves. Most are answered sooner, and the call is spared.
const WATCH_DELAY: Duration = SWEEP_PAUSE;
/// What the access log shows for a request whose client left before any thread took it, as nginx does.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Takes a connection in, which counts from now on, and serves it beside the others until it closes.
pub(super) fn serve(desk: &Rc<Desk>, accepted: Accepted, place: Place) {
    desk.reactor.spawn(Conversation::open(Rc::clone(desk), accepted, place).run());
}

/// Why a conversation is over.
enum Over {
    /// Everything was said; the peer has read, or will read, it all.
    Said,
    /// Our last words may still be on their way: wait for the peer before closing, or they may be lost.
    Linger,
    /// The peer is gone, or broke off.
    Gone,
}

/// How a response came out of the application.
enum Relayed {
    /// All of it is with the kernel.
    Whole(Box<End>),
    /// It ended after the client had gone.
    Cut(Box<End>),
    /// No application thread had taken the request, and none will.
    Withdrawn(Box<Request>),
    /// The application took too long, and the client was answered in its place.
    CalledOff,
    /// The application has taken over the connection, and has ended the call for the request or not yet.
    TakenOver(Option<Box<End>>),
}

struct Conversation {
    desk: Rc<Desk>,
    entry: Rc<Entry>,
    key: usize,
    machine: Connection,
    peer: Peer,
    exchange: Arc<Exchange>,
    // After the exchange, which holds it as well: the last holder closes it.
    stream: Stream,
    _place: Place,
}

/// A request whose body is arriving.
struct Arriving {
    head: RequestHead,
    forwarded: Option<Box<Forwarded>>,
    body: Incoming,
}

impl Conversation {
    fn open(desk: Rc<Desk>, accepted: Accepted, place: Place) -> Self {
        let facts = ConnectionFacts { peer: accepted.peer, local: accepted.local, is_tls: false };
        let peer = Peer::new(facts, &desk.config.proxies);
        let stream = Stream::new(&desk.reactor, accepted);
        let key = desk.vacant_key();
        let exchange = Exchange::new(Box::new(DirectLine(stream.sender())), Arc::clone(&desk.outbox), key);
        let entry = desk.admit(Rc::clone(stream.registration()));
        let machine = peer.machine(&desk);
        let exchange = Arc::new(exchange);
        Self { desk, entry, key, stream, machine, peer, exchange, _place: place }
    }

    async fn run(mut self) {
        match self.converse().await {
            Over::Said | Over::Gone => {}
            Over::Linger => Box::pin(self.linger()).await,
        }
    }

    async fn converse(&mut self) -> Over {
        let mut arriving: Option<Arriving> = None;
        loop {
            match self.machine.next(self.desk.reactor.now()) {
                Event::Wait => {
                    if let Some(over) = self.hear().await {
                        return over;
                    }
                }
                Event::Continue => {
                    if self.write(CONTINUE).await.is_err() {
                        return Over::Gone;
                    }
                }
                Event::Proxied(header) => self.peer = self.peer.relayed(&header, &self.desk.config.proxies),
                Event::Head(mut head) => {
                    let forwarded = match self.peer.hear(&mut head, &self.desk.config.proxies) {
                        Ok(forwarded) => forwarded,
                        Err(fault) => return Box::pin(self.reject(&fault, Some(&head))).await,
                    };
                    if streaming::suits(&head, &self.desk.config) {
                        if let Some(over) = Box::pin(self.stream(head, forwarded)).await {
                            return over;
                        }
                        continue;
                    }
                    if let BodyFraming::Length(length_bytes) = head.framing()
                        && !self.desk.storage.has_room(length_bytes)
                    {
                        return self.refuse_body(&head, &io::ErrorKind::QuotaExceeded.into()).await;
                    }
                    arriving = Some(Arriving { head, forwarded, body: Incoming::default() });
                }
                Event::Body(bytes) => {
                    let Some(arriving) = arriving.as_mut() else { return Over::Gone };
                    arriving.body.push(bytes);
                    if arriving.body.is_heavy()
                        && let Err(error) = arriving.body.settle(&self.desk.reactor, &self.desk.storage).await
                    {
                        return Box::pin(self.refuse_body(&arriving.head, &error)).await;
                    }
                }
                Event::BodyEnd => {
                    let Some(arriving) = arriving.take() else { return Over::Gone };
                    if let Some(over) = self.answer(arriving).await {
                        return over;
                    }
                }
                Event::Reject(fault) => {
                    let head = arriving.as_ref().map(|arriving| &arriving.head);
                    return Box::pin(self.reject(&fault, head)).await;
                }
                Event::Close => return Over::Said,
                Event::Aborted => return Over::Gone,
            }
        }
    }

    /// Feeds the machine what the peer sends next, or what its silence means.
    async fn hear(&mut self) -> Option<Over> {
        let mut patience: Option<Instant> = None;
        loop {
            if self.desk.is_choked() && self.machine.is_idle() && self.entry.registration.is_readable() {
                self.desk.set_deadline(&self.entry, None);
                self.stream.watch();
                Box::pin(self.desk.until_room(&self.entry.registration)).await;
            }
            match self.take_in() {
                Ok(true) => return None,
                Ok(false) => {}
                Err(_) => return Some(Over::Gone),
            }
            // Only now: what has arrived while we were busy, or stopped, has not come too late.
            match self.machine.expire(self.desk.reactor.now()) {
                Event::Wait => {}
                Event::Reject(fault) => return Some(Box::pin(self.reject(&fault, None)).await),
                _ => return Some(Over::Said),
            }
            patience = self.drain_patience(patience);
            if patience.is_some_and(|until| until <= self.desk.reactor.now()) {
                return Some(Over::Said);
            }
            let deadline = self.machine.deadline().into_iter().chain(patience).min();
            self.desk.set_deadline(&self.entry, deadline);
            self.pause().await;
        }
    }

    /// Until when an idle connection stays open once the process drains, `until` being what was said of it before. A
    /// request that comes meanwhile is answered, with `Connection: close`. A process that stops waits for none.
    fn drain_patience(&mut self, until: Option<Instant>) -> Option<Instant> {
        let (phase, now) = (self.desk.phase(), self.desk.reactor.now());
        if phase < Phase::Draining {
            return None;
        }
        self.machine.drain();
        if !self.machine.is_idle() {
            return None;
        }
        Some(if phase >= Phase::Stopping { now } else { http::drain_patience(until, now) })
    }

    /// Feeds the machine what has arrived; false when nothing has.
    fn take_in(&mut self) -> io::Result<bool> {
        take_in(&self.desk, &self.stream, &mut self.machine)
    }

    /// Has the application answer a complete request, and writes the answer.
    async fn answer(&mut self, arriving: Arriving) -> Option<Over> {
        let Arriving { head, forwarded, body } = arriving;
        let received_at = self.desk.reactor.now();
        let request_bytes = head.length_bytes() as u64 + body.length_bytes();
        let body = match body.finish().await {
            Ok(body) => body,
            Err(error) => return Some(Box::pin(self.refuse_body(&head, &error)).await),
        };
        // The next request of a pipeline is here already: nothing else will wake this task for it.
        self.exchange.reopen(self.machine.buffered_bytes() > 0);
        let mut patience = Patience::new(&self.desk.config, &head, received_at);
        let first_look = patience.first_look(received_at);
        let watch_at = received_at + WATCH_DELAY;
        let look_at = if self.stream.is_watched() { first_look } else { first_look.min(watch_at) };
        self.desk.set_deadline(&self.entry, Some(look_at));
        let early = handover::suits(&head).then(|| self.machine.buffered().to_vec());
        let mut facts = head.facts();
        // An application that keeps the offer must not meet the next request of the connection with it.
        facts.keep_alive &= early.is_none();
        let reply = Reply::new(Arc::clone(&self.exchange), facts);
        let connection = Arc::clone(&self.peer.facts);
        self.desk.submit(Box::new(Request { head, body, connection, forwarded, early, reply, received_at }));
        let (end, all_written) = match self.relay(&mut patience, received_at, request_bytes).await {
            Relayed::Whole(end) => (end, true),
            Relayed::Cut(end) => (end, false),
            Relayed::Withdrawn(request) => {
                return Some(Box::pin(self.give_up(*request, request_bytes)).await);
            }
            Relayed::CalledOff => return Some(Over::Gone),
            Relayed::TakenOver(end) => {
                return Some(Box::pin(self.outlast(end, received_at, request_bytes)).await);
            }
        };
        self.conclude(&end, received_at, request_bytes);
        if !all_written {
            return Some(Over::Gone);
        }
        match end.outcome {
            Outcome::Broken => Some(Over::Gone),
            Outcome::Close => Some(self.goodbye()),
            Outcome::KeepAlive => {
                // A promise is kept, also by a process that drains: the next request may be on its way.
                self.machine.respond_done(true, self.desk.reactor.now());
                None
            }
        }
    }

    /// How to close after a complete response: with unread bytes, not at once.
    fn goodbye(&self) -> Over {
        let unread = self.machine.buffered_bytes() > 0 || self.stream.has_input();
        if unread && !self.entry.registration.has_peer_ended() { Over::Linger } else { Over::Said }
    }

    /// Writes what the application sends until the response ends.
    async fn relay(&self, patience: &mut Patience, received_at: Instant, request_bytes: u64) -> Relayed {
        let (mut all_written, mut called_off) = (true, false);
        loop {
            while let Some(Message { payload, mut end, .. }) = self.entry.next_message() {
                if all_written && self.write_payload(payload, &mut end).await.is_err() {
                    all_written = false;
                    self.exchange.close();
                }
                if let Some(end) = end {
                    if self.exchange.is_taken_over() {
                        return Relayed::TakenOver(Some(end));
                    }
                    if called_off {
                        return Relayed::CalledOff;
                    }
                    return if all_written { Relayed::Whole(end) } else { Relayed::Cut(end) };
                }
            }
            if self.exchange.is_taken_over() {
                return Relayed::TakenOver(None);
            }
            let is_hung_up = self.entry.registration.is_hung_up();
            if is_hung_up {
                all_written = false;
                self.exchange.close();
            }
            if is_hung_up || self.entry.registration.is_readable() {
                self.exchange.await_end();
            }
            let now = self.desk.reactor.now();
            if (patience.is_queue_over(now) || !all_written)
                && self.exchange.work(0).is_none()
                && let Some(request) = self.desk.withdraw(&self.exchange)
            {
                return Relayed::Withdrawn(request);
            }
            if self.entry.deadline.get().is_none_or(|look_at| look_at <= now) {
                self.stream.watch();
                match patience.look(self.exchange.work(clock::monotonic_ms()), now) {
                    Standing::Fine(look_at) => self.desk.set_deadline(&self.entry, look_at),
                    Standing::Overdue => {
                        all_written = false;
                        let head = patience.give_up();
                        called_off = Box::pin(self.call_off(head, received_at, request_bytes)).await;
                    }
                }
            }
            self.pause_unwatched().await;
        }
    }

    /// Answers a request that no application thread took in time, or whose client left meanwhile.
    async fn give_up(&mut self, request: Request, request_bytes: u64) -> Over {
        let Request { head, reply, received_at, .. } = request;
        reply.discard();
        let is_gone = self.entry.registration.is_hung_up();
        let status = if is_gone { CLIENT_CLOSED_REQUEST } else { RequestFault::Overloaded.status().0 };
        let response = RequestFault::Overloaded.response(head.facts().is_head, &gateway::date_now());
        let end = End::new(Outcome::Close, status, 0, Some(head));
        self.conclude(&end, received_at, request_bytes);
        if is_gone {
            return Over::Gone;
        }
        self.desk.load.queue_timed_out();
        match self.write(&response).await {
            Ok(()) => Over::Linger,
            Err(_) => Over::Gone,
        }
    }

    /// Ends a response that the application takes too long for: by an answer in its place, or in the middle. Returns
    /// whether it was answered. The connection stays ours until the thread lets go of its exchange.
    async fn call_off(&self, head: Option<RequestHead>, received_at: Instant, request_bytes: u64) -> bool {
        let unanswered = self.exchange.silence();
        if self.exchange.is_taken_over() {
            return false;
        }
        self.exchange.close();
        let Some(work) = self.exchange.work(clock::monotonic_ms()) else { return false };
        let request = head.as_ref().map_or_else(String::new, |head| {
            format!("{} {}", String::from_utf8_lossy(head.method()), String::from_utf8_lossy(head.target()))
        });
        let overdue = Overdue { request, thread: work.thread, working_for: work.lasts };
        self.desk.notices.post(Notice::Overdue(overdue));
        if unanswered {
            let fault = RequestFault::Overdue;
            let is_head = head.as_ref().is_some_and(|head| head.facts().is_head);
            // A client that does not take it is gone, which makes no difference any more.
            let _ = self.write(&fault.response(is_head, &gateway::date_now())).await;
            self.conclude(&End::new(Outcome::Close, fault.status().0, 0, head), received_at, request_bytes);
        }
        self.stream.shut_down_write();
        unanswered
    }

    fn conclude(&self, end: &End, received_at: Instant, request_bytes: u64) {
        let ended_at = if end.is_sent { end.ended_at } else { Instant::now() };
        let taken = ended_at.saturating_duration_since(received_at);
        let latency_us = u64::try_from(taken.as_micros()).unwrap_or(u64::MAX);
        self.desk.load.score.request_finished(end.status, latency_us, request_bytes, end.body_bytes);
        self.desk.log(&Line {
            client: self.peer.client,
            head: end.head.as_ref(),
            response_head: end.response_head.as_deref(),
            status: end.status,
            body_bytes: end.body_bytes,
            taken,
        });
    }

    /// Answers a request that is the peer's fault, and gives up on the connection.
    async fn reject(&mut self, fault: &RequestFault, head: Option<&RequestHead>) -> Over {
        tracing::debug!(%fault, peer = ?self.peer.facts.peer, "request refused");
        let is_head = head.map_or_else(|| self.machine.refused_is_head(), |head| head.facts().is_head);
        let response = fault.response(is_head, &gateway::date_now());
        self.desk.load.score.refused();
        self.desk.log(&Line {
            client: self.peer.client,
            head,
            response_head: None,
            status: fault.status().0,
            body_bytes: 0,
            taken: Duration::ZERO,
        });
        match self.write(&response).await {
            Ok(()) => Over::Linger,
            Err(_) => Over::Gone,
        }
    }

    /// Answers a request whose body we cannot keep.
    async fn refuse_body(&mut self, head: &RequestHead, error: &io::Error) -> Over {
        self.desk.storage.complain(error);
        self.reject(&RequestFault::NoStorage, Some(head)).await
    }
}

/// Feeds `machine` what has arrived; false when nothing has.
fn take_in(desk: &Desk, stream: &Stream, machine: &mut Connection) -> io::Result<bool> {
    let mut scratch = desk.scratch.borrow_mut();
    let Some(count) = stream.try_read(&mut scratch)? else { return Ok(false) };
    match scratch.get(..count) {
        Some(bytes) if count > 0 => machine.receive(bytes, desk.reactor.now()),
        _ => machine.receive_end(),
    }
    Ok(true)
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.exchange.close();
        self.desk.dismiss(self.key);
    }
}

/// The socket as application threads may use it.
struct DirectLine(Sender);

impl gateway::Line for DirectLine {
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
