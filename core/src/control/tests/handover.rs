//! How units get from one machine to another: case by case, and in random histories.

use std::time::Duration;

use proptest::{collection::vec, prelude::*};

use super::world::{World, file, machine, name, s};
use crate::{
    control::{Answer, Controller},
    model::{
        Desired::{self, Inactive, Launched},
        Key, MachineId, MachineRecord, MetadataEdits, Record, Snapshot, Target, Task,
    },
    ops::Write,
    sched::Copies,
    unit::{UnitFile, UnitName},
};

const STRICT: &str = "OnPartition=stop";
const RUN: Task = Task::Run(Target::Launched);
const RECALL: Task = Task::Recall;

fn unit() -> UnitName {
    name("s.service")
}

/// Two machines, and a unit that runs on the first.
fn with(file: &UnitFile) -> World {
    let mut world = World::of(2);
    world.submit(&unit(), file, Launched);
    world.run(2);
    assert_eq!(world.places(&unit()), [(1, RUN)]);
    world
}

#[test]
fn strict_unit_is_recalled_before_it_goes_elsewhere() {
    let mut world = with(&file(5, STRICT));
    world.drain(1, true);
    world.wait(100);
    assert_eq!(world.places(&unit()), [(1, RECALL)], "its machine has not answered");
    world.fail_over();
    world.wait(20);
    assert_eq!(world.places(&unit()), [(1, RECALL)], "nor has it told another leader");
    world.run(3);
    assert_eq!(world.places(&unit()), [(2, RUN)]);
}

#[test]
fn strict_unit_of_a_machine_that_is_gone_is_waited_for_as_it_is_scheduled() {
    for new in [file(5, STRICT), file(5, "")] {
        let mut world = with(&file(300, STRICT));
        world.lose_machine(1);
        world.wait(1);
        world.submit(&unit(), &new, Launched);
        world.wait(298);
        assert_eq!(world.places(&unit()), [(1, RUN)], "it may still be stopping");
        world.wait(3);
        assert_eq!(world.places(&unit()), [(2, RUN)]);
    }
}

#[test]
fn machine_that_has_left_has_nothing_running() {
    let mut world = with(&file(300, STRICT));
    let leaving = MachineRecord { leaving: true, ..(*world.store.machines[&machine(1)].record).clone() };
    world.write(&Key::Machine(machine(1)), Some(&leaving.encode()));
    world.lose_machine(1);
    world.wait(1);
    assert_eq!(world.places(&unit()), [(2, RUN)]);
}

#[test]
fn unit_that_is_to_stop_sooner_is_down_before_it_is_told_so() {
    for new in [file(5, STRICT), file(5, "")] {
        let mut world = with(&file(300, STRICT));
        world.submit(&unit(), &new, Launched);
        world.wait(5);
        assert_eq!(world.places(&unit()), [(1, RECALL)], "the machine may not have read it yet");
        world.run(3);
        assert_eq!(world.places(&unit()), [(1, RUN)], "it stays where it was");
        assert_eq!(world.store.scheduled[&(machine(1), unit())].record.hash, new.hash());
    }
}

#[test]
fn unit_that_is_to_stop_later_is_told_at_once() {
    let mut world = with(&file(5, STRICT));
    world.submit(&unit(), &file(300, STRICT), Launched);
    assert_eq!(world.pass(), 1);
    assert_eq!(world.store.scheduled[&(machine(1), unit())].record.hash, file(300, STRICT).hash());
}

#[test]
fn machine_is_told_of_new_contents_once_their_file_is_there() {
    let (old, new) = (file(5, ""), file(6, ""));
    let mut world = with(&old);
    world.want(&unit(), new.hash());
    world.wait(5);
    let scheduled = |world: &World| world.store.scheduled[&(machine(1), unit())].record.hash;
    assert_eq!(scheduled(&world), old.hash(), "nobody knows what it asks for");
    world.submit(&name("other.service"), &new, Inactive);
    world.wait(1);
    assert_eq!(scheduled(&world), new.hash());
}

#[test]
fn drained_machine_keeps_its_copy_until_the_new_one_runs_or_patience_is_over() {
    let mut world = with(&file(5, ""));
    world.drain(1, true);
    world.wait(58);
    assert_eq!(world.places(&unit()), [(1, RUN), (2, RUN)]);
    let mut patient = with(&file(5, ""));
    patient.drain(1, true);
    patient.run(2);
    assert_eq!(patient.places(&unit()), [(2, RUN)], "the new one runs");
    world.wait(4);
    assert_eq!(world.places(&unit()), [(2, RUN)], "patience is over");
}

#[test]
fn evicted_machine_is_not_waited_for_and_its_eviction_ends() {
    let mut world = with(&file(300, STRICT));
    world.lose_machine(1);
    world.set_edits(1, &MetadataEdits { evicted: true, drain: true, ..MetadataEdits::default() });
    world.wait(2);
    assert_eq!(world.places(&unit()), [(2, RUN)]);
    let edits = &world.store.metadata[&machine(1)].record;
    assert!(edits.drain && !edits.evicted, "and nothing else of what is said of the machine: {edits:?}");
}

#[test]
fn what_was_refused_is_decided_again() {
    let mut world = with(&file(5, ""));
    world.lose_machine(1);
    world.pass();
    world.now += s(2);
    let wanted = world.decide();
    let [change] = &*wanted.placement.changes else { panic!("{:?}", wanted.placement) };
    world.set_machine(1, "");
    assert_eq!(world.commit(change), Answer::Refused, "it is back");
    world.leader.placement.answered(change, Answer::Refused, world.now);
    assert_eq!(world.pass(), 0, "and keeps the unit");
    assert_eq!(world.places(&unit()), [(1, RUN)]);
}

