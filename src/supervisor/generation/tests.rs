//! The machine's promises one by one, on a clock of our own.

use super::*;
use crate::limits::REAP_TIMEOUT;

const DRAIN: Duration = Duration::from_secs(10);
const DELAY: Duration = Duration::from_secs(5);
const START: Duration = Duration::from_secs(60);
const SEGFAULT: ProcessExit = ProcessExit::Killed(11);

struct Machine {
    generations: Generations,
    now: Instant,
}

impl Machine {
    fn new(processes: usize) -> Self {
        Self::with(Settings {
            processes,
            processes_max: processes,
            start_timeout: START,
            drain_delay: Duration::ZERO,
            drain_timeout: DRAIN,
            failures_watch: false,
            waits_for_first: false,
        })
    }

    fn with(settings: Settings) -> Self {
        Self { generations: Generations::new(settings), now: Instant::now() }
    }

    /// A machine whose first generation serves, and that generation's workers.
    fn serving(processes: usize) -> (Self, Vec<WorkerId>) {
        let mut machine = Self::new(processes);
        let workers = spawned(&machine.tell(SupervisorEvent::Reload));
        machine.ready(&workers);
        (machine, workers)
    }

    fn tell(&mut self, event: SupervisorEvent) -> Vec<Action> {
        self.generations.handle(event, self.now)
    }

    fn ready(&mut self, workers: &[WorkerId]) -> Vec<Action> {
        workers.iter().flat_map(|id| self.tell(SupervisorEvent::WorkerReady(*id))).collect()
    }

    fn after(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.tell(SupervisorEvent::Tick)
    }

    fn exited(&mut self, id: WorkerId) -> Vec<Action> {
        self.tell(SupervisorEvent::WorkerExited(id, ProcessExit::Exited(0)))
    }
}

fn recovered(id: WorkerId) -> Action {
    Action::Log(Note::Recovered(id))
}

fn spawned(actions: &[Action]) -> Vec<WorkerId> {
    let spawn = |action: &Action| {
        if let Action::Spawn { id, .. } = action { Some(*id) } else { None }
    };
    actions.iter().filter_map(spawn).collect()
}

fn failure(summary: &str) -> Failure {
    Failure { summary: summary.into(), traceback: "Traceback".into() }
}

#[test]
fn a_generation_goes_live_at_once_when_its_last_worker_is_ready() {
    let mut machine = Machine::new(2);
    let workers = spawned(&machine.tell(SupervisorEvent::Reload));
    assert_eq!(machine.tell(SupervisorEvent::WorkerReady(workers[1])), []);
    let actions = machine.tell(SupervisorEvent::WorkerReady(workers[0]));
    let expected = [Action::Accept(workers[0]), Action::Accept(workers[1]), Action::Log(Note::Serving(1))];
    assert_eq!(actions, expected);
}

#[test]
fn a_reload_accepts_before_it_drains() {
    let (mut machine, old) = Machine::serving(2);
    let new = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.ready(&new);
    let mut expected: Vec<Action> = new.iter().copied().map(Action::Accept).collect();
    expected.push(Action::Log(Note::Serving(2)));
    expected.extend(old.iter().copied().map(Action::Drain));
    assert_eq!(actions, expected);
    assert_eq!(machine.exited(old[0]), [], "a drained worker is not replaced");
}

#[test]
fn a_failed_reload_is_thrown_away_and_said_once() {
    let (mut machine, old) = Machine::serving(2);
    let new = spawned(&machine.tell(SupervisorEvent::Reload));
    machine.tell(SupervisorEvent::WorkerReady(new[0]));
    let actions = machine.tell(SupervisorEvent::WorkerFailed(new[1], failure("no app")));
    let expected = [
        Action::Log(Note::GenerationFailed(2, failure("no app"))),
        Action::Stop(new[0]),
        Action::Stop(new[1]),
    ];
    assert_eq!(actions, expected);
    assert_eq!(machine.tell(SupervisorEvent::WorkerFailed(new[0], failure("no app"))), []);
    assert_eq!(machine.exited(new[0]), []);
    assert_eq!(machine.exited(new[1]), []);
    let newest = spawned(&machine.tell(SupervisorEvent::Reload));
    assert!(machine.ready(&newest).contains(&Action::Drain(old[1])), "the next reload works");
}

