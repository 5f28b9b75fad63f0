//! Requests that wait, threads that work or wait, and what decides between them.

use std::time::{Duration, Instant};

use super::concurrency_limit::ConcurrencyLimit;
use super::cpu_usage::{CoreCount, CpuSample, CpuUsage, Usage};
#[cfg(test)]
use super::fault::{Fault, is_put_back};
use super::request_class::RequestClass;
use super::run_queue::{Place, RunQueue};
use crate::limits::RUNNABLE_ASKED_MAX;

/// What a thread that asks for work is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// To work on this.
    Run(T),
    /// To park: nothing waits, or enough threads run.
    Wait,
    /// To end: nothing will come any more.
    End,
}

/// An observation of the application's use of the CPU. One question is open: whether a thread could go on if it had a
/// core.
#[derive(Clone, Copy, Debug)]
pub struct Observation(Usage);

/// See the module's page. Requests are whatever `T` is.
///
/// Its owner tells it what happens, in this order: [`Scheduler::arrive`] and then [`Scheduler::wake`]; for each thread
/// [`Scheduler::end`] and [`Scheduler::take`], then [`Scheduler::wake_beside`] or [`Scheduler::park`]. While requests
/// wait, [`Scheduler::observe`] and [`Scheduler::learn`] when [`Scheduler::sample_due`] says so, then
/// [`Scheduler::wake`].
#[derive(Debug)]
pub struct Scheduler<T> {
    threads: usize,
    run_queue: RunQueue<T>,
    limit: ConcurrencyLimit,
    usage: CpuUsage,
    /// For [`Fault::EveryExecutorTeaches`].
    #[cfg(test)]
    usages: std::collections::HashMap<usize, CpuUsage>,
    cores: CoreCount,
    /// Threads that wait for a request, the one with the warmest cache last.
    parked: Vec<Place>,
    is_closed: bool,
}

impl<T> Scheduler<T> {
    /// Nothing waits, and none of the `threads` there will be has asked for work yet.
    pub fn new(threads: usize, cores: CoreCount) -> Self {
        Self {
            threads,
            run_queue: RunQueue::new(),
            limit: ConcurrencyLimit::new(threads, cores.usable),
            usage: CpuUsage::new(cores),
            #[cfg(test)]
            usages: std::collections::HashMap::new(),
            cores,
            parked: Vec::new(),
            is_closed: false,
        }
    }

    /// A place for one more thread.
    pub fn add_thread(&mut self) -> Place {
        self.run_queue.add_place()
    }

    /// The thread of `place` takes no more requests.
    pub fn lose_thread(&mut self, place: Place, now: Instant) {
        self.run_queue.leave(place, now, |_| Duration::ZERO);
        self.parked.retain(|parked| *parked != place);
        self.threads = self.threads.saturating_sub(1);
    }

