//! What is shown of what is held back.

use super::world::{World, file, machine, name, s};
use crate::{
    control::{Answer, Controller},
    model::{Desired::Launched, HeldRecord, Key, Record},
    ops::Write,
};

fn shown(world: &mut World) -> Option<HeldRecord> {
    let wanted = world.decide().held.changes;
    let change = wanted.first()?;
    world.leader.held.answered(change, Answer::Done, world.now);
    match &*change.set.writes {
        [Write::Put(Key::Held, value)] => Some(HeldRecord::decode(value).unwrap()),
        [Write::Delete(Key::Held)] => Some(HeldRecord::default()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn machines_that_vanish_together_and_their_strict_units_are_shown_until_they_are_let_go() {
    let mut world = World::of(6);
    let units: Vec<_> = (1..=6).map(|n| name(&format!("s{n}.service"))).collect();
    units.iter().for_each(|unit| world.submit(unit, &file(300, "OnPartition=stop"), Launched));
    world.run(2);
    assert_eq!(shown(&mut world), None, "it is known that there is nothing");
    (1..=5).for_each(|number| world.lose_machine(number));
    let held = shown(&mut world).expect("there is news");
    assert_eq!((held.machines.len(), held.units.len()), (5, 5));
    assert!(held.units.iter().all(|unit| unit.until > held.machines[0].until), "{held:?}");
    assert_eq!(shown(&mut world), None, "nothing is written twice");
    (1..=5).for_each(|number| world.set_machine(number, ""));
    assert_eq!(shown(&mut world), Some(HeldRecord::default()));
}

#[test]
fn what_the_store_did_not_take_is_written_again_after_a_while() {
    let mut world = World::of(6);
    world.submit(&name("a.service"), &file(5, ""), Launched);
    world.run(2);
    (1..=5).for_each(|number| world.lose_machine(number));
    let wanted = world.decide().held;
    assert!(world.decide().held.changes.is_empty(), "it is under way");
    world.leader.held.answered(&wanted.changes[0], Answer::Unknown, world.now);
    let pause = world.decide().held;
    assert_eq!((pause.changes.len(), pause.wake_at), (0, Some(world.now + s(1))));
    world.now += s(1);
    let held = shown(&mut world).expect("it is tried again");
    assert_eq!(held.machines[0].id, machine(1));
}
