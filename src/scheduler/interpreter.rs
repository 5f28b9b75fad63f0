//! When the thread that holds the interpreter must hand it over. Pure: looks at `CPython`'s lock go in, the switch
//! interval and the time of the next look come out.
//!
//! `CPython` (`Python/ceval_gil.h`, called `ceval_gil.c` since 3.12) asks the holder of its lock to drop it only after
//! another thread has waited for a whole switch interval in which the holder did not release it by itself. Each release
//! starts that wait again, and the holder, which is awake, takes the lock back before the waiter is. So a thread that
//! makes a system call more often than once per interval is never asked, and the others starve. Once it *is* asked, it
//! cannot take the lock back before another thread had it, whatever it does.
//!
//! Therefore: as long as one thread has kept the interpreter for [`INTERPRETER_KEPT_MAX`] while others may want it, the
//! switch interval is [`SWITCH_INTERVAL_SHORT`]. The next time a waiter looks, it does not wait long enough to miss the
//! interval, and the holder is asked. Waiters read the interval each time they begin to wait; when nobody waits, nobody
//! reads it. A short interval at all times would be simpler, but threads that compute would take turns so often that
//! switching is all they do.

#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

#[cfg(doc)]
use crate::limits::SWITCH_INTERVAL_SHORT;
use crate::limits::{
    INTERPRETER_KEPT_MAX, INTERPRETER_LOOK_MAX, INTERPRETER_LOOK_MIN, INTERPRETER_LOOKS_IDLE_MAX,
    SWITCH_INTERVAL_SHORT_MAX,
};

/// What one look at the interpreter's lock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether a thread holds it.
    pub is_held: bool,
    /// How often it has gone from one thread to another.
    pub switches: u64,
    /// Application threads known to wait for it.
    pub waiting: usize,
    /// Application threads that have a request.
    pub active: usize,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether the switch interval is to be short.
    pub is_short: bool,
    /// When to look again; `None`: not before a thread waits or a second one has a request.
    pub next_look: Option<Duration>,
}

/// See the module's page.
#[derive(Debug)]
pub struct SwitchPolicy {
    switches: u64,
    /// When one thread began to keep the interpreter: as far as looks can tell, it has not been anyone else's since.
    kept_since: Option<Instant>,
    /// Since when the interval is short.
    short_since: Option<Instant>,
    pause: Duration,
    /// Looks in a row that had nothing to tell.
    idle_looks: u32,
}

impl SwitchPolicy {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self { switches: 0, kept_since: None, short_since: None, pause: INTERPRETER_KEPT_MAX, idle_looks: 0 }
    }

    /// Since when one thread has kept the interpreter, as of the last look.
    pub fn kept_since(&self) -> Option<Instant> {
        self.kept_since
    }

    /// Learns from a look.
    pub fn look(&mut self, look: Look, now: Instant) -> Decision {
        let has_switched = look.switches != self.switches;
        self.switches = look.switches;
        if has_switched || !look.is_held {
            self.kept_since = look.is_held.then_some(now);
        }
        let kept_since = *self.kept_since.get_or_insert(now);
        match self.short_since {
            Some(since) => self.look_while_short(look, has_switched, since, now),
            None if has_switched || !look.is_held => self.rest(look, false, has_switched),
            None if look.waiting == 0 && look.active <= 1 => self.rest(look, false, false),
            None if now < kept_since + INTERPRETER_KEPT_MAX => {
                decide(false, kept_since + INTERPRETER_KEPT_MAX - now)
            }
            None => self.shorten(now),
        }
    }

    fn look_while_short(&mut self, look: Look, has_switched: bool, since: Instant, now: Instant) -> Decision {
        let lasts = now.saturating_duration_since(since);
        if !has_switched && look.is_held && lasts < SWITCH_INTERVAL_SHORT_MAX {
            // The sooner after a switch it ends, the fewer switches follow that nobody needs.
            return decide(true, lasts.max(INTERPRETER_LOOK_MIN));
        }
        self.short_since = None;
        if has_switched || !look.is_held {
            return self.rest(look, has_switched, has_switched);
        }
        // Nobody waits, or the holder is in code that does not let go; either way there is no hurry.
        self.back_off();
        decide(false, self.pause)
    }

    fn shorten(&mut self, now: Instant) -> Decision {
        self.short_since = Some(now);
        decide(true, INTERPRETER_LOOK_MIN)
    }

    /// There is nothing to do now. Threads that take turns by themselves are no reason to look often.
    fn rest(&mut self, look: Look, was_short: bool, has_switched: bool) -> Decision {
        self.idle_looks = if has_switched { 0 } else { self.idle_looks.saturating_add(1) };
        if look.waiting > 0 || was_short {
            self.pause = INTERPRETER_KEPT_MAX;
        } else {
            self.back_off();
        }
        if look.waiting == 0 && look.active <= 1 && self.idle_looks > INTERPRETER_LOOKS_IDLE_MAX {
            self.kept_since = None;
            return Decision { is_short: false, next_look: None };
        }
        decide(false, self.pause)
    }

    fn back_off(&mut self) {
        self.pause = (self.pause * 2).min(INTERPRETER_LOOK_MAX);
    }
}

