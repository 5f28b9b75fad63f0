//! A peer and a driver of the HTTP core, for the properties here and the fuzz targets beside them.
#![allow(unreachable_pub, reason = "the fuzz targets are crates of their own")]

use std::time::Instant;

use spawning::http::{Connection, Event, ProxyHeader, ProxyVersions, RequestFault, RequestHead};
use spawning::limits::HttpLimits;

/// Small, so that generated streams cross them.
pub fn limits() -> HttpLimits {
    HttpLimits {
        request_line_bytes_max: 64,
        header_bytes_max: 256,
        header_count_max: 8,
        body_bytes_max: 64,
        ..HttpLimits::default()
    }
}

/// What a driver saw of a connection, apart from how body bytes were cut and whether 100 Continue was said,
/// which may depend on when they came.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Proxied(ProxyHeader),
    Head(String),
    Body(Vec<u8>),
    BodyEnd,
    Reject(RequestFault),
    Close,
    Aborted,
}

pub fn describe(head: &RequestHead) -> String {
    let fields: Vec<_> = head.headers().map(|(name, value)| (name.to_vec(), value.to_vec())).collect();
    let line = (head.method(), head.target(), head.path(), head.query(), head.host());
    format!("{line:?} {:?} {:?} {:?} {fields:?}", head.facts(), head.framing(), head.expects_continue())
}

/// A peer's side and a driver that answers each request at once.
pub struct Driver {
    pub connection: Connection,
    pub now: Instant,
    /// What the request that is being read wants of its connection.
    keep_alive: bool,
    pub seen: Vec<Seen>,
}

impl Driver {
    pub fn new() -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(limits(), true, now), now, keep_alive: true, seen: Vec::new() }
    }

    /// A driver of a connection that begins with a header of the PROXY protocol.
    pub fn behind_proxy() -> Self {
        let (now, versions) = (Instant::now(), ProxyVersions::Both);
        Self { connection: Connection::behind_proxy(limits(), true, versions, now), ..Self::new() }
    }

    pub fn is_over(&self) -> bool {
        matches!(self.seen.last(), Some(Seen::Reject(_) | Seen::Close | Seen::Aborted))
    }

    /// Grows with each head, and with the end of each request and of the connection.
    pub fn phase(&self) -> usize {
        self.seen.iter().filter(|seen| !matches!(seen, Seen::Body(_))).count()
    }

    pub fn run(&mut self) {
        while !self.is_over() {
            match self.connection.next(self.now) {
                Event::Wait => return,
                Event::Continue => {}
                Event::Proxied(header) => self.seen.push(Seen::Proxied(header)),
                Event::Head(head) => {
                    self.keep_alive = head.keep_alive();
                    self.seen.push(Seen::Head(describe(&head)));
                }
                Event::Body(bytes) => match self.seen.last_mut() {
                    Some(Seen::Body(body)) => body.extend_from_slice(bytes),
                    _ => self.seen.push(Seen::Body(bytes.to_vec())),
                },
                Event::BodyEnd => {
                    self.seen.push(Seen::BodyEnd);
                    self.connection.respond_done(self.keep_alive, self.now);
                }
                Event::Reject(fault) => self.seen.push(Seen::Reject(fault)),
                Event::Close => self.seen.push(Seen::Close),
                Event::Aborted => self.seen.push(Seen::Aborted),
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        if self.connection.wants_bytes() {
            self.connection.receive(bytes, self.now);
            self.run();
        }
    }

    pub fn finish(mut self) -> Vec<Seen> {
        self.connection.receive_end();
        self.run();
        self.seen
    }
}