#[derive(Clone, Debug)]
enum Event {
    Lose(u32),
    Back(u32),
    Drain(u32, bool),
    Submit(usize, usize, Desired),
    Destroy(usize),
    Agents(u8),
    Pass,
    /// Something happens between a decision and its writes, some of which get lost.
    Meddled(Box<Event>, u8),
    Time(u64),
    FailOver,
}

const UNITS: [&str; 4] = ["s1.service", "s2.service", "v.service", "w.service"];

fn files() -> [UnitFile; 4] {
    [file(5, STRICT), file(5, "OnPartition=stop\nConflicts=s1.service"), file(30, STRICT), file(5, "")]
}

/// Strict units stay strict with the same contents, others change.
fn contents(unit: usize, choice: usize) -> UnitFile {
    let choice = if unit < 2 { unit } else { choice };
    files()[choice].clone()
}

fn simple() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => (1..5u32).prop_map(Event::Lose),
        2 => (1..5u32).prop_map(Event::Back),
        1 => (1..5u32, any::<bool>()).prop_map(|(machine, drain)| Event::Drain(machine, drain)),
        3 => (0..4usize, 0..4usize, any::<bool>()).prop_map(|(unit, contents, wanted)| {
            Event::Submit(unit, contents, if wanted { Launched } else { Inactive })
        }),
        1 => (0..4usize).prop_map(Event::Destroy),
        3 => any::<u8>().prop_map(Event::Agents),
        1 => (1..40u64).prop_map(Event::Time),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => simple(),
        4 => Just(Event::Pass),
        2 => (simple(), any::<u8>()).prop_map(|(event, lost)| Event::Meddled(Box::new(event), lost)),
        1 => Just(Event::FailOver),
    ]
}

fn happen(world: &mut World, event: &Event) {
    match event {
        Event::Lose(number) => world.lose_machine(*number),
        Event::Back(number) if world.gone.contains_key(&machine(*number)) => world.set_machine(*number, ""),
        Event::Back(_) => {}
        Event::Drain(number, drain) => world.drain(*number, *drain),
        Event::Submit(unit, choice, desired) => {
            world.submit(&name(UNITS[*unit]), &contents(*unit, *choice), *desired);
        }
        Event::Destroy(unit) => world.destroy(&name(UNITS[*unit])),
        Event::Agents(slow) => world.agents(|number| slow & (1 << number) == 0),
        Event::Time(seconds) => world.now += s(*seconds),
        Event::FailOver => world.fail_over(),
        Event::Pass => pass(world, None),
        Event::Meddled(event, lost) => pass(world, Some((event, *lost))),
    }
}

/// Decides once, and carries it out while something happens, and checks each write.
fn pass(world: &mut World, meddling: Option<(&Event, u8)>) {
    let wanted = world.decide();
    if let Some((event, _)) = meddling {
        happen(world, event);
    }
    let lost = meddling.map_or(0, |(_, lost)| lost);
    for (place, change) in wanted.placement.changes.iter().enumerate() {
        let answer = if lost & (1 << (place % 8)) == 0 {
            let before = world.store.clone();
            let answer = world.commit(change);
            if answer == Answer::Done {
                change.set.writes.iter().for_each(|write| check(world, &before, write));
            }
            answer
        } else {
            Answer::Unknown
        };
        world.leader.placement.answered(change, answer, world.now);
    }
    for change in &wanted.evictions.changes {
        world.commit(change);
    }
}

/// No entry goes, or gets contents by which its copy would seem to be down sooner, before that copy is down.
fn check(world: &World, before: &Snapshot, write: &Write) {
    let Key::Sched(on, unit) = write.key() else { panic!("{write:?}") };
    let place = (on.clone(), unit.clone());
    if unit.as_str().starts_with('s') {
        let entries = world.places(unit);
        assert!(entries.len() <= 1, "{unit} is on {entries:?}");
    }
    let Some(old) = before.scheduled.get(&place) else { return };
    let rule = world.copies(unit, old.record.hash);
    let Copies::One(bound) = rule else { return };
    let new = world.store.scheduled.get(&place);
    let loses = new.is_none_or(|new| world.copies(unit, new.record.hash).is_weaker_than(rule));
    let released = world.released.contains(&(on.clone(), unit.clone(), old.revision));
    let down = released || is_over(world, on, bound);
    assert!(!loses || down, "{unit} may still run on {on}: {old:?}, then {new:?}");
}

fn is_over(world: &World, machine: &MachineId, bound: Option<Duration>) -> bool {
    world.gone.get(machine).zip(bound).is_some_and(|(since, bound)| world.now >= *since + bound)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_unit_is_handed_over_while_it_may_run_and_all_come_to_rest(events in vec(event(), 1..120)) {
        let mut world = World::of(4);
        for (number, unit) in UNITS.iter().enumerate() {
            world.submit(&name(unit), &contents(number, 3), Launched);
        }
        for event in &events {
            happen(&mut world, event);
        }
        for number in 1..5 {
            happen(&mut world, &Event::Back(number));
            world.drain(number, false);
        }
        for (number, unit) in UNITS.iter().enumerate() {
            world.submit(&name(unit), &contents(number, 3), Launched);
        }
        for _ in 0..100 {
            world.agents(|_| true);
            pass(&mut world, None);
            world.now += s(1);
        }
        for unit in UNITS {
            let places = world.places(&name(unit));
            prop_assert!(matches!(&*places, [(_, Task::Run(Target::Launched))]), "{} is on {:?}", unit, places);
        }
        prop_assert_eq!(world.decide().placement.changes, []);
    }
}
