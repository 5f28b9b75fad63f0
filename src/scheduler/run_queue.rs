//! In which order waiting requests are taken.
//!
//! First come, first served, with one exception. Requests that will probably compute for long are held back while as
//! many of their like are being worked on as there are threads that get anywhere, so that the short ones behind them
//! need not wait for them, nor fight with many of them over the interpreter. What computes for long now, or did the
//! last times its class was asked for, will do so again; what nobody has asked for yet is a guess ([`ShortShare`]). A
//! request that lasts because it waits, for the interpreter or for a database, says nothing of its class.
//!
//! Nothing is held back for ever. A request that lasts for [`LASTING_MAX`] is excused: it does not count as running any
//! more. The next that computes for long may begin beside it, but not on the last thread, which is for the short ones,
//! and not beside more than [`EXCUSED_LONG_MAX`] that compute on: whoever is short would wait for the interpreter
//! behind each of them, again and again. When the oldest has waited for [`HELD_BACK_MAX`] it may begin all the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::class_history::ClassHistory;
use super::fault::{Fault, is_put_back};
use super::request_class::RequestClass;
use super::short_share::ShortShare;
use crate::limits::{EXCUSED_LONG_MAX, HELD_BACK_MAX, LASTING_MAX, LONG_CLASS, LONG_REQUEST};

/// The place of one application thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(usize);

impl Place {
    /// Its number, from 0.
    pub fn index(self) -> usize {
        self.0
    }
}

/// See the module's page.
#[derive(Debug)]
pub(super) struct RunQueue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Those that will take long and had to let others pass, the oldest first.
    held_back: VecDeque<Waiting<T>>,
    arrivals: u64,
    /// What the thread of each place works on.
    works: Vec<Option<Work>>,
    /// How many of them last.
    lasting: usize,
    /// How many of them compute for long.
    long: usize,
    /// How many of them are excused.
    excused: usize,
    /// How many of those that are excused compute for long.
    excused_long: usize,
    /// Whether the oldest of those that are held back has waited for very long.
    is_overdue: bool,
    history: ClassHistory,
    short_share: ShortShare,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    class: RequestClass,
    arrival: u64,
    since: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    since: Instant,
    /// CPU time of the thread then, or a moment before; of one that is excused, at the last look.
    cpu_before: Duration,
    class: RequestClass,
    /// When to look whether it computes.
    look_at: Instant,
    is_lasting: bool,
    is_long: bool,
    /// It has lasted so long that nobody has to wait for it any more.
    is_excused: bool,
}

