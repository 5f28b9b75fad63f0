use super::*;

const SHORT: u64 = 1;
const LONG: u64 = 2;
/// What a thread had used before.
const CPU: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_micros(10);

fn class(number: u64) -> RequestClass {
    RequestClass::numbered(number)
}

/// All of the time a request took, it computed.
fn all(taken: Duration) -> Duration {
    taken
}

/// A queue of two threads that knows which class is long.
fn queue(now: Instant) -> (RunQueue<u32>, [Place; 2]) {
    let mut queue = RunQueue::new();
    let places = [queue.add_place(), queue.add_place()];
    for _ in 0..2 {
        queue.push(0, class(LONG), now);
        assert_eq!(queue.take(places[0], 1, now, CPU), Some(0));
        queue.leave(places[0], now + LONG_CLASS, all);
    }
    (queue, places)
}

fn drain(queue: &mut RunQueue<u32>, place: Place, now: Instant) -> Vec<u32> {
    std::iter::from_fn(|| {
        let taken = queue.take(place, 1, now, CPU);
        queue.leave(place, now + MOMENT, all);
        taken
    })
    .collect()
}

#[test]
fn first_come_is_first_served_while_no_long_one_is_worked_on() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    queue.push(1, class(SHORT), now);
    queue.push(2, class(LONG), now);
    queue.push(3, class(SHORT), now);
    assert_eq!(drain(&mut queue, places[0], now), [1, 2, 3]);
}

#[test]
fn short_ones_overtake_a_long_one_behind_another_that_is_worked_on() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for (item, number) in [(1, LONG), (2, LONG), (3, SHORT), (4, LONG), (5, SHORT)] {
        queue.push(item, class(number), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    assert_eq!(queue.takeable(1), 2);
    assert_eq!(drain(&mut queue, places[1], now), [3, 5]);
    assert_eq!((queue.len(), queue.takeable(1), queue.takeable(2)), (2, 0, 1));
    queue.leave(places[0], now + LONG_CLASS, all);
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(2));
}

#[test]
fn as_many_long_ones_run_as_get_anywhere() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    queue.push(1, class(LONG), now);
    queue.push(2, class(LONG), now);
    assert_eq!(queue.take(places[0], 2, now, CPU), Some(1));
    assert_eq!(queue.take(places[1], 2, now, CPU), Some(2));
}

#[test]
fn what_turns_out_to_be_short_is_not_held_back_any_more() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    queue.push(1, class(LONG), now);
    assert_eq!(drain(&mut queue, places[0], now), [1]);
    queue.push(2, class(LONG), now);
    queue.push(3, class(LONG), now);
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(2));
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(3));
}

#[test]
fn another_of_what_takes_long_now_is_held_back_until_that_has_ended() {
    let now = Instant::now();
    let mut queue = RunQueue::new();
    let places = [queue.add_place(), queue.add_place()];
    for (item, number) in [(1, LONG), (2, LONG), (3, SHORT)] {
        queue.push(item, class(number), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LONG_REQUEST, |_| CPU + LONG_REQUEST);
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(3));
    queue.push(4, class(LONG), now);
    queue.push(5, class(SHORT), now);
    assert_eq!(queue.takeable(1), 1);
    // It was not so long after all.
    queue.leave(places[0], now + LONG_REQUEST, all);
    assert_eq!(queue.takeable(1), 3);
    assert_eq!(drain(&mut queue, places[0], now), [2, 4, 5]);
}

#[test]
fn one_that_waits_for_long_is_overtaken_but_says_nothing_of_its_class() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for item in 0..=2 {
        queue.push(item, class(SHORT), now);
        assert_eq!(queue.take(places[0], 1, now, CPU), Some(item));
        queue.push(10, class(SHORT), now);
        queue.find_long(now + LONG_CLASS, |_| CPU + MOMENT);
        assert_eq!((queue.overtaken(), queue.takeable(0)), (1, 1), "another thread may take the next");
        assert_eq!(queue.take(places[1], 0, now, CPU), Some(10));
        queue.leave(places[1], now, all);
        queue.leave(places[0], now + LONG_CLASS, |_| MOMENT);
    }
    assert!(!queue.is_long(class(SHORT)));
    assert_eq!((queue.lasting, queue.long), (0, 0));
}

#[test]
fn one_that_took_long_once_is_not_held_back() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for taken in [LONG_CLASS, MOMENT, LONG_CLASS] {
        queue.push(0, class(SHORT), now);
        queue.take(places[0], 1, now, CPU);
        queue.leave(places[0], now + taken, all);
    }
    queue.push(1, class(LONG), now);
    queue.push(2, class(SHORT), now);
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(2));
}