#[test]
fn a_first_generation_that_fails_ends_the_server_with_its_reason() {
    let mut machine = Machine::new(2);
    let workers = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.tell(SupervisorEvent::WorkerFailed(workers[0], failure("no app")));
    assert_eq!(actions[0], Action::Log(Note::GenerationFailed(1, failure("no app"))));
    machine.exited(workers[0]);
    assert_eq!(machine.exited(workers[1]), [Action::Exit(70)]);
}

#[test]
fn a_worker_that_dies_before_it_is_ready_has_failed() {
    let mut machine = Machine::new(1);
    let workers = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.tell(SupervisorEvent::WorkerExited(workers[0], SEGFAULT));
    let [Action::Log(Note::GenerationFailed(1, failure)), Action::Exit(70)] = actions.as_slice() else {
        panic!("not {actions:?}");
    };
    assert_eq!(failure.summary, "a worker ended before it was ready: signal 11 (SIGSEGV)");
}

#[test]
fn a_worker_that_never_gets_ready_fails_at_the_start_timeout() {
    let (mut machine, _) = Machine::serving(1);
    let new = spawned(&machine.tell(SupervisorEvent::Reload));
    assert_eq!(machine.generations.deadline(), Some(machine.now + START));
    assert_eq!(machine.after(START.saturating_sub(Duration::from_millis(1))), []);
    let actions = machine.after(Duration::from_millis(1));
    assert!(
        matches!(&actions[..], [Action::Log(Note::GenerationFailed(2, _)), Action::Stop(_)]),
        "{actions:?}"
    );
    assert_eq!(machine.after(STOP_TIMEOUT), [Action::Kill(new[0])], "who does not listen is killed");
}

#[test]
fn a_reload_during_a_reload_throws_the_older_code_away() {
    let (mut machine, old) = Machine::serving(1);
    let stale = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.tell(SupervisorEvent::Reload);
    assert_eq!(actions[0], Action::Stop(stale[0]));
    let newest = spawned(&actions);
    assert_eq!(machine.tell(SupervisorEvent::WorkerReady(stale[0])), []);
    assert!(machine.ready(&newest).contains(&Action::Drain(old[0])));
}

#[test]
fn a_storm_of_reloads_waits_for_room() {
    let (mut machine, _) = Machine::serving(2);
    let begun: Vec<WorkerId> =
        (0..20).flat_map(|_| spawned(&machine.tell(SupervisorEvent::Reload))).collect();
    assert_eq!(begun.len() + 2, machine.generations.settings.workers_max());
    assert_eq!(machine.exited(begun[0]), []);
    let newest = spawned(&machine.exited(begun[1]));
    assert_eq!(newest.len(), 2, "the newest wish is not forgotten");
}

#[test]
fn a_crashed_worker_is_replaced_after_a_wait_that_doubles_and_is_reset() {
    let (mut machine, mut workers) = Machine::serving(1);
    let mut crash_and_wait = |machine: &mut Machine, id| {
        let actions = machine.tell(SupervisorEvent::WorkerExited(id, SEGFAULT));
        let [Action::Log(Note::Died(_, SEGFAULT, Some(wait)))] = actions[..] else {
            panic!("not {actions:?}")
        };
        assert_eq!(machine.after(wait.saturating_sub(Duration::from_millis(1))), []);
        workers = spawned(&machine.after(Duration::from_millis(1)));
        assert_eq!(
            machine.tell(SupervisorEvent::WorkerReady(workers[0])),
            [Action::Accept(workers[0]), recovered(workers[0])]
        );
        (workers[0], wait.as_millis())
    };
    let mut worker = WorkerId(1);
    for expected_ms in [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000] {
        let (next, wait_ms) = crash_and_wait(&mut machine, worker);
        assert_eq!(wait_ms, expected_ms);
        worker = next;
    }
    machine.after(RESPAWN_RESET);
    assert_eq!(crash_and_wait(&mut machine, worker).1, 100);
}

