//! What one executor works with: the connections it owns, what they hand to the application, and what comes back.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Instant;

use slab::Slab;

use super::access_line::AccessLogLine;
use super::access_log::Log;
use super::connection_churn::ConnectionChurn;
use super::connection_limit::ConnectionLimit;
use super::cpu_clocks::CpuClocks;
use super::lifecycle::{Lifecycle, Phase};
use super::notices::Notices;
use super::paused_reads::{PausedFlag, PausedReads};
use super::spill::Storage;
use crate::bootstrap::Owner;
use crate::config::Config;
use crate::gateway::{Exchange, Message, Outbox, Queue, Request};
use crate::limits::{HttpLimits, PARTS_DELAY_MAX, READ_BYTES, SLOW_DELAY_MAX, SWEEP_PAUSE};
use crate::reactor::{Reactor, Registration, Turn};
use crate::scoreboard::{ExecutorScore, Others, ProcessScore, Scoreboard};
use crate::sys::clock;

/// An executor's handle on one connection: its readiness, its messages and its deadline.
#[derive(Debug)]
pub(super) struct ConnectionHandle {
    pub(super) registration: Rc<Registration>,
    inbox: RefCell<VecDeque<Message>>,
    pub(super) deadline: Cell<Option<Instant>>,
    admitted_at: Instant,
}

impl ConnectionHandle {
    fn add(&self, message: Message) {
        let mut inbox = self.inbox.borrow_mut();
        let rest = match inbox.back_mut() {
            Some(last) => last.join(message),
            None => Err(message),
        };
        inbox.extend(rest.err());
    }

    /// The next thing an application thread has sent.
    pub(super) fn next_message(&self) -> Option<Message> {
        self.inbox.borrow_mut().pop_front()
    }
}

/// All that the tasks of one executor share.
pub(super) struct ExecutorContext {
    pub(super) reactor: Reactor,
    pub(super) config: Arc<Config>,
    pub(super) http_limits: Arc<HttpLimits>,
    pub(super) load: Load,
    pub(super) outbox: Arc<Outbox>,
    pub(super) scratch: RefCell<Vec<u8>>,
    pub(super) notices: Arc<Notices>,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) storage: Arc<Storage>,
    lifecycle: Arc<Lifecycle>,
    queue: Arc<Queue>,
    handles: RefCell<Slab<Rc<ConnectionHandle>>>,
    batch: RefCell<VecDeque<Box<Request>>>,
    arrived: RefCell<Vec<Message>>,
    log: RefCell<Option<Log>>,
    phase: Cell<Phase>,
    are_closed: Cell<bool>,
    listeners: RefCell<Vec<Rc<Registration>>>,
    main: RefCell<Option<Waker>>,
    next_sweep: Cell<Option<Instant>>,
    clocks: Arc<CpuClocks>,
    /// Which executor of its process this is.
    index: usize,
    paused_reads: PausedReads,
    connection_churn: ConnectionChurn,
    /// When responses that wait to be sent together are sent at the latest.
    next_look: Cell<Option<Instant>>,
    /// Parts of a response have come in this turn, and more may follow.
    parts_arrive: Cell<bool>,
}

/// What an executor says of itself on the scoreboard, and sees there of its siblings.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) score: ExecutorScore,
    process: ProcessScore,
    scoreboard: Scoreboard,
    row: usize,
}

impl Load {
    /// The load of executor `index` in `row`; `None` where there is no such place.
    pub(super) fn new(scoreboard: &Scoreboard, row: usize, index: usize) -> Option<Self> {
        Some(Self {
            score: scoreboard.executor(row, index)?,
            process: scoreboard.process(row)?,
            scoreboard: scoreboard.clone(),
            row,
        })
    }

    /// Whether the server was told to stop, though this process may still accept.
    pub(super) fn is_stopping(&self) -> bool {
        self.scoreboard.is_stopping()
    }