#[test]
fn one_that_arrived_before_its_class_was_known_is_held_back_when_its_turn_comes() {
    let now = Instant::now();
    let mut queue = RunQueue::new();
    let places = [queue.add_place(), queue.add_place()];
    for item in 0..=3 {
        queue.push(item, class(LONG), now);
    }
    queue.push(4, class(SHORT), now);
    for item in 0..=1 {
        assert_eq!(queue.take(places[0], 1, now, CPU), Some(item));
        queue.leave(places[0], now + LONG_CLASS, all);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(2));
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(4));
    assert_eq!(queue.remove(|item| *item == 3), Some(3));
    assert_eq!(queue.len(), 0);
}

#[test]
fn only_a_thread_that_works_long_is_overtaken_and_only_by_what_is_probably_short() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for item in 0..50 {
        queue.push(item, class(SHORT), now);
    }
    drain(&mut queue, places[0], now);
    queue.push(1, class(3), now);
    queue.push(2, class(SHORT), now);
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    assert_eq!(queue.overtaken(), 0);
    queue.find_long(now + LONG_REQUEST, |_| CPU + LONG_REQUEST);
    assert_eq!(queue.overtaken(), 1);
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(2));
    assert_eq!(queue.overtaken(), 0, "nothing waits");
}

#[test]
fn a_single_thread_takes_everything_in_order() {
    let now = Instant::now();
    let mut queue = RunQueue::new();
    let place = queue.add_place();
    for _ in 0..=2 {
        queue.push(0, class(LONG), now);
        queue.take(place, 1, now, CPU);
        queue.leave(place, now + LONG_CLASS, all);
    }
    for (item, number) in [(1, LONG), (2, SHORT), (3, LONG)] {
        queue.push(item, class(number), now);
    }
    assert_eq!(drain(&mut queue, place, now), [1, 2, 3]);
}

#[test]
fn whatever_lasts_for_very_long_holds_back_nobody_any_more() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    // A third thread, for short ones.
    queue.add_place();
    for (item, number) in [(1, LONG), (2, LONG), (3, LONG)] {
        queue.push(item, class(number), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LASTING_MAX / 2, |_| CPU + LASTING_MAX / 2);
    assert_eq!((queue.overtaken(), queue.takeable(1)), (0, 0));
    queue.find_long(now + LASTING_MAX, |_| CPU + LASTING_MAX);
    assert_eq!((queue.overtaken(), queue.takeable(1)), (1, 1), "one more may run, and be long");
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(2));
    assert_eq!(queue.takeable(1), 0);
    queue.leave(places[0], now + LASTING_MAX * 2, all);
    queue.leave(places[1], now + LONG_CLASS, all);
    assert_eq!((queue.lasting, queue.long, queue.excused, queue.excused_long), (0, 0, 0, 0));
    assert_eq!(queue.takeable(1), 1);
}

#[test]
fn the_last_thread_is_for_short_ones_unless_a_long_one_has_waited_for_very_long() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for item in 1..=2 {
        queue.push(item, class(LONG), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LASTING_MAX, |_| CPU + LASTING_MAX);
    assert_eq!(queue.takeable(1), 0);
    queue.push(3, class(SHORT), now);
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(3));
    queue.leave(places[1], now + MOMENT, all);
    assert_eq!(queue.takeable(2), 1, "if two get anywhere, both may be long");
    queue.find_long(now + HELD_BACK_MAX, |_| CPU + HELD_BACK_MAX);
    assert_eq!(queue.take(places[1], 1, now, CPU), Some(2));
}

#[test]
fn one_that_is_excused_and_blocks_holds_back_nobody() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    for item in 1..=2 {
        queue.push(item, class(LONG), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LASTING_MAX, |_| CPU + LASTING_MAX);
    assert_eq!(queue.takeable(1), 0, "it computes");
    queue.find_long(now + LASTING_MAX * 2, |_| CPU + LASTING_MAX);
    assert_eq!((queue.takeable(1), queue.overtaken()), (1, 1), "it did not any more");
    queue.find_long(now + LASTING_MAX * 3, |_| CPU + LASTING_MAX * 2);
    assert_eq!(queue.takeable(1), 0, "it does again");
    queue.leave(places[0], now + LASTING_MAX * 4, all);
    assert_eq!((queue.long, queue.excused, queue.excused_long), (0, 0, 0));
}

