//! When the thread that holds the interpreter must hand it over. Pure: looks at `CPython`'s lock go in, the switch
//! interval and the time of the next look come out.
//!
//! `CPython` (`Python/ceval_gil.h`, called `ceval_gil.c` since 3.12) asks the holder of its lock to drop it only after
//! another thread has waited for a whole switch interval in which the holder did not release it by itself. Each release
//! starts that wait again, and the holder, which is awake, takes the lock back before the waiter is. So a thread that
//! makes a system call more often than once per interval is never asked, and the others starve. Once it *is* asked, it
//! cannot take the lock back before another thread had it, whatever it does.
//!
//! Therefore: as long as one thread has kept the interpreter for [`INTERPRETER_KEPT_MAX`] while others may want
//! it, the switch interval is [`SWITCH_INTERVAL_SHORT`]. The next time a waiter looks, it does not wait long
//! enough to miss the interval, and the holder is asked. Waiters read the interval each time they begin to
//! wait; when none waits, none reads it. A short interval at all times would be simpler, but threads that
//! compute would take turns so often that switching is all they do.
//!
//! A sleep cannot be as short as that: with the timer's slack and the wake-up it takes up to a tenth of a
//! millisecond. A holder that lets go more often than that would still never be asked. So for a moment the
//! interval is one that has [elapsed](SwitchInterval::Elapsed) before it begins: whoever is woken by a release,
//! only to find the lock taken again, asks for it without another sleep. It asks again and again until it has
//! the lock, which keeps a core busy; therefore it is only for a moment, and holders that let go more rarely
//! are left to the short interval. Where cores are scarce, the look that ends the moment comes late, and the holder
//! needs the core that the waiter keeps; waiters then sleep for ten times as long.
//!
//! Of a thread that waits for its first use of the interpreter in a request it is known that it waits, and when
//! it ends. While there is such a thread, nothing else counts as progress: several threads that keep the
//! interpreter among themselves starve it as well as one does.

#[cfg(test)]
mod simulation;

use std::time::{Duration, Instant};

#[cfg(doc)]
use crate::limits::SWITCH_INTERVAL_SHORT;
use crate::limits::{
    INTERPRETER_KEPT_MAX, INTERPRETER_LOOK_MAX, INTERPRETER_LOOK_MIN, INTERPRETER_LOOKS_IDLE_MAX,
    SWITCH_INTERVAL_ELAPSED_MAX, SWITCH_INTERVAL_SHORT_MAX,
};

/// After an elapsed interval that was meant for a moment and lasted, there is none for so many times as long.
const SLEEPS_AFTER_LATE_LOOK: u32 = 10;

/// How long a thread waits for the interpreter before it asks the holder for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwitchInterval {
    /// What Python or the application has set.
    Usual,
    /// [`SWITCH_INTERVAL_SHORT`].
    Short,
    /// Not at all.
    Elapsed,
}

/// What one look at the interpreter's lock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether a thread holds it.
    pub is_held: bool,
    /// How often it has gone from one thread to another.
    pub switches: u64,
    /// Application threads known to wait for it.
    pub waiting: usize,
    /// How many of those have got it so far.
    pub served: usize,
    /// Application threads that have a request.
    pub active: usize,
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What the switch interval is to be.
    pub interval: SwitchInterval,
    /// When to look again; `None`: not before a thread waits or a second one has a request.
    pub next_look: Option<Duration>,
}

/// Decides when the switch interval is short, from looks at the interpreter's lock.
#[derive(Debug)]
pub struct SwitchPolicy {
    switches: u64,
    served: usize,
    /// When the last look was.
    looked_at: Option<Instant>,
    /// When the interpreter began to be kept: as far as looks can tell, nobody who waits has got it since.
    kept_since: Option<Instant>,
    /// Since when the interval is short.
    short_since: Option<Instant>,
    /// Since when it is one that has elapsed.
    elapsed_since: Option<Instant>,
    /// Until then it is not, because it was for too long.
    sleeps_until: Option<Instant>,
    pause: Duration,
    /// Looks in a row that had nothing to tell.
    idle_looks: u32,
}

/// What a look shows in comparison with the one before.
#[derive(Clone, Copy)]
struct Change {
    has_switched: bool,
    /// Whether it went from thread to thread as often as if each had it for [`INTERPRETER_KEPT_MAX`], or nearly.
    takes_turns: bool,
    /// Whoever waits has got the interpreter, or could take it.
    has_moved: bool,
}

