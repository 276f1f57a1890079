//! Seeds, and the faults that some of them found. They mean what they meant only when tokio can be told its seed: run
//! them with `make sim` or `make test`.

#![cfg(tokio_unstable)]

use fleet_sim::{Scenario, run, run_as};

#[track_caller]
fn holds(seed: u64) {
    holds_as(Scenario::Faults, seed);
}

#[track_caller]
fn holds_as(scenario: Scenario, seed: u64) {
    let outcome = run_as(scenario, seed);
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{scenario:?}, SEED={seed}: {violations:#?}");
}

#[test]
fn same_seed_is_the_same_story() {
    for seed in [3, 22, 39] {
        let first = run(seed).record.story();
        assert!(first.len() > 50, "something happens");
        assert_eq!(first, run(seed).record.story(), "seed {seed}");
    }
}

#[test]
fn other_seeds_are_other_stories() {
    assert_ne!(run(1).record.story(), run(2).record.story());
}

#[test]
fn fleetd_that_ends_while_the_store_is_slow_keeps_its_fence_to_the_last() {
    holds(374);
    holds(557);
}

#[test]
fn strict_unit_that_the_fence_lets_through_after_the_look_at_systemd_is_started() {
    holds(399);
}

#[test]
fn candidate_that_a_frozen_store_elected_moves_nothing() {
    holds(418);
}

#[test]
fn placement_whose_answer_was_lost_is_not_made_a_second_time() {
    holds(11748);
}

#[test]
fn unit_whose_removal_was_cut_short_is_put_in_place_again() {
    holds(11202);
}

#[test]
fn host_that_leaves_takes_back_what_it_told_of_units_that_were_recalled() {
    holds(697);
}

#[test]
fn slow_watch_whose_history_was_compacted_on_the_way_misses_no_deletion() {
    holds(130_055);
}

#[test]
fn host_that_leaves_takes_back_what_it_told_of_a_unit_that_it_could_not_install() {
    holds(140_923);
}

#[test]
fn a_hundred_seeds_hold() {
    (1..=100).for_each(holds);
}

#[test]
fn elections_end_no_lease_and_stop_no_unit() {
    (1..=50).for_each(|seed| holds_as(Scenario::Elections, seed));
}
