//! The server's side of one HTTP/1.1 connection, without a socket and without a clock.
//!
//! The driver hands in what arrives ([`Connection::receive`], [`Connection::receive_end`]) and what time it is,
//! and does what [`Connection::next`] says until it says [`Event::Wait`]. A request is [`Event::Head`], any
//! number of [`Event::Body`], [`Event::BodyEnd`]; then the driver writes a response, calls
//! [`Connection::respond_done`] and asks for the next event. While a request is being answered nothing more is
//! read ([`Connection::wants_bytes`]), so that a client that pipelines is held back by TCP.
//!
//! A connection that a proxy relays begins with a header of the PROXY protocol ([`Connection::behind_proxy`]), which is
//! the first event then.
//!
//! [`Event::Reject`], [`Event::Close`] and [`Event::Aborted`] are the last events. After a response that ends
//! the connection early, [`Connection::body_needs_drain`] says whether to linger: to shut down the sending side
//! and read and drop what still arrives for a moment, lest a reset destroy the response (RFC 9112 section 9.6).

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::BodyDecoder;
use super::buffer::Buffer;
use super::errors::RequestFault;
use super::head::{HeadExtent, HeadScan, RequestHead};
use super::proxy_protocol::{ProxyHeader, ProxyVersions};
use crate::limits::{BODY_RATE_GRACE_S, DRAIN_IDLE_TIMEOUT, DRAIN_LATENESS_MAX, HttpLimits};

/// The interim response that [`Event::Continue`] asks for (RFC 9110 section 15.2.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Until when an idle connection of a process that drains stays open: its client may have sent a request already, and
/// closing now would lose it. `until` is what was said of it before.
pub fn drain_deadline(until: Option<Instant>, now: Instant) -> Instant {
    until.filter(|until| now <= *until + DRAIN_LATENESS_MAX).unwrap_or(now + DRAIN_IDLE_TIMEOUT)
}

/// What the driver is to do next.
#[derive(Debug)]
pub enum Event<'a> {
    /// Nothing, until bytes, end of file, the deadline or `respond_done`.
    Wait,
    /// Write [`CONTINUE`]: the client holds its body back for it.
    Continue,
    /// What the proxy in front says of this connection. Requests follow.
    Proxied(ProxyHeader),
    /// A complete, valid head. Events for its body follow.
    Head(RequestHead),
    /// Body bytes, decoded.
    Body(&'a [u8]),
    /// The request is complete; follows the head at once if there is no body.
    BodyEnd,
    /// Write [`RequestFault::response`] and close, lingering.
    Reject(RequestFault),
    /// Close: the peer has nothing more to say, or too long said nothing.
    Close,
    /// Close without an answer: the peer left in the middle of a request.
    Aborted,
}

