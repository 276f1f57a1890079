//! Which files are deleted, and when.

use super::world::{World, file, name, s};
use crate::{
    control::{Answer, Controller},
    model::{Desired::Launched, Key},
};

#[test]
fn file_goes_a_while_after_its_last_use() {
    let (mut world, old, new) = (World::of(1), file(5, ""), file(6, ""));
    world.submit(&name("a.service"), &old, Launched);
    world.submit(&name("b.service"), &old, Launched);
    world.run(2);
    world.submit(&name("a.service"), &new, Launched);
    world.run(90);
    assert_eq!(world.files.len(), 2, "the other one has it");
    world.destroy(&name("b.service"));
    world.run(58);
    assert_eq!(world.files.len(), 2, "it may come back");
    world.run(14);
    assert!(world.files.contains_key(&new.hash()) && world.files.len() == 1);
}

#[test]
fn file_that_went_out_of_use_while_nobody_led_goes_soon_after_the_next_leader_came() {
    let (mut world, left) = (World::of(1), file(5, ""));
    world.submit(&name("a.service"), &left, Launched);
    world.run(2);
    world.destroy(&name("a.service"));
    world.fail_over();
    world.run(60);
    assert_eq!(world.files.len(), 1);
    world.run(25);
    assert!(world.files.is_empty());
}

#[test]
fn file_that_came_and_went_unseen_is_found_in_the_end() {
    let mut world = World::of(1);
    world.run(30);
    world.submit(&name("a.service"), &file(5, ""), Launched);
    world.destroy(&name("a.service"));
    world.run(800);
    assert!(world.files.is_empty());
}

#[test]
fn file_that_is_submitted_again_while_it_is_being_deleted_stays() {
    let (mut world, file) = (World::of(1), file(5, ""));
    let unit = name("a.service");
    world.submit(&unit, &file, Launched);
    world.run(2);
    world.destroy(&unit);
    world.run(2);
    let deletion = (0..100).find_map(|_| {
        let mut wanted = world.decide().collection;
        if wanted.list {
            world.leader.collection.listed(Some(Vec::new()), world.now);
        }
        let change = wanted.changes.pop();
        world.now += s(1);
        change
    });
    let deletion = deletion.expect("it is to be deleted");
    world.submit(&unit, &file, Launched);
    assert_eq!(world.commit(&deletion), Answer::Refused);
    world.leader.collection.answered(&deletion, Answer::Refused, world.now);
    world.run(200);
    assert_eq!(world.files.len(), 1);
    world.destroy(&unit);
    world.run(90);
    assert!(world.files.is_empty(), "it is not forgotten for that");
}

#[test]
fn nothing_is_deleted_while_there_is_a_unit_that_cannot_be_read() {
    let (mut world, file) = (World::of(1), file(5, ""));
    let unit = name("a.service");
    world.submit(&unit, &file, Launched);
    world.run(2);
    world.destroy(&unit);
    let revision = world.store.revision + 1;
    let unreadable = Key::Unit(name("newer.service"));
    world.store.put(&unreadable, br#"{"v":2}"#, revision, world.now).unwrap_err();
    world.run(200);
    assert_eq!(world.files.len(), 1);
    world.write(&unreadable, None);
    world.run(2);
    assert!(world.files.is_empty(), "then it has been out of use for long");
}

#[test]
fn nothing_is_deleted_while_units_wait_to_be_placed() {
    let (mut world, file) = (World::of(1), file(5, ""));
    world.submit(&name("a.service"), &file, Launched);
    world.run(15);
    world.destroy(&name("a.service"));
    world.run(3);
    world.now += s(60);
    world.submit(&name("b.service"), &super::world::file(6, ""), Launched);
    let wanted = world.decide();
    assert!(!wanted.placement.changes.is_empty() && wanted.collection.changes.is_empty());
    for change in &wanted.placement.changes {
        let answer = world.commit(change);
        world.leader.placement.answered(change, answer, world.now);
    }
    assert!(!world.decide().collection.changes.is_empty());
}