#[test]
fn a_replacement_that_cannot_load_says_each_reason_once() {
    let (mut machine, workers) = Machine::serving(2);
    machine.tell(SupervisorEvent::WorkerExited(workers[0], SEGFAULT));
    let mut said = Vec::new();
    for reason in ["no app", "no app", "no database", "no database"] {
        let replacement = spawned(&machine.after(RESPAWN_WAIT_MAX))[0];
        let actions = machine.tell(SupervisorEvent::WorkerFailed(replacement, failure(reason)));
        said.extend(actions.into_iter().filter(|action| matches!(action, Action::Log(_))));
        assert_eq!(machine.exited(replacement), []);
    }
    let [Action::Log(Note::ReplacementFailed(_, first)), Action::Log(Note::ReplacementFailed(_, second))] =
        &said[..]
    else {
        panic!("not {said:?}");
    };
    assert_eq!((first, second), (&failure("no app"), &failure("no database")));
}

#[test]
fn a_drain_ends_at_the_deadman() {
    let (mut machine, old) = Machine::serving(1);
    let new = spawned(&machine.tell(SupervisorEvent::Reload));
    machine.ready(&new);
    assert_eq!(machine.after(DRAIN), [Action::Log(Note::Overdue(old[0])), Action::Kill(old[0])]);
    assert_eq!(machine.tell(SupervisorEvent::WorkerExited(old[0], ProcessExit::Killed(9))), []);
}

#[test]
fn a_worker_that_hung_up_is_replaced_when_it_has_ended() {
    let (mut machine, workers) = Machine::serving(1);
    assert_eq!(machine.tell(SupervisorEvent::WorkerSilent(workers[0])), []);
    assert_eq!(machine.after(DRAIN), [Action::Log(Note::Overdue(workers[0])), Action::Kill(workers[0])]);
    machine.tell(SupervisorEvent::WorkerExited(workers[0], ProcessExit::Killed(9)));
    assert_eq!(spawned(&machine.after(RESPAWN_WAIT_MIN)).len(), 1);
}

#[test]
fn the_end_of_file_before_an_exit_does_not_hide_a_long_life() {
    let (mut machine, workers) = Machine::serving(1);
    machine.tell(SupervisorEvent::WorkerExited(workers[0], SEGFAULT));
    let next = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    machine.ready(&[next]);
    machine.after(RESPAWN_RESET);
    machine.tell(SupervisorEvent::WorkerSilent(next));
    let actions = machine.tell(SupervisorEvent::WorkerExited(next, SEGFAULT));
    assert_eq!(actions, [Action::Log(Note::Died(next, SEGFAULT, Some(RESPAWN_WAIT_MIN)))]);
}

#[test]
fn a_stop_drains_those_that_accept_and_stops_those_that_load() {
    let (mut machine, old) = Machine::serving(1);
    let new = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.tell(SupervisorEvent::Stop);
    let stopping = Action::Log(Note::Stopping);
    assert_eq!(actions, [Action::Close, stopping, Action::Drain(old[0]), Action::Stop(new[0])]);
    assert_eq!(machine.tell(SupervisorEvent::Reload), []);
    machine.exited(new[0]);
    assert_eq!(machine.exited(old[0]), [Action::Exit(0)]);
    assert_eq!(machine.generations.deadline(), None);
}

/// A machine with a delay before each stop, whose only worker serves.
fn delaying() -> (Machine, WorkerId) {
    let mut machine = Machine::new(1);
    machine.generations.settings.drain_delay = DELAY;
    let worker = spawned(&machine.tell(SupervisorEvent::Reload))[0];
    machine.ready(&[worker]);
    (machine, worker)
}

fn drains(worker: WorkerId) -> [Action; 3] {
    [Action::Close, Action::Log(Note::Stopping), Action::Drain(worker)]
}

#[test]
fn a_delayed_stop_serves_on_and_replaces_who_dies_meanwhile() {
    let (mut machine, worker) = delaying();
    assert_eq!(machine.tell(SupervisorEvent::Stop), [Action::Log(Note::StopsIn(DELAY))]);
    machine.tell(SupervisorEvent::WorkerExited(worker, SEGFAULT));
    let next = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    machine.ready(&[next]);
    let rest = DELAY.saturating_sub(RESPAWN_WAIT_MIN);
    assert_eq!(machine.generations.deadline(), Some(machine.now + rest));
    assert_eq!(machine.after(rest), drains(next));
    assert_eq!(machine.tell(SupervisorEvent::Stop), [Action::Kill(next)]);
}

