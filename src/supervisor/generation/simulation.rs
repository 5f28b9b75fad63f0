//! The machine in a world of chance: workers load, fail, crash, hang and drain as a seed decides, operators reload and
//! stop at the worst moments, and after every event what must always hold is checked.
//!
//! A failing seed is printed; `SIMULATION_SEED=<n>` runs that one alone.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SEEDS: u64 = 3000;
const START_TIMEOUT: Duration = Duration::from_secs(20);
const DRAIN_DELAY: Duration = Duration::from_secs(5);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Nothing may take longer from a stop to the exit, whatever workers do.
const STOP_DURATION_MAX: Duration = Duration::from_secs(5 + 10 + 5);
/// Trouble ends here: from now on workers load, live and drain as they should.
const CALM_AFTER: Duration = Duration::from_secs(300);
/// And by now all must be well: the last crash rolled before the calm, its drain, the longest wait before a respawn,
/// and two loads.
const WELL_AFTER: Duration = Duration::from_secs(300 + 120 + 10 + 30 + 2 * 20);

#[test]
fn whatever_happens_the_promises_hold() {
    let only = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..SEEDS, |seed| seed..seed + 1) {
        let outcome = std::panic::catch_unwind(|| World::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed} broke a promise");
    }
}

/// `SplitMix64` (Steele, Lea and Flood, 2014): small, seeded, good enough for dice.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn per_cent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn within(&mut self, longest: Duration) -> Duration {
        Duration::from_millis(self.below(u64::try_from(longest.as_millis()).unwrap() + 1))
    }
}

/// What the world knows of a worker process that is alive.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that are independent of each other")]
struct Process {
    generation: u64,
    slot: usize,
    is_ready: bool,
    is_accepting: bool,
    is_silent: bool,
    is_watching: bool,
    is_told_to_leave: bool,
    is_killed: bool,
}

