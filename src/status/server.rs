//! The small HTTP server of the status process: GET and HEAD, few connections, short timeouts.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;

use super::shutdown::Shutdown;
use super::site::{Answer, Site};
use crate::http::{
    self, BodyLength, CONTINUE, Connection, Event, HeadWriter, RequestHead, ResponseFault, ResponseFraming,
    imf_fixdate,
};
use crate::limits::{
    ACCEPT_EXHAUSTED_PAUSE, HttpLimits, LINGER_BYTES_MAX, LINGER_IDLE_MAX, STATUS_BODY_BYTES_MAX,
    STATUS_CONNECTIONS_MAX, STATUS_DRAIN_TIMEOUT, STATUS_HEADER_BYTES_MAX, STATUS_KEEPALIVE_TIMEOUT,
    STATUS_TIMEOUT, SWEEP_PAUSE,
};
use crate::reactor::{Accepted, Listener, Reactor, Registration, Stream, Turn};
use crate::sys::fork::PrivateFd;

/// Bytes read at once: a request here is a line and a few fields.
const READ_BYTES: usize = 4096;

/// Accepts and answers until the shutdown, then answers those who have connected by then.
pub(super) async fn serve(reactor: Reactor, socket: Arc<PrivateFd>, site: Rc<Site>, shutdown: Arc<Shutdown>) {
    let listener = match Listener::new(&reactor, socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot watch the status process's socket"),
    };
    let open_connections = Rc::new(OpenConnections::new(shutdown, listener.registration()));
    reactor.set_turn(Rc::<OpenConnections>::clone(&open_connections));
    let limits = Arc::new(limits());
    while !open_connections.shutdown.is_begun() {
        match listener.accept() {
            Ok(Some(accepted)) => {
                reactor.spawn(
                    StatusConnectionTask::open(&reactor, accepted, &limits, &open_connections, &site).run(),
                );
                // Those who are asked to leave for this one do so before the next is let in.
                reactor.next_turn().await;
            }
            Ok(None) => wait(&reactor, listener.registration(), None).await,
            Err(error) => {
                tracing::error!(%error, "the status process cannot accept a connection");
                reactor.sleep_until(Instant::now() + ACCEPT_EXHAUSTED_PAUSE).await;
            }
        }
    }
    // Counted, not measured: a machine that stands still must not use up the time.
    for _ in 0..STATUS_DRAIN_TIMEOUT.as_millis() / SWEEP_PAUSE.as_millis() {
        if open_connections.all.borrow().is_empty() {
            break;
        }
        reactor.sleep_until(Instant::now() + SWEEP_PAUSE).await;
    }
}

fn limits() -> HttpLimits {
    HttpLimits {
        header_bytes_max: STATUS_HEADER_BYTES_MAX,
        body_bytes_max: STATUS_BODY_BYTES_MAX,
        header_timeout: STATUS_TIMEOUT,
        body_timeout: STATUS_TIMEOUT,
        keepalive_timeout: STATUS_KEEPALIVE_TIMEOUT,
        ..HttpLimits::default()
    }
}

