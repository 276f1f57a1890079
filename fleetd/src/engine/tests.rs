//! An engine on a store in memory, and agents that say what the tests have them say.

mod handover;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{
        Desired::{self, Inactive, Launched},
        HeldRecord, Key, MetadataEdits, Placement, Record, UnitRecord,
    },
    unit::{UnitFile, UnitHash, UnitName},
};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::world::{World, file, machine, name, number, state};
use super::Engine;
use crate::{
    membership::Registration,
    registry::{
        LeaseId, Revision,
        memory::{Condition, Faults},
    },
};

/// What `sched/` says of a unit: on which machine, what, with which contents.
type Placements = BTreeMap<u32, (Desired, UnitHash)>;

/// The cluster with one unit.
impl World {
    fn submit(&self, file: &UnitFile) {
        self.set_unit(&unit(), file, Some(Launched));
    }

    fn want(&self, hash: UnitHash) {
        self.write(&Key::Unit(unit()), Some(UnitRecord::new(hash, Launched, 0).encode()));
    }

    fn place(&self, number: u32, hash: UnitHash) {
        let record = UnitRecord::new(hash, Launched, 0);
        self.write(&Key::Sched(machine(number), unit()), Some(record.encode()));
    }

    fn say(&self, number: u32, hash: UnitHash, active: &str, released: Option<Revision>) {
        self.write(&Key::State(machine(number), unit()), Some(state(hash, active, released).encode()));
    }

    /// The machine has given the unit up, as it was told.
    fn release(&self, number: u32, hash: UnitHash) {
        let key = self.keys.format(&Key::Sched(machine(number), unit()));
        let recall = self.store.entries(&(key.clone(), format!("{key}\0"))).remove(0);
        assert_eq!(UnitRecord::decode(&recall.value).unwrap().desired, Inactive);
        self.say(number, hash, "inactive", Some(recall.mod_revision));
    }

    fn placements(&self) -> Placements {
        let placed = self.read("sched/").into_iter().map(|(key, stored)| match key {
            Key::Sched(on, _) => {
                let record = UnitRecord::decode(&stored.value).unwrap();
                (number(&on), (record.desired, record.hash))
            }
            key => panic!("{key:?} is no placement"),
        });
        placed.collect()
    }
}

/// Two machines.
fn two() -> World {
    let world = World::new(1);
    (1..=2).for_each(|number| world.set_machine(number, ""));
    world
}

fn unit() -> UnitName {
    name("s.service")
}

fn on(number: u32, desired: Desired, file: &UnitFile) -> Placements {
    [(number, (desired, file.hash()))].into()
}

const STRICT: &str = "OnPartition=stop";

#[tokio::test(start_paused = true)]
async fn strict_unit_that_was_changed_while_its_machine_is_gone_is_waited_for_as_it_was() {
    for new in [file(5, STRICT), file(5, "")] {
        let (mut world, old) = (two(), file(300, STRICT));
        world.submit(&old);
        world.place(1, old.hash());
        world.lead().await;
        world.lose_machine(1);
        world.pass(1).await;
        world.submit(&new);
        world.pass(200).await;
        assert_eq!(world.placements(), on(1, Launched, &old), "it may still be stopping");
        world.pass(150).await;
        assert_eq!(world.placements(), on(2, Launched, &new));
    }
}

#[tokio::test(start_paused = true)]
async fn machine_that_is_back_is_told_what_changed_meanwhile() {
    let (mut world, old, new) = (two(), file(5, STRICT), file(300, STRICT));
    world.submit(&old);
    world.place(1, old.hash());
    world.lead().await;
    world.lose_machine(1);
    world.pass(1).await;
    world.submit(&new);
    world.pass(1).await;
    assert_eq!(world.placements(), on(1, Launched, &old));
    world.set_machine(1, "");
    world.pass(2).await;
    assert_eq!(world.placements(), on(1, Launched, &new));
}

#[tokio::test(start_paused = true)]
async fn unit_that_is_to_stop_sooner_or_is_strict_no_more_is_down_before_it_is_changed() {
    for new in [file(5, STRICT), file(5, "")] {
        let (mut world, old) = (two(), file(300, STRICT));
        world.submit(&old);
        world.place(1, old.hash());
        world.lead().await;
        world.submit(&new);
        world.pass(5).await;
        assert_eq!(world.placements(), on(1, Inactive, &old), "the machine may not have read it yet");
        world.fail_over().await;
        assert_eq!(world.placements(), on(1, Inactive, &old));
        world.release(1, old.hash());
        world.pass(5).await;
        assert_eq!(world.placements(), on(1, Launched, &new), "it stays where it was");
    }
}