/// The state of one connection.
#[derive(Debug)]
pub struct Connection {
    limits: Arc<HttpLimits>,
    buffer: Buffer,
    state: ConnectionState,
    /// Whether the peer may still send.
    peer: PeerState,
    /// Whether the connection may outlive the current request.
    persistence: Persistence,
    /// Heads received.
    requests: u32,
    /// Whether the last head that was complete begins like that of a HEAD request, even if it was refused.
    refused_is_head: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PeerState {
    Sending,
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persistence {
    Allowed,
    Denied,
}

#[derive(Debug)]
enum ConnectionState {
    /// A header of the PROXY protocol must come first.
    Preface { versions: ProxyVersions, deadline: Option<Instant> },
    /// Nothing of the next request has arrived.
    Idle { deadline: Option<Instant> },
    /// A part of a head has arrived, or the empty line that RFC 9112 section 2.2 has a server ignore before it.
    Head { scan: HeadScan, leading_line: LeadingLine, deadline: Option<Instant> },
    /// The head is with the driver, the body on its way.
    Body { decoder: BodyDecoder, continuation: ContinueState, clock: BodyClock },
    /// The request is complete and waits for its response.
    Responding,
    /// The last event was given out.
    Closed(CloseMode),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LeadingLine {
    Allowed,
    Skipped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ContinueState {
    Expected,
    Settled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloseMode {
    /// The peer has said all it had to say.
    Plain,
    /// The peer may still be sending what will not be read.
    Lingering,
}

/// How fast a body arrives.
#[derive(Clone, Copy, Debug)]
struct BodyClock {
    started_at: Instant,
    progress_at: Instant,
    /// Bytes as sent, chunk lines included.
    received: u64,
}

impl BodyClock {
    /// The end of patience: `body_timeout` after the last byte, or when the average falls below the minimum.
    fn deadline(&self, limits: &HttpLimits) -> Option<Instant> {
        let silent = self.progress_at.checked_add(limits.body_timeout);
        let earned_ms = self.received.saturating_mul(1000).checked_div(limits.body_bytes_per_s_min);
        let slow = earned_ms.and_then(|earned_ms| {
            let grace = Duration::from_secs(BODY_RATE_GRACE_S);
            self.started_at.checked_add(grace)?.checked_add(Duration::from_millis(earned_ms))
        });
        silent.into_iter().chain(slow).min()
    }
}

/// An event that does not borrow, or the place of body bytes.
enum Step {
    Event(Event<'static>),
    Body(std::ops::Range<usize>),
}

impl Connection {
    /// A connection accepted at `now`. Without `keep_alive_allowed` it ends with its first request.
    ///
    /// A peer that sends nothing at all has `header_timeout` to begin.
    pub fn new(limits: impl Into<Arc<HttpLimits>>, keep_alive_allowed: bool, now: Instant) -> Self {
        let limits = limits.into();
        let deadline = now.checked_add(limits.header_timeout);
        let persistence = if keep_alive_allowed { Persistence::Allowed } else { Persistence::Denied };
        Self {
            limits,
            buffer: Buffer::default(),
            state: ConnectionState::Idle { deadline },
            peer: PeerState::Sending,
            persistence,
            requests: 0,
            refused_is_head: false,
        }
    }

    /// As [`Self::new`], for a connection that must begin with a header of the PROXY protocol. Header and first request
    /// head share one `header_timeout` until the first byte of the latter.
    pub fn behind_proxy(
        limits: impl Into<Arc<HttpLimits>>,
        keep_alive_allowed: bool,
        versions: ProxyVersions,
        now: Instant,
    ) -> Self {
        let mut connection = Self::new(limits, keep_alive_allowed, now);
        connection.state = ConnectionState::Preface { versions, deadline: connection.deadline() };
        connection
    }

    /// Takes bytes from the peer; then [`Self::next`] is due. To be called only while [`Self::wants_bytes`],
    /// which is what bounds the buffer.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) {
        match &mut self.state {
            ConnectionState::Closed(_) => return,
            ConnectionState::Body { clock, .. } if !bytes.is_empty() => {
                clock.received = clock.received.saturating_add(bytes.len() as u64);
                clock.progress_at = now;
            }
            _ => {}
        }
        self.buffer.append(bytes);
    }

    /// Takes the peer's end of file; then [`Self::next`] is due. A request that is complete still gets its
    /// response: the peer may have closed only its sending side.
    pub fn receive_end(&mut self) {
        self.peer = PeerState::Ended;
    }

    /// What to do next. To be asked until it says [`Event::Wait`] or gives the last event.
    pub fn next(&mut self, now: Instant) -> Event<'_> {
        match self.step(now) {
            Step::Event(event) => event,
            Step::Body(place) => Event::Body(self.buffer.get(place)),
        }
    }

    /// Whether to read from the peer. Not while a complete request is being answered.
    pub fn wants_bytes(&self) -> bool {
        self.peer == PeerState::Sending
            && !matches!(self.state, ConnectionState::Responding | ConnectionState::Closed(_))
    }

    /// The response has been written. `keep_alive` is what it told the client; false if the body was not read
    /// to its end. [`Self::next`] is due: the next request may be here already.
    pub fn respond_done(&mut self, keep_alive: bool, now: Instant) {
        let pipelined = !self.buffer.is_empty();
        self.state = match &self.state {
            // A client that was not told of the end may have sent its next request: what has arrived is served.
            ConnectionState::Responding
                if keep_alive && (pipelined || self.persistence == Persistence::Allowed) =>
            {
                self.buffer.shrink();
                ConnectionState::Idle { deadline: now.checked_add(self.limits.keepalive_timeout) }
            }
            ConnectionState::Responding if !pipelined => ConnectionState::Closed(CloseMode::Plain),
            ConnectionState::Closed(ending) => ConnectionState::Closed(*ending),
            _ => ConnectionState::Closed(CloseMode::Lingering),
        };
    }

    /// When [`Self::expire`] must be called; `None` while only the application is waited for.
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Preface { deadline, .. }
            | ConnectionState::Idle { deadline }
            | ConnectionState::Head { deadline, .. } => *deadline,
            ConnectionState::Body { clock, .. } => clock.deadline(&self.limits),
            ConnectionState::Responding | ConnectionState::Closed(_) => None,
        }
    }

    /// Ends the connection if its deadline has come: with 408, or silently between requests; else says `Wait`.
    pub fn expire(&mut self, now: Instant) -> Event<'static> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Event::Wait;
        }
        match self.state {
            ConnectionState::Preface { .. } | ConnectionState::Head { .. } if !self.buffer.is_empty() => {
                self.reject(RequestFault::HeaderTimeout)
            }
            ConnectionState::Body { .. } => self.reject(RequestFault::BodyTimeout),
            _ => self.close(Event::Close),
        }
    }

