//! Executors, threads, the interpreter and clients in virtual time, and what is promised to them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::{CoreCount, CpuSample, Next, Place, RequestClass, Scheduler};
use super::application::{Dice, Model, Program, RENDER_US};
use crate::limits::{HELD_BACK_MAX, LASTING_MAX, LONG_REQUEST};

/// How long a thread keeps the interpreter when others want it.
const SLICE_US: u64 = 1_000;
/// A request may wait for so long, all in all, while a thread is free and the interpreter is not held.
const FREE_WAIT_US_MAX: u64 = 25_000;
/// After a change of load as many threads run as get anywhere.
const FOLLOWED_WITHIN_US: u64 = 20_000;
/// So much of the time, in per cent, a core may be free then although a request waits and a thread is free.
const FREE_PER_CENT_MAX: u64 = 50;
/// So many threads on average may want the interpreter when one alone gets anywhere: what was begun before the change
/// has to end.
const THREADS_WANTING_MAX: u64 = 2;
/// So long a short request may take: behind two that compute, and beside others of its like.
const SHORT_US_MAX: u64 = 3_000;
/// So many threads may be allowed at most, at any time, where three or four are enough.
const LIMIT_WHEN_BALANCED_MAX: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A client sends its next request.
    Ask { client: usize },
    /// An executor has slept until a sample was due.
    Turn { executor: usize },
    /// A parked thread has woken up.
    Woken { thread: usize },
    /// What it waited for has come.
    Unblocked { thread: usize },
    /// Its time with the interpreter is over, unless it has given it up before: then the number is another.
    Sliced { thread: usize, slice: u64 },
}

struct Thread {
    place: Place,
    cpu_us: u64,
    cpu_at_take_us: u64,
    request: Option<usize>,
    /// Of the phase that computes.
    left_us: u64,
    rounds_left: u64,
    /// Since when it has had the interpreter, and since when it computes.
    held_since: u64,
    running_since: Option<u64>,
    slice: u64,
}

struct Request {
    client: usize,
    program: Program,
    asked_at: u64,
    free_us_then: u64,
}

struct Executor {
    cpu_us: u64,
    has_turn: bool,
}

pub(super) struct World {
    model: Model,
    dice: Dice,
    epoch: Instant,
    now: u64,
    scheduler: Scheduler<usize>,
    cores: CoreCount,
    threads: Vec<Thread>,
    executors: Vec<Executor>,
    /// How busy each executor is with other things, in per cent.
    load_per_cent: u64,
    /// Threads that have the interpreter, or a core each without its lock.
    running: usize,
    /// Threads that want it.
    wanting: VecDeque<usize>,
    parked: usize,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    event_count: u64,
    requests: Vec<Request>,
    clients: usize,
    last_taken: HashMap<RequestClass, usize>,
    /// How long requests have waited although a thread was free and the interpreter was not held.
    free_us: u64,
    /// The same, since the load last changed and had time to be followed.
    free_since_us: u64,
    /// Threads that had or wanted the interpreter, times how long, since then.
    wanting_us: u64,
    followed_since: u64,
    /// The most threads that were ever allowed.
    limit_max: usize,
}

type Promise = Result<(), String>;

impl World {
    pub(super) fn new(model: Model, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let executors = usize::try_from(dice.between(1, 8)).unwrap();
        let executors = if model == Model::Parallel { executors.max(2) } else { executors };
        let threads = usize::try_from(dice.of(&[1, 2, 3, 4, 8, 16, 32, 64])).unwrap();
        let threads = match model {
            Model::Stuck | Model::Reports => threads.max(2),
            Model::Parallel | Model::Changing | Model::Balanced => threads.max(16),
            _ => threads,
        };
        let usable = if model == Model::Parallel { executors } else { 1 };
        let cores = CoreCount { all: executors, usable };
        let load_max =
            if usable > 1 || executors == 1 { 10 } else { 100 * (executors as u64 - 1) / executors as u64 };
        let mut scheduler = Scheduler::new(threads, cores);
        let threads: Vec<Thread> = (0..threads)
            .map(|_| Thread {
                place: scheduler.add_thread(),
                cpu_us: 0,
                cpu_at_take_us: 0,
                request: None,
                left_us: 0,
                rounds_left: 0,
                held_since: 0,
                running_since: None,
                slice: 0,
            })
            .collect();
        let most = threads.len() as u64;
        let clients = match model {
            Model::Changing | Model::Balanced => most * 2,
            Model::Parallel => most.max(executors as u64) * 2,
            Model::Stuck => dice.between(5, 12),
            Model::Reports => dice.between(5, 6),
            _ => dice.between(1, most * 2 + 4),
        };
        Self {
            model,
            epoch: Instant::now(),
            now: 0,
            scheduler,
            cores,
            threads,
            executors: (0..executors).map(|_| Executor { cpu_us: 0, has_turn: false }).collect(),
            load_per_cent: dice.between(0, load_max),
            running: 0,
            wanting: VecDeque::new(),
            parked: 0,
            events: BinaryHeap::new(),
            event_count: 0,
            requests: Vec::new(),
            clients: usize::try_from(clients).unwrap(),
            last_taken: HashMap::new(),
            free_us: 0,
            free_since_us: 0,
            wanting_us: 0,
            followed_since: 0,
            limit_max: 0,
            dice,
        }
    }

