//! The bounded queue between a process's executors and its application threads.
//!
//! Under the interpreter's lock (the GIL) a woken thread that cannot run only adds context switches. So no more threads
//! run than [`Concurrency`] allows: the others stay parked although requests wait. A request that takes long does not
//! hold up the quick ones behind it, though: its thread does not count ([`Lineup`]).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::concurrency::Concurrency;
use super::lineup::{Kind, Lineup, Place};
use super::{Exchange, Outbox, Request, Seat, ThreadStat, Usage};
use crate::limits::{QUEUE_FEW_MAX, QUEUE_FEW_MIN};

/// What an application thread gets from the queue.
#[derive(Debug)]
pub enum Taken {
    /// The request whose turn it is, and when it was taken.
    Request(Box<Request>, Instant),
    /// Nothing waits now.
    Nothing,
    /// Nothing will come any more: the thread ends.
    Closed,
}

/// Something to be rung from any thread.
type Bell = Box<dyn Fn() + Send + Sync>;

/// See the module's page.
pub struct Queue {
    state: Mutex<State>,
    /// Requests that wait, readable without the lock.
    length: AtomicUsize,
    /// Those of them that a thread could take, readable without the lock.
    ready: AtomicUsize,
    /// Threads that may run at once, readable without the lock.
    allowed: AtomicUsize,
    /// Executors that doze because enough requests wait.
    dozing: AtomicUsize,
    length_max: usize,
    threads: usize,
    outboxes: Vec<Arc<Outbox>>,
    /// Rung whenever there may be something to take, for whoever cannot park.
    bell: OnceLock<Bell>,
    /// Rung whenever a thread has died.
    knell: OnceLock<Bell>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Queue").field("length", &self.length).finish_non_exhaustive()
    }
}

struct State {
    lineup: Lineup<Box<Request>>,
    /// Of each place's thread.
    stats: Vec<Arc<dyn ThreadStat>>,
    /// Threads that wait for a request, the one with the warmest cache last.
    parked: Vec<Thread>,
    concurrency: Concurrency,
    /// An executor holds requests that did not fit, or leaves some unread.
    refused_some: bool,
    closed: bool,
}

impl State {
    /// Threads that may run at once.
    fn allowed(&self) -> usize {
        self.concurrency.allowed() + self.lineup.overtaken()
    }

    fn find_long(&mut self, now: Instant) {
        let stats = &self.stats;
        self.lineup.find_long(now, |place| stats.get(place).map_or(Duration::ZERO, |stat| stat.cpu()));
    }

    /// How many requests could be taken now. As many long ones are worked on as get anywhere.
    fn takeable(&self) -> usize {
        self.lineup.takeable(self.concurrency.allowed())
    }
}

impl Queue {
    /// A queue of at most `length_max` requests for `threads` application threads, who answer to `outboxes`.
    pub fn new(length_max: usize, threads: usize, outboxes: Vec<Arc<Outbox>>) -> Self {
        Self {
            state: Mutex::new(State {
                lineup: Lineup::new(),
                stats: Vec::new(),
                parked: Vec::new(),
                concurrency: Concurrency::new(threads),
                refused_some: false,
                closed: false,
            }),
            length: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
            allowed: AtomicUsize::new(1),
            dozing: AtomicUsize::new(0),
            length_max,
            threads,
            outboxes,
            bell: OnceLock::new(),
            knell: OnceLock::new(),
        }
    }

    /// A place for one more application thread, which `stat` is about.
    pub fn seat(self: &Arc<Self>, stat: Arc<dyn ThreadStat>) -> Seat {
        let mut state = self.lock();
        state.stats.push(Arc::clone(&stat));
        Seat::new(Arc::clone(self), state.lineup.place(), stat)
    }

    /// Has `knell` rung, on its thread, whenever a thread has given up its seat although the queue is open. Called at
    /// most once, before there are threads.
    pub fn when_a_thread_dies(&self, knell: impl Fn() + Send + Sync + 'static) {
        // A second one would have nobody to hear it.
        let _ = self.knell.set(Box::new(knell));
    }

    /// The thread of `place` takes no more requests.
    pub(super) fn vacate(&self, place: Place) {
        let mut state = self.lock();
        state.lineup.leave(place, Instant::now(), |_| Duration::ZERO);
        let is_death = !state.closed;
        drop(state);
        if is_death {
            self.knell.get().into_iter().for_each(|knell| knell());
        }
    }