    /// Whether the connection is between requests with nothing buffered, and may be closed politely.
    ///
    /// If [`Self::requests`] is 0 its first request may be on its way: that peer deserves a moment.
    pub fn is_idle(&self) -> bool {
        let is_between = matches!(
            self.state,
            ConnectionState::Preface { .. } | ConnectionState::Idle { .. } | ConnectionState::Head { .. }
        );
        is_between && self.buffer.is_empty()
    }

    /// The body was left unread for so long by the server's own choice, which counts against no timeout.
    pub fn excuse(&mut self, delay: Duration) {
        if let ConnectionState::Body { clock, .. } = &mut self.state {
            clock.started_at += delay;
            clock.progress_at += delay;
        }
    }

    /// From now on the connection ends after the current request, or the next if there is none.
    pub fn drain(&mut self) {
        self.persistence = Persistence::Denied;
    }

    /// Whether a response written now may promise the client that the connection lives on. The request's own
    /// wish is in its [`super::RequestFacts`], where this is already counted in, as of the time of its head.
    pub fn keep_alive_allowed(&self) -> bool {
        self.persistence == Persistence::Allowed && self.requests < self.limits.requests_per_connection_max
    }

    /// Whether the peer may still be sending a request that will not be read, so that closing must linger.
    pub fn body_needs_drain(&self) -> bool {
        self.peer == PeerState::Sending
            && matches!(
                self.state,
                ConnectionState::Body { .. } | ConnectionState::Closed(CloseMode::Lingering)
            )
    }

    /// Whether a head that was refused belongs to a HEAD request, whose refusal has no body either.
    pub fn refused_is_head(&self) -> bool {
        self.refused_is_head || self.buffer.unread().starts_with(b"HEAD ")
    }

    /// Requests received so far, the current one included.
    pub fn requests(&self) -> u32 {
        self.requests
    }

    /// The bytes received and not yet used.
    pub fn buffered(&self) -> &[u8] {
        self.buffer.unread()
    }

    /// How many bytes that are.
    pub fn buffered_bytes(&self) -> usize {
        self.buffer.unread().len()
    }

    fn step(&mut self, now: Instant) -> Step {
        match self.state {
            ConnectionState::Preface { versions, deadline } => {
                Step::Event(self.step_preface(versions, deadline))
            }
            ConnectionState::Idle { .. } if self.buffer.is_empty() => Step::Event(self.wait_or(Event::Close)),
            ConnectionState::Idle { .. } => {
                let deadline = now.checked_add(self.limits.header_timeout);
                let scan = HeadScan::default();
                self.state = ConnectionState::Head { scan, leading_line: LeadingLine::Allowed, deadline };
                Step::Event(self.step_head(now))
            }
            ConnectionState::Head { .. } => Step::Event(self.step_head(now)),
            ConnectionState::Body { .. } => self.step_body(),
            ConnectionState::Responding => Step::Event(Event::Wait),
            ConnectionState::Closed(_) => Step::Event(Event::Close),
        }
    }

