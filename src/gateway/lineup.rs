//! In which order waiting requests are taken. Pure: no thread, no lock, no clock.
//!
//! First come, first served, with one exception. Requests that will probably take long are held back while as many of
//! their like are being worked on as there are threads that get anywhere, so that the quick ones behind them need not
//! wait for them, nor fight with many of them over the interpreter. What computes for long now, or did the last times
//! it was asked for, will do so again; what nobody has asked for yet is a guess ([`QuickShare`]). A request that lasts
//! because it waits, for the interpreter or for a database, says nothing of its kind.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use super::quick_share::QuickShare;
use crate::http::RequestHead;
use crate::limits::{LONG_KIND, LONG_KINDS_MAX, LONG_REQUEST};

/// Requests that should take equally long: those for the same thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Kind(u64);

impl Kind {
    /// The kind of a request: method and path.
    pub(super) fn of(head: &RequestHead) -> Self {
        let mut hasher = DefaultHasher::new();
        (head.method(), head.path()).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// So many requests of a kind have to compute for long in a row before the kind counts as long: a single one may be an
/// exception.
const LONG_IN_A_ROW: u8 = 2;

/// The place of one application thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

/// See the module's page.
#[derive(Debug)]
pub(super) struct Lineup<T> {
    waiting: VecDeque<Waiting<T>>,
    /// Those that will take long and had to let others pass.
    held_back: VecDeque<Waiting<T>>,
    arrivals: u64,
    /// What the thread of each place works on.
    works: Vec<Option<Work>>,
    /// How many of them have worked on it for long.
    lasting: usize,
    /// How many of them compute for long.
    long: usize,
    /// Kinds that computed for long the last time, and how often in a row.
    long_kinds: HashMap<Kind, u8>,
    quick_share: QuickShare,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    kind: Kind,
    arrival: u64,
}

#[derive(Clone, Copy, Debug)]
struct Work {
    since: Instant,
    /// CPU time of the thread then, or a moment before.
    cpu_before: Duration,
    kind: Kind,
    /// When to look whether it computes.
    look_at: Instant,
    is_lasting: bool,
    is_long: bool,
}

impl<T> Lineup<T> {
    /// An empty lineup without seats.
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            held_back: VecDeque::new(),
            arrivals: 0,
            works: Vec::new(),
            lasting: 0,
            long: 0,
            long_kinds: HashMap::new(),
            quick_share: QuickShare::default(),
        }
    }

    /// A place for one more thread. With a single one there is nothing to choose.
    pub(super) fn place(&mut self) -> Place {
        self.works.push(None);
        Place(self.works.len() - 1)
    }

    /// Whether requests can overtake each other, so that kinds matter.
    pub(super) fn has_choice(&self) -> bool {
        self.works.len() > 1
    }

    fn is_long(&self, kind: Kind) -> bool {
        // Mostly there is none.
        let was = !self.long_kinds.is_empty()
            && self.long_kinds.get(&kind).is_some_and(|times| *times >= LONG_IN_A_ROW);
        let is = || self.works.iter().flatten().any(|work| work.is_long && work.kind == kind);
        was || self.long > 0 && is()
    }