    /// Has `bell` rung whenever requests have come, and when the queue closes, for an application that takes them by
    /// [`Queue::try_take`] alone. Called at most once, before anything is published.
    pub fn ring(&self, bell: impl Fn() + Send + Sync + 'static) {
        // A second bell would have nobody to hear it.
        let _ = self.bell.set(Box::new(bell));
    }

    /// Requests that wait for a thread.
    pub fn length(&self) -> usize {
        self.length.load(Ordering::Relaxed)
    }

    /// Whether the number of threads that run deserves a look, every half millisecond or so: see [`Queue::balance`].
    pub fn wants_balance(&self) -> bool {
        self.threads > 1 && self.length() > 0
    }

    /// Whether an application thread could go on if only it were given a core, so that one more, if there is one, would
    /// only take turns with it.
    pub fn lacks_cores(&self) -> bool {
        if self.allowed.load(Ordering::Relaxed) >= self.threads {
            return false;
        }
        // Asking takes microseconds each, and application threads want the lock.
        let stats = self.lock().stats.clone();
        stats.iter().any(|stat| stat.is_runnable())
    }

    /// So many waiting requests keep the threads busy while an executor wakes up.
    fn few(&self) -> usize {
        self.allowed.load(Ordering::Relaxed).clamp(QUEUE_FEW_MIN, QUEUE_FEW_MAX)
    }

    /// Executor, declared asleep: may it doze? Only while requests wait in plenty; the thread that takes the last but
    /// few wakes it. If so, [`Queue::undoze`] must follow.
    pub fn may_doze(&self) -> bool {
        if self.ready.load(Ordering::Relaxed) < 2 * self.few() {
            return false;
        }
        self.dozing.fetch_add(1, Ordering::SeqCst);
        // A thread that took requests meanwhile may not have seen us doze.
        let plenty = self.ready.load(Ordering::SeqCst) > self.few();
        if !plenty {
            self.undoze();
        }
        plenty
    }

    /// Executor: the doze is over.
    pub fn undoze(&self) {
        self.dozing.fetch_sub(1, Ordering::SeqCst);
    }

