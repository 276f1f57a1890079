//! Global units: who is told of them, and who is left alone.

use super::world::{World, file, machine, name, s};
use crate::{
    model::{
        Desired, Features, Key, MetadataEdits, Record, Revision, UnitRecord,
        features::{GLOBAL_PLACEMENTS, KEEPS_UNKNOWN},
    },
    unit::UnitName,
};

impl World {
    /// The machines that have an entry for a unit, and when it was written.
    fn entries(&self, unit: &UnitName) -> Vec<(u32, Revision)> {
        let entries = self.store.scheduled.iter().filter(|((_, name), _)| name == unit);
        let number = |id: &crate::model::MachineId| u32::from_str_radix(&id.as_str()[24..], 16).unwrap();
        entries.map(|((id, _), entry)| (number(id), entry.revision)).collect()
    }

    fn on(&self, unit: &UnitName) -> Vec<u32> {
        self.entries(unit).into_iter().map(|(number, _)| number).collect()
    }

    /// Decides until there is nothing more to do.
    fn settle(&mut self) {
        for _ in 0..20 {
            if self.pass() == 0 {
                return;
            }
        }
        panic!("it comes to no rest");
    }

    fn set_global(&mut self, unit: &UnitName, record: &UnitRecord) {
        self.write(&Key::Global(unit.clone()), Some(&record.encode()));
    }
}

fn global(section: &str) -> crate::unit::UnitFile {
    file(1, &format!("Global=true\n{section}"))
}

#[test]
fn each_machine_that_fits_is_told_once() {
    let (mut world, unit) = (World::of(2), name("g.service"));
    world.set_machine(3, "ssd");
    world.submit_global(&unit, &global("MachineMetadata=disk=ssd"), Desired::Launched);
    world.settle();
    assert_eq!(world.on(&unit), [3]);
    let entry = &world.store.scheduled[&(machine(3), unit.clone())].record;
    assert!(entry.global && entry.hash == world.store.globals[&unit].record.hash);
    world.set_machine(1, "ssd");
    world.set_machine(4, "ssd");
    world.set_edits(3, &MetadataEdits { edits: [("disk".into(), None)].into(), ..MetadataEdits::default() });
    world.settle();
    assert_eq!(world.on(&unit), [1, 4]);
    let before = world.store.revision;
    world.fail_over();
    world.settle();
    assert_eq!(world.store.revision, before, "another leader finds it as it should be");
    world.write(&Key::Global(unit.clone()), None);
    world.settle();
    assert!(world.on(&unit).is_empty());
}

#[test]
fn machine_that_is_away_is_left_alone_until_it_is_back_or_gone_for_good() {
    let (mut world, unit) = (World::of(3), name("g.service"));
    world.submit_global(&unit, &global(""), Desired::Launched);
    world.settle();
    let before = world.entries(&unit);
    for number in 1..=3 {
        world.lose_machine(number);
    }
    world.now += s(3600);
    world.pass();
    world.set_machine(1, "");
    world.pass();
    assert_eq!(world.entries(&unit), before, "nothing is written");
    // Changed while they are away.
    let restarted = world.store.globals[&unit].record.restarted();
    world.set_global(&unit, &restarted);
    world.settle();
    let after = world.entries(&unit);
    assert!(after[0].1 > before[0].1 && after[1..] == before[1..], "{after:?}");
    world.set_machine(2, "");
    world.settle();
    assert!(world.entries(&unit)[1].1 > before[1].1);
    world.set_edits(3, &MetadataEdits { evicted: true, ..MetadataEdits::default() });
    world.settle();
    assert_eq!(world.on(&unit), [1, 2]);
    assert!(!world.store.metadata[&machine(3)].record.evicted, "that is over");
    world.lose_machine(2);
    world.pass();
    world.now += s(24 * 3600 + 1);
    world.settle();
    assert_eq!(world.on(&unit), [1], "a day is enough");
    assert_eq!(world.decide().placement.wake_at, None, "nothing is left to be waited for");
    world.lose_machine(1);
    let inactive = UnitRecord { desired: Desired::Inactive, ..restarted };
    world.set_global(&unit, &inactive);
    world.settle();
    assert!(world.on(&unit).is_empty(), "what is not wanted is nowhere");
}

