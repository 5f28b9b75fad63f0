//! Each limit by itself. What becomes of a verdict is in the simulation of generations.

use super::*;

const MIB: u64 = 1024 * 1024;
const SECOND: Duration = Duration::from_secs(1);

fn worker(number: u64) -> WorkerSample {
    WorkerSample {
        id: WorkerId::of_nobody(number),
        age: Duration::from_secs(1000),
        requests: 0,
        main_heartbeat_age: Duration::ZERO,
        executor_heartbeat_ages: vec![Duration::ZERO; 2],
        memory_bytes: None,
    }
}

/// What a judge of `limits` who has been looking every second for an hour says of `worker`.
fn judged(limits: WorkerLimits, worker: WorkerSample) -> Vec<LimitAction> {
    let (mut limit_check, began) = (LimitCheck::new(limits, 1), Instant::now());
    let mut now = began;
    while now < began + Duration::from_secs(3600) {
        assert_eq!(limit_check.look(&[], Unrest::None, None, now), []);
        now += limit_check.pause().unwrap_or(SECOND);
    }
    limit_check.look(&[worker], Unrest::None, None, now)
}

fn replaced(actions: &[LimitAction]) -> Option<(&str, Farewell)> {
    let [LimitAction::Replace(_, replacement)] = actions else { return None };
    Some((replacement.reason.as_str(), replacement.farewell))
}

fn stuck() -> WorkerLimits {
    WorkerLimits { stuck_timeout: Some(60 * SECOND), ..WorkerLimits::default() }
}

#[test]
fn without_limits_nobody_looks_and_nobody_goes() {
    let limit_check = LimitCheck::new(WorkerLimits::default(), 1);
    assert_eq!(limit_check.pause(), None);
    let silent = WorkerSample { main_heartbeat_age: 1000 * SECOND, requests: u64::MAX, ..worker(1) };
    assert_eq!(judged(WorkerLimits::default(), silent), []);
}

#[test]
fn an_idle_server_is_woken_no_more_than_it_must() {
    assert_eq!(LimitCheck::new(stuck(), 1).pause(), Some(15 * SECOND));
    let aged = WorkerLimits { age_max: Some(SECOND), ..stuck() };
    assert_eq!(LimitCheck::new(aged, 1).pause(), Some(SECOND));
}

#[test]
fn a_silent_main_thread_is_killed_once_replaced_and_a_silent_executor_drained() {
    let main = WorkerSample { main_heartbeat_age: 61 * SECOND, ..worker(1) };
    let (reason, farewell) = replaced(&judged(stuck(), main)).map(|it| (it.0.to_owned(), it.1)).unwrap();
    assert!(reason.starts_with("the main thread") && reason.contains("60 s (--stuck-timeout)"), "{reason}");
    assert_eq!(farewell, Farewell::Kill);
    let executor = WorkerSample { executor_heartbeat_ages: vec![SECOND, 61 * SECOND], ..worker(1) };
    let actions = judged(stuck(), executor);
    assert_eq!(
        replaced(&actions),
        Some(("executor 1 has had no heartbeat for 60 s (--stuck-timeout)", Farewell::Drain))
    );
    assert_eq!(judged(stuck(), WorkerSample { main_heartbeat_age: 60 * SECOND, ..worker(1) }), []);
    let neither = WorkerSample {
        main_heartbeat_age: 50 * SECOND,
        executor_heartbeat_ages: vec![70 * SECOND],
        ..worker(1)
    };
    assert_eq!(judged(stuck(), neither), [], "the executor was not woken");
    let newborn = WorkerSample { main_heartbeat_age: 61 * SECOND, age: SECOND, ..worker(1) };
    assert_eq!(judged(stuck(), newborn), [], "silence begins with service");
}

#[test]
fn after_a_suspension_everybody_has_time_to_show_life() {
    let (mut limit_check, mut now) = (LimitCheck::new(stuck(), 1), Instant::now());
    let silent = [WorkerSample { main_heartbeat_age: 1000 * SECOND, ..worker(1) }];
    for _ in 0..5 {
        assert_eq!(limit_check.look(&silent, Unrest::None, None, now), []);
        now += 3600 * SECOND;
    }
    now -= 3600 * SECOND;
    for _ in 0..4 {
        now += 15 * SECOND;
        assert_eq!(limit_check.look(&silent, Unrest::None, None, now), []);
    }
    now += 15 * SECOND;
    assert!(replaced(&limit_check.look(&silent, Unrest::None, None, now)).is_some(), "but not for ever");
}

