//! The bounded queue between a process's executors and its application threads.
//!
//! Which request is next, how many threads run, and which are woken is for the [`Scheduler`] to say. Here are the lock
//! around it, the threads that park, and what may be read without the lock.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::{Exchange, Outbox, Request, Seat, ThreadStat};
use crate::limits::{QUEUE_FEW_MAX, QUEUE_FEW_MIN};
use crate::scheduler::{CoreCount, CpuSample, Next, Place, RequestClass, Scheduler};

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
    /// When a sample of the CPU is due while requests wait, in nanoseconds since `made_at`; zero for never.
    sample_due_ns: AtomicU64,
    made_at: Instant,
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
    scheduler: Scheduler<Box<Request>>,
    /// Of each place's thread.
    seats: Vec<Seated>,
    /// An executor holds requests that did not fit, or leaves some unread.
    refused_some: bool,
}

/// What the queue knows of a thread.
struct Seated {
    stat: Arc<dyn ThreadStat>,
    /// Known once it has parked.
    thread: Option<Thread>,
}

impl State {
    /// Takes the threads off the list of parked ones that are to be woken.
    fn wake(&mut self) -> Vec<Thread> {
        let Self { scheduler, seats, .. } = self;
        scheduler.wake().filter_map(|place| thread_at(seats, place)).collect()
    }

    fn wake_beside(&mut self) -> Option<Thread> {
        self.scheduler.wake_beside().and_then(|place| thread_at(&self.seats, place))
    }

    fn look(&mut self, now: Instant) {
        let Self { scheduler, seats, .. } = self;
        scheduler.look(now, |place| seats.get(place).map_or(Duration::ZERO, |seated| seated.stat.cpu()));
    }

    fn park(&mut self, place: Place) {
        self.scheduler.park(place);
        if let Some(seated) = self.seats.get_mut(place.index()) {
            seated.thread.get_or_insert_with(std::thread::current);
        }
    }
}

fn thread_at(seats: &[Seated], place: Place) -> Option<Thread> {
    seats.get(place.index()).and_then(|seated| seated.thread.clone())
}