#[test]
fn a_second_stop_ends_the_delay_and_a_third_kills() {
    let (mut machine, worker) = delaying();
    machine.tell(SupervisorEvent::Stop);
    assert_eq!(machine.tell(SupervisorEvent::Stop), drains(worker));
    assert_eq!(machine.tell(SupervisorEvent::Stop), [Action::Kill(worker)]);
}

#[test]
fn whoever_is_replaced_by_another_server_leaves_without_delay_and_closes_nothing() {
    let (mut machine, worker) = delaying();
    assert_eq!(machine.tell(SupervisorEvent::Leave), [Action::Log(Note::Stopping), Action::Drain(worker)]);
    assert_eq!(machine.tell(SupervisorEvent::Leave), []);
}

#[test]
fn a_server_that_never_served_stops_without_delay() {
    let mut machine = Machine::new(1);
    machine.generations.settings.drain_delay = DELAY;
    let worker = spawned(&machine.tell(SupervisorEvent::Reload))[0];
    let actions = machine.tell(SupervisorEvent::Stop);
    assert_eq!(actions, [Action::Close, Action::Log(Note::Stopping), Action::Stop(worker)]);
}

#[test]
fn a_second_stop_kills() {
    let (mut machine, workers) = Machine::serving(1);
    machine.tell(SupervisorEvent::Stop);
    assert_eq!(machine.tell(SupervisorEvent::Stop), [Action::Kill(workers[0])]);
    assert_eq!(machine.exited(workers[0]), [Action::Exit(0)]);
}

#[test]
fn a_process_that_survives_its_killing_is_given_up() {
    let (mut machine, workers) = Machine::serving(1);
    assert_eq!(machine.tell(SupervisorEvent::StopNow), [Action::Kill(workers[0])]);
    assert_eq!(machine.generations.deadline(), Some(machine.now + REAP_TIMEOUT));
    assert_eq!(machine.after(REAP_TIMEOUT), [Action::Exit(0)]);
}

fn replacement(farewell: Farewell) -> Replacement {
    Replacement { reason: "it is old".into(), farewell }
}

#[test]
fn a_replacement_accepts_before_the_worker_it_replaces_goes() {
    for farewell in [Farewell::Drain, Farewell::Kill] {
        let (mut machine, old) = Machine::serving(2);
        let actions = machine.tell(SupervisorEvent::Replace(old[1], replacement(farewell)));
        assert_eq!(actions, [Action::Log(Note::Replacing(old[1], "it is old".into()))]);
        assert_eq!(machine.tell(SupervisorEvent::Replace(old[1], replacement(farewell))), [], "said once");
        let actions = machine.after(RESPAWN_WAIT_MIN);
        let [Action::Spawn { id, generation: 1, slot: 1 }] = actions[..] else { panic!("not {actions:?}") };
        let goes = if farewell == Farewell::Drain { Action::Drain(old[1]) } else { Action::Kill(old[1]) };
        assert_eq!(machine.tell(SupervisorEvent::WorkerReady(id)), [Action::Accept(id), goes]);
        assert_eq!(machine.exited(old[1]), [], "it has a successor already");
    }
}

#[test]
fn a_worker_whose_replacement_fails_serves_on_until_another_is_ready() {
    let (mut machine, old) = Machine::serving(1);
    machine.tell(SupervisorEvent::Replace(old[0], replacement(Farewell::Drain)));
    let first = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    let actions = machine.tell(SupervisorEvent::WorkerFailed(first, failure("no app")));
    assert_eq!(
        actions,
        [Action::Log(Note::ReplacementFailed(first, failure("no app"))), Action::Stop(first)]
    );
    assert_eq!(machine.exited(first), []);
    let second = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    assert_eq!(
        machine.tell(SupervisorEvent::WorkerReady(second)),
        [Action::Accept(second), recovered(second), Action::Drain(old[0])]
    );
}

#[test]
fn a_worker_that_dies_while_its_successor_loads_leaves_it_the_slot() {
    let (mut machine, old) = Machine::serving(1);
    machine.tell(SupervisorEvent::Replace(old[0], replacement(Farewell::Drain)));
    let next = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    let actions = machine.tell(SupervisorEvent::WorkerExited(old[0], SEGFAULT));
    assert_eq!(actions, [Action::Log(Note::Died(old[0], SEGFAULT, None))]);
    assert_eq!(machine.after(DRAIN), []);
    assert_eq!(machine.tell(SupervisorEvent::WorkerReady(next)), [Action::Accept(next), recovered(next)]);
}