    /// Lives until the model's time is over, or a promise is broken.
    pub(super) fn run(mut self) -> Promise {
        for thread in 0..self.threads.len() {
            self.look_for_work(thread)?;
        }
        for client in 0..self.clients {
            let think = self.model.think_us(&mut self.dice, 0);
            self.after(think, Event::Ask { client });
        }
        let mut phases: Vec<u64> = self.model.changes_us().into_iter().filter(|at| *at < u64::MAX).collect();
        phases.push(self.model.span_us());
        for end in phases {
            self.run_until(end)?;
            self.was_followed()?;
            // What was asked for under the old load may last until then.
            self.followed_since = end + FOLLOWED_WITHIN_US;
            (self.free_since_us, self.wanting_us) = (0, 0);
        }
        self.nobody_waits_for_ever()
    }

    fn run_until(&mut self, end: u64) -> Promise {
        while self.events.peek().is_some_and(|Reverse((at, ..))| *at < end) {
            let Some(Reverse((at, _, event))) = self.events.pop() else { break };
            self.pass(at);
            self.happen(event)?;
        }
        self.pass(end);
        Ok(())
    }

    /// Time passes until `at`.
    fn pass(&mut self, at: u64) {
        let passed = at - self.now;
        let free_cores = (self.cores.usable - self.running).min(self.parked).min(self.scheduler.len()) as u64;
        let followed = at.saturating_sub(self.now.max(self.followed_since));
        if free_cores > 0 {
            self.free_us += passed;
        }
        self.free_since_us += followed * free_cores / self.cores.usable as u64;
        self.wanting_us += followed * (self.running + self.wanting.len()) as u64;
        self.now = at;
    }

    fn happen(&mut self, event: Event) -> Promise {
        match event {
            Event::Ask { client } => {
                self.ask(client);
                Ok(())
            }
            Event::Turn { executor } => {
                self.executors[executor].has_turn = false;
                self.end_turn(executor);
                Ok(())
            }
            Event::Woken { thread } => self.look_for_work(thread),
            Event::Unblocked { thread } => {
                let thread_state = &mut self.threads[thread];
                thread_state.left_us = if thread_state.rounds_left == 0 {
                    RENDER_US
                } else {
                    self.requests[thread_state.request.unwrap()].program.compute_us
                };
                self.want(thread);
                Ok(())
            }
            Event::Sliced { thread, slice } if self.threads[thread].slice == slice => self.sliced(thread),
            Event::Sliced { .. } => Ok(()),
        }
    }

    fn after(&mut self, delay_us: u64, event: Event) {
        self.event_count += 1;
        self.events.push(Reverse((self.now.saturating_add(delay_us), self.event_count, event)));
    }

    fn instant(&self) -> Instant {
        self.epoch + Duration::from_micros(self.now)
    }

    // Executors

    fn ask(&mut self, client: usize) {
        let program = self.model.program(&mut self.dice, self.requests.len(), self.now);
        let (asked_at, free_us_then) = (self.now, self.free_us);
        self.requests.push(Request { client, program, asked_at, free_us_then });
        let executor = client % self.executors.len();
        self.executors[executor].cpu_us += self.dice.between(5, 30);
        self.scheduler.arrive(self.requests.len() - 1, program.class, self.instant());
        self.look();
        self.wake();
        self.end_turn(executor);
    }

    fn look(&mut self) {
        let now = self.now;
        let threads = &self.threads;
        self.scheduler.look(self.epoch + Duration::from_micros(now), |place| {
            Duration::from_micros(cpu_us(&threads[place], now))
        });
    }

    fn wake(&mut self) {
        let woken: Vec<Place> = self.scheduler.wake().collect();
        for place in woken {
            self.rouse(place);
        }
    }

