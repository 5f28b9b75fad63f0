//! `CPython`'s lock with threads that want it, in steps of [`STEP_US`]: what `take_gil` and `drop_gil` do, and what
//! waking up costs.

use std::time::{Duration, Instant};

use super::{Look, SwitchInterval, SwitchPolicy};
use crate::limits::{SWITCH_INTERVAL, SWITCH_INTERVAL_SHORT};

const STEP_US: u64 = 5;
/// From a wake-up to running, at most and usually. A thread that is awake is usually quicker.
const WAKE_US_MAX: u64 = 40;
const WAKE_US: u64 = 20;
/// One wake-up in so many finds a core that is awake and warm.
const WAKES_AT_ONCE: u64 = 64;
/// How much later than asked for a timed wait ends: the kernel's default.
const TIMER_SLACK_US: u64 = 50;
/// Outside the interpreter for a `stat`.
const STAT_US: u64 = 5;
const RUN_US: u64 = 2_000_000;

/// What a thread does, over and over.
#[derive(Clone, Copy)]
struct Program {
    /// Until the first request.
    begins_us: u64,
    /// Holds the interpreter, in one call into C that nothing interrupts.
    hold_us: u64,
    /// Then is outside for so long.
    outside_us: u64,
    /// So often, which is a request.
    rounds: u64,
    /// From a request's end to the next one.
    idle_us: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum Doing {
    /// Between requests, or outside the interpreter.
    Outside {
        until: u64,
    },
    Running {
        until: u64,
    },
    /// On the lock's condition, since it had gone from thread to thread `switches` times.
    Waiting {
        until: u64,
        switches: u64,
    },
    /// Off it.
    Waking {
        until: u64,
        timed_out: bool,
        switches: u64,
    },
    /// Was asked for the lock and dropped it; goes on when another thread has it.
    HandingOver,
}

struct Thread {
    program: Program,
    doing: Doing,
    wanted_at: u64,
    /// Whether it is known to wait: for its first use of the interpreter in a request.
    is_known: bool,
    rounds: u64,
    waits_us: Vec<u64>,
}

#[derive(Default)]
struct Lock {
    holder: Option<usize>,
    last_holder: Option<usize>,
    switches: u64,
    drop_request: bool,
    /// Those on the condition, the first to be woken first.
    queue: Vec<usize>,
}

struct Simulation {
    now: u64,
    interval: SwitchInterval,
    /// How often a thread that was known to wait has got the lock.
    served: usize,
    lock: Lock,
    threads: Vec<Thread>,
    random: u64,
}

impl Simulation {
    fn new(programs: &[Program]) -> Self {
        let threads = programs.iter().map(|program| Thread {
            program: *program,
            doing: Doing::Outside { until: program.begins_us },
            wanted_at: 0,
            is_known: false,
            rounds: 0,
            waits_us: Vec::new(),
        });
        Self {
            now: 0,
            interval: SwitchInterval::Usual,
            served: 0,
            lock: Lock::default(),
            threads: threads.collect(),
            random: 0x9E37_79B9_7F4A_7C15,
        }
    }

    fn run(mut self, mut policy: Option<SwitchPolicy>) -> Self {
        let start = Instant::now();
        let mut look_at = Some(0);
        while self.now < RUN_US {
            for index in 0..self.threads.len() {
                self.step(index);
            }
            if let (Some(policy), Some(at)) = (policy.as_mut(), look_at)
                && at <= self.now
            {
                let decision = policy.look(self.look(), start + Duration::from_micros(self.now));
                self.interval = decision.interval;
                look_at = decision.next_look.map(|pause| self.now + micros(pause) + WAKE_US);
            }
            self.now += STEP_US;
        }
        self
    }

    /// As the server sees it: of threads that wait in the middle of a request nothing is known.
    fn look(&self) -> Look {
        let active = self.threads.iter().filter(|thread| {
            let is_idle = matches!(thread.doing, Doing::Outside { .. }) && thread.is_between_requests();
            !is_idle
        });
        Look {
            is_held: self.lock.holder.is_some(),
            switches: self.lock.switches,
            waiting: self.threads.iter().filter(|thread| thread.is_known && thread.is_waiting()).count(),
            served: self.served,
            active: active.count(),
        }
    }

    fn step(&mut self, index: usize) {
        match self.threads[index].doing {
            Doing::Outside { until } if until <= self.now => {
                let thread = &mut self.threads[index];
                thread.wanted_at = self.now;
                thread.is_known = thread.is_between_requests();
                self.want(index);
            }
            Doing::Running { until } if until <= self.now => self.release(index),
            Doing::Waiting { until, switches } if until <= self.now => {
                self.lock.queue.retain(|waiting| *waiting != index);
                let has_slept = self.interval_of_wait_us().is_some();
                let until = if has_slept { self.wakes_at() } else { self.now };
                self.threads[index].doing = Doing::Waking { until, timed_out: true, switches };
            }
            Doing::Waking { until, timed_out, switches } if until <= self.now => {
                self.lock.drop_request |=
                    timed_out && self.lock.holder.is_some() && switches == self.lock.switches;
                self.want(index);
            }
            Doing::HandingOver if self.lock.last_holder != Some(index) => self.go_outside(index),
            _ => {}
        }
    }

    fn wakes_at(&mut self) -> u64 {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let is_at_once = self.random.is_multiple_of(WAKES_AT_ONCE);
        self.now + if is_at_once { 0 } else { STEP_US + (self.random >> 32) % WAKE_US_MAX }
    }