impl SwitchPolicy {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self {
            switches: 0,
            served: 0,
            looked_at: None,
            kept_since: None,
            short_since: None,
            elapsed_since: None,
            sleeps_until: None,
            pause: INTERPRETER_KEPT_MAX,
            idle_looks: 0,
        }
    }

    /// Since when the interpreter has been kept from those who wait, as of the last look.
    pub fn kept_since(&self) -> Option<Instant> {
        self.kept_since
    }

    /// Learns from a look.
    pub fn look(&mut self, look: Look, now: Instant) -> Decision {
        self.end_elapsed(now);
        let mut decision = self.decide(look, now);
        if decision.interval == SwitchInterval::Elapsed {
            if self.sleeps_until.is_some_and(|until| now < until) {
                decision.interval = SwitchInterval::Short;
            } else {
                self.elapsed_since = Some(now);
            }
        }
        decision
    }

    /// A look that is late tells that cores are scarce. Waiters that did not sleep have had one meanwhile, which the
    /// holder lacked: they had better sleep for some time.
    fn end_elapsed(&mut self, now: Instant) {
        let Some(since) = self.elapsed_since.take() else { return };
        let lasted = now.saturating_duration_since(since);
        if lasted >= SWITCH_INTERVAL_ELAPSED_MAX * 2 {
            self.sleeps_until = Some(now + lasted * SLEEPS_AFTER_LATE_LOOK);
        }
    }

    fn decide(&mut self, look: Look, now: Instant) -> Decision {
        let change = self.compare(look, now);
        if change.has_moved {
            self.kept_since = (look.is_held || look.waiting > 0).then_some(now);
        }
        let kept_since = *self.kept_since.get_or_insert(now);
        match self.short_since {
            Some(since) => self.look_while_short(look, change, since, now),
            None if change.has_moved => self.rest(look, false, change),
            None if look.waiting == 0 && look.active <= 1 => self.rest(look, false, change),
            None if now < kept_since + INTERPRETER_KEPT_MAX => {
                decide(SwitchInterval::Usual, kept_since + INTERPRETER_KEPT_MAX - now)
            }
            None => self.shorten(now),
        }
    }

    fn compare(&mut self, look: Look, now: Instant) -> Change {
        let switched = u32::try_from(look.switches.wrapping_sub(self.switches)).unwrap_or(u32::MAX);
        let has_switched = switched > 0;
        let since =
            self.looked_at.replace(now).map_or(Duration::ZERO, |then| now.saturating_duration_since(then));
        let takes_turns = has_switched && since <= (INTERPRETER_KEPT_MAX * 2).saturating_mul(switched);
        let has_served = look.served != self.served;
        (self.switches, self.served) = (look.switches, look.served);
        // That the lock is free just now does not help one that is not awake just now.
        let has_moved = has_served || look.waiting == 0 && (has_switched || !look.is_held);
        Change { has_switched, takes_turns, has_moved }
    }

    fn look_while_short(&mut self, look: Look, change: Change, since: Instant, now: Instant) -> Decision {
        let lasts = now.saturating_duration_since(since);
        if !change.has_moved && lasts < SWITCH_INTERVAL_SHORT_MAX {
            let is_first = lasts < SWITCH_INTERVAL_ELAPSED_MAX;
            let is_last = lasts + SWITCH_INTERVAL_ELAPSED_MAX >= SWITCH_INTERVAL_SHORT_MAX;
            let interval = if is_first || is_last { SwitchInterval::Elapsed } else { SwitchInterval::Short };
            // The sooner after a switch it ends, the fewer needless switches follow.
            return decide(interval, lasts.clamp(INTERPRETER_LOOK_MIN, SWITCH_INTERVAL_ELAPSED_MAX));
        }
        self.short_since = None;
        if change.has_moved {
            return self.rest(look, change.has_switched, change);
        }
        // No thread waits, or the holder is in code that does not let go; either way there is no hurry.
        self.back_off();
        decide(SwitchInterval::Usual, self.pause)
    }

    fn shorten(&mut self, now: Instant) -> Decision {
        self.short_since = Some(now);
        decide(SwitchInterval::Elapsed, INTERPRETER_LOOK_MIN)
    }

    /// There is nothing to do now. Threads that take turns by themselves are no reason to look often.
    fn rest(&mut self, look: Look, was_short: bool, change: Change) -> Decision {
        self.idle_looks = if change.has_switched { 0 } else { self.idle_looks.saturating_add(1) };
        let changes_by_chance = change.has_switched && !change.takes_turns && look.active > 1;
        if look.waiting > 0 || was_short || changes_by_chance {
            self.pause = INTERPRETER_KEPT_MAX;
        } else {
            self.back_off();
        }
        if look.waiting == 0 && look.active <= 1 && self.idle_looks > INTERPRETER_LOOKS_IDLE_MAX {
            self.kept_since = None;
            return Decision { interval: SwitchInterval::Usual, next_look: None };
        }
        decide(SwitchInterval::Usual, self.pause)
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

fn decide(interval: SwitchInterval, next_look: Duration) -> Decision {
    Decision { interval, next_look: Some(next_look) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn held(switches: u64, waiting: usize, active: usize) -> Look {
        Look { is_held: true, switches, waiting, served: 0, active }
    }

    fn is_short(decision: Decision) -> bool {
        decision.interval != SwitchInterval::Usual
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
        assert!(!is_short(policy.look(held(1, 1, 2), now + MS / 2)), "it has its millisecond");
        assert!(is_short(policy.look(held(1, 1, 2), now + MS)));
        let served = Look { served: 1, ..held(2, 0, 2) };
        let after = policy.look(served, now + MS * 2);
        assert_eq!(
            after,
            Decision { interval: SwitchInterval::Usual, next_look: Some(INTERPRETER_KEPT_MAX) }
        );
    }

    #[test]
    fn threads_that_take_turns_are_left_alone() {
        let now = Instant::now();
        let mut policy = kept(now);
        for turn in 2..100 {
            let at = now + MS * turn;
            let served = usize::try_from(turn).unwrap();
            assert!(!is_short(policy.look(Look { served, ..held(u64::from(turn), 3, 4) }, at)));
            assert!(!is_short(policy.look(Look { served, ..held(u64::from(turn) + 100, 0, 4) }, at)));
        }
    }

    #[test]
    fn threads_that_take_turns_with_each_other_only_are_asked_for_the_one_that_waits() {
        let now = Instant::now();
        let mut policy = kept(now);
        let asked = (2..100_u32).filter(|turn| {
            let decision = policy.look(held(u64::from(*turn), 1, 4), now + MS * *turn);
            is_short(decision)
        });
        assert!(asked.count() > 10);
    }

    #[test]
    fn nobody_is_hurried_while_the_interpreter_is_free() {
        let now = Instant::now();
        let mut policy = kept(now);
        for turn in 1..100 {
            let look = Look { is_held: false, ..held(1, 0, 16) };
            assert!(!is_short(policy.look(look, now + MS * turn)));
        }
    }

    #[test]
    fn a_short_interval_that_changes_nothing_ends_and_comes_back_ever_more_rarely() {
        let mut now = Instant::now();
        let mut policy = kept(now);
        let (mut usual, mut short, mut elapsed) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for _ in 0..1000 {
            let decision = policy.look(held(1, 1, 2), now);
            let pause = decision.next_look.unwrap();
            *match decision.interval {
                SwitchInterval::Usual => &mut usual,
                SwitchInterval::Short => &mut short,
                SwitchInterval::Elapsed => &mut elapsed,
            } += pause;
            now += pause;
        }
        assert!(short + elapsed < usual / 4, "{short:?} and {elapsed:?} of {:?}", usual + short + elapsed);
        assert!(
            elapsed < usual / 10,
            "waiters do not sleep for {elapsed:?} of {:?}",
            usual + short + elapsed
        );
    }

    /// The decisions of so many looks, one every pause, at a thread that keeps the interpreter; each look that ends an
    /// elapsed interval is late by so much.
    fn intervals(looks: usize, late: Duration) -> Vec<(SwitchInterval, Duration)> {
        let mut now = Instant::now();
        let mut policy = kept(now);
        let decide = || {
            let decision = policy.look(held(1, 1, 2), now);
            let is_elapsed = decision.interval == SwitchInterval::Elapsed;
            let pause = decision.next_look.unwrap() + if is_elapsed { late } else { Duration::ZERO };
            now += pause;
            (decision.interval, pause)
        };
        std::iter::repeat_with(decide).take(looks).collect()
    }

    #[test]
    fn where_cores_are_scarce_waiters_sleep_nearly_always() {
        let time = |intervals: &[(SwitchInterval, Duration)], of: SwitchInterval| -> Duration {
            intervals.iter().filter(|(interval, _)| *interval == of).map(|(_, pause)| *pause).sum()
        };
        for late in [MS, MS * 4, MS * 20] {
            let intervals = intervals(2_000, late);
            let elapsed = time(&intervals, SwitchInterval::Elapsed);
            let asleep = time(&intervals, SwitchInterval::Usual) + time(&intervals, SwitchInterval::Short);
            assert!(elapsed > Duration::ZERO && elapsed * 9 < asleep, "{elapsed:?} beside {asleep:?}");
            assert!(time(&intervals, SwitchInterval::Short) > Duration::ZERO, "it is asked all the same");
        }
    }

    #[test]
    fn a_look_that_is_a_little_late_changes_nothing() {
        let count = |late| {
            let is_elapsed = |decided: &&(SwitchInterval, Duration)| decided.0 == SwitchInterval::Elapsed;
            intervals(2_000, late).iter().filter(is_elapsed).count()
        };
        assert!(count(INTERPRETER_LOOK_MIN) * 2 > count(Duration::ZERO));
        assert!(count(MS) * 2 < count(Duration::ZERO));
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