struct World {
    dice: Dice,
    trouble_per_cent: u64,
    began: Instant,
    now: Instant,
    machine: Generations,
    settings: Settings,
    processes: BTreeMap<WorkerId, Process>,
    /// What will happen, in order; the number tells apart what happens at the same time.
    future: BTreeMap<(Instant, u64), SupervisorEvent>,
    scheduled: u64,
    ever_spawned: BTreeSet<WorkerId>,
    last_spawned: BTreeMap<(u64, usize), Instant>,
    newest_generation: u64,
    stopped_at: Option<Instant>,
    is_closed: bool,
    is_ending: bool,
    exit: Option<i32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let processes = 1 + usize::try_from(dice.below(4)).unwrap();
        let settings = Settings {
            processes,
            processes_max: processes + usize::try_from(dice.below(4)).unwrap(),
            start_timeout: START_TIMEOUT,
            drain_delay: if dice.per_cent(50) { DRAIN_DELAY } else { Duration::ZERO },
            drain_timeout: DRAIN_TIMEOUT,
            failures_watch: dice.per_cent(30),
            waits_for_first: dice.per_cent(30),
        };
        let now = Instant::now();
        let mut world = Self {
            trouble_per_cent: [0, 5, 30, 70][usize::try_from(dice.below(4)).unwrap()],
            dice,
            began: now,
            now,
            machine: Generations::new(settings),
            settings,
            processes: BTreeMap::new(),
            future: BTreeMap::new(),
            scheduled: 0,
            ever_spawned: BTreeSet::new(),
            last_spawned: BTreeMap::new(),
            newest_generation: 0,
            stopped_at: None,
            is_closed: false,
            is_ending: false,
            exit: None,
        };
        world.plan_operators();
        world
    }

    fn plan_operators(&mut self) {
        self.schedule(Duration::ZERO, SupervisorEvent::Reload);
        for _ in 0..self.dice.below(12) {
            let after = self.dice.within(CALM_AFTER);
            self.schedule(after, SupervisorEvent::Reload);
            if self.dice.per_cent(20) {
                (0..self.dice.below(10)).for_each(|_| self.schedule(after, SupervisorEvent::Reload));
            }
        }
        for _ in 0..self.dice.below(8) {
            let after = self.dice.within(CALM_AFTER);
            let event = if self.dice.per_cent(50) { SupervisorEvent::Grow } else { SupervisorEvent::Shrink };
            self.schedule(after, event);
        }
        if self.dice.per_cent(50) {
            let after = self.dice.within(CALM_AFTER);
            let event = match self.dice.below(10) {
                0 | 1 => SupervisorEvent::StopNow,
                2 => SupervisorEvent::Leave,
                _ => SupervisorEvent::Stop,
            };
            self.schedule(after, event);
            if self.dice.per_cent(30) {
                let again = after + self.dice.within(DRAIN_TIMEOUT);
                self.schedule(again, SupervisorEvent::Stop);
            }
        }
    }

    fn schedule(&mut self, after: Duration, event: SupervisorEvent) {
        self.scheduled += 1;
        self.future.insert((self.now + after, self.scheduled), event);
    }

    fn is_trouble(&mut self) -> bool {
        self.now < self.began + CALM_AFTER && self.dice.per_cent(self.trouble_per_cent)
    }

    fn run(mut self) {
        while self.exit.is_none() && self.now < self.began + WELL_AFTER {
            let Some(event) = self.next_event() else { break };
            self.tell(event);
        }
        self.check_end();
    }

    /// Moves the clock to what happens next.
    fn next_event(&mut self) -> Option<SupervisorEvent> {
        let due = self.machine.deadline();
        let planned = self.future.keys().next().copied();
        let tick_is_first = match (due, planned) {
            (Some(due), Some((at, _))) => due <= at,
            (due, None) => due.is_some(),
            (None, Some(_)) => false,
        };
        if tick_is_first {
            self.now = due?;
            return Some(SupervisorEvent::Tick);
        }
        let ((at, _), event) = self.future.pop_first()?;
        self.now = at;
        Some(event)
    }

    fn tell(&mut self, event: SupervisorEvent) {
        if !self.is_possible(&event) {
            return;
        }
        if matches!(event, SupervisorEvent::Stop | SupervisorEvent::Leave | SupervisorEvent::StopNow) {
            self.stopped_at.get_or_insert(self.now);
        }
        let accepting_before = self.accepting();
        let failed = if let SupervisorEvent::WorkerFailed(id, _) = event { Some(id) } else { None };
        let actions = self.machine.handle(event, self.now);
        for action in actions {
            assert_eq!(self.exit, None, "nothing follows an exit, not {action:?}");
            self.act(&action);
            if accepting_before > 0 && self.stopped_at.is_none() {
                assert!(self.accepting() > 0, "a healthy generation was left alone");
            }
        }
        self.note_watcher(failed);
        self.check_always();
    }

    /// A worker that has failed and was not told to leave watches, and sooner or later sees a change.
    fn note_watcher(&mut self, failed: Option<WorkerId>) {
        let Some((id, process)) = failed.and_then(|id| Some((id, self.processes.get_mut(&id)?))) else {
            return;
        };
        if process.is_told_to_leave || process.is_killed || process.is_watching {
            return;
        }
        assert!(self.settings.failures_watch, "{id:?} was left alone");
        process.is_watching = true;
        let after = self.dice.within(Duration::from_secs(120));
        self.schedule(after, SupervisorEvent::Changed(self.now + after));
        if self.is_trouble() {
            let after = self.dice.within(Duration::from_secs(120));
            self.schedule(after, SupervisorEvent::WorkerExited(id, ProcessExit::Killed(9)));
        }
    }

    /// Keeps the world's record of an event; `false` for what a dead worker can no longer do.
    fn is_possible(&mut self, event: &SupervisorEvent) -> bool {
        match event {
            SupervisorEvent::WorkerReady(id) => self.processes.get_mut(id).is_some_and(|process| {
                process.is_ready = true;
                !process.is_killed
            }),
            SupervisorEvent::WorkerSilent(id) => self
                .processes
                .get_mut(id)
                .is_some_and(|process| !std::mem::replace(&mut process.is_silent, true)),
            SupervisorEvent::WorkerFailed(id, _) => self.processes.contains_key(id),
            SupervisorEvent::WorkerExited(id, _) => self.processes.remove(id).is_some(),
            SupervisorEvent::Reload
            | SupervisorEvent::Changed(_)
            | SupervisorEvent::Replace(..)
            | SupervisorEvent::Grow
            | SupervisorEvent::Shrink
            | SupervisorEvent::Stop
            | SupervisorEvent::Leave
            | SupervisorEvent::StopNow
            | SupervisorEvent::Tick => true,
        }
    }

    fn accepting(&self) -> usize {
        let is_lost = |process: &Process| process.is_silent || process.is_told_to_leave || process.is_killed;
        self.processes.values().filter(|process| process.is_accepting && !is_lost(process)).count()
    }

    fn act(&mut self, action: &Action) {
        match *action {
            Action::Spawn { id, generation, slot } => self.spawn(id, generation, slot),
            Action::Accept(id) => {
                let process = self.processes.get_mut(&id).expect("only the living are told to accept");
                assert!(process.is_ready && !process.is_accepting && !process.is_told_to_leave);
                assert!(!self.is_closed, "nobody could connect");
                process.is_accepting = true;
                self.plan_life(id);
            }
            Action::Close => {
                assert!(self.stopped_at.is_some() && !self.is_closed);
                self.is_closed = true;
            }
            Action::Drain(id) => self.leave(id, true, DRAIN_TIMEOUT),
            Action::Stop(id) => self.leave(id, false, STOP_TIMEOUT),
            Action::Kill(id) => self.kill(id),
            Action::Exit(status) => self.exit = Some(status),
            Action::Log(Note::Stopping) => self.is_ending = true,
            Action::Log(_) => {}
        }
    }

    fn spawn(&mut self, id: WorkerId, generation: u64, slot: usize) {
        assert!(!self.is_ending, "nothing is started once the server drains");
        assert!(self.ever_spawned.insert(id), "an id is used once");
        let is_here = |other: &&Process| (other.generation, other.slot) == (generation, slot);
        let stays = |other: &&Process| !other.is_told_to_leave && !other.is_killed;
        let mut others = self.processes.values().filter(is_here).filter(stays);
        assert!(others.next().is_none_or(|other| other.is_accepting), "a slot has one worker that loads");
        assert!(others.next().is_none(), "a slot has one worker and one successor");
        if let Some(last) = self.last_spawned.insert((generation, slot), self.now) {
            assert!(self.now - last >= RESPAWN_WAIT_MIN, "a crash loop must not spin");
        }
        self.newest_generation = self.newest_generation.max(generation);
        self.processes.insert(id, Process { generation, slot, ..Process::default() });
        self.plan_load(id);
    }

    fn plan_load(&mut self, id: WorkerId) {
        let after = self.dice.within(Duration::from_secs(5));
        if !self.is_trouble() {
            return self.schedule(after, SupervisorEvent::WorkerReady(id));
        }
        match self.dice.below(4) {
            0 => {
                self.schedule(after, SupervisorEvent::WorkerFailed(id, Failure::default()));
                if !self.settings.failures_watch {
                    let exit = SupervisorEvent::WorkerExited(id, ProcessExit::Exited(70));
                    self.schedule(after + Duration::from_millis(50), exit);
                }
            }
            1 => self.schedule(after, SupervisorEvent::WorkerExited(id, ProcessExit::Killed(11))),
            2 => self.schedule(after, SupervisorEvent::WorkerSilent(id)),
            _ => {}
        }
    }

    fn plan_life(&mut self, id: WorkerId) {
        if self.now < self.began + CALM_AFTER && self.dice.per_cent(20) {
            let farewell = if self.dice.per_cent(70) { Farewell::Drain } else { Farewell::Kill };
            let after = self.dice.within(Duration::from_secs(60));
            for _ in 0..=self.dice.below(2) {
                let replacement = Replacement { reason: String::new(), farewell };
                self.schedule(after, SupervisorEvent::Replace(id, replacement));
            }
        }
        if self.is_trouble() {
            let after = self.dice.within(Duration::from_secs(120));
            let event = match self.dice.below(3) {
                0 => SupervisorEvent::WorkerSilent(id),
                1 => SupervisorEvent::WorkerExited(id, ProcessExit::Exited(0)),
                _ => SupervisorEvent::WorkerExited(id, ProcessExit::Killed(9)),
            };
            self.schedule(after, event);
        }
    }

    fn leave(&mut self, id: WorkerId, was_accepting: bool, timeout: Duration) {
        let process = self.processes.get_mut(&id).expect("only the living are told to leave");
        assert_eq!(process.is_accepting, was_accepting, "who accepts is drained, who does not is stopped");
        assert!(!process.is_told_to_leave && !process.is_killed, "said once");
        process.is_told_to_leave = true;
        let is_slow = self.is_trouble();
        let after = self.dice.within(if is_slow { 2 * timeout } else { timeout / 2 });
        self.schedule(after, SupervisorEvent::WorkerExited(id, ProcessExit::Exited(0)));
    }

    fn kill(&mut self, id: WorkerId) {
        let process = self.processes.get_mut(&id).expect("only the living are killed");
        assert!(!process.is_killed, "killed once");
        process.is_killed = true;
        let hangs_in_the_kernel = self.is_trouble() && self.dice.per_cent(10);
        let longest = if hangs_in_the_kernel { Duration::from_secs(20) } else { Duration::from_millis(50) };
        let after = self.dice.within(longest);
        self.schedule(after, SupervisorEvent::WorkerExited(id, ProcessExit::Killed(9)));
    }

    fn check_always(&self) {
        let known: Vec<WorkerId> = self.machine.workers.keys().copied().collect();
        if self.exit.is_none() {
            assert_eq!(known, self.processes.keys().copied().collect::<Vec<_>>(), "no worker is forgotten");
            assert!(self.machine.deadline().is_none_or(|due| due > self.now), "what was due has been done");
        }
        assert!(self.processes.len() <= self.settings.workers_max(), "there is a row for every worker");
        let is_loading = |process: &&Process| {
            let is_leaving = process.is_told_to_leave || process.is_killed;
            !process.is_accepting && !process.is_watching && !is_leaving
        };
        let serving = self.machine.serving.as_ref().map(|serving| serving.generation);
        let loading: BTreeSet<u64> =
            self.processes.values().filter(is_loading).map(|process| process.generation).collect();
        assert!(
            loading.iter().filter(|generation| Some(**generation) != serving).count() <= 1,
            "{loading:?} load at once"
        );
        if let Some(stopped_at) = self.stopped_at
            && self.exit.is_none()
        {
            assert!(self.now <= stopped_at + STOP_DURATION_MAX, "a stop takes too long");
        }
    }

    fn check_end(&self) {
        match self.exit {
            Some(0) => assert!(self.stopped_at.is_some(), "it exited without an order"),
            Some(status) => {
                assert_eq!(status, EXIT_LOAD_FAILED);
                assert!(self.machine.serving.is_none());
                assert!(!self.settings.waits_for_first, "a server that waits does not give up");
                assert!(self.trouble_per_cent > 0, "an application without fault is served");
            }
            None => {
                assert!(self.stopped_at.is_none(), "a stop must end in an exit");
                let serving = self.machine.serving.as_ref().expect("something serves");
                assert_eq!(self.accepting(), self.machine.processes(), "all slots are filled again");
                assert_eq!(self.processes.len(), self.machine.processes(), "no old worker is left");
                assert_eq!(self.machine.unrest(), Unrest::None);
                assert!(serving.generation <= self.newest_generation);
                if self.trouble_per_cent == 0 {
                    assert_eq!(serving.generation, self.newest_generation, "the newest code serves");
                }
            }
        }
    }
}