/// Waits until something happens to a descriptor, or until a moment.
async fn wait(reactor: &Reactor, registration: &Registration, until: Option<Instant>) {
    let mut sleep = until.map(|until| reactor.sleep_until(until));
    let mut has_waited = false;
    poll_fn(|context| {
        registration.remember(context.waker());
        let is_over = sleep.as_mut().is_some_and(|sleep| Pin::new(sleep).poll(context).is_ready());
        if std::mem::replace(&mut has_waited, true) || is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// The connections there are. When one too many comes, the one that has been idle longest is closed, so that
/// idle connections keep no client out.
#[derive(Debug)]
struct OpenConnections {
    all: RefCell<Slab<Rc<OpenConnection>>>,
    listener: Rc<Registration>,
    shutdown: Arc<Shutdown>,
    /// Whether all connections know of the shutdown: requests that are on their way are still answered.
    are_notified: Cell<bool>,
}

#[derive(Debug)]
struct OpenConnection {
    registration: Rc<Registration>,
    idle_since: Cell<Instant>,
    is_evicted: Cell<bool>,
}

impl OpenConnections {
    fn new(shutdown: Arc<Shutdown>, listener: &Rc<Registration>) -> Self {
        Self {
            all: RefCell::default(),
            listener: Rc::clone(listener),
            shutdown,
            are_notified: Cell::new(false),
        }
    }

    fn add(&self, registration: &Rc<Registration>, now: Instant) -> (usize, Rc<OpenConnection>) {
        let mut open_connections = self.all.borrow_mut();
        if open_connections.len() >= STATUS_CONNECTIONS_MAX {
            let longest = open_connections.iter().min_by_key(|(_, connection)| connection.idle_since.get());
            if let Some(connection) =
                longest.map(|(key, _)| key).and_then(|key| open_connections.try_remove(key))
            {
                connection.is_evicted.set(true);
                connection.registration.wake();
            }
        }
        let registration = Rc::clone(registration);
        let connection = Rc::new(OpenConnection {
            registration,
            idle_since: Cell::new(now),
            is_evicted: Cell::new(false),
        });
        (open_connections.insert(Rc::clone(&connection)), connection)
    }

    fn remove(&self, key: usize, connection: &Rc<OpenConnection>) {
        let mut open_connections = self.all.borrow_mut();
        // Somebody else may have the place of one that had to go.
        if open_connections.get(key).is_some_and(|it| Rc::ptr_eq(it, connection)) {
            open_connections.try_remove(key);
        }
    }
}

impl Turn for OpenConnections {
    fn collect(&self) {
        if self.shutdown.is_begun() && !self.are_notified.replace(true) {
            self.listener.wake();
            self.all.borrow().iter().for_each(|(_, connection)| connection.registration.wake());
        }
    }

    fn publish(&self) {}

    fn deadline(&self) -> Option<Instant> {
        None
    }

    fn may_doze(&self) -> bool {
        false
    }

    fn undoze(&self) {}
}

/// How a connection closes.
enum StatusClose {
    /// Nothing is left to be said or read.
    Done,
    /// The peer may still be sending: closing at once could destroy our last words.
    Linger,
}

/// One connection.
struct StatusConnectionTask {
    reactor: Reactor,
    stream: Stream,
    machine: Connection,
    site: Rc<Site>,
    open_connections: Rc<OpenConnections>,
    key: usize,
    connection: Rc<OpenConnection>,
}

impl StatusConnectionTask {
    fn open(
        reactor: &Reactor,
        accepted: Accepted,
        limits: &Arc<HttpLimits>,
        open_connections: &Rc<OpenConnections>,
        site: &Rc<Site>,
    ) -> Self {
        let stream = Stream::new(reactor, accepted);
        let (key, connection) = open_connections.add(stream.registration(), reactor.now());
        Self {
            reactor: reactor.clone(),
            stream,
            machine: Connection::new(Arc::clone(limits), true, reactor.now()),
            site: Rc::clone(site),
            open_connections: Rc::clone(open_connections),
            key,
            connection,
        }
    }

    async fn run(mut self) {
        if let StatusClose::Linger = self.serve_requests().await {
            self.linger().await;
        }
    }

    async fn serve_requests(&mut self) -> StatusClose {
        let mut request = None;
        loop {
            match self.machine.next(self.reactor.now()) {
                Event::Wait => {
                    if let Some(reason) = self.receive().await {
                        return reason;
                    }
                }
                Event::Continue => {
                    if !self.write(CONTINUE).await {
                        return StatusClose::Done;
                    }
                }
                Event::Head(head) => request = Some(head),
                // Bodies are discarded, and no proxy is trusted here.
                Event::Body(_) | Event::Proxied(_) => {}
                Event::BodyEnd => {
                    let Some(head) = request.take() else { return StatusClose::Done };
                    if !self.answer(&head).await {
                        return StatusClose::Done;
                    }
                }
                Event::Reject(fault) => {
                    let response = fault.response(self.machine.refused_is_head(), &date());
                    return if self.write(&response).await { StatusClose::Linger } else { StatusClose::Done };
                }
                Event::Close | Event::Aborted => return StatusClose::Done,
            }
        }
    }

    /// Feeds the machine what the peer sends next, or the deadline that has passed.
    async fn receive(&mut self) -> Option<StatusClose> {
        self.connection.idle_since.set(self.reactor.now());
        let mut buffer = [0; READ_BYTES];
        let mut drain_until: Option<Instant> = None;
        loop {
            if self.connection.is_evicted.get() {
                return Some(StatusClose::Done);
            }
            match self.stream.try_read(&mut buffer) {
                Ok(Some(0)) => {
                    self.machine.receive_end();
                    return None;
                }
                Ok(Some(count)) => {
                    self.machine.receive(buffer.get(..count)?, self.reactor.now());
                    return None;
                }
                Ok(None) => {}
                Err(_) => return Some(StatusClose::Done),
            }
            // Only now: what has arrived while we were busy, or stopped, has not come too late.
            match self.machine.expire(self.reactor.now()) {
                Event::Wait => {}
                Event::Reject(fault) => {
                    self.write(&fault.response(self.machine.refused_is_head(), &date())).await;
                    return Some(StatusClose::Linger);
                }
                _ => return Some(StatusClose::Done),
            }
            if self.open_connections.are_notified.get() {
                self.machine.drain();
                let is_idle = self.machine.is_idle();
                drain_until = is_idle.then(|| http::drain_deadline(drain_until, self.reactor.now()));
            }
            if drain_until.is_some_and(|until| until <= self.reactor.now()) {
                return Some(StatusClose::Done);
            }
            self.pause(self.machine.deadline().into_iter().chain(drain_until).min()).await;
        }
    }

    /// Answers a complete request; false when the connection ends with it.
    async fn answer(&mut self, head: &RequestHead) -> bool {
        let answer = self.site.answer(head);
        let Ok((bytes, keep_alive)) = encode(&answer, head) else { return false };
        if !self.write(&bytes).await || !keep_alive {
            return false;
        }
        self.machine.respond_done(true, self.reactor.now());
        true
    }

    /// Writes it all in bounded time; false when the peer does not take it.
    async fn write(&self, mut bytes: &[u8]) -> bool {
        self.connection.idle_since.set(self.reactor.now());
        let until = self.reactor.now() + STATUS_TIMEOUT;
        while !bytes.is_empty() {
            if self.connection.is_evicted.get() || self.reactor.now() >= until {
                return false;
            }
            match self.stream.try_write(bytes) {
                Ok(Some(count)) => bytes = bytes.get(count..).unwrap_or_default(),
                Ok(None) => self.pause(Some(until)).await,
                Err(_) => return false,
            }
        }
        true
    }

    /// Discards input until the peer has read our last words and closes, or for a bounded moment.
    async fn linger(&mut self) {
        self.stream.shut_down_write();
        let (until, mut read_bytes) = (self.reactor.now() + LINGER_IDLE_MAX, 0);
        let mut buffer = [0; READ_BYTES];
        while !self.connection.is_evicted.get() && self.reactor.now() < until && read_bytes < LINGER_BYTES_MAX
        {
            match self.stream.try_read(&mut buffer) {
                Ok(None) => self.pause(Some(until)).await,
                Ok(Some(count)) if count > 0 => read_bytes += count,
                _ => return,
            }
        }
    }

    async fn pause(&self, until: Option<Instant>) {
        self.stream.watch();
        wait(&self.reactor, self.stream.registration(), until).await;
    }
}

impl Drop for StatusConnectionTask {
    fn drop(&mut self) {
        self.open_connections.remove(self.key, &self.connection);
    }
}

/// The bytes of a response, and whether the connection lives on.
fn encode(answer: &Answer, head: &RequestHead) -> Result<(Vec<u8>, bool), ResponseFault> {
    let mut writer = HeadWriter::new(Vec::with_capacity(answer.body.len() + 512));
    writer.start(answer.status.as_bytes())?;
    for (name, value) in &answer.fields {
        writer.header(name.as_bytes(), value.as_bytes())?;
    }
    let plan = writer.finish(head.facts(), BodyLength::Exactly(answer.body.len() as u64), true, &date())?;
    let mut bytes = writer.into_inner();
    if plan.framing != ResponseFraming::None {
        bytes.extend_from_slice(&answer.body);
    }
    Ok((bytes, plan.keep_alive))
}

fn date() -> [u8; 29] {
    imf_fixdate(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs())
}