    /// Adds a request at the end.
    pub(super) fn push(&mut self, item: T, kind: Kind) {
        self.arrivals += 1;
        let waiting = Waiting { item, kind, arrival: self.arrivals };
        if self.is_long(kind) {
            self.held_back.push_back(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
    }

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.held_back.len()
    }

    /// How many requests could be taken now, if `long_max` long ones may be worked on at once.
    pub(super) fn takeable(&self, long_max: usize) -> usize {
        self.waiting.len() + self.held_back.len().min(long_max.saturating_sub(self.long))
    }

    /// Threads whose work lasts, if that which waits behind it is probably quick: they are overtaken.
    pub(super) fn overtaken(&self) -> usize {
        let quick_waits = !self.waiting.is_empty() && self.quick_share.is_substantial();
        if quick_waits { self.lasting } else { 0 }
    }

    /// The thread of `place`, which has used `cpu` so far, takes the next request, which it works on from `now`; at
    /// most `long_max` long ones are worked on at once.
    pub(super) fn take(&mut self, place: Place, long_max: usize, now: Instant, cpu: Duration) -> Option<T> {
        while let Some(first) = self.first(long_max) {
            let is_long = self.is_long(first.kind);
            if is_long && self.long >= long_max {
                // It arrived before its kind was known.
                self.held_back.push_back(first);
                continue;
            }
            if let Some(work) = self.works.get_mut(place.0) {
                let (kind, is_lasting) = (first.kind, is_long);
                let look_at = now + LONG_REQUEST;
                *work = Some(Work { since: now, cpu_before: cpu, kind, look_at, is_lasting, is_long });
                self.lasting += usize::from(is_lasting);
                self.long += usize::from(is_long);
            }
            return Some(first.item);
        }
        None
    }

    /// The oldest of those that may be taken.
    fn first(&mut self, long_max: usize) -> Option<Waiting<T>> {
        let held_back = self.held_back.front().filter(|_| self.long < long_max).map(|it| it.arrival);
        match (self.waiting.front().map(|it| it.arrival), held_back) {
            (Some(waiting), Some(held_back)) if held_back < waiting => self.held_back.pop_front(),
            (Some(_), _) => self.waiting.pop_front(),
            (None, Some(_)) => self.held_back.pop_front(),
            (None, None) => None,
        }
    }

    /// The thread of `place` is done with what it worked on. `used` tells how much CPU that took, given how much time.
    pub(super) fn leave(&mut self, place: Place, now: Instant, used: impl FnOnce(Duration) -> Duration) {
        let Some(work) = self.works.get_mut(place.0).and_then(Option::take) else { return };
        self.lasting -= usize::from(work.is_lasting);
        self.long -= usize::from(work.is_long);
        if !self.has_choice() {
            return;
        }
        let used = used(now.saturating_duration_since(work.since));
        self.quick_share.note(used);
        if used >= LONG_KIND {
            self.note_long(work.kind);
        } else if !self.long_kinds.is_empty() {
            self.long_kinds.remove(&work.kind);
        }
        if work.is_long && !self.is_long(work.kind) {
            self.release(work.kind);
        }
    }

    /// Requests of `kind` need not let others pass any more.
    fn release(&mut self, kind: Kind) {
        let (released, kept) = self.held_back.drain(..).partition(|waiting| waiting.kind == kind);
        self.held_back = kept;
        let released: VecDeque<Waiting<T>> = released;
        if !released.is_empty() {
            self.waiting.extend(released);
            self.waiting.make_contiguous().sort_by_key(|waiting| waiting.arrival);
        }
    }

    fn note_long(&mut self, kind: Kind) {
        if self.long_kinds.len() >= LONG_KINDS_MAX {
            self.long_kinds.clear();
        }
        let times = self.long_kinds.entry(kind).or_default();
        *times = times.saturating_add(1);
    }

    /// Notes which threads have worked on something for long, and which of them compute. `cpu` tells the CPU time of
    /// the thread of a place.
    pub(super) fn find_long(&mut self, now: Instant, cpu: impl Fn(usize) -> Duration) {
        for (place, work) in self.works.iter_mut().enumerate() {
            let Some(work) = work.as_mut().filter(|work| !work.is_long && work.look_at <= now) else {
                continue;
            };
            work.look_at = now + LONG_REQUEST;
            self.lasting += usize::from(!work.is_lasting);
            work.is_lasting = true;
            work.is_long = cpu(place).saturating_sub(work.cpu_before) >= LONG_REQUEST;
            self.long += usize::from(work.is_long);
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
mod tests {
    use super::*;

    const QUICK: Kind = Kind(1);
    const LONG: Kind = Kind(2);
    /// What a thread had used before.
    const CPU: Duration = Duration::from_secs(1);
    const MOMENT: Duration = Duration::from_micros(10);

    /// All of the time a request took, it computed.
    fn all(taken: Duration) -> Duration {
        taken
    }

    /// A lineup of two threads that knows which kind is long.
    fn lineup(now: Instant) -> (Lineup<u32>, [Place; 2]) {
        let mut lineup = Lineup::new();
        let places = [lineup.place(), lineup.place()];
        for _ in 0..LONG_IN_A_ROW {
            lineup.push(0, LONG);
            assert_eq!(lineup.take(places[0], 1, now, CPU), Some(0));
            lineup.leave(places[0], now + LONG_KIND, all);
        }
        (lineup, places)
    }

    fn drain(lineup: &mut Lineup<u32>, place: Place, now: Instant) -> Vec<u32> {
        std::iter::from_fn(|| {
            let taken = lineup.take(place, 1, now, CPU);
            lineup.leave(place, now + MOMENT, all);
            taken
        })
        .collect()
    }

    #[test]
    fn first_come_is_first_served_while_no_long_one_is_worked_on() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        lineup.push(1, QUICK);
        lineup.push(2, LONG);
        lineup.push(3, QUICK);
        assert_eq!(drain(&mut lineup, places[0], now), [1, 2, 3]);
    }

    #[test]
    fn quick_ones_overtake_a_long_one_behind_another_that_is_worked_on() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        for (item, kind) in [(1, LONG), (2, LONG), (3, QUICK), (4, LONG), (5, QUICK)] {
            lineup.push(item, kind);
        }
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(1));
        assert_eq!(lineup.takeable(1), 2);
        assert_eq!(drain(&mut lineup, places[1], now), [3, 5]);
        assert_eq!((lineup.len(), lineup.takeable(1), lineup.takeable(2)), (2, 0, 1));
        lineup.leave(places[0], now + LONG_KIND, all);
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(2));
    }