#[test]
fn age_and_requests_have_a_jitter_within_bounds() {
    let by_age = WorkerLimits { age_max: Some(100 * SECOND), ..WorkerLimits::default() };
    let busy = WorkerLimits { requests_max: Some(100), requests_jitter: 50, ..WorkerLimits::default() };
    let (mut ages, mut counts) = (Vec::new(), Vec::new());
    for number in 0..200 {
        let goes = |limits: &WorkerLimits, worker: WorkerSample| {
            !LimitCheck::new(limits.clone(), 1).look(&[worker], Unrest::None, None, Instant::now()).is_empty()
        };
        let at = |seconds| WorkerSample { age: seconds * SECOND, ..worker(number) };
        let with = |requests| WorkerSample { requests, ..worker(number) };
        ages.push((0..200).find(|seconds| goes(&by_age, at(*seconds))).unwrap());
        counts.push((0..200).find(|requests| goes(&busy, with(*requests))).unwrap());
    }
    assert!(ages.iter().all(|age| (100..=110).contains(age)), "{ages:?}");
    assert!(counts.iter().all(|count| (100..=150).contains(count)), "{counts:?}");
    ages.sort_unstable();
    counts.sort_unstable();
    ages.dedup();
    counts.dedup();
    assert!(ages.len() > 5 && counts.len() > 25, "not all at once: {ages:?} {counts:?}");
}

#[test]
fn those_who_can_wait_go_one_at_a_time() {
    let limits = WorkerLimits { requests_max: Some(1), ..WorkerLimits::default() };
    let mut limit_check = LimitCheck::new(limits, 1);
    let workers = [1, 2, 3].map(|number| WorkerSample { requests: 5, ..worker(number) });
    let now = Instant::now();
    assert_eq!(limit_check.look(&workers, Unrest::Starting, None, now), []);
    let actions = limit_check.look(&workers, Unrest::Leaving, None, now);
    assert_eq!(replaced(&actions), Some(("it has had 5 requests (--max-requests)", Farewell::Drain)));
    let older = WorkerSample { age: 2000 * SECOND, ..workers[1].clone() };
    let id = older.id;
    let actions = limit_check.look(&[workers[0].clone(), older, workers[2].clone()], Unrest::None, None, now);
    assert!(matches!(&actions[..], [LimitAction::Replace(oldest, _)] if *oldest == id), "{actions:?}");
}

#[test]
fn one_worker_too_large_is_replaced_but_not_a_young_one() {
    let limits = WorkerLimits { worker_memory_bytes_max: Some(100 * MIB), ..WorkerLimits::default() };
    let large = WorkerSample { memory_bytes: Some(101 * MIB), ..worker(1) };
    let actions = judged(limits.clone(), large.clone());
    let expected = ("it has 101 MiB, more than 100 MiB (--max-worker-memory)", Farewell::Drain);
    assert_eq!(replaced(&actions), Some(expected));
    assert_eq!(judged(limits.clone(), WorkerSample { age: SECOND, ..large }), []);
    assert_eq!(judged(limits, WorkerSample { memory_bytes: Some(100 * MIB), ..worker(1) }), []);
}

#[test]
fn a_server_that_stays_too_large_reloads_ever_more_rarely() {
    let limits = WorkerLimits { memory_bytes_max: Some(100 * MIB), ..WorkerLimits::default() };
    let (mut limit_check, began) = (LimitCheck::new(limits, 1), Instant::now());
    let workers = [worker(1)];
    let mut reloads = |bytes: u64, seconds: std::ops::Range<u32>| -> Vec<u32> {
        let mut look =
            |second: u32| limit_check.look(&workers, Unrest::None, Some(bytes), began + second * SECOND);
        seconds.filter(|second| !look(*second).is_empty()).collect()
    };
    assert_eq!(reloads(101 * MIB, 0..100), [0, 5, 15, 35, 75]);
    assert!(reloads(100 * MIB, 100..200).is_empty());
    assert_eq!(reloads(101 * MIB, 200..206), [200, 205], "it was well in between");
}

#[test]
fn the_memory_of_those_who_leave_is_nobodys_fault() {
    let limits = WorkerLimits { memory_bytes_max: Some(100 * MIB), ..WorkerLimits::default() };
    let mut limit_check = LimitCheck::new(limits, 1);
    for unrest in [Unrest::Leaving, Unrest::Starting] {
        assert_eq!(limit_check.look(&[worker(1)], unrest, Some(200 * MIB), Instant::now()), []);
    }
}