    /// How long a timed wait takes; `None`: it does not sleep.
    fn interval_of_wait_us(&self) -> Option<u64> {
        let interval = match self.interval {
            SwitchInterval::Usual => SWITCH_INTERVAL,
            SwitchInterval::Short => SWITCH_INTERVAL_SHORT,
            SwitchInterval::Elapsed => return None,
        };
        Some(micros(interval) + TIMER_SLACK_US)
    }

    fn want(&mut self, index: usize) {
        if self.lock.holder.is_some() {
            self.lock.queue.push(index);
            let until = self.now + self.interval_of_wait_us().unwrap_or(0);
            self.threads[index].doing = Doing::Waiting { until, switches: self.lock.switches };
            return;
        }
        self.lock.holder = Some(index);
        self.lock.switches += u64::from(self.lock.last_holder != Some(index));
        self.lock.last_holder = Some(index);
        self.lock.drop_request = false;
        let thread = &mut self.threads[index];
        self.served += usize::from(thread.is_known && self.now > thread.wanted_at);
        thread.waits_us.push(self.now - thread.wanted_at);
        thread.doing = Doing::Running { until: self.now + thread.program.hold_us };
    }

    fn release(&mut self, index: usize) {
        self.lock.holder = None;
        self.threads[index].rounds += 1;
        if !self.lock.queue.is_empty() {
            let first = self.lock.queue.remove(0);
            let (until, switches) = (self.wakes_at(), self.lock.switches);
            self.threads[first].doing = Doing::Waking { until, timed_out: false, switches };
        }
        if self.lock.drop_request {
            self.threads[index].doing = Doing::HandingOver;
        } else {
            self.go_outside(index);
        }
    }

    fn go_outside(&mut self, index: usize) {
        let thread = &mut self.threads[index];
        let idle_us = if thread.is_between_requests() { thread.program.idle_us } else { 0 };
        thread.doing = Doing::Outside { until: self.now + thread.program.outside_us + idle_us };
    }
}

impl Thread {
    fn is_between_requests(&self) -> bool {
        self.program.idle_us > 0 && self.rounds.is_multiple_of(self.program.rounds)
    }

    fn is_waiting(&self) -> bool {
        matches!(self.doing, Doing::Waiting { .. } | Doing::Waking { .. })
    }

    /// One that has not ended counts as well.
    fn longest_wait(&self) -> Duration {
        let last_us = if self.is_waiting() { RUN_US - self.wanted_at } else { 0 };
        Duration::from_micros(self.waits_us.iter().copied().chain([last_us]).max().unwrap_or(0))
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap()
}

/// Computes for `hold_us` between one `stat` and the next, for ever.
fn convoy(hold_us: u64) -> Program {
    Program { begins_us: 0, hold_us, outside_us: STAT_US, rounds: 1, idle_us: 0 }
}

/// Computes for a moment and does a few `stat`s, every ten milliseconds.
fn short() -> Program {
    Program { begins_us: 20_000, hold_us: 40, outside_us: STAT_US, rounds: 4, idle_us: 10_000 }
}

const HOLDS_US: [u64; 7] = [50, 100, 300, 600, 900, 2_000, 5_000];
const WAIT_MAX: Duration = Duration::from_millis(20);
/// So many turns of others come before one that waits among four: who is woken first is chance.
const TURNS_BEFORE_MAX: u32 = 30;

#[test]
fn a_request_does_not_starve_beside_one_that_computes_and_makes_system_calls() {
    for hold_us in HOLDS_US {
        let alone = Simulation::new(&[convoy(hold_us)]).run(None).threads[0].rounds;
        let both = Simulation::new(&[convoy(hold_us), short()]).run(Some(SwitchPolicy::new()));
        let longest = both.threads[1].longest_wait();
        assert!(longest <= WAIT_MAX, "{hold_us} us: waited for {longest:?}");
        let rounds = both.threads[0].rounds;
        assert!(rounds * 100 >= alone * 85, "{hold_us} us: {rounds} of {alone} rounds");
    }
}

#[test]
fn neither_do_many_such_requests_starve_each_other_nor_a_short_one() {
    for hold_us in HOLDS_US {
        let alone = Simulation::new(&[convoy(hold_us)]).run(None).threads[0].rounds;
        let programs = [[convoy(hold_us); 4].as_slice(), &[short()]].concat();
        let all = Simulation::new(&programs).run(Some(SwitchPolicy::new()));
        let rounds: Vec<u64> = all.threads[..4].iter().map(|thread| thread.rounds).collect();
        let sum: u64 = rounds.iter().sum();
        assert!(sum * 100 >= alone * 85, "{hold_us} us: {rounds:?} of {alone} rounds");
        assert!(rounds.iter().all(|one| one * 10 >= sum), "{hold_us} us: {rounds:?}");
        let longest = all.threads[4].longest_wait();
        let longest_max = WAIT_MAX * 2 + Duration::from_micros(hold_us) * TURNS_BEFORE_MAX;
        assert!(longest <= longest_max, "{hold_us} us: waited for {longest:?}");
    }
}

#[test]
fn without_the_policy_they_starve() {
    for hold_us in HOLDS_US.into_iter().filter(|hold_us| (100..1_000).contains(hold_us)) {
        let both = Simulation::new(&[convoy(hold_us), short()]).run(None);
        let longest = both.threads[1].longest_wait();
        assert!(longest > WAIT_MAX, "{hold_us} us: waited for {longest:?}, so the model is wrong");
    }
}
