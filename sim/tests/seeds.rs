//! Seeds draw other scripts, and a script is the same story each time. They mean what they meant only when tokio can be
//! told its seed: run them with `make sim` or `make test`.

#![cfg(tokio_unstable)]

use fleet_sim::{Scenario, Script, play};

#[track_caller]
fn holds(scenario: Scenario, seed: u64) {
    let script = Script::draw(scenario, seed);
    let outcome = play(&script);
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    assert!(violations.is_empty(), "{scenario:?}, SEED={seed}: {violations:#?}\n{script}");
}

#[test]
fn script_is_the_same_story_each_time_also_when_it_was_text() {
    for seed in [3, 22, 39] {
        let script = Script::draw(Scenario::Faults, seed);
        let first = play(&script).record.story();
        assert!(first.len() > 50, "something happens");
        let read: Script = script.to_string().parse().unwrap();
        assert_eq!(first, play(&read).record.story(), "seed {seed}");
    }
}

#[test]
fn other_seeds_are_other_stories() {
    let story = |seed| play(&Script::draw(Scenario::Faults, seed)).record.story();
    assert_ne!(story(1), story(2));
}

#[test]
fn a_hundred_seeds_hold() {
    (1..=100).for_each(|seed| holds(Scenario::Faults, seed));
}

#[test]
fn elections_end_no_lease_and_stop_no_unit() {
    (1..=50).for_each(|seed| holds(Scenario::Elections, seed));
}