impl<T> RunQueue<T> {
    /// An empty queue without places.
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            held_back: VecDeque::new(),
            arrivals: 0,
            works: Vec::new(),
            lasting: 0,
            long: 0,
            excused: 0,
            excused_long: 0,
            is_overdue: false,
            history: ClassHistory::default(),
            short_share: ShortShare::default(),
        }
    }

    /// A place for one more thread. With a single one there is nothing to choose.
    pub(super) fn add_place(&mut self) -> Place {
        self.works.push(None);
        Place(self.works.len() - 1)
    }

    /// Whether requests can overtake each other, so that classes matter.
    fn has_choice(&self) -> bool {
        self.works.len() > 1
    }

    fn is_long(&mut self, class: RequestClass) -> bool {
        self.history.is_long(class)
            || self.long > 0 && self.works.iter().flatten().any(|work| work.is_long && work.class == class)
    }

    /// Adds a request at the end.
    pub(super) fn push(&mut self, item: T, class: RequestClass, now: Instant) {
        self.arrivals += 1;
        let waiting = Waiting { item, class, arrival: self.arrivals, since: now };
        if self.is_long(class) {
            self.held_back.push_back(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.held_back.len()
    }

    /// How many more long ones may be worked on, if `long_max` may at once.
    fn long_room(&self, long_max: usize) -> usize {
        if self.long < long_max {
            return long_max - self.long;
        }
        let may_pass = self.long - self.excused_long < long_max;
        let is_polite = self.long + 1 < self.works.len() && self.long < long_max + self.excused_long_max();
        usize::from(may_pass && (is_polite || self.is_overdue))
    }

    /// So many that are excused and compute may be passed by another.
    fn excused_long_max(&self) -> usize {
        if is_put_back(Fault::EveryLongIsPassed) { self.works.len() } else { EXCUSED_LONG_MAX }
    }

    /// How many requests could be taken now, if `long_max` long ones may be worked on at once.
    pub(super) fn takeable(&self, long_max: usize) -> usize {
        self.waiting.len() + self.held_back.len().min(self.long_room(long_max))
    }

    /// Threads that do not count among those that run, so that as many others may: those whose work lasts, if what
    /// waits behind it is probably short, and those that are excused. Of those that last without computing, one: the
    /// others may last because so many threads want the interpreter, and one more would make that worse. If they are
    /// blocked, the limit will rise.
    pub(super) fn overtaken(&self) -> usize {
        let short_ones_wait = !self.waiting.is_empty() && self.short_share.is_substantial();
        let computing = self.long - self.excused_long;
        self.excused + if short_ones_wait { self.lasting.min(computing + 1) } else { 0 }
    }

    /// Places whose threads work on a request.
    pub(super) fn working(&self) -> impl Iterator<Item = usize> {
        self.works.iter().enumerate().filter_map(|(place, work)| work.map(|_| place))
    }

    /// The thread of `place`, which has used `cpu` so far, takes the next request, which it works on from `now`; at
    /// most `long_max` long ones are worked on at once.
    pub(super) fn take(&mut self, place: Place, long_max: usize, now: Instant, cpu: Duration) -> Option<T> {
        while let Some(first) = self.first(long_max) {
            let is_long = self.is_long(first.class);
            if is_long && self.long_room(long_max) == 0 {
                // It arrived before its class was known.
                self.hold_back(first);
                continue;
            }
            self.is_overdue &= !is_long;
            if let Some(work) = self.works.get_mut(place.0) {
                *work = Some(Work {
                    since: now,
                    cpu_before: cpu,
                    class: first.class,
                    look_at: now + LONG_REQUEST,
                    is_lasting: is_long,
                    is_long,
                    is_excused: false,
                });
                self.lasting += usize::from(is_long);
                self.long += usize::from(is_long);
            }
            return Some(first.item);
        }
        None
    }

    /// The oldest of those that may be taken.
    fn first(&mut self, long_max: usize) -> Option<Waiting<T>> {
        let may_be_long = self.long_room(long_max) > 0;
        let held_back = self.held_back.front().filter(|_| may_be_long).map(|it| it.arrival);
        match (self.waiting.front().map(|it| it.arrival), held_back) {
            (Some(waiting), Some(held_back)) if held_back < waiting => self.held_back.pop_front(),
            (Some(_), _) => self.waiting.pop_front(),
            (None, Some(_)) => self.held_back.pop_front(),
            (None, None) => None,
        }
    }

    fn hold_back(&mut self, waiting: Waiting<T>) {
        let index = self.held_back.partition_point(|other| other.arrival < waiting.arrival);
        let index = if is_put_back(Fault::OlderBehindNewer) { self.held_back.len() } else { index };
        self.held_back.insert(index, waiting);
    }

    /// The thread of `place` is done with what it worked on. `used` tells how much CPU that took, given how much time.
    pub(super) fn leave(&mut self, place: Place, now: Instant, used: impl FnOnce(Duration) -> Duration) {
        let Some(work) = self.works.get_mut(place.0).and_then(Option::take) else { return };
        self.lasting -= usize::from(work.is_lasting && !work.is_excused);
        self.long -= usize::from(work.is_long);
        self.excused -= usize::from(work.is_excused);
        self.excused_long -= usize::from(work.is_excused && work.is_long);
        if !self.has_choice() {
            return;
        }
        let used = used(now.saturating_duration_since(work.since));
        self.short_share.note(used);
        let forgotten = self.history.note(work.class, used >= LONG_CLASS);
        if self.held_back.is_empty() {
            return;
        }
        for class in [Some(work.class), forgotten].into_iter().flatten() {
            if !self.is_long(class) {
                self.release(class);
            }
        }
    }

    /// Requests of `class` need not let others pass any more.
    fn release(&mut self, class: RequestClass) {
        let (released, kept) = self.held_back.drain(..).partition(|waiting| waiting.class == class);
        self.held_back = kept;
        let released: VecDeque<Waiting<T>> = released;
        if !released.is_empty() {
            self.waiting.extend(released);
            self.waiting.make_contiguous().sort_by_key(|waiting| waiting.arrival);
        }
    }

    /// Notes which threads have worked on something for long, and which of them compute. `cpu` tells the CPU time of
    /// the thread of a place.
    pub(super) fn find_long(&mut self, now: Instant, cpu: impl Fn(usize) -> Duration) {
        let is_overdue = |oldest: &Waiting<T>| now.saturating_duration_since(oldest.since) >= HELD_BACK_MAX;
        self.is_overdue = self.held_back.front().is_some_and(is_overdue);
        for place in 0..self.works.len() {
            let work = self.works.get(place).copied().flatten().filter(|work| work.look_at <= now);
            let Some(mut work) = work else { continue };
            if work.is_excused {
                self.look_at_excused(&mut work, now, cpu(place));
            } else {
                self.look_at(&mut work, now, || cpu(place));
            }
            if let Some(slot) = self.works.get_mut(place) {
                *slot = Some(work);
            }
        }
    }

    fn look_at(&mut self, work: &mut Work, now: Instant, cpu: impl Fn() -> Duration) {
        work.look_at = now + LONG_REQUEST;
        self.lasting += usize::from(!work.is_lasting);
        work.is_lasting = true;
        if !work.is_long {
            work.is_long = cpu().saturating_sub(work.cpu_before) >= LONG_REQUEST;
            self.long += usize::from(work.is_long);
        }
        if now.saturating_duration_since(work.since) >= LASTING_MAX {
            work.is_excused = true;
            work.look_at = now + LASTING_MAX;
            work.cpu_before = cpu();
            self.lasting -= 1;
            self.excused += 1;
            self.excused_long += usize::from(work.is_long);
        }
    }

    /// Whether it still computes.
    fn look_at_excused(&mut self, work: &mut Work, now: Instant, cpu: Duration) {
        work.look_at = now + LASTING_MAX;
        let was_long =
            std::mem::replace(&mut work.is_long, cpu.saturating_sub(work.cpu_before) >= LONG_REQUEST);
        work.cpu_before = cpu;
        for count in [&mut self.long, &mut self.excused_long] {
            *count = *count + usize::from(work.is_long) - usize::from(was_long);
        }
    }

    /// Takes out the first request that satisfies `condition`.
    pub(super) fn remove(&mut self, condition: impl Fn(&T) -> bool) -> Option<T> {
        [&mut self.waiting, &mut self.held_back].into_iter().find_map(|queue| {
            let index = queue.iter().position(|waiting| condition(&waiting.item))?;
            queue.remove(index).map(|waiting| waiting.item)
        })
    }
}

#[cfg(test)]
mod tests;
