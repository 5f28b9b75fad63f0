use super::*;
use crate::limits::HEADER_TIMEOUT_S;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An event without what it carries but the bytes of a body, for comparison.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Continue,
    Proxied(Option<String>),
    Head(String),
    Body(Vec<u8>),
    BodyEnd,
    Reject(RequestFault),
    Close,
    Aborted,
}

fn head(path: &str) -> Seen {
    Seen::Head(path.to_owned())
}

fn body(bytes: &[u8]) -> Seen {
    Seen::Body(bytes.to_vec())
}

struct Peer {
    connection: Connection,
    now: Instant,
}

impl Peer {
    fn with(limits: HttpLimits, keep_alive_allowed: bool) -> Self {
        let now = Instant::now();
        Self { connection: Connection::new(limits, keep_alive_allowed, now), now }
    }

    fn new() -> Self {
        Self::with(HttpLimits::default(), true)
    }

    fn behind_proxy() -> Self {
        let (now, versions) = (Instant::now(), ProxyVersions::Both);
        Self { connection: Connection::behind_proxy(HttpLimits::default(), true, versions, now), now }
    }

    /// All events there are until `Wait` or the last.
    fn events(&mut self) -> Vec<Seen> {
        let mut seen = Vec::new();
        loop {
            let event = match self.connection.next(self.now) {
                Event::Wait => return seen,
                Event::Continue => Seen::Continue,
                Event::Proxied(header) => Seen::Proxied(header.ends.map(|ends| ends.source.to_string())),
                Event::Head(request) => Seen::Head(String::from_utf8_lossy(request.path()).into_owned()),
                Event::Body(bytes) => Seen::Body(bytes.to_vec()),
                Event::BodyEnd => Seen::BodyEnd,
                Event::Reject(fault) => Seen::Reject(fault),
                Event::Close => Seen::Close,
                Event::Aborted => Seen::Aborted,
            };
            let is_last = matches!(event, Seen::Reject(_) | Seen::Close | Seen::Aborted);
            seen.push(event);
            if is_last {
                return seen;
            }
        }
    }

    fn send(&mut self, bytes: impl AsRef<[u8]>) -> Vec<Seen> {
        self.connection.receive(bytes.as_ref(), self.now);
        self.events()
    }

    fn end(&mut self) -> Vec<Seen> {
        self.connection.receive_end();
        self.events()
    }