#[test]
fn ordinary_unit_goes_before_a_global_one_whichever_came_first() {
    for global_first in [true, false] {
        let (mut world, unit, ordinary) = (World::of(2), name("g.service"), name("web.service"));
        let submit = |world: &mut World, global_is_next: bool| {
            if global_is_next {
                world.submit_global(&unit, &global("Conflicts=web.service"), Desired::Launched);
            } else {
                world.submit(&ordinary, &file(1, "MachineID=00000000000000000000000000000001"), Desired::Launched);
            }
            world.settle();
        };
        submit(&mut world, global_first);
        submit(&mut world, !global_first);
        assert_eq!((world.on(&ordinary), world.on(&unit)), (vec![1], vec![2]), "global first: {global_first}");
        world.destroy(&ordinary);
        world.settle();
        assert_eq!(world.on(&unit), [1, 2]);
    }
    // Where it can, it leaves the global one alone.
    let (mut world, unit, ordinary) = (World::of(1), name("g.service"), name("web.service"));
    world.set_machine(2, "ssd");
    world.submit_global(&unit, &global("Conflicts=web.service\nMachineMetadata=disk="), Desired::Launched);
    world.submit(&name("a.service"), &file(1, "MachineMetadata=disk=ssd"), Desired::Launched);
    world.settle();
    world.submit(&ordinary, &file(1, ""), Desired::Launched);
    world.settle();
    assert_eq!((world.on(&ordinary), world.on(&unit)), (vec![2], vec![1]), "though the other has fewer units");
    world.lose_machine(2);
    world.set_edits(2, &MetadataEdits { evicted: true, ..MetadataEdits::default() });
    world.settle();
    assert_eq!((world.on(&ordinary), world.on(&unit)), (vec![1], vec![]), "it fits nowhere else");
}

#[test]
fn global_units_in_conflict_are_decided_by_name_also_when_one_goes() {
    let (mut world, a, b, c) = (World::of(2), name("a.service"), name("b.service"), name("c.service"));
    for (unit, section) in [(&c, "Conflicts=b.service"), (&b, "Conflicts=a.service"), (&a, "")] {
        world.submit_global(unit, &global(section), Desired::Launched);
        world.settle();
    }
    assert_eq!([&a, &b, &c].map(|unit| world.on(unit).len()), [2, 0, 2]);
    world.write(&Key::Global(a.clone()), None);
    world.settle();
    assert_eq!([&a, &b, &c].map(|unit| world.on(unit).len()), [0, 2, 0]);
}

#[test]
fn cluster_waits_for_the_last_host_that_decides_by_itself() {
    let (mut world, unit) = (World::of(2), name("g.service"));
    world.set_host(3, "", [KEEPS_UNKNOWN].into_iter().collect());
    world.submit_global(&unit, &global(""), Desired::Launched);
    world.settle();
    assert!(world.on(&unit).is_empty(), "no entries, so that nobody is led by half of them");
    assert!(!world.store.uses(GLOBAL_PLACEMENTS));
    world.set_machine(3, "");
    world.settle();
    assert_eq!(world.on(&unit), [1, 2, 3]);
    assert!(world.store.uses(GLOBAL_PLACEMENTS));
    let said = world.store.in_use[&()].revision;
    assert!(world.entries(&unit).iter().all(|(_, written)| *written < said), "the entries were there before");
    // One that joins later decides by itself; the others go on.
    world.set_host(4, "", Features::default());
    let changed = world.store.globals[&unit].record.restarted();
    world.set_global(&unit, &changed);
    world.settle();
    assert_eq!(world.on(&unit), [1, 2, 3]);
    assert!(world.entries(&unit).iter().all(|(_, written)| *written > said));
}

#[test]
fn use_is_not_begun_when_a_global_unit_has_changed_meanwhile() {
    let (mut world, unit) = (World::of(1), name("g.service"));
    let wanted = world.decide();
    let [change] = &wanted.in_use.changes[..] else { panic!("{:?}", wanted.in_use) };
    world.submit_global(&unit, &global(""), Desired::Launched);
    assert_eq!(world.commit(change), crate::control::Answer::Refused);
    world.settle();
    assert!(world.store.uses(GLOBAL_PLACEMENTS) && world.on(&unit) == [1]);
}

#[test]
fn restart_from_machine_to_machine_reaches_one_after_the_other() {
    let (mut world, unit) = (World::of(3), name("g.service"));
    world.submit_global(&unit, &global(""), Desired::Launched);
    world.settle();
    let restarted = world.store.globals[&unit].record.restarted();
    for last in 1..=3 {
        let before = world.entries(&unit);
        world.set_global(&unit, &UnitRecord { restarted_to: Some(Box::new(machine(last))), ..restarted.clone() });
        world.settle();
        let after = world.entries(&unit);
        let written = before.iter().zip(&after).filter(|(before, after)| before != after).map(|(_, after)| after.0);
        assert_eq!(written.collect::<Vec<_>>(), [last]);
    }
}

#[test]
fn many_entries_are_written_in_passes() {
    let (mut world, unit) = (World::of(5), name("g.service"));
    for number in 0..500 {
        world.submit_global(&name(&format!("g{number}.service")), &global(""), Desired::Launched);
    }
    let first = world.pass();
    assert!((1..2500).contains(&first), "{first}");
    world.submit(&unit, &file(1, ""), Desired::Launched);
    world.pass();
    assert_eq!(world.on(&unit).len(), 1, "an ordinary unit need not wait for all");
    world.settle();
    assert_eq!(world.store.scheduled.len(), 2501);
}