    /// A request was answered 503 because it had waited too long.
    pub(super) fn queue_timed_out(&self) {
        self.process.queue_timed_out();
    }

    /// Whether this process holds more connections than the least loaded of those others.
    fn is_ahead_of(&self, others: Others) -> bool {
        let other = self.scoreboard.connections_least_loaded_other(self.row, others);
        other.is_some_and(|least| self.scoreboard.connections(self.row) > least)
    }
}

/// What an executor is given to work with.
pub(super) struct ExecutorResources {
    pub(super) config: Arc<Config>,
    pub(super) lifecycle: Arc<Lifecycle>,
    pub(super) load: Load,
    pub(super) outbox: Arc<Outbox>,
    pub(super) queue: Arc<Queue>,
    pub(super) log: Option<Log>,
    pub(super) notices: Arc<Notices>,
    pub(super) connection_limit: Arc<ConnectionLimit>,
    pub(super) storage: Arc<Storage>,
    pub(super) clocks: Arc<CpuClocks>,
    pub(super) index: usize,
}

impl ExecutorContext {
    pub(super) fn new(reactor: Reactor, resources: ExecutorResources) -> Self {
        Self {
            reactor,
            http_limits: Arc::new(resources.config.http.clone()),
            config: resources.config,
            phase: Cell::new(resources.lifecycle.phase()),
            lifecycle: resources.lifecycle,
            load: resources.load,
            outbox: resources.outbox,
            scratch: RefCell::new(vec![0; READ_BYTES]),
            queue: resources.queue,
            notices: resources.notices,
            connection_limit: resources.connection_limit,
            storage: resources.storage,
            handles: RefCell::default(),
            batch: RefCell::default(),
            arrived: RefCell::default(),
            log: RefCell::new(resources.log),
            are_closed: Cell::new(false),
            listeners: RefCell::default(),
            main: RefCell::new(None),
            next_sweep: Cell::new(None),
            clocks: resources.clocks,
            index: resources.index,
            paused_reads: PausedReads::default(),
            connection_churn: ConnectionChurn::default(),
            next_look: Cell::new(None),
            parts_arrive: Cell::new(false),
        }
    }

    /// What the supervisor wants of this process, as of this turn.
    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Connections alive.
    pub(super) fn connections(&self) -> usize {
        self.handles.borrow().len()
    }

    /// The key the next connection will have.
    pub(super) fn vacant_key(&self) -> usize {
        self.handles.borrow().vacant_key()
    }

    /// Whether a sibling should rather accept the next connection. Where they come and go quickly that matters only if
    /// the sibling has nothing to do: other workers would wake up for nothing, and get in the way of busy workers.
    pub(super) fn is_ahead_of_siblings(&self) -> bool {
        let are_fleeting = self.connection_churn.outnumbers(self.connections(), self.reactor.now());
        self.load.is_ahead_of(if are_fleeting { Others::Idle } else { Others::All })
    }

    /// Adds a connection, under [`ExecutorContext::vacant_key`].
    pub(super) fn add_connection(&self, registration: Rc<Registration>) -> Rc<ConnectionHandle> {
        let (inbox, deadline) = (RefCell::default(), Cell::new(None));
        let handle =
            Rc::new(ConnectionHandle { registration, inbox, deadline, admitted_at: self.reactor.now() });
        self.handles.borrow_mut().insert(Rc::clone(&handle));
        self.load.score.connection_opened();
        handle
    }

    /// Forgets a connection.
    pub(super) fn remove_connection(&self, key: usize) {
        if let Some(handle) = self.handles.borrow_mut().try_remove(key) {
            self.connection_churn.count(handle.admitted_at, self.reactor.now());
        }
        self.load.score.connection_closed();
        if self.connection_limit.is_full() {
            self.wake_listeners();
        }
        if self.phase() >= Phase::Draining {
            self.wake_main();
        }
    }