impl Queue {
    /// A queue of at most `length_max` requests for `threads` application threads, who answer to `outboxes` and run on
    /// these `cores`.
    pub fn new(length_max: usize, threads: usize, cores: CoreCount, outboxes: Vec<Arc<Outbox>>) -> Self {
        Self {
            state: Mutex::new(State {
                scheduler: Scheduler::new(threads, cores),
                seats: Vec::new(),
                refused_some: false,
            }),
            length: AtomicUsize::new(0),
            ready: AtomicUsize::new(0),
            allowed: AtomicUsize::new(1),
            sample_due_ns: AtomicU64::new(0),
            made_at: Instant::now(),
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
        state.seats.push(Seated { stat: Arc::clone(&stat), thread: None });
        Seat::new(Arc::clone(self), state.scheduler.add_thread(), stat)
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
        state.scheduler.lose_thread(place, Instant::now());
        let is_death = !state.scheduler.is_closed();
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

    /// When the application's use of the CPU deserves a look, if requests still wait then: see [`Queue::sample`].
    pub fn sample_due(&self) -> Option<Instant> {
        if self.length() == 0 {
            return None;
        }
        let due_ns = self.sample_due_ns.load(Ordering::Relaxed);
        (due_ns > 0).then(|| self.made_at + Duration::from_nanos(due_ns))
    }

    /// Executor `asking`, when [`Queue::sample_due`] says so: learns how the application uses its time, and what takes
    /// it long, and lets more threads run or fewer.
    pub fn sample(&self, sample: CpuSample, asking: usize, now: Instant) {
        let mut state = self.lock();
        let observation = state.scheduler.observe(sample, asking);
        let mut runnable = 0;
        if observation.is_some_and(|observation| state.scheduler.wants_runnable(observation)) {
            let asked = state.scheduler.asked();
            let threads: Vec<_> = asked
                .filter_map(|place| state.seats.get(place).map(|seated| Arc::clone(&seated.stat)))
                .collect();
            let enough = state.scheduler.runnable_enough();
            // Asking takes microseconds each, and application threads want the lock.
            drop(state);
            runnable = threads.iter().filter(|thread| thread.is_runnable()).take(enough).count();
            state = self.lock();
        }
        if let Some(observation) = observation {
            state.scheduler.learn(observation, runnable, now);
        }
        state.look(now);
        self.allowed.store(state.scheduler.limit(), Ordering::Relaxed);
        self.show(&state);
        Self::wake(state);
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
        let room = self.length_max.saturating_sub(state.scheduler.len()).min(batch.len());
        for request in batch.drain(..room) {
            let class = if self.threads > 1 {
                RequestClass::of(request.head.method(), request.head.path())
            } else {
                RequestClass::default()
            };
            state.scheduler.arrive(request, class, now);
        }
        state.refused_some |= !batch.is_empty();
        state.look(now);
        self.show(&state);
        Self::wake(state);
        if let Some(bell) = self.bell.get() {
            bell();
        }
    }

    /// Executor: whether there is room. If not, it is woken when there is.
    pub fn ask_for_room(&self) -> bool {
        let mut state = self.lock();
        let is_full = state.scheduler.len() >= self.length_max;
        state.refused_some |= is_full;
        !is_full
    }

    /// Unparks the threads that are to run now.
    fn wake(mut state: MutexGuard<'_, State>) {
        let woken = state.wake();
        drop(state);
        for thread in woken {
            thread.unpark();
        }
    }

    /// Executor: takes back the request of `exchange`, if no application thread has it yet.
    pub fn withdraw(&self, exchange: &Arc<Exchange>) -> Option<Box<Request>> {
        let mut state = self.lock();
        let request = state.scheduler.withdraw(|request| request.reply.is_of(exchange));
        self.show(&state);
        self.tell_of_room(&mut state);
        request
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
                Taken::Nothing => state.park(seat.place()),
                taken => return taken,
            }
            drop(state);
            self.park(seat.place());
        }
    }

    /// Parks until whoever takes this thread's place off the list of parked ones unparks it.
    fn park(&self, place: Place) {
        loop {
            std::thread::park();
            if !self.lock().scheduler.is_parked(place) {
                return;
            }
        }
    }

    fn take_from(&self, state: &mut State, seat: &mut Seat, now: Instant) -> Taken {
        let place = seat.place();
        state.scheduler.end(place, now, |taken| seat.used(taken));
        let request = match state.scheduler.take(place, now, seat.cpu()) {
            Next::Run(request) => request,
            Next::Wait => return Taken::Nothing,
            Next::End => return Taken::Closed,
        };
        state.wake_beside().iter().for_each(Thread::unpark);
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
        self.length.store(state.scheduler.len(), Ordering::Relaxed);
        self.ready.store(state.scheduler.takeable(), Ordering::SeqCst);
        if self.threads > 1 {
            let due = state.scheduler.sample_due().map(|due| due.saturating_duration_since(self.made_at));
            let due_ns = due.map_or(0, |due| u64::try_from(due.as_nanos()).unwrap_or(u64::MAX).max(1));
            self.sample_due_ns.store(due_ns, Ordering::Relaxed);
        }
    }

    /// Wakes the executors that were told there was no room, once there is plenty.
    fn tell_of_room(&self, state: &mut State) {
        if state.refused_some && state.scheduler.len() <= self.length_max / 2 {
            state.refused_some = false;
            for outbox in &self.outboxes {
                outbox.wake();
            }
        }
    }

    /// Ends every thread once nothing waits any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.scheduler.close();
        Self::wake(state);
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

    const CORES: CoreCount = CoreCount { all: 1, usable: 1 };

    #[test]
    fn a_thread_that_ends_before_the_queue_is_closed_is_noticed() {
        let deaths = Arc::new(AtomicUsize::new(0));
        let (queue, counted) = (Arc::new(Queue::new(8, 2, CORES, Vec::new())), Arc::clone(&deaths));
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
