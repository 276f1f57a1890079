//! I1 and I8: in the end all is as if there had been no faults. I6: a mirror equals the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, Kind, Placement, Snapshot, Target, Task},
    sched::{Held, Input},
    unit::{UnitHash, UnitName},
};

use super::{Violation, globals::wanted_globals};
use crate::{
    record::{HostFacts, Note, Record},
    script::Event,
    units::is_lasting,
};

/// What the store holds in the end.
pub(super) fn read(record: &Record) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for stored in &record.entries {
        if let Some(key) = record.keys.parse(&stored.key) {
            // One that cannot be read is noted as such.
            let _ = snapshot.put(&key, &stored.value, stored.mod_revision, Duration::ZERO);
        }
    }
    snapshot
}

/// What is wanted of a host: what is scheduled to it, and the global units that fit; with the contents, and whether it is
/// to be started.
fn wanted_on<'s>(
    snapshot: &'s Snapshot,
    record: &Record,
    host: &HostFacts,
) -> impl Iterator<Item = (&'s UnitName, UnitHash, bool)> {
    let here = snapshot.scheduled.iter().filter(|((machine, _), entry)| *machine == host.id && !entry.record.global);
    let here: Vec<(&UnitName, &Placement)> = here.map(|((_, unit), entry)| (unit, &*entry.record)).collect();
    let globals = snapshot.globals.iter().map(|(unit, entry)| (unit, &*entry.record));
    let globals = wanted_globals(record, host, globals, here.iter().map(|(unit, entry)| (*unit, entry.hash)));
    let globals = globals.into_iter().map(|(unit, entry)| (unit, entry.hash, entry.desired == Desired::Launched));
    let here = here.into_iter().map(|(unit, entry)| (unit, entry.hash, entry.task == Task::Run(Target::Launched)));
    here.chain(globals)
}

/// A planner that knows nothing of what was has nothing to decide, and each host runs what it should.
pub fn every_wanted_unit_runs_where_it_should(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut violation = |how: String| violations.push(Violation { invariant: "I1", at: None, how });
    let snapshot = read(record);
    let mut input = Input::default();
    let unread = input.unread(&snapshot);
    for hash in unread.hashes() {
        input.read(&unread, hash, record.library.get(&hash).map(|contents| &contents.file));
    }
    input.apply(&snapshot);
    input.hold(&Held::default());
    for ((machine, unit), entry) in &snapshot.scheduled {
        if entry.record.is_recall() {
            violation(format!("{unit} is still recalled from {machine}"));
        }
        let now = snapshot.units.get(unit).and_then(|now| Placement::of(&now.record));
        if now.is_some_and(|now| !now.is_as(&entry.record)) {
            violation(format!("{unit}: its machine was not told what is wanted now"));
        }
    }
    for decision in input.parts().0.plan() {
        violation(format!("{} should move from {:?} to {:?}", decision.unit, decision.from, decision.to));
    }
    for (number, host) in record.hosts.iter().enumerate() {
        let launched = wanted_on(&snapshot, record, host).filter(|(_, _, launched)| *launched);
        let lasting = launched.filter(|(_, hash, _)| record.library.get(hash).is_some_and(is_lasting));
        let expected: BTreeSet<&str> = lasting.map(|(unit, ..)| unit.as_str()).collect();
        let ends_itself = |unit: &str| ["foreign", "flapping", "once", "failing"].iter().any(|n| unit.starts_with(n));
        let runs: BTreeSet<&str> =
            record.alive[number].iter().map(String::as_str).filter(|unit| !ends_itself(unit)).collect();
        if runs != expected {
            let missing: Vec<_> =
                expected.difference(&runs).filter(|unit| !is_forgotten(record, number, unit)).collect();
            let surplus: Vec<_> = runs.difference(&expected).collect();
            if !missing.is_empty() || !surplus.is_empty() {
                violation(format!("{}: does not run {missing:?}, runs {surplus:?} for nothing", host.name));
            }
        }
    }
    violations
}

/// A host has files and links of the units that are wanted there, and of no others, however they fared.
pub fn nothing_is_left_of_units_that_are_gone(record: &Record) -> Vec<Violation> {
    let snapshot = read(record);
    let mut violations = Vec::new();
    for (host, installed) in record.hosts.iter().zip(&record.installed) {
        let here: BTreeSet<&str> = wanted_on(&snapshot, record, host).map(|(unit, ..)| unit.as_str()).collect();
        let left: Vec<&String> = installed.iter().filter(|unit| !here.contains(&***unit)).collect();
        if !left.is_empty() {
            let how = format!("{}: there are files or links of {left:?}, which are not wanted there", host.name);
            violations.push(Violation { invariant: "nothing is left", at: None, how });
        }
    }
    violations
}

/// Whether a strict unit was stopped while no fleetd ran, and the disk was too full to write that down.
fn is_forgotten(record: &Record, host: usize, unit: &str) -> bool {
    let here = |note: &&Note| note.host == Some(host) && note.begins;
    let full = record.notes.iter().filter(here).filter(|note| matches!(note.event, Event::FullDisk(..)));
    let ended = record
        .notes
        .iter()
        .filter(here)
        .filter(|note| matches!(note.event, Event::Kill(..) | Event::RestartDaemon(..) | Event::Upgrade(..)));
    let full: Vec<&Note> = full.collect();
    let mut both = ended.flat_map(|ended| full.iter().map(move |full| (ended, *full)));
    unit.starts_with("strict")
        && both
            .any(|(ended, full)| full.at <= ended.at + ended.event.lasts() && ended.at <= full.at + full.event.lasts())
}

/// What a mirror shows that had its part of the faults is what the store holds.
pub fn mirror_equals_the_store(record: &Record) -> Vec<Violation> {
    let (from, to) = record.keys.followed();
    let stored = record.entries.iter().filter(|stored| from <= stored.key && stored.key < to);
    let shown = |key: &Key| Kind::FOLLOWED.contains(&key.kind());
    let readable = stored.filter(|stored| record.keys.parse(&stored.key).is_some_and(|key| shown(&key)));
    let stored: BTreeMap<String, i64> = readable.map(|stored| (stored.key.clone(), stored.mod_revision)).collect();
    let keys: BTreeSet<&String> = stored.keys().chain(record.mirror.keys()).collect();
    // One that flaps is news until the last moment.
    let keys = keys.into_iter().filter(|key| !key.contains("flapping"));
    let differ: Vec<_> = keys.filter(|key| stored.get(*key) != record.mirror.get(*key)).collect();
    if differ.is_empty() {
        return Vec::new();
    }
    vec![Violation { invariant: "I6", at: None, how: format!("mirror and store differ in {differ:?}") }]
}

/// Every host is back in the cluster.
pub fn all_hosts_are_members(record: &Record) -> Vec<Violation> {
    let machines = read(record).machines;
    let absent = record.hosts.iter().filter(|host| !machines.contains_key(&host.id));
    absent
        .map(|host| Violation { invariant: "I8", at: None, how: format!("{} is no member any more", host.name) })
        .collect()
}