    fn respond(&mut self, keep_alive: bool) -> Vec<Seen> {
        self.connection.respond_done(keep_alive, self.now);
        self.events()
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    /// Seconds until the deadline.
    fn deadline_s(&self) -> Option<u64> {
        self.connection.deadline().map(|deadline| (deadline - self.now).as_secs())
    }

    /// What the deadline brings, which must not come a nanosecond earlier.
    fn expire(&mut self) -> Seen {
        let deadline = self.connection.deadline().expect("something has a deadline");
        let early = deadline.checked_sub(Duration::from_nanos(1)).unwrap();
        assert!(matches!(self.connection.expire(early), Event::Wait));
        match self.connection.expire(deadline) {
            Event::Reject(fault) => Seen::Reject(fault),
            Event::Close => Seen::Close,
            event => panic!("{event:?} at a deadline"),
        }
    }
}

#[test]
fn request_without_body() {
    let mut peer = Peer::new();
    assert!(peer.connection.is_idle() && peer.connection.wants_bytes());
    assert_eq!(peer.send(GET), [head("/"), Seen::BodyEnd]);
    assert!(!peer.connection.is_idle() && !peer.connection.wants_bytes());
    assert_eq!(peer.respond(true), []);
    assert!(peer.connection.is_idle() && peer.connection.wants_bytes());
    assert_eq!(peer.connection.requests(), 1);
}

#[test]
fn body_with_a_length_arrives_in_pieces() {
    let mut peer = Peer::new();
    let start = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab";
    assert_eq!(peer.send(start), [head("/a"), body(b"ab")]);
    assert!(peer.connection.wants_bytes());
    assert_eq!(peer.send("cdeGET"), [body(b"cde"), Seen::BodyEnd]);
    assert_eq!(peer.connection.buffered_bytes(), 3);
}

#[test]
fn chunked_body_arrives_in_pieces() {
    let mut peer = Peer::new();
    let start = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab";
    assert_eq!(peer.send(start), [head("/a"), body(b"ab")]);
    assert_eq!(peer.send("c\r\n1\r\nd\r\n0\r\n"), [body(b"c"), body(b"d")]);
    assert_eq!(peer.send("\r\n"), [Seen::BodyEnd]);
}

#[test]
fn pipelined_requests_wait_for_each_other() {
    let mut peer = Peer::new();
    let all = "GET /a HTTP/1.1\r\nHost: a\r\n\r\nPOST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nxGET /c HTTP/1.1\r\n";
    assert_eq!(peer.send(all), [head("/a"), Seen::BodyEnd]);
    assert!(!peer.connection.wants_bytes());
    assert_eq!(peer.respond(true), [head("/b"), body(b"x"), Seen::BodyEnd]);
    assert_eq!(peer.respond(true), []);
    assert!(!peer.connection.is_idle());
    assert_eq!(peer.send("Host: a\r\n\r\n"), [head("/c"), Seen::BodyEnd]);
}

#[test]
fn one_empty_line_before_a_request_is_ignored() {
    let mut peer = Peer::new();
    assert_eq!(peer.send("\r"), []);
    assert_eq!(peer.send("\n"), []);
    assert!(peer.connection.is_idle());
    assert_eq!(peer.send(GET), [head("/"), Seen::BodyEnd]);
    assert_eq!(peer.respond(true), []);
    assert_eq!(peer.send([b"\r\n", GET].concat()), [head("/"), Seen::BodyEnd]);
}

#[test]
fn second_empty_line_or_half_a_line_end_is_refused() {
    let refused = [Seen::Reject(RequestFault::RequestLine)];
    for start in ["\r\n\r\n", "\n", "\r\r\n", "\rG"] {
        assert_eq!(Peer::new().send([start.as_bytes(), GET].concat()), refused, "{start:?}");
    }
}

#[test]
fn nothing_happens_after_a_fault() {
    let mut peer = Peer::new();
    assert_eq!(peer.send("GET / HTTP/2.0\r\n\r\n"), [Seen::Reject(RequestFault::VersionUnsupported)]);
    assert!(peer.connection.body_needs_drain() && !peer.connection.wants_bytes());
    assert_eq!(peer.connection.deadline(), None);
    // CVE-2024-49768: a request pipelined behind one that ended the connection was served.
    assert_eq!(peer.send(GET), [Seen::Close]);
    assert_eq!(peer.respond(true), [Seen::Close]);
    assert_eq!(peer.connection.buffered_bytes(), 0);
}

#[test]
fn fault_in_a_body_ends_the_request() {
    let mut peer = Peer::new();
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab";
    assert_eq!(peer.send(request), [head("/a"), body(b"a"), Seen::Reject(RequestFault::ChunkEnd)]);
}

#[test]
fn body_too_large_is_refused_before_it_is_read() {
    let limits = HttpLimits { body_bytes_max: 4, ..HttpLimits::default() };
    let refused = || Seen::Reject(RequestFault::BodyTooLarge);
    let with_length = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(Peer::with(limits.clone(), true).send(with_length), [refused()]);
    let chunked = "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n1\r\n";
    assert_eq!(Peer::with(limits, true).send(chunked), [head("/a"), body(b"abcd"), refused()]);
}

#[test]
fn continue_is_said_only_to_a_client_that_holds_its_body_back() {
    let request = "POST /a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let mut peer = Peer::new();
    assert_eq!(peer.send(request), [head("/a"), Seen::Continue]);
    assert_eq!(peer.send("x"), [body(b"x"), Seen::BodyEnd]);
    assert_eq!(Peer::new().send(format!("{request}x")), [head("/a"), body(b"x"), Seen::BodyEnd]);
    let empty = request.replace("Length: 1", "Length: 0");
    assert_eq!(Peer::new().send(empty), [head("/a"), Seen::BodyEnd]);
    let chunked = request.replace("Content-Length: 1", "Transfer-Encoding: chunked");
    assert_eq!(Peer::new().send(chunked), [head("/a"), Seen::Continue]);
    assert_eq!(Peer::new().send(request.replace("/1.1", "/1.0")), [head("/a")]);
}

#[test]
fn end_of_file_between_requests_closes() {
    assert_eq!(Peer::new().end(), [Seen::Close]);
    let mut peer = Peer::new();
    peer.send("\r\n");
    assert_eq!(peer.end(), [Seen::Close]);
    let mut peer = Peer::new();
    peer.send(GET);
    peer.respond(true);
    assert_eq!(peer.end(), [Seen::Close]);
    assert!(!peer.connection.wants_bytes() && !peer.connection.body_needs_drain());
}

#[test]
fn end_of_file_within_a_request_aborts() {
    for request in [
        "G",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut peer = Peer::new();
        peer.send(request);
        assert_eq!(peer.end(), [Seen::Aborted], "{request:?}");
    }
}

/// CVE-2024-49769 is about what half-closed peers do to a server that does not expect them.
#[test]
fn peer_that_closed_its_sending_side_gets_its_responses() {
    let mut peer = Peer::new();
    assert_eq!(peer.send(GET.repeat(2)), [head("/"), Seen::BodyEnd]);
    assert_eq!(peer.end(), []);
    assert_eq!(peer.respond(true), [head("/"), Seen::BodyEnd]);
    assert_eq!(peer.respond(true), [Seen::Close]);
}

#[test]
fn last_response_closes() {
    let mut peer = Peer::new();
    peer.send(GET);
    assert_eq!(peer.respond(false), [Seen::Close]);
    assert!(!peer.connection.body_needs_drain());
}

#[test]
fn early_response_closes_and_lingers() {
    let mut peer = Peer::new();
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    assert!(peer.connection.body_needs_drain());
    assert_eq!(peer.respond(true), [Seen::Close]);
    assert!(peer.connection.body_needs_drain());
    peer.connection.receive_end();
    assert!(!peer.connection.body_needs_drain());
}

#[test]
fn closing_on_a_client_that_pipelines_lingers() {
    let mut peer = Peer::new();
    peer.send(GET.repeat(2));
    assert_eq!(peer.respond(false), [Seen::Close]);
    assert!(peer.connection.body_needs_drain());
}

/// The request's wish, after the connection has had its say.
fn keep_alive(connection: &mut Connection, now: Instant) -> bool {
    connection.receive(GET, now);
    let Event::Head(request) = connection.next(now) else { panic!("no head") };
    assert!(matches!(connection.next(now), Event::BodyEnd));
    request.facts().keep_alive
}

#[test]
fn requests_on_a_connection_are_bounded() {
    let limits = HttpLimits { requests_per_connection_max: 2, ..HttpLimits::default() };
    let mut peer = Peer::with(limits, true);
    assert!(keep_alive(&mut peer.connection, peer.now));
    assert_eq!(peer.respond(true), []);
    assert!(!keep_alive(&mut peer.connection, peer.now));
}

#[test]
fn keep_alive_can_be_disallowed() {
    let mut peer = Peer::with(HttpLimits::default(), false);
    assert!(!keep_alive(&mut peer.connection, peer.now));
}

#[test]
fn draining_ends_the_connection_with_the_current_response() {
    let mut peer = Peer::new();
    assert!(keep_alive(&mut peer.connection, peer.now));
    assert!(peer.connection.keep_alive_allowed());
    peer.connection.drain();
    assert!(!peer.connection.keep_alive_allowed());
    assert_eq!(peer.respond(true), [Seen::Close]);
}

#[test]
fn draining_serves_what_a_client_sent_on_a_promise() {
    let mut peer = Peer::new();
    peer.send(GET.repeat(2));
    peer.connection.drain();
    assert_eq!(peer.respond(true), [head("/"), Seen::BodyEnd]);
    assert_eq!(peer.respond(true), [Seen::Close]);
}

#[test]
fn draining_a_connection_that_waits_ends_it_with_the_next_request() {
    let mut peer = Peer::new();
    peer.connection.drain();
    assert!(peer.connection.is_idle());
    assert!(!keep_alive(&mut peer.connection, peer.now));
}

#[test]
fn silent_peer_is_closed_silently() {
    let mut peer = Peer::new();
    assert_eq!(peer.deadline_s(), Some(30));
    assert_eq!(peer.expire(), Seen::Close);
    assert_eq!(peer.events(), [Seen::Close]);
}

#[test]
fn idle_peer_is_closed_silently() {
    let mut peer = Peer::new();
    peer.send(GET);
    peer.pass(100);
    assert_eq!(peer.deadline_s(), None);
    assert_eq!(peer.respond(true), []);
    assert_eq!(peer.deadline_s(), Some(75));
    assert_eq!(peer.expire(), Seen::Close);
}

#[test]
fn peer_that_sent_only_an_empty_line_is_closed_silently() {
    let mut peer = Peer::new();
    peer.send("\r\n");
    assert_eq!(peer.expire(), Seen::Close);
}

#[test]
fn head_has_a_deadline_from_its_first_byte() {
    let mut peer = Peer::new();
    peer.pass(20);
    peer.send("G");
    assert_eq!(peer.deadline_s(), Some(30));
    peer.pass(29);
    peer.send("ET / HTTP/1.1\r\n");
    assert_eq!(peer.deadline_s(), Some(1));
    assert_eq!(peer.expire(), Seen::Reject(RequestFault::HeaderTimeout));
    assert!(peer.connection.body_needs_drain());
}

#[test]
fn body_without_progress_is_refused() {
    let limits = HttpLimits { body_bytes_per_s_min: 0, ..HttpLimits::default() };
    let mut peer = Peer::with(limits, true);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n");
    assert_eq!(peer.deadline_s(), Some(30));
    peer.pass(29);
    peer.send("a");
    assert_eq!(peer.deadline_s(), Some(30));
    peer.send("");
    assert_eq!(peer.deadline_s(), Some(30));
    assert_eq!(peer.expire(), Seen::Reject(RequestFault::BodyTimeout));
}

#[test]
fn body_that_is_too_slow_is_refused() {
    let limits = HttpLimits { body_bytes_per_s_min: 100, ..HttpLimits::default() };
    let mut peer = Peer::with(limits, true);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(peer.deadline_s(), Some(BODY_RATE_GRACE_S));
    peer.send([b'a'; 1000]);
    assert_eq!(peer.deadline_s(), Some(BODY_RATE_GRACE_S + 10));
    peer.pass(15);
    peer.send([b'a'; 100]);
    assert_eq!(peer.deadline_s(), Some(BODY_RATE_GRACE_S + 11 - 15));
    assert_eq!(peer.expire(), Seen::Reject(RequestFault::BodyTimeout));
}

#[test]
fn timeouts_beyond_the_clock_are_none() {
    let limits = HttpLimits {
        header_timeout: Duration::MAX,
        body_timeout: Duration::MAX,
        body_bytes_per_s_min: 0,
        ..HttpLimits::default()
    };
    let mut peer = Peer::with(limits, true);
    assert_eq!(peer.deadline_s(), None);
    peer.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
    assert_eq!(peer.deadline_s(), None);
}

#[test]
fn idle_connection_holds_no_memory() {
    let mut peer = Peer::new();
    peer.send(
        [b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n".to_vec(), vec![b'a'; 60_000]]
            .concat(),
    );
    peer.respond(true);
    assert_eq!(peer.connection.buffer.capacity(), 0);
}

const PROXY: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 1 2\r\n";

#[test]
fn a_proxied_connection_begins_with_its_header() {
    let mut peer = Peer::behind_proxy();
    let proxied = Seen::Proxied(Some("192.0.2.1:1".to_owned()));
    assert_eq!(peer.send(PROXY), [proxied]);
    assert_eq!(peer.send(GET), [head("/"), Seen::BodyEnd]);
    assert_eq!(peer.respond(true), []);
    // The header is for the whole connection; another one is no request.
    assert_eq!(peer.send([PROXY, GET].concat()), [Seen::Reject(RequestFault::Version)]);

    let mut peer = Peer::behind_proxy();
    let all = [PROXY, GET].concat();
    let seen: Vec<Seen> = all.iter().flat_map(|byte| peer.send([*byte])).collect();
    assert_eq!(seen, [Seen::Proxied(Some("192.0.2.1:1".to_owned())), head("/"), Seen::BodyEnd]);
}

#[test]
fn a_proxied_connection_without_its_header_is_refused() {
    assert_eq!(Peer::behind_proxy().send(GET), [Seen::Reject(RequestFault::ProxyHeaderMissing)]);
    assert_eq!(Peer::behind_proxy().send(b"PROXY x\r\n"), [Seen::Reject(RequestFault::ProxyHeader)]);
    // The header belongs to this connection alone.
    assert_eq!(Peer::new().send([PROXY, GET].concat()), [Seen::Reject(RequestFault::Version)]);
    assert_eq!(Peer::new().send(b"\r\n\r\n\0\r\nQUIT\n"), [Seen::Reject(RequestFault::RequestLine)]);
}

#[test]
fn a_health_check_may_connect_and_leave() {
    assert_eq!(Peer::behind_proxy().end(), [Seen::Close]);
    let mut peer = Peer::behind_proxy();
    assert_eq!(peer.send(b"PROXY UNKNOWN\r\n"), [Seen::Proxied(None)]);
    assert_eq!(peer.end(), [Seen::Close]);
    let mut peer = Peer::behind_proxy();
    assert_eq!(peer.send(b"PROXY UNK"), []);
    assert_eq!(peer.end(), [Seen::Aborted]);
}

#[test]
fn the_header_of_a_proxy_has_the_time_of_a_head() {
    let mut peer = Peer::behind_proxy();
    assert!(peer.connection.is_idle());
    peer.send(b"PROXY");
    assert!(!peer.connection.is_idle());
    peer.pass(HEADER_TIMEOUT_S);
    assert!(matches!(peer.connection.expire(peer.now), Event::Reject(RequestFault::HeaderTimeout)));

    let mut peer = Peer::behind_proxy();
    peer.pass(HEADER_TIMEOUT_S - 1);
    peer.send(PROXY);
    peer.pass(1);
    assert!(matches!(peer.connection.expire(peer.now), Event::Close), "nothing of a request has come");
}

#[test]
fn a_connection_stays_open_for_a_moment_of_a_drain_and_anew_when_everything_stood_still() {
    let now = Instant::now();
    let until = drain_deadline(None, now);
    assert_eq!(until, now + DRAIN_IDLE_TIMEOUT);
    assert_eq!(drain_deadline(Some(until), now + DRAIN_IDLE_TIMEOUT / 2), until);
    assert_eq!(
        drain_deadline(Some(until), until + DRAIN_LATENESS_MAX),
        until,
        "a busy process is a little late"
    );
    let awake = until + 2 * DRAIN_LATENESS_MAX;
    assert_eq!(drain_deadline(Some(until), awake), awake + DRAIN_IDLE_TIMEOUT);
}
