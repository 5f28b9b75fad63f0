//! The scheduler in a world of chance: models of applications on one to eight executors and one to sixty-four threads,
//! as a seed decides; what their users would ask for is checked all the time. Then each fault that the scheduler once
//! had is put back, and must be noticed.
//!
//! A failing seed is printed; `SIMULATION_SEED=<n>` runs that one alone.

mod application;
mod world;

use application::Model;
use world::World;

use super::fault::{self, Fault};

const SEEDS_PER_MODEL: u64 = 150;

fn run(model: Model) {
    let only = std::env::var("SIMULATION_SEED").ok().map(|seed| seed.parse().unwrap());
    for seed in only.map_or(0..SEEDS_PER_MODEL, |seed| seed..seed + 1) {
        if let Err(broken) = World::new(model, seed).run() {
            panic!("{model:?}, seed {seed}: {broken}");
        }
    }
}

#[test]
fn what_computes_is_served_in_order_by_few_threads() {
    run(Model::Computing);
}

#[test]
fn what_blocks_gets_every_thread_that_helps() {
    run(Model::Blocking);
}

#[test]
fn what_computes_between_system_calls_starves_nobody() {
    run(Model::Convoy);
}

#[test]
fn short_requests_pass_long_ones_which_have_their_turn() {
    run(Model::Mixed);
}

#[test]
fn bursts_are_worked_off() {
    run(Model::Bursts);
}

#[test]
fn a_thread_that_is_stuck_for_ever_stops_nobody() {
    run(Model::Stuck);
}

#[test]
fn a_change_of_load_is_followed_within_twenty_milliseconds() {
    run(Model::Changing);
}

#[test]
fn no_more_threads_run_than_get_anywhere() {
    run(Model::Balanced);
}

#[test]
fn without_the_lock_every_core_is_used() {
    run(Model::Parallel);
}

#[test]
fn a_short_request_waits_behind_few_that_compute_for_long() {
    run(Model::Reports);
}

/// Of so many seeds one at least must show a fault.
fn is_noticed(fault: Fault, models: &[Model]) -> bool {
    fault::put_back(Some(fault));
    let mut worlds = models.iter().flat_map(|model| (0..SEEDS_PER_MODEL).map(|seed| (*model, seed)));
    let noticed = worlds.any(|(model, seed)| World::new(model, seed).run().is_err());
    fault::put_back(None);
    noticed
}

#[test]
fn the_cpu_of_sibling_executors_must_not_count() {
    assert!(is_noticed(Fault::SiblingsCount, &[Model::Blocking, Model::Changing]));
}

#[test]
fn not_every_executor_may_teach() {
    assert!(is_noticed(Fault::EveryExecutorTeaches, &[Model::Balanced]));
}

#[test]
fn no_request_may_be_put_behind_newer_ones() {
    assert!(is_noticed(Fault::OlderBehindNewer, &[Model::Mixed, Model::Stuck]));
}

#[test]
fn without_the_lock_one_core_is_not_all_there_is() {
    assert!(is_noticed(Fault::OneCoreIsFull, &[Model::Parallel]));
}

#[test]
fn not_all_that_computes_for_long_may_do_so_at_once() {
    assert!(is_noticed(Fault::EveryLongIsPassed, &[Model::Reports]));
}