    fn step_preface(&mut self, versions: ProxyVersions, deadline: Option<Instant>) -> Event<'static> {
        match ProxyHeader::parse(self.buffer.unread(), versions) {
            Ok(Some((header, length))) => {
                self.buffer.consume(length);
                self.state = ConnectionState::Idle { deadline };
                Event::Proxied(header)
            }
            Ok(None) if self.buffer.is_empty() => self.wait_or(Event::Close),
            Ok(None) => self.wait_or(Event::Aborted),
            Err(fault) => self.reject(fault),
        }
    }

    fn step_head(&mut self, now: Instant) -> Event<'static> {
        let ConnectionState::Head { scan, leading_line, .. } = &mut self.state else { return Event::Wait };
        if *leading_line == LeadingLine::Allowed {
            match self.buffer.unread() {
                [b'\r'] => return self.wait_or(Event::Close),
                [b'\r', b'\n', ..] => {
                    self.buffer.consume(2);
                    *leading_line = LeadingLine::Skipped;
                }
                _ => {}
            }
        }
        match scan.advance(self.buffer.unread(), &self.limits) {
            Ok(Some(extent)) => self.begin_request(extent, now),
            Ok(None) if self.buffer.is_empty() => self.wait_or(Event::Close),
            Ok(None) => self.wait_or(Event::Aborted),
            Err(fault) => self.reject(fault),
        }
    }

    fn begin_request(&mut self, extent: HeadExtent, now: Instant) -> Event<'static> {
        let bytes = self.buffer.take(extent.end);
        self.refused_is_head = bytes.starts_with(b"HEAD ");
        let mut head = match RequestHead::from_complete(bytes, extent, &self.limits) {
            Ok(head) => head,
            Err(fault) => return self.reject(fault),
        };
        self.requests = self.requests.saturating_add(1);
        if !self.keep_alive_allowed() {
            head.deny_keep_alive();
        }
        self.state = ConnectionState::Body {
            decoder: BodyDecoder::new(head.framing(), self.limits.body_bytes_max),
            continuation: if head.expects_continue() {
                ContinueState::Expected
            } else {
                ContinueState::Settled
            },
            clock: BodyClock { started_at: now, progress_at: now, received: self.buffered_bytes() as u64 },
        };
        Event::Head(head)
    }

    fn step_body(&mut self) -> Step {
        let ConnectionState::Body { decoder, continuation, .. } = &mut self.state else {
            return Step::Event(Event::Wait);
        };
        let expected = std::mem::replace(continuation, ContinueState::Settled) == ContinueState::Expected;
        if expected && self.buffer.is_empty() && self.peer == PeerState::Sending && !decoder.is_done() {
            return Step::Event(Event::Continue);
        }
        let decoded = match decoder.decode(self.buffer.unread()) {
            Ok(decoded) => decoded,
            Err(fault) => return Step::Event(self.reject(fault)),
        };
        let is_done = decoder.is_done();
        let consumed = self.buffer.consume(decoded.consumed);
        if !decoded.data.is_empty() {
            return Step::Body(consumed.start + decoded.data.start..consumed.start + decoded.data.end);
        }
        if is_done {
            self.state = ConnectionState::Responding;
            return Step::Event(Event::BodyEnd);
        }
        Step::Event(self.wait_or(Event::Aborted))
    }

    /// More bytes are needed: `ended` if there will be none.
    fn wait_or(&mut self, ended: Event<'static>) -> Event<'static> {
        match self.peer {
            PeerState::Sending => Event::Wait,
            PeerState::Ended => self.close(ended),
        }
    }

    fn close(&mut self, event: Event<'static>) -> Event<'static> {
        self.state = ConnectionState::Closed(CloseMode::Plain);
        event
    }

    fn reject(&mut self, fault: RequestFault) -> Event<'static> {
        self.state = ConnectionState::Closed(CloseMode::Lingering);
        Event::Reject(fault)
    }
}

#[cfg(test)]
mod tests;