#[test]
fn processes_are_added_and_taken_away_one_by_one() {
    let (mut machine, old) = Machine::serving(2);
    machine.generations.settings.processes_max = 3;
    assert_eq!(machine.tell(SupervisorEvent::Grow), [Action::Log(Note::Resized(3))]);
    let third = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    assert_eq!(machine.tell(SupervisorEvent::WorkerReady(third)), [Action::Accept(third)]);
    assert_eq!(machine.tell(SupervisorEvent::Grow), [Action::Log(Note::NotResized(3))]);
    for (count, gone) in [(2, third), (1, old[1])] {
        let expected = [Action::Log(Note::Resized(count)), Action::Drain(gone)];
        assert_eq!(machine.tell(SupervisorEvent::Shrink), expected);
    }
    assert_eq!(machine.tell(SupervisorEvent::Shrink), [Action::Log(Note::NotResized(1))]);
    assert_eq!(
        spawned(&machine.tell(SupervisorEvent::Reload)).len(),
        1,
        "the next generation keeps the number"
    );
}

#[test]
fn the_last_worker_that_serves_is_not_taken_away() {
    let (mut machine, old) = Machine::serving(2);
    machine.tell(SupervisorEvent::WorkerExited(old[0], SEGFAULT));
    assert_eq!(machine.tell(SupervisorEvent::Shrink), [Action::Log(Note::Resized(1))]);
    let first = spawned(&machine.after(RESPAWN_WAIT_MIN))[0];
    assert_eq!(
        machine.tell(SupervisorEvent::WorkerReady(first)),
        [Action::Accept(first), recovered(first), Action::Drain(old[1])]
    );
}

#[test]
fn a_change_that_a_generation_has_seen_is_not_loaded_again() {
    let (mut machine, _) = Machine::serving(1);
    machine.now += Duration::from_secs(1);
    let at = machine.now;
    assert_eq!(spawned(&machine.tell(SupervisorEvent::Changed(at))).len(), 1);
    machine.now += Duration::from_millis(50);
    assert_eq!(machine.tell(SupervisorEvent::Changed(at)), [], "another worker saw the same burst");
    let later = machine.now;
    assert_eq!(spawned(&machine.tell(SupervisorEvent::Changed(later))).len(), 1);
}

#[test]
fn a_first_generation_that_fails_in_development_waits_for_a_change() {
    let settings = Machine::new(2).generations.settings;
    let mut machine = Machine::with(Settings { failures_watch: true, waits_for_first: true, ..settings });
    let workers = spawned(&machine.tell(SupervisorEvent::Reload));
    let actions = machine.tell(SupervisorEvent::WorkerFailed(workers[0], failure("no app")));
    let expected = [Action::Log(Note::GenerationFailed(1, failure("no app"))), Action::Stop(workers[1])];
    assert_eq!(actions, expected, "the worker that failed stays to watch");
    machine.exited(workers[1]);
    assert_eq!(machine.generations.deadline(), None);
    machine.now += Duration::from_secs(3600);
    let at = machine.now;
    let actions = machine.tell(SupervisorEvent::Changed(at));
    assert_eq!((actions[0].clone(), spawned(&actions).len()), (Action::Stop(workers[0]), 2));
}

#[test]
fn a_first_generation_that_dies_in_development_is_tried_again_and_again() {
    let settings = Machine::new(1).generations.settings;
    let mut machine = Machine::with(Settings { failures_watch: true, waits_for_first: true, ..settings });
    let mut worker = spawned(&machine.tell(SupervisorEvent::Reload))[0];
    let mut said = 0;
    for wait in [RESPAWN_WAIT_MIN, RESPAWN_WAIT_MIN * 2, RESPAWN_WAIT_MIN * 4] {
        said += machine.tell(SupervisorEvent::WorkerExited(worker, SEGFAULT)).len();
        assert_eq!(machine.generations.deadline(), Some(machine.now + wait));
        worker = spawned(&machine.after(wait))[0];
    }
    assert_eq!(said, 1, "the same reason is said once");
    assert!(machine.ready(&[worker]).contains(&Action::Log(Note::Serving(4))));
}