    fn rouse(&mut self, place: Place) {
        self.parked -= 1;
        let latency = self.dice.between(5, 50);
        self.after(latency, Event::Woken { thread: place.index() });
    }

    /// As a worker's executor does it: takes a sample if one is due, and sleeps until the next is.
    fn end_turn(&mut self, executor: usize) {
        let due = |scheduler: &Scheduler<usize>| scheduler.sample_due().filter(|_| !scheduler.is_empty());
        let Some(at) = due(&self.scheduler) else { return };
        if at <= self.instant() {
            self.sample(executor);
        }
        let Some(at) = due(&self.scheduler).filter(|_| !self.executors[executor].has_turn) else { return };
        let sleep = u64::try_from(at.saturating_duration_since(self.instant()).as_micros()).unwrap();
        let late = self.dice.between(0, 150);
        self.executors[executor].has_turn = true;
        self.after(sleep.max(100) + late, Event::Turn { executor });
    }

    fn sample(&mut self, executor: usize) {
        let loaded = self.now * self.load_per_cent / 100;
        let executors: Vec<Duration> =
            self.executors.iter().map(|it| Duration::from_micros(it.cpu_us + loaded)).collect();
        let threads: u64 = self.threads.iter().map(|thread| cpu_us(thread, self.now)).sum();
        let process = executors.iter().sum::<Duration>() + Duration::from_micros(threads);
        let now = self.instant();
        let sample = CpuSample::new(now, process, executors.into_iter(), executor);
        if let Some(observation) = self.scheduler.observe(sample, executor) {
            // A thread that waits for the interpreter sleeps.
            let runnable = if self.scheduler.wants_runnable(observation) { self.running } else { 0 };
            self.scheduler.learn(observation, runnable, now);
            self.limit_max = self.limit_max.max(self.scheduler.limit());
        }
        self.look();
        self.wake();
    }

    // Threads

    /// A thread without the interpreter looks for work, and parks if there is none.
    fn look_for_work(&mut self, thread: usize) -> Promise {
        if self.take(thread)? {
            self.want(thread);
        } else {
            self.scheduler.park(self.threads[thread].place);
            self.parked += 1;
        }
        Ok(())
    }

    fn take(&mut self, thread: usize) -> Result<bool, String> {
        let (now, cpu) = (self.instant(), cpu_us(&self.threads[thread], self.now));
        let place = self.threads[thread].place;
        let Next::Run(request) = self.scheduler.take(place, now, Duration::from_micros(cpu)) else {
            return Ok(false);
        };
        self.was_in_time(request)?;
        if self.model == Model::Changing {
            self.requests[request].program = self.model.program(&mut self.dice, request, self.now);
        }
        let program = self.requests[request].program;
        let state = &mut self.threads[thread];
        state.cpu_at_take_us = cpu;
        state.request = Some(request);
        (state.left_us, state.rounds_left) = (program.compute_us, program.rounds);
        if let Some(place) = self.scheduler.wake_beside() {
            self.rouse(place);
        }
        Ok(true)
    }

    fn want(&mut self, thread: usize) {
        if self.running < self.cores.usable {
            self.running += 1;
            self.hold(thread);
        } else {
            self.wanting.push_back(thread);
        }
    }

    /// A thread is given the interpreter.
    fn hold(&mut self, thread: usize) {
        self.threads[thread].held_since = self.now;
        self.begin_slice(thread);
    }

    fn begin_slice(&mut self, thread: usize) {
        let state = &mut self.threads[thread];
        state.running_since = Some(self.now);
        state.slice += 1;
        let left = SLICE_US.saturating_sub(self.now - state.held_since).max(1);
        let (length, slice) = (state.left_us.min(left), state.slice);
        self.after(length, Event::Sliced { thread, slice });
    }

    fn sliced(&mut self, thread: usize) -> Promise {
        self.settle(thread);
        if self.threads[thread].left_us > 0 {
            if self.wanting.is_empty() {
                self.hold(thread);
            } else {
                self.wanting.push_back(thread);
                self.hand_over(thread);
            }
            return Ok(());
        }
        let program = self.requests[self.threads[thread].request.unwrap()].program;
        let state = &mut self.threads[thread];
        if state.rounds_left == 0 || program.block_us == 0 {
            return self.finish(thread);
        }
        state.rounds_left -= 1;
        self.after(program.block_us, Event::Unblocked { thread });
        self.hand_over(thread);
        Ok(())
    }