    #[test]
    fn as_many_long_ones_run_as_get_anywhere() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        lineup.push(1, LONG);
        lineup.push(2, LONG);
        assert_eq!(lineup.take(places[0], 2, now, CPU), Some(1));
        assert_eq!(lineup.take(places[1], 2, now, CPU), Some(2));
    }

    #[test]
    fn what_turns_out_to_be_quick_is_not_held_back_any_more() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        lineup.push(1, LONG);
        assert_eq!(drain(&mut lineup, places[0], now), [1]);
        lineup.push(2, LONG);
        lineup.push(3, LONG);
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(2));
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(3));
    }

    #[test]
    fn another_of_what_takes_long_now_is_held_back_until_that_has_ended() {
        let now = Instant::now();
        let mut lineup = Lineup::new();
        let places = [lineup.place(), lineup.place()];
        for (item, kind) in [(1, LONG), (2, LONG), (3, QUICK)] {
            lineup.push(item, kind);
        }
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(1));
        lineup.find_long(now + LONG_REQUEST, |_| CPU + LONG_REQUEST);
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(3));
        lineup.push(4, LONG);
        lineup.push(5, QUICK);
        assert_eq!(lineup.takeable(1), 1);
        // It was not so long after all.
        lineup.leave(places[0], now + LONG_REQUEST, all);
        assert_eq!(lineup.takeable(1), 3);
        assert_eq!(drain(&mut lineup, places[0], now), [2, 4, 5]);
    }

    #[test]
    fn one_that_waits_for_long_is_overtaken_but_says_nothing_of_its_kind() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        for item in 0..=LONG_IN_A_ROW.into() {
            lineup.push(item, QUICK);
            assert_eq!(lineup.take(places[0], 1, now, CPU), Some(item));
            lineup.push(10, QUICK);
            lineup.find_long(now + LONG_KIND, |_| CPU + MOMENT);
            assert_eq!((lineup.overtaken(), lineup.takeable(0)), (1, 1), "another thread may take the next");
            assert_eq!(lineup.take(places[1], 0, now, CPU), Some(10));
            lineup.leave(places[1], now, all);
            lineup.leave(places[0], now + LONG_KIND, |_| MOMENT);
        }
        assert!(!lineup.is_long(QUICK));
        assert_eq!((lineup.lasting, lineup.long), (0, 0));
    }

    #[test]
    fn one_that_took_long_once_is_not_held_back() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        for taken in [LONG_KIND, MOMENT, LONG_KIND] {
            lineup.push(0, QUICK);
            lineup.take(places[0], 1, now, CPU);
            lineup.leave(places[0], now + taken, all);
        }
        lineup.push(1, LONG);
        lineup.push(2, QUICK);
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(1));
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(2));
    }

    #[test]
    fn one_that_arrived_before_its_kind_was_known_is_held_back_when_its_turn_comes() {
        let now = Instant::now();
        let mut lineup = Lineup::new();
        let places = [lineup.place(), lineup.place()];
        for item in 0..=3 {
            lineup.push(item, LONG);
        }
        lineup.push(4, QUICK);
        for item in 0..=1 {
            assert_eq!(lineup.take(places[0], 1, now, CPU), Some(item));
            lineup.leave(places[0], now + LONG_KIND, all);
        }
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(2));
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(4));
        assert_eq!(lineup.remove(|item| *item == 3), Some(3));
        assert_eq!(lineup.len(), 0);
    }

    #[test]
    fn only_a_thread_that_works_long_is_overtaken_and_only_by_what_is_probably_quick() {
        let now = Instant::now();
        let (mut lineup, places) = lineup(now);
        for item in 0..50 {
            lineup.push(item, QUICK);
        }
        drain(&mut lineup, places[0], now);
        lineup.push(1, Kind(3));
        lineup.push(2, QUICK);
        assert_eq!(lineup.take(places[0], 1, now, CPU), Some(1));
        assert_eq!(lineup.overtaken(), 0);
        lineup.find_long(now + LONG_REQUEST, |_| CPU + LONG_REQUEST);
        assert_eq!(lineup.overtaken(), 1);
        assert_eq!(lineup.take(places[1], 1, now, CPU), Some(2));
        assert_eq!(lineup.overtaken(), 0, "nothing waits");
    }

    #[test]
    fn the_kinds_that_are_remembered_are_bounded() {
        let now = Instant::now();
        let mut lineup = Lineup::new();
        let places = [lineup.place(), lineup.place()];
        for kind in 0..3 * LONG_KINDS_MAX as u64 {
            lineup.push(0, Kind(kind));
            lineup.take(places[0], 1, now, CPU);
            lineup.leave(places[0], now + LONG_KIND, all);
        }
        assert!(lineup.long_kinds.len() <= LONG_KINDS_MAX);
    }

    #[test]
    fn a_single_thread_takes_everything_in_order() {
        let now = Instant::now();
        let mut lineup = Lineup::new();
        let place = lineup.place();
        for _ in 0..=LONG_IN_A_ROW {
            lineup.push(0, LONG);
            lineup.take(place, 1, now, CPU);
            lineup.leave(place, now + LONG_KIND, all);
        }
        for (item, kind) in [(1, LONG), (2, QUICK), (3, LONG)] {
            lineup.push(item, kind);
        }
        assert_eq!(drain(&mut lineup, place, now), [1, 2, 3]);
    }
}