    /// Requests that wait.
    pub fn len(&self) -> usize {
        self.run_queue.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of them could be taken now.
    pub fn takeable(&self) -> usize {
        self.run_queue.takeable(self.limit.allowed())
    }

    /// How many threads are found to get anywhere at once.
    pub fn limit(&self) -> usize {
        self.limit.allowed()
    }

    /// Whether nothing will come any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A request has come.
    pub fn arrive(&mut self, request: T, class: RequestClass, now: Instant) {
        if self.threads > 1 && self.is_empty() {
            self.usage.begin(now);
            #[cfg(test)]
            self.usages.values_mut().for_each(|usage| usage.begin(now));
        }
        self.run_queue.push(request, class, now);
    }

    /// Takes back the first request that satisfies `condition`, if no thread has it yet.
    pub fn withdraw(&mut self, condition: impl Fn(&T) -> bool) -> Option<T> {
        self.run_queue.remove(condition)
    }

    /// Nothing more will come.
    pub fn close(&mut self) {
        self.is_closed = true;
    }

    /// Threads that may run at once. Those that are overtaken do not count.
    fn allowed(&self) -> usize {
        self.limit.allowed() + self.run_queue.overtaken()
    }

    fn running(&self) -> usize {
        self.threads.saturating_sub(self.parked.len())
    }

    /// Looks which requests have lasted for long; `cpu` tells what the thread of a place has used.
    pub fn look(&mut self, now: Instant, cpu: impl Fn(usize) -> Duration) {
        self.run_queue.find_long(now, cpu);
    }

    /// The threads to wake: as many as may run, and as there is work for. They count as running from now on.
    pub fn wake(&mut self) -> impl Iterator<Item = Place> {
        let missing = self.allowed().saturating_sub(self.running());
        let count = if self.is_closed { self.parked.len() } else { missing.min(self.takeable()) };
        let kept = self.parked.len().saturating_sub(count);
        self.parked.drain(kept..)
    }

    /// The thread to wake beside one that has just taken something, if that may be overtaken.
    pub fn wake_beside(&mut self) -> Option<Place> {
        let may_be_overtaken = self.run_queue.overtaken() > 0 && self.takeable() > 0;
        if may_be_overtaken && self.running() < self.allowed() { self.parked.pop() } else { None }
    }

    /// The thread of `place` waits from now on, until it is to be woken.
    pub fn park(&mut self, place: Place) {
        self.parked.push(place);
    }

    /// Whether nobody has woken the thread of `place`.
    pub fn is_parked(&self, place: Place) -> bool {
        self.parked.contains(&place)
    }

    /// The thread of `place` asks for work, having used so much `cpu` so far.
    pub fn take(&mut self, place: Place, now: Instant, cpu: Duration) -> Next<T> {
        let is_surplus = self.running() > self.allowed() && !self.is_closed;
        if is_surplus && !self.is_empty() {
            return Next::Wait;
        }
        let long_max = if self.is_closed { self.threads } else { self.limit.allowed() };
        match self.run_queue.take(place, long_max, now, cpu) {
            Some(request) => Next::Run(request),
            None if self.is_closed => Next::End,
            None => Next::Wait,
        }
    }

    /// The thread of `place` is done with its request, if it had one. `used` tells how much CPU that took, given how
    /// much time.
    pub fn end(&mut self, place: Place, now: Instant, used: impl FnOnce(Duration) -> Duration) {
        self.run_queue.leave(place, now, used);
    }

    /// When a sample of the CPU is wanted, if requests wait then; `None` with a single thread.
    pub fn sample_due(&self) -> Option<Instant> {
        self.usage.due().filter(|_| self.threads > 1)
    }

    /// Executor `asking` has taken a sample. What comes back is for [`Scheduler::learn`].
    pub fn observe(&mut self, sample: CpuSample, asking: usize) -> Option<Observation> {
        #[cfg(test)]
        if is_put_back(Fault::EveryExecutorTeaches) {
            let usage = self.usages.entry(asking).or_insert_with(|| CpuUsage::new(self.cores));
            return usage.observe(sample).map(Observation);
        }
        let _ = asking;
        self.usage.observe(sample).map(Observation)
    }

    /// Whether [`Scheduler::learn`] wants to know how many threads are runnable: that takes microseconds each.
    pub fn wants_runnable(&self, observation: Observation) -> bool {
        observation.0 != Usage::Full && !self.limit.is_all()
    }

    /// The places whose threads are then to be asked: some of those that work on something.
    pub fn asked(&self) -> impl Iterator<Item = usize> {
        self.run_queue.working().take(RUNNABLE_ASKED_MAX)
    }

    /// So many of them that are runnable are enough to know.
    pub fn runnable_enough(&self) -> usize {
        self.cores.usable
    }

    /// Learns from an observation, while so many threads run or would if they were given a core.
    pub fn learn(&mut self, observation: Observation, runnable: usize, now: Instant) {
        let has_idle_core = runnable < self.cores.usable;
        let would_help = has_idle_core && !self.limit.is_all();
        self.limit.learn(observation.0, has_idle_core, now);
        self.usage.pace(observation.0, would_help);
        #[cfg(test)]
        self.usages.values_mut().for_each(|usage| usage.pace(observation.0, would_help));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORES: CoreCount = CoreCount { all: 1, usable: 1 };

    /// A scheduler of so many threads, all of which wait.
    fn scheduler(threads: usize) -> (Scheduler<usize>, Vec<Place>) {
        let mut scheduler = Scheduler::new(threads, CORES);
        let places: Vec<Place> = (0..threads).map(|_| scheduler.add_thread()).collect();
        for place in &places {
            scheduler.park(*place);
        }
        (scheduler, places)
    }

    #[test]
    fn a_request_wakes_the_thread_that_parked_last() {
        let (mut scheduler, places) = scheduler(3);
        let now = Instant::now();
        scheduler.arrive(1, RequestClass::default(), now);
        assert_eq!(scheduler.wake().collect::<Vec<_>>(), [places[2]]);
        assert!(!scheduler.is_parked(places[2]) && scheduler.is_parked(places[1]));
        scheduler.arrive(2, RequestClass::default(), now);
        assert_eq!(scheduler.wake().count(), 0, "one gets anywhere");
        assert_eq!(scheduler.take(places[2], now, Duration::ZERO), Next::Run(1));
        scheduler.end(places[2], now, |taken| taken);
        assert_eq!(scheduler.take(places[2], now, Duration::ZERO), Next::Run(2));
    }

    #[test]
    fn when_nothing_more_comes_every_thread_is_woken_and_ends() {
        let (mut scheduler, places) = scheduler(3);
        let now = Instant::now();
        scheduler.arrive(1, RequestClass::default(), now);
        scheduler.close();
        assert_eq!(scheduler.wake().count(), 3);
        assert_eq!(scheduler.take(places[0], now, Duration::ZERO), Next::Run(1));
        assert_eq!(scheduler.take(places[1], now, Duration::ZERO), Next::End);
    }

    #[test]
    fn a_thread_that_is_lost_does_not_count_as_running() {
        let (mut scheduler, places) = scheduler(2);
        let now = Instant::now();
        scheduler.arrive(1, RequestClass::default(), now);
        assert_eq!(scheduler.wake().collect::<Vec<_>>(), [places[1]]);
        assert_eq!(scheduler.take(places[1], now, Duration::ZERO), Next::Run(1));
        scheduler.lose_thread(places[1], now);
        scheduler.arrive(2, RequestClass::default(), now);
        assert_eq!(scheduler.wake().collect::<Vec<_>>(), [places[0]]);
    }

    #[test]
    fn a_few_threads_are_asked_whether_they_could_run() {
        let (mut scheduler, places) = scheduler(2 * RUNNABLE_ASKED_MAX);
        let now = Instant::now();
        scheduler.close();
        assert_eq!(scheduler.wake().count(), 2 * RUNNABLE_ASKED_MAX);
        for (request, place) in places.iter().enumerate() {
            scheduler.arrive(request, RequestClass::default(), now);
            assert_eq!(scheduler.take(*place, now, Duration::ZERO), Next::Run(request));
            assert_eq!(scheduler.asked().count(), (request + 1).min(RUNNABLE_ASKED_MAX));
        }
    }
}