    /// Wakes the task of a listener when the phase changes.
    pub(super) fn add_listener(&self, registration: Rc<Registration>) {
        self.listeners.borrow_mut().push(registration);
    }

    /// Forgets a listener that is accepted from no more.
    pub(super) fn dismiss_listener(&self, registration: &Rc<Registration>) {
        self.listeners.borrow_mut().retain(|listener| !Rc::ptr_eq(listener, registration));
        self.wake_main();
    }

    /// Whether there is a listener that is accepted from.
    pub(super) fn is_listening(&self) -> bool {
        !self.listeners.borrow().is_empty()
    }

    /// Whether the sockets that the server closes are closed, as of this turn.
    pub(super) fn are_closed(&self) -> bool {
        self.are_closed.get()
    }

    /// Whether connections are accepted from a socket of `owner`: a process that drains takes who waits at those that
    /// the server closes.
    pub(super) fn accepts_from(&self, owner: Owner) -> bool {
        match self.phase() {
            Phase::Accepting => true,
            Phase::Draining => owner == Owner::Server && self.lifecycle.takes_who_waits(),
            Phase::Waiting | Phase::Stopping => false,
        }
    }

    /// Waits until `condition` holds of the phase or the number of connections. For the executor's main task alone.
    pub(super) async fn until(&self, condition: impl Fn(&Self) -> bool) {
        poll_fn(|context| {
            if condition(self) {
                return Poll::Ready(());
            }
            *self.main.borrow_mut() = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn wake_listeners(&self) {
        self.listeners.borrow().iter().for_each(|registration| registration.wake());
    }

    fn wake_main(&self) {
        if let Some(main) = self.main.borrow().as_ref() {
            self.reactor.wake(main);
        }
    }

    /// Sends a request to the application at the end of this turn.
    pub(super) fn submit(&self, request: Box<Request>) {
        self.load.score.request_started();
        self.batch.borrow_mut().push_back(request);
    }

    /// Takes back the request of `exchange`, if no application thread has it yet.
    pub(super) fn withdraw(&self, exchange: &Arc<Exchange>) -> Option<Box<Request>> {
        let mut batch = self.batch.borrow_mut();
        match batch.iter().position(|request| request.reply.is_of(exchange)) {
            Some(index) => batch.remove(index),
            None => self.queue.withdraw(exchange),
        }
    }

    /// Whether the queue is full, so that nothing more should be read. A process that drains reads on: what it has
    /// accepted no other process can answer.
    pub(super) fn is_queue_full(&self) -> bool {
        self.room() == 0 && self.phase() == Phase::Accepting
    }

    /// How many requests more the queue can take.
    fn room(&self) -> usize {
        self.config.queue_length_max.saturating_sub(self.batch.borrow().len() + self.queue.length())
    }

    /// Leaves a connection, or those that a listener would accept, unread while the queue is full.
    pub(super) async fn until_queue_has_room(&self, registration: &Rc<Registration>) {
        let paused = PausedFlag::default();
        poll_fn(|context| {
            if !self.is_queue_full() || registration.is_hung_up() {
                return Poll::Ready(());
            }
            self.paused_reads.add(registration, &paused);
            registration.remember(context.waker());
            Poll::Pending
        })
        .await;
    }

    /// Wakes as many of those that wait unread as there is room for, or has the queue call us when there is some.
    fn resume_paused_reads(&self) {
        if !self.paused_reads.is_empty() && (self.room() > 0 || self.queue.ask_for_room()) {
            self.paused_reads.wake(self.room());
        }
    }

    /// Makes sure that `handle` is woken soon after `deadline`.
    pub(super) fn set_deadline(&self, handle: &ConnectionHandle, deadline: Option<Instant>) {
        handle.deadline.set(deadline);
        let Some(deadline) = deadline else { return };
        if self.next_sweep.get().is_none_or(|next| deadline < next) {
            self.next_sweep.set(Some(deadline.max(self.reactor.now() + SWEEP_PAUSE)));
        }
    }

    /// Writes an access log line.
    pub(super) fn log(&self, line: &AccessLogLine<'_>) {
        if line.head.is_some_and(|head| self.config.quiet.skips(head.path(), line.is_ok())) {
            return;
        }
        if let Some(log) = self.log.borrow_mut().as_mut() {
            log.record(line, self.reactor.now());
        }
    }

    /// Hands the last lines of the access log to be written, and ends it.
    pub(super) fn close_log(&self) {
        self.log.borrow_mut().take();
    }

    fn deliver(&self, message: Message) {
        // The connection may be gone; then its response is dropped.
        if let Some(handle) = self.handles.borrow().get(message.connection) {
            if message.end.is_none() {
                self.parts_arrive.set(true);
            }
            handle.add(message);
            handle.registration.wake();
        }
    }

    fn follow_phase(&self) {
        let phase = self.lifecycle.phase();
        let are_closed = self.lifecycle.are_closed();
        if phase == self.phase.get() && are_closed == self.are_closed.replace(are_closed) {
            return;
        }
        self.phase.set(phase);
        self.wake_main();
        self.wake_listeners();
        for (_, handle) in self.handles.borrow().iter() {
            handle.registration.wake();
        }
    }

    /// Wakes every connection whose deadline has come, and finds the next.
    fn sweep(&self, now: Instant) {
        if self.next_sweep.get().is_none_or(|next| now < next) {
            return;
        }
        let mut next: Option<Instant> = None;
        for (_, handle) in self.handles.borrow().iter() {
            match handle.deadline.get() {
                Some(deadline) if deadline <= now => handle.registration.wake(),
                Some(deadline) => next = Some(next.map_or(deadline, |next| next.min(deadline))),
                None => {}
            }
        }
        self.next_sweep.set(next.map(|next| next.max(now + SWEEP_PAUSE)));
    }

    /// Responses wait to be sent together only while requests wait for a thread, and parts of a response for each other
    /// only after some have come: then this executor looks after them.
    fn look_soon(&self, now: Instant) {
        let next_look = if self.parts_arrive.take() {
            Some(now + PARTS_DELAY_MAX)
        } else {
            (self.queue.length() > 0).then(|| now + SLOW_DELAY_MAX)
        };
        self.next_look.set(next_look);
        self.outbox.set_polled(next_look.is_some());
    }

    /// While requests wait: how does the application use its time?
    fn sample(&self, now: Instant) {
        if self.queue.sample_due().is_some_and(|due| due <= now) {
            self.queue.sample(self.clocks.sample(self.index), self.index, now);
        }
    }
}

impl Turn for ExecutorContext {
    fn collect(&self) {
        self.follow_phase();
        let mut arrived = self.arrived.borrow_mut();
        self.outbox.take(&mut arrived);
        for message in arrived.drain(..) {
            self.deliver(message);
        }
    }

    fn publish(&self) {
        let now = self.reactor.now();
        let mut batch = self.batch.borrow_mut();
        if !batch.is_empty() {
            self.queue.publish(&mut batch, now);
        }
        drop(batch);
        self.resume_paused_reads();
        self.load.process.set_queue_depth(self.queue.length());
        self.look_soon(now);
        self.sample(Instant::now());
        self.sweep(now);
        self.load.score.heartbeat(clock::monotonic_ms());
        if let Some(log) = self.log.borrow_mut().as_mut()
            && log.due().is_some_and(|due| due <= now)
        {
            log.flush();
        }
    }

    fn may_doze(&self) -> bool {
        self.queue.may_doze()
    }

    fn undoze(&self) {
        self.queue.undoze();
    }

    fn deadline(&self) -> Option<Instant> {
        let log = self.log.borrow().as_ref().and_then(Log::due);
        [self.next_sweep.get(), self.next_look.get(), log, self.queue.sample_due()]
            .into_iter()
            .flatten()
            .min()
    }
}