    /// Executor: moves requests from the front of `batch` into the queue until it is full, and wakes as many threads
    /// as there is work for and may run. Whoever is left with some is woken when there is room.
    pub fn publish(&self, batch: &mut VecDeque<Box<Request>>, now: Instant) {
        let mut state = self.lock();
        let room = self.length_max.saturating_sub(state.lineup.len()).min(batch.len());
        for request in batch.drain(..room) {
            let kind = if self.threads > 1 { Kind::of(&request.head) } else { Kind::default() };
            state.lineup.push(request, kind);
        }
        state.refused_some |= !batch.is_empty();
        state.find_long(now);
        self.show(&state);
        self.wake_allowed(state);
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// Executor: whether there is room. If not, it is woken when there is.
    pub fn ask_for_room(&self) -> bool {
        let mut state = self.lock();
        let is_full = state.lineup.len() >= self.length_max;
        state.refused_some |= is_full;
        !is_full
    }

    fn running(&self, state: &State) -> usize {
        self.threads.saturating_sub(state.parked.len())
    }

    /// Unparks threads until as many run as may, or as there is work for.
    fn wake_allowed(&self, state: MutexGuard<'_, State>) {
        let missing = state.allowed().saturating_sub(self.running(&state));
        let wanted = missing.min(state.takeable());
        Self::wake(state, wanted);
    }

    /// Unparks one thread if this one has taken something long that may be overtaken.
    fn wake_overtaker(&self, state: &mut State) {
        if state.lineup.overtaken() > 0 && self.running(state) < state.allowed() {
            state.parked.pop().iter().for_each(Thread::unpark);
        }
    }

    /// Unparks the `count` threads that parked last.
    fn wake(mut state: MutexGuard<'_, State>, count: usize) {
        let kept = state.parked.len().saturating_sub(count);
        let woken = state.parked.split_off(kept);
        drop(state);
        for thread in woken {
            thread.unpark();
        }
    }

    /// Executor: takes back the request of `exchange`, if no application thread has it yet.
    pub fn withdraw(&self, exchange: &Arc<Exchange>) -> Option<Box<Request>> {
        let mut state = self.lock();
        let request = state.lineup.remove(|request| request.reply.is_of(exchange));
        self.show(&state);
        self.tell_of_room(&mut state);
        request
    }

    /// Executor, while [`Queue::wants_balance`]: learns how the application used its time, if that is known, and what
    /// takes it long, and lets more threads run or fewer.
    pub fn balance(&self, usage: Option<Usage>, now: Instant) {
        let mut state = self.lock();
        if let Some(usage) = usage {
            state.concurrency.learn(usage, now);
        }
        state.find_long(now);
        self.allowed.store(state.concurrency.allowed(), Ordering::Relaxed);
        self.show(&state);
        self.wake_allowed(state);
    }

    /// Application thread: the next request, without waiting.
    pub fn try_take(&self, seat: &mut Seat) -> Taken {
        let now = Instant::now();
        self.take_from(&mut self.lock(), seat, now)
    }

    /// Application thread, before it waits: tells the executors of finished responses.
    pub fn announce(&self) {
        for outbox in &self.outboxes {
            outbox.announce();
        }
    }

    /// Application thread: the next request, waiting for it. Tells the executors of finished responses first.
    /// Never call it attached to the interpreter.
    pub fn take(&self, seat: &mut Seat) -> Taken {
        self.announce();
        loop {
            let now = Instant::now();
            let mut state = self.lock();
            match self.take_from(&mut state, seat, now) {
                Taken::Nothing => state.parked.push(std::thread::current()),
                taken => return taken,
            }
            drop(state);
            self.park();
        }
    }

    /// Parks until whoever takes this thread off the list of parked ones unparks it.
    fn park(&self) {
        let this = std::thread::current().id();
        loop {
            std::thread::park();
            if !self.lock().parked.iter().any(|parked| parked.id() == this) {
                return;
            }
        }
    }

    fn take_from(&self, state: &mut State, seat: &mut Seat, now: Instant) -> Taken {
        state.lineup.leave(seat.place(), now, |taken| seat.used(taken));
        let is_surplus = self.running(state) > state.allowed() && !state.closed;
        if is_surplus && state.lineup.len() > 0 {
            return Taken::Nothing;
        }
        let long_max = if state.closed { self.threads } else { state.concurrency.allowed() };
        let Some(request) = state.lineup.take(seat.place(), long_max, now, seat.cpu()) else {
            return if state.closed { Taken::Closed } else { Taken::Nothing };
        };
        self.wake_overtaker(state);
        self.show(state);
        if self.ready.load(Ordering::Relaxed) <= self.few() && self.dozing.load(Ordering::SeqCst) > 0 {
            for outbox in &self.outboxes {
                outbox.wake();
            }
        }
        self.tell_of_room(state);
        Taken::Request(request, now)
    }

    /// Says to whoever has no lock how many requests wait.
    fn show(&self, state: &State) {
        self.length.store(state.lineup.len(), Ordering::Relaxed);
        self.ready.store(state.takeable(), Ordering::SeqCst);
    }

    /// Wakes the executors that were told there was no room, once there is plenty.
    fn tell_of_room(&self, state: &mut State) {
        if state.refused_some && state.lineup.len() <= self.length_max / 2 {
            state.refused_some = false;
            for outbox in &self.outboxes {
                outbox.wake();
            }
        }
    }

    /// Ends every thread once nothing waits any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        Self::wake(state, usize::MAX);
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// A thread that panicked while it held the lock left whole requests behind, so the queue is as good as before.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread that would run if it were given a core.
    struct Runnable;

    impl ThreadStat for Runnable {
        fn cpu(&self) -> Duration {
            Duration::ZERO
        }

        fn is_runnable(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_thread_that_could_go_on_tells_of_a_lack_of_cores_while_more_could_run() {
        let queue = Arc::new(Queue::new(8, 2, Vec::new()));
        let _blocked = queue.seat(Arc::new(()));
        assert!(!queue.lacks_cores());
        let _runnable = queue.seat(Arc::new(Runnable));
        assert!(queue.lacks_cores());
        queue.balance(Some(Usage::Idle), Instant::now());
        assert!(!queue.lacks_cores(), "all threads may run already: nobody asks");
    }

    #[test]
    fn a_thread_that_ends_before_the_queue_is_closed_is_noticed() {
        let deaths = Arc::new(AtomicUsize::new(0));
        let (queue, counted) = (Arc::new(Queue::new(8, 2, Vec::new())), Arc::clone(&deaths));
        queue.when_a_thread_dies(move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let (lost, kept) = (queue.seat(Arc::new(())), queue.seat(Arc::new(())));
        let died = std::thread::spawn(move || {
            let _lost = lost;
            panic!("a bug");
        });
        assert!(died.join().is_err());
        assert_eq!(deaths.load(Ordering::SeqCst), 1);
        queue.close();
        drop(kept);
        assert_eq!(deaths.load(Ordering::SeqCst), 1);
    }
}