#[tokio::test(start_paused = true)]
async fn unit_that_fits_no_more_after_it_was_told_to_stop_goes_elsewhere() {
    let (mut world, old, new) = (two(), file(300, STRICT), file(5, "OnPartition=stop\nMachineMetadata=disk=ssd"));
    world.submit(&old);
    world.place(1, old.hash());
    world.lead().await;
    world.set_machine(2, "ssd");
    world.submit(&new);
    world.pass(5).await;
    world.release(1, old.hash());
    world.pass(5).await;
    assert_eq!(world.placements(), on(2, Launched, &new));
}

#[tokio::test(start_paused = true)]
async fn unit_that_becomes_strict_and_moves_stops_before_it_starts_elsewhere() {
    let (mut world, old, new) = (two(), file(5, ""), file(5, "OnPartition=stop\nMachineMetadata=disk=ssd"));
    world.submit(&old);
    world.place(1, old.hash());
    world.set_machine(2, "ssd");
    world.lead().await;
    world.submit(&new);
    world.pass(90).await;
    assert_eq!(world.placements(), on(1, Inactive, &old));
    world.release(1, old.hash());
    world.pass(5).await;
    assert_eq!(world.placements(), on(2, Launched, &new));
}

#[tokio::test(start_paused = true)]
async fn unit_whose_file_is_missing_is_left_alone_by_a_new_leader() {
    let (mut world, file) = (two(), file(5, "MachineMetadata=disk=ssd"));
    world.want(file.hash());
    world.place(1, file.hash());
    world.lead().await;
    world.pass(60).await;
    assert_eq!(world.placements(), on(1, Launched, &file));
    world.set_machine(2, "ssd");
    world.write(&Key::File(file.hash()), Some(file.canonical().into_bytes()));
    world.pass(60).await;
    assert_eq!(world.placements(), on(2, Launched, &file), "as soon as it is there, it counts");
}

#[tokio::test(start_paused = true)]
async fn recall_of_a_unit_that_has_become_global_is_over_at_once() {
    let (mut world, file) = (two(), file(5, STRICT));
    world.submit(&file);
    world.place(1, file.hash());
    world.place(2, file.hash());
    world.lead().await;
    assert!(world.placements().values().any(|(desired, _)| *desired == Inactive));
    let record = UnitRecord::new(file.hash(), Launched, 0);
    world.write(&Key::Unit(unit()), None);
    world.write(&Key::Global(unit()), Some(record.encode()));
    world.pass(5).await;
    assert_eq!(world.placements(), Placements::new());
}

#[tokio::test(start_paused = true)]
async fn old_copy_stays_while_the_machine_of_the_new_one_is_away() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    world.place(1, file.hash());
    world.lead().await;
    world.say(1, file.hash(), "active", None);
    // So many vanish that they are held for a while.
    (3..=6).for_each(|number| world.set_machine(number, ""));
    world.set_drained(1, true);
    world.pass(5).await;
    let both = world.placements();
    assert_eq!(both.len(), 2);
    (2..=6).for_each(|number| world.lose_machine(number));
    world.pass(15).await;
    assert_eq!(world.placements(), both);
    (2..=6).for_each(|number| world.set_machine(number, ""));
    world.pass(50).await;
    assert_eq!(world.placements(), both, "patience begins when it is back");
    world.pass(20).await;
    assert_eq!(world.placements().len(), 1);
    assert!(!world.placements().contains_key(&1));
}

#[tokio::test(start_paused = true)]
async fn end_of_a_drain_leaves_the_copy_that_runs_until_the_other_one_does() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    // Of two that may stay, the one on the machine with the least ID does.
    world.place(2, file.hash());
    world.set_machine(2, "");
    world.lead().await;
    world.say(2, file.hash(), "active", None);
    world.set_drained(2, true);
    world.pass(5).await;
    assert_eq!(world.placements().len(), 2);
    world.set_drained(2, false);
    world.pass(5).await;
    assert_eq!(world.placements().len(), 2, "the new copy does not run yet");
    world.fail_over().await;
    assert_eq!(world.placements().len(), 2, "another leader sees that, too");
    world.say(1, file.hash(), "active", None);
    world.pass(5).await;
    assert_eq!(world.placements(), on(1, Launched, &file));
}

#[tokio::test(start_paused = true)]
async fn strict_unit_of_a_machine_that_is_held_is_said_to_wait_for_both() {
    let (mut world, file) = (two(), file(300, STRICT));
    (3..=6).for_each(|number| world.set_machine(number, ""));
    world.submit(&file);
    world.place(1, file.hash());
    world.lead().await;
    (1..=5).for_each(|number| world.lose_machine(number));
    world.pass(5).await;
    let held = world.store.entries(&world.keys.one(&Key::Held)).remove(0);
    let held = HeldRecord::decode(&held.value).unwrap();
    let machine = held.machines.iter().find(|held| held.id == machine(1)).unwrap();
    assert_eq!(held.units.len(), 1);
    assert!(held.units[0].until > machine.until, "{held:?}");
}