#[test]
fn one_that_blocks_for_very_long_does_not_count_as_running() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    queue.push(1, class(SHORT), now);
    queue.take(places[0], 1, now, CPU);
    queue.find_long(now + LASTING_MAX, |_| CPU);
    assert_eq!((queue.overtaken(), queue.long), (1, 0));
}

#[test]
fn one_that_turns_out_to_be_long_keeps_its_place_before_newer_ones() {
    let now = Instant::now();
    let mut queue = RunQueue::new();
    let places = [queue.add_place(), queue.add_place()];
    for item in [1, 2, 3] {
        queue.push(item, class(LONG), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LONG_REQUEST, |_| CPU + LONG_REQUEST);
    queue.push(4, class(LONG), now);
    assert_eq!(queue.take(places[1], 1, now, CPU), None, "all are held back");
    let order: Vec<u32> = std::iter::from_fn(|| {
        queue.leave(places[0], now + LONG_CLASS, all);
        queue.take(places[0], 1, now, CPU)
    })
    .collect();
    assert_eq!(order, [2, 3, 4]);
}

#[test]
fn a_class_that_is_long_no_more_keeps_its_order_whoever_found_that_out() {
    let now = Instant::now();
    let mut queue = RunQueue::new();
    let places = [queue.add_place(), queue.add_place(), queue.add_place()];
    // One that was taken before its class was known ends while another class is long, too.
    queue.push(1, class(LONG), now);
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    for (item, number) in [(0, LONG), (0, LONG), (0, 3), (0, 3)] {
        queue.push(item, class(number), now);
        queue.take(places[1], 9, now, CPU);
        queue.leave(places[1], now + LONG_CLASS, all);
    }
    queue.push(2, class(3), now);
    assert_eq!(queue.take(places[2], 1, now, CPU), Some(2));
    queue.push(3, class(LONG), now);
    assert_eq!(queue.takeable(1), 0);
    queue.leave(places[0], now + MOMENT, all);
    queue.push(4, class(LONG), now);
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(3));
}

#[test]
fn of_those_that_compute_on_one_is_passed_until_another_has_waited_for_very_long() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    let third = queue.add_place();
    let fourth = queue.add_place();
    for item in 1..=4 {
        queue.push(item, class(LONG), now);
    }
    let computes = |at| CPU + at;
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LASTING_MAX, |_| computes(LASTING_MAX));
    assert_eq!(queue.take(places[1], 1, now + LASTING_MAX, CPU), Some(2));
    queue.find_long(now + LASTING_MAX * 2, |_| computes(LASTING_MAX * 2));
    assert_eq!((queue.excused_long, queue.takeable(1)), (2, 0), "both compute");
    queue.push(5, class(SHORT), now);
    assert_eq!(queue.take(third, 1, now + LASTING_MAX * 2, CPU), Some(5));
    queue.leave(third, now + LASTING_MAX * 2 + MOMENT, all);
    queue.find_long(now + HELD_BACK_MAX, |_| computes(HELD_BACK_MAX));
    assert_eq!(queue.take(third, 1, now + HELD_BACK_MAX, CPU), Some(3));
    queue.find_long(now + HELD_BACK_MAX + LASTING_MAX, |_| computes(HELD_BACK_MAX + LASTING_MAX));
    assert_eq!(queue.take(fourth, 1, now + HELD_BACK_MAX + LASTING_MAX, CPU), Some(4), "the last thread");
    queue.leave(places[0], now + HELD_BACK_MAX * 2, all);
    assert_eq!((queue.long, queue.excused_long), (3, 2));
}

#[test]
fn beside_two_that_block_another_may_begin() {
    let now = Instant::now();
    let (mut queue, places) = queue(now);
    queue.add_place();
    queue.add_place();
    for item in 1..=3 {
        queue.push(item, class(LONG), now);
    }
    assert_eq!(queue.take(places[0], 1, now, CPU), Some(1));
    queue.find_long(now + LASTING_MAX, |_| CPU + LASTING_MAX);
    assert_eq!(queue.take(places[1], 1, now + LASTING_MAX, CPU), Some(2));
    queue.find_long(now + LASTING_MAX * 2, |_| CPU + LASTING_MAX);
    queue.find_long(now + LASTING_MAX * 3, |_| CPU + LASTING_MAX);
    assert_eq!(
        (queue.excused, queue.excused_long, queue.takeable(1)),
        (2, 0, 1),
        "neither computes any more"
    );
}