    /// Counts what a running thread has used.
    fn settle(&mut self, thread: usize) {
        let state = &mut self.threads[thread];
        if let Some(since) = state.running_since.take() {
            state.cpu_us += self.now - since;
            state.left_us -= self.now - since;
        }
    }

    /// A thread gives up the interpreter.
    fn hand_over(&mut self, thread: usize) {
        self.threads[thread].slice += 1;
        match self.wanting.pop_front() {
            Some(next) => self.hold(next),
            None => self.running -= 1,
        }
    }

    /// A thread answers, and goes on to the next request without letting the interpreter go.
    fn finish(&mut self, thread: usize) -> Promise {
        let now = self.instant();
        let state = &mut self.threads[thread];
        let request = state.request.take().unwrap();
        let used = Duration::from_micros(state.cpu_us - state.cpu_at_take_us);
        // The clock is read for long ones only.
        self.scheduler.end(state.place, now, |taken| if taken < LONG_REQUEST { taken } else { used });
        self.was_answered_soon(request)?;
        let client = self.requests[request].client;
        let think = self.model.think_us(&mut self.dice, self.now);
        self.after(think, Event::Ask { client });
        if self.take(thread)? {
            self.begin_slice(thread);
            return Ok(());
        }
        self.hand_over(thread);
        self.look_for_work(thread)
    }

    // Promises

    /// A request was taken: in the order of its class, and not too late.
    fn was_in_time(&mut self, request: usize) -> Promise {
        let Request { program, asked_at, free_us_then, .. } = self.requests[request];
        if let Some(last) = self.last_taken.insert(program.class, request).filter(|last| *last > request) {
            return Err(format!("request {request} was taken after {last} of its class, at {} us", self.now));
        }
        let free = self.free_us - free_us_then;
        if free > FREE_WAIT_US_MAX {
            let waited = self.now - asked_at;
            return Err(format!(
                "request {request} waited {waited} us, of which a thread was free for {free}"
            ));
        }
        Ok(())
    }

    /// A short request is answered soon, whatever computes beside it.
    fn was_answered_soon(&self, request: usize) -> Promise {
        let Request { program, asked_at, .. } = self.requests[request];
        let took = self.now - asked_at;
        let is_known = asked_at >= FOLLOWED_WITHIN_US;
        if self.model == Model::Reports && is_known && program.rounds == 1 && took > SHORT_US_MAX {
            return Err(format!("short request {request} took {took} us at {} us", self.now));
        }
        Ok(())
    }

    /// Of those that still wait none has waited for longer than everybody before it may take.
    fn nobody_waits_for_ever(&mut self) -> Promise {
        let programs = || self.requests.iter().map(|request| request.program).filter(|it| !it.is_endless());
        let longest = programs().map(|program| program.duration_us()).max().unwrap_or(0);
        // With two threads, one of which computes for ever, the other is for short requests.
        let held_back = if self.threads.len() == 2 { HELD_BACK_MAX } else { LASTING_MAX * 3 / 2 };
        let patience = u64::try_from(held_back.as_micros()).unwrap() + longest * 4 * self.clients as u64;
        let now = self.now;
        let oldest = self.scheduler.withdraw(|_| true).map(|request| self.requests[request].asked_at);
        match oldest {
            Some(asked_at) if now - asked_at > patience => {
                Err(format!("a request has waited for {} us, at most {patience} are fair", now - asked_at))
            }
            _ => Ok(()),
        }
    }

    /// As many threads run as get anywhere: no fewer, and where one computes alone no more.
    fn was_followed(&self) -> Promise {
        let span = self.now.saturating_sub(self.followed_since);
        if !matches!(self.model, Model::Changing | Model::Balanced | Model::Parallel) || span == 0 {
            return Ok(());
        }
        if self.model == Model::Balanced && self.limit_max > LIMIT_WHEN_BALANCED_MAX {
            return Err(format!("{} threads were allowed", self.limit_max));
        }
        let free = 100 * self.free_since_us / span;
        if free > FREE_PER_CENT_MAX {
            return Err(format!("a core was free for {free} % of the time until {} us", self.now));
        }
        let wanting = self.wanting_us / span;
        let [there, back] = self.model.changes_us();
        let is_slow = there < self.now && self.now <= back;
        if self.cores.usable == 1 && !is_slow && wanting > THREADS_WANTING_MAX {
            return Err(format!("{wanting} threads wanted the interpreter on average until {} us", self.now));
        }
        Ok(())
    }
}

fn cpu_us(thread: &Thread, now: u64) -> u64 {
    thread.cpu_us + thread.running_since.map_or(0, |since| now - since)
}
