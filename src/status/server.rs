//! The small HTTP server of the status process: GET and HEAD, few connections, little patience.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use slab::Slab;

use super::closing::Closing;
use super::site::{Answer, Site};
use crate::http::{
    self, BodyLength, CONTINUE, Connection, Event, HeadWriter, RequestHead, ResponseFault, ResponseFraming,
    imf_fixdate,
};
use crate::limits::{
    ACCEPT_EXHAUSTED_PAUSE, HttpLimits, LINGER_BYTES_MAX, LINGER_SILENCE_MAX, STATUS_BODY_BYTES_MAX,
    STATUS_CONNECTIONS_MAX, STATUS_DRAIN_TIMEOUT, STATUS_HEADER_BYTES_MAX, STATUS_KEEPALIVE_TIMEOUT,
    STATUS_TIMEOUT, SWEEP_PAUSE,
};
use crate::reactor::{Accepted, Listener, Reactor, Registration, Stream, Turn};
use crate::sys::fork::PrivateFd;

/// Bytes read at once: a request here is a line and a few fields.
const READ_BYTES: usize = 4096;

/// Accepts and answers until it is closing time, then answers who has come by then.
pub(super) async fn serve(reactor: Reactor, socket: Arc<PrivateFd>, site: Rc<Site>, closing: Arc<Closing>) {
    let listener = match Listener::new(&reactor, socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "cannot watch the status process's socket"),
    };
    let guests = Rc::new(Guests::new(closing, listener.registration()));
    reactor.set_turn(Rc::<Guests>::clone(&guests));
    let limits = Arc::new(limits());
    while !guests.closing.is_begun() {
        match listener.accept() {
            Ok(Some(accepted)) => {
                reactor.spawn(Visit::open(&reactor, accepted, &limits, &guests, &site).run());
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
    // Counted, not measured: a machine that stands still takes nobody's time.
    for _ in 0..STATUS_DRAIN_TIMEOUT.as_millis() / SWEEP_PAUSE.as_millis() {
        if guests.all.borrow().is_empty() {
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

/// The connections there are. When one too many comes, the one that has waited longest has to go: whoever holds
/// connections open keeps nobody out.
#[derive(Debug)]
struct Guests {
    all: RefCell<Slab<Rc<Guest>>>,
    door: Rc<Registration>,
    closing: Arc<Closing>,
    /// Whether everybody has been told that it is closing time: they may still say what they want, but soon.
    told: Cell<bool>,
}

#[derive(Debug)]
struct Guest {
    registration: Rc<Registration>,
    waits_since: Cell<Instant>,
    must_go: Cell<bool>,
}

impl Guests {
    fn new(closing: Arc<Closing>, door: &Rc<Registration>) -> Self {
        Self { all: RefCell::default(), door: Rc::clone(door), closing, told: Cell::new(false) }
    }

    fn admit(&self, registration: &Rc<Registration>, now: Instant) -> (usize, Rc<Guest>) {
        let mut guests = self.all.borrow_mut();
        if guests.len() >= STATUS_CONNECTIONS_MAX {
            let longest = guests.iter().min_by_key(|(_, guest)| guest.waits_since.get());
            if let Some(guest) = longest.map(|(key, _)| key).and_then(|key| guests.try_remove(key)) {
                guest.must_go.set(true);
                guest.registration.wake();
            }
        }
        let registration = Rc::clone(registration);
        let guest = Rc::new(Guest { registration, waits_since: Cell::new(now), must_go: Cell::new(false) });
        (guests.insert(Rc::clone(&guest)), guest)
    }

    fn dismiss(&self, key: usize, guest: &Rc<Guest>) {
        let mut guests = self.all.borrow_mut();
        // Somebody else may have the place of one that had to go.
        if guests.get(key).is_some_and(|it| Rc::ptr_eq(it, guest)) {
            guests.try_remove(key);
        }
    }
}

impl Turn for Guests {
    fn collect(&self) {
        if self.closing.is_begun() && !self.told.replace(true) {
            self.door.wake();
            self.all.borrow().iter().for_each(|(_, guest)| guest.registration.wake());
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

/// Why a visit is over.
enum Over {
    /// Nothing is left to be said or read.
    Done,
    /// The peer may still be sending: closing at once could destroy our last words.
    Linger,
}

/// One connection.
struct Visit {
    reactor: Reactor,
    stream: Stream,
    machine: Connection,
    site: Rc<Site>,
    guests: Rc<Guests>,
    key: usize,
    guest: Rc<Guest>,
}

impl Visit {
    fn open(
        reactor: &Reactor,
        accepted: Accepted,
        limits: &Arc<HttpLimits>,
        guests: &Rc<Guests>,
        site: &Rc<Site>,
    ) -> Self {
        let stream = Stream::new(reactor, accepted);
        let (key, guest) = guests.admit(stream.registration(), reactor.now());
        Self {
            reactor: reactor.clone(),
            stream,
            machine: Connection::new(Arc::clone(limits), true, reactor.now()),
            site: Rc::clone(site),
            guests: Rc::clone(guests),
            key,
            guest,
        }
    }

    async fn run(mut self) {
        if let Over::Linger = self.converse().await {
            self.linger().await;
        }
    }

    async fn converse(&mut self) -> Over {
        let mut request = None;
        loop {
            match self.machine.next(self.reactor.now()) {
                Event::Wait => {
                    if let Some(over) = self.hear().await {
                        return over;
                    }
                }
                Event::Continue => {
                    if !self.write(CONTINUE).await {
                        return Over::Done;
                    }
                }
                Event::Head(head) => request = Some(head),
                // Nobody reads a body, and no proxy speaks for the peer here.
                Event::Body(_) | Event::Proxied(_) => {}
                Event::BodyEnd => {
                    let Some(head) = request.take() else { return Over::Done };
                    if !self.answer(&head).await {
                        return Over::Done;
                    }
                }
                Event::Reject(fault) => {
                    let response = fault.response(self.machine.refused_is_head(), &date());
                    return if self.write(&response).await { Over::Linger } else { Over::Done };
                }
                Event::Close | Event::Aborted => return Over::Done,
            }
        }
    }

    /// Feeds the machine what the peer sends next, or what its silence means.
    async fn hear(&mut self) -> Option<Over> {
        self.guest.waits_since.set(self.reactor.now());
        let mut buffer = [0; READ_BYTES];
        let mut patience: Option<Instant> = None;
        loop {
            if self.guest.must_go.get() {
                return Some(Over::Done);
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
                Err(_) => return Some(Over::Done),
            }
            // Only now: what has arrived while we were busy, or stopped, has not come too late.
            match self.machine.expire(self.reactor.now()) {
                Event::Wait => {}
                Event::Reject(fault) => {
                    self.write(&fault.response(self.machine.refused_is_head(), &date())).await;
                    return Some(Over::Linger);
                }
                _ => return Some(Over::Done),
            }
            if self.guests.told.get() {
                self.machine.drain();
                let is_idle = self.machine.is_idle();
                patience = is_idle.then(|| http::drain_patience(patience, self.reactor.now()));
            }
            if patience.is_some_and(|until| until <= self.reactor.now()) {
                return Some(Over::Done);
            }
            self.pause(self.machine.deadline().into_iter().chain(patience).min()).await;
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
        self.guest.waits_since.set(self.reactor.now());
        let until = self.reactor.now() + STATUS_TIMEOUT;
        while !bytes.is_empty() {
            if self.guest.must_go.get() || self.reactor.now() >= until {
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

    /// Reads what nobody wants, until the peer has read our last words and closes, or for a bounded moment.
    async fn linger(&mut self) {
        self.stream.shut_down_write();
        let (until, mut read_bytes) = (self.reactor.now() + LINGER_SILENCE_MAX, 0);
        let mut buffer = [0; READ_BYTES];
        while !self.guest.must_go.get() && self.reactor.now() < until && read_bytes < LINGER_BYTES_MAX {
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

impl Drop for Visit {
    fn drop(&mut self) {
        self.guests.dismiss(self.key, &self.guest);
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