impl Default for SwitchPolicy {
    fn default() -> Self {
        Self::new()
    }
}

fn decide(is_short: bool, next_look: Duration) -> Decision {
    Decision { is_short, next_look: Some(next_look) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn held(switches: u64, waiting: usize, active: usize) -> Look {
        Look { is_held: true, switches, waiting, active }
    }

    /// A policy that has seen one thread keep the interpreter since `now`.
    fn kept(now: Instant) -> SwitchPolicy {
        let mut policy = SwitchPolicy::new();
        policy.look(held(1, 0, 2), now);
        policy
    }

    #[test]
    fn a_thread_that_keeps_the_interpreter_while_another_waits_is_asked_for_it() {
        let now = Instant::now();
        let mut policy = kept(now);
        assert!(!policy.look(held(1, 1, 2), now + MS / 2).is_short, "it has its millisecond");
        assert!(policy.look(held(1, 1, 2), now + MS).is_short);
        let after = policy.look(held(2, 0, 2), now + MS * 2);
        assert_eq!(after, Decision { is_short: false, next_look: Some(INTERPRETER_KEPT_MAX) });
    }

    #[test]
    fn threads_that_take_turns_are_left_alone() {
        let now = Instant::now();
        let mut policy = kept(now);
        for turn in 2..100 {
            let at = now + MS * turn;
            assert!(!policy.look(held(u64::from(turn), 3, 4), at).is_short);
        }
    }

    #[test]
    fn nobody_is_hurried_while_the_interpreter_is_free() {
        let now = Instant::now();
        let mut policy = kept(now);
        for turn in 1..100 {
            let look = Look { is_held: false, switches: 1, waiting: 0, active: 16 };
            assert!(!policy.look(look, now + MS * turn).is_short);
        }
    }

    #[test]
    fn a_short_interval_that_changes_nothing_ends_and_comes_back_ever_more_rarely() {
        let mut now = Instant::now();
        let mut policy = kept(now);
        let (mut short, mut long) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..1000 {
            let decision = policy.look(held(1, 1, 2), now);
            let pause = decision.next_look.unwrap();
            *(if decision.is_short { &mut short } else { &mut long }) += pause;
            now += pause;
        }
        assert!(short < long / 4, "{short:?} of {:?}", short + long);
    }

    #[test]
    fn a_single_request_is_not_looked_after_for_long() {
        let mut now = Instant::now();
        let mut policy = kept(now);
        let looks = std::iter::from_fn(|| {
            now += policy.look(held(1, 0, 1), now).next_look?;
            Some(())
        });
        assert!(looks.take(1000).count() < 100);
    }
}