#[tokio::test(start_paused = true)]
async fn eviction_of_a_machine_that_is_back_but_cannot_be_read_is_over() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    world.place(2, file.hash());
    let edits = MetadataEdits { evicted: true, ..MetadataEdits::default() };
    world.write(&Key::Machine(machine(2)), Some(b"{".to_vec()));
    world.write(&Key::Metadata(machine(2)), Some(edits.encode()));
    world.lead().await;
    let entries = world.store.entries(&world.keys.under("metadata/"));
    assert!(entries.iter().all(|stored| !MetadataEdits::decode(&stored.value).unwrap().evicted));
    assert_eq!(world.placements(), on(2, Launched, &file), "nobody knows whether it may move");
}

#[tokio::test(start_paused = true)]
async fn members_that_the_engine_does_not_know_stay_in_what_it_rewrites() {
    let (mut world, old, new) = (two(), file(5, ""), file(6, ""));
    let later = |value: Vec<u8>| [&value[..value.len() - 1], br#","later":{"a":[1]}}"#].concat();
    world.submit(&old);
    let placement = Placement::of(&UnitRecord::new(old.hash(), Launched, 0)).unwrap();
    world.write(&Key::Sched(machine(1), unit()), Some(later(placement.encode())));
    let edits = MetadataEdits { evicted: true, ..MetadataEdits::default() };
    world.write(&Key::Metadata(machine(2)), Some(later(edits.encode())));
    world.lead().await;
    world.submit(&new);
    world.pass(5).await;
    let value = |key: &Key| world.store.entries(&world.keys.one(key)).remove(0).value;
    let edits = MetadataEdits { evicted: false, ..edits };
    assert_eq!(value(&Key::Metadata(machine(2))), later(edits.encode()), "the eviction is over");
    let placement = Placement::decode(&value(&Key::Sched(machine(1), unit()))).unwrap();
    assert!(placement.hash == new.hash() && placement.encode().ends_with(br#","later":{"a":[1]}}"#));
    let revision = world.store.revision();
    world.pass(5).await;
    assert_eq!(world.store.revision(), revision, "what is not known is no reason to write again");
}

#[tokio::test(start_paused = true)]
async fn unit_with_an_entry_that_cannot_be_read_is_not_overwritten() {
    let (mut world, old, new) = (two(), file(5, ""), file(6, ""));
    world.submit(&old);
    world.place(1, old.hash());
    world.lead().await;
    world.write(&Key::Sched(machine(1), unit()), Some(br#"{"v":2}"#.to_vec()));
    world.submit(&new);
    world.pass(30).await;
    let entries = world.store.entries(&world.keys.under("sched/"));
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].value, br#"{"v":2}"#);
}

#[tokio::test(start_paused = true)]
async fn file_of_contents_that_were_scheduled_is_deleted_when_nothing_has_them_any_more() {
    let (mut world, old, new) = (two(), file(300, STRICT), file(5, STRICT));
    world.submit(&old);
    world.place(1, old.hash());
    world.lead().await;
    world.submit(&new);
    // The old contents are wanted no more, but scheduled for longer than unused files are kept.
    world.pass(90).await;
    world.release(1, old.hash());
    world.pass(90).await;
    assert_eq!(world.placements(), on(1, Launched, &new));
    let files = world.store.entries(&world.keys.under("file/"));
    assert_eq!(files.len(), 1, "only the new one");
}

#[tokio::test(start_paused = true)]
async fn file_that_went_out_of_use_before_this_leader_came_is_deleted() {
    let (mut world, used, left) = (two(), file(5, ""), file(6, ""));
    world.submit(&left);
    world.submit(&used);
    world.lead().await;
    world.pass(180).await;
    let files = world.store.entries(&world.keys.under("file/"));
    let kept: Vec<String> = files.into_iter().map(|stored| stored.key).collect();
    assert_eq!(kept, [world.keys.format(&Key::File(used.hash()))]);
}

#[tokio::test(start_paused = true)]
async fn files_stay_while_there_is_a_unit_of_which_nobody_knows_what_it_uses() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    world.write(&Key::Unit(unit()), Some(br#"{"v":2}"#.to_vec()));
    world.lead().await;
    world.pass(180).await;
    assert_eq!(world.store.entries(&world.keys.under("file/")).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn old_copy_does_not_wait_anew_when_its_end_could_not_be_written() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    world.place(1, file.hash());
    world.lead().await;
    world.say(1, file.hash(), "active", None);
    world.set_drained(1, true);
    world.pass(58).await;
    assert_eq!(world.placements().len(), 2);
    world.store.set_faults(Faults { refuse: 1.0, ..Faults::default() });
    world.pass(4).await;
    world.store.set_faults(Faults::default());
    world.pass(10).await;
    assert_eq!(world.placements(), on(2, Launched, &file));
}

#[tokio::test(start_paused = true)]
async fn machine_without_units_counts_among_those_that_vanish_with_the_leader() {
    let (mut world, file) = (two(), file(5, ""));
    (3..=5).for_each(|number| world.set_machine(number, ""));
    world.submit(&file);
    world.place(1, file.hash());
    world.be_led_for(Duration::from_secs(34)).await;
    world.lead().await;
    // Nothing was scheduled to two of the three.
    (1..=3).for_each(|number| world.lose_machine(number));
    world.pass(15).await;
    assert_eq!(world.placements(), on(1, Launched, &file), "many vanished together");
    world.pass(30).await;
    assert!(!world.placements().contains_key(&1), "they are not waited for for ever");
}

#[tokio::test(start_paused = true)]
async fn candidate_that_is_elected_by_a_freeze_waits_for_the_machines_that_it_struck() {
    let (mut world, file) = (two(), file(5, ""));
    world.submit(&file);
    world.place(1, file.hash());
    world.be_led_for(Duration::from_secs(34)).await;
    // For 30 seconds it only waits: its own lease is older than the TTL then.
    world.lead().await;
    world.store.set_condition(Condition::Frozen);
    world.pass(6).await;
    world.store.set_condition(Condition::Up);
    world.lose_machine(1);
    world.pass(5).await;
    assert_eq!(world.placements(), on(1, Launched, &file), "it may be well");
    world.set_machine(1, "");
    world.pass(60).await;
    assert_eq!(world.placements(), on(1, Launched, &file));
}

#[tokio::test(start_paused = true)]
async fn of_many_hosts_few_stand_for_a_free_place() {
    let world = World::new(1);
    let candidates = || world.store.entries(&world.keys.under("election/engine/")).len();
    let stood = || {
        let history = world.store.history(0);
        let changes = history.iter().flat_map(|commit| &commit.changes).filter(|change| change.after.is_some());
        let keys: BTreeSet<String> = changes.map(|change| change.key.clone()).collect();
        keys.into_iter().filter(|key| key.starts_with("/fleet/election/")).count()
    };
    let hosts: Vec<_> = (0..300)
        .map(|number| {
            let (engine, shutdown) = (world.engine(&format!("h{number}"), number), CancellationToken::new());
            let stop = shutdown.clone();
            tokio::spawn(async move { engine.run(&stop).await });
            shutdown
        })
        .collect();
    world.pass(30).await;
    assert_eq!(candidates(), 5);
    let first = stood();
    assert!(first < 60, "{first} have stood");
    hosts[..150].iter().for_each(CancellationToken::cancel);
    world.pass(30).await;
    assert_eq!(candidates(), 5, "others have taken the places of those that left");
    let more = stood() - first;
    assert!(more < 30, "{more} more have stood");
}

#[tokio::test(start_paused = true)]
async fn files_of_many_units_go_together_but_for_those_that_another_unit_has() {
    let mut world = World::new(1);
    let unit = |n: u32| name(&format!("u{n}.service"));
    for n in 0..250 {
        world.set_unit(&unit(n), &file(5, &format!("MachineMetadata=n={n}")), Some(Inactive));
    }
    let shared = file(5, "MachineMetadata=n=7");
    world.set_unit(&unit(1000), &shared, Some(Inactive));
    world.lead().await;
    (0..250).for_each(|n| world.write(&Key::Unit(unit(n)), None));
    world.pass(50).await;
    let files = || world.store.entries(&world.keys.under("file/"));
    assert_eq!(files().len(), 250, "a unit that comes back soon finds its own");
    world.pass(40).await;
    let left: Vec<String> = files().into_iter().map(|stored| stored.key).collect();
    assert_eq!(left, [world.keys.format(&Key::File(shared.hash()))]);
}

#[tokio::test(start_paused = true)]
async fn engine_of_a_host_that_is_no_member_does_not_stand() {
    let world = World::new(5);
    let (registration, registered) = watch::channel(None);
    let engine = Engine { registered, ..world.engine("engine", 9) };
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let running = tokio::spawn(async move { engine.run(&stop).await });
    world.pass(600).await;
    assert!(world.store.entries(&world.keys.under("election/")).is_empty(), "nobody stands");
    registration.send_replace(Some(Registration { lease: LeaseId(1), revision: 1 }));
    world.pass(30).await;
    assert_eq!(world.store.entries(&world.keys.under("election/")).len(), 1);
    shutdown.cancel();
    running.await.unwrap();
}
