//! The invariants of global units see what breaks them: a run is told otherwise than it was, and judged.

use std::time::Duration;

use fleet_core::{
    model::{InUseRecord, Key, Placement, Record as _, UnitRecord, features},
    unit::UnitName,
};
use fleet_sim::{Record, Script, invariants, play};
use fleetd::{
    registry::{
        Stored,
        memory::{Change, Commit},
    },
    systemd::memory::{Entry, What},
};
use tokio::time::Instant;

/// One host is upgraded, and another is cut off for longer than its lease.
const SCRIPT: &str = "\
scenario faults
seed 1
twins 2
hosts 3
ttl 4

unit g.service
| [Service]
| ExecStart=/bin/sleep infinity
| [X-Fleet]
| Global=true

unit in-zone-a.service
| [Service]
| ExecStart=/bin/sleep infinity
| [X-Fleet]
| Global=true
| MachineMetadata=zone=a

1 want launched g.service
1.1 want launched in-zone-a.service
40 upgrade h2 for 1
60 cut h3 for 60
";

/// A run in which the engine has placed no global unit.
fn run() -> Record {
    let script: Script = SCRIPT.parse().expect("a script");
    let outcome = play(&script);
    let mut record = outcome.record;
    let keys = record.keys.clone();
    let entry = |key: &str| !matches!(keys.parse(key), Some(Key::Sched(..) | Key::InUse));
    for commit in &mut record.commits {
        commit.changes.retain(|change| entry(&change.key));
    }
    record.entries.retain(|stored| entry(&stored.key));
    let found = judged(&record);
    assert!(found.is_empty(), "{found:?}");
    record
}

fn judged(record: &Record) -> Vec<String> {
    let violations = invariants::check(record).into_iter();
    violations.filter(|found| found.invariant.starts_with("global")).map(|found| found.to_string()).collect()
}

#[track_caller]
fn judges(record: &Record, complaints: &[&str]) {
    let found = judged(record);
    assert_eq!(found.len(), complaints.len(), "{found:#?}");
    for (found, complaint) in found.iter().zip(complaints) {
        assert!(found.contains(complaint), "{found} is not: {complaint}");
    }
}

fn at(record: &Record, seconds: u64) -> Instant {
    record.start + Duration::from_secs(seconds)
}

/// What an engine might have written.
fn write(record: &mut Record, seconds: u64, key: &Key, value: Option<Vec<u8>>) {
    let (at, key) = (at(record, seconds), record.keys.format(key));
    let revision = 1_000_000 + record.commits.len() as i64;
    let known = record.entries.iter().position(|stored| stored.key == key);
    let before = known.map(|known| record.entries.remove(known));
    let create_revision = before.as_ref().map_or(revision, |before| before.create_revision);
    let after =
        value.map(|value| Stored { key: key.clone(), value, create_revision, mod_revision: revision, lease: None });
    record.entries.extend(after.clone());
    let change = Change { key, before, after };
    let commit = Commit { revision, at, author: "h1".into(), guards: Vec::new(), changes: vec![change] };
    let place = record.commits.partition_point(|commit| commit.at <= at);
    record.commits.insert(place, commit);
}

fn unit(name: &str) -> UnitName {
    UnitName::new(name).expect("a name")
}

fn sched(record: &Record, host: usize, name: &str) -> Key {
    Key::Sched(record.hosts[host].id.clone(), unit(name))
}

fn wanted(record: &Record, name: &str) -> UnitRecord {
    let key = record.keys.format(&Key::Global(unit(name)));
    let stored = record.entries.iter().find(|stored| stored.key == key).expect("it is wanted");
    UnitRecord::decode(&stored.value).expect("a record")
}

fn place(record: &mut Record, seconds: u64, host: usize, name: &str) {
    let value = Placement::of(&wanted(record, name)).expect("it is launched").everywhere().encode();
    let key = sched(record, host, name);
    write(record, seconds, &key, Some(value));
}

fn use_them(record: &mut Record, seconds: u64) {
    let in_use = InUseRecord { features: [features::GLOBAL_PLACEMENTS].into_iter().collect(), ..Default::default() };
    write(record, seconds, &Key::InUse, Some(in_use.encode()));
}

/// All entries that there should be, made in time.
fn placed() -> Record {
    let mut record = run();
    for host in 0..3 {
        place(&mut record, 50, host, "g.service");
    }
    for host in [0, 2] {
        place(&mut record, 50, host, "in-zone-a.service");
    }
    use_them(&mut record, 51);
    record
}

fn happens(record: &mut Record, seconds: u64, host: &str, what: What) {
    let at = at(record, seconds);
    let place = record.log.partition_point(|entry| entry.at <= at);
    record.log.insert(place, Entry { at, host: host.into(), unit: "g.service".into(), what });
}

#[test]
fn entries_as_they_should_be_are_no_violation() {
    judges(&placed(), &[]);
}

#[test]
fn global_unit_that_a_lost_lease_or_an_upgrade_restarts_is_seen() {
    let mut record = run();
    happens(&mut record, 70, "h3", What::Stopped);
    judges(&record, &["g.service on h3 is stopped at 70.000, 1 times by now, with 0 reasons"]);
    happens(&mut record, 121, "h3", What::Started(9));
    judges(&record, &["is stopped", "g.service on h3 is started at 121.000, 2 times by now, with 1 reasons"]);
    let mut record = run();
    happens(&mut record, 41, "h2", What::Stopped);
    happens(&mut record, 42, "h2", What::Started(9));
    judges(&record, &["h2 is stopped", "h2 is started"]);
}

#[test]
fn what_its_record_asks_for_may_be_done_to_a_global_unit_once() {
    let mut record = run();
    let restarted = wanted(&record, "g.service").restarted().encode();
    write(&mut record, 50, &Key::Global(unit("g.service")), Some(restarted));
    happens(&mut record, 51, "h2", What::Stopped);
    happens(&mut record, 52, "h2", What::Started(9));
    // What is cut off hears of it when it is back.
    happens(&mut record, 122, "h3", What::Stopped);
    happens(&mut record, 123, "h3", What::Started(9));
    judges(&record, &[]);
    happens(&mut record, 53, "h2", What::Stopped);
    happens(&mut record, 54, "h2", What::Started(10));
    judges(&record, &["h2 is stopped at 53.000, 2 times", "h2 is started at 54.000, 3 times"]);
}

#[test]
fn entry_of_a_machine_that_is_away_stays_unless_the_unit_is_not_wanted() {
    let mut record = placed();
    let key = sched(&record, 2, "g.service");
    write(&mut record, 100, &key, None);
    place(&mut record, 130, 2, "g.service");
    judges(&record, &["g.service on h3 is taken from a machine that is away"]);
    let mut record = placed();
    let restarted = wanted(&record, "g.service").restarted().encode();
    write(&mut record, 50, &Key::Global(unit("g.service")), Some(restarted));
    for (host, seconds) in [(0, 52), (1, 52), (2, 100)] {
        place(&mut record, seconds, host, "g.service");
    }
    judges(&record, &["g.service on h3 is written for a machine that is away"]);
    let mut record = placed();
    write(&mut record, 90, &Key::Global(unit("g.service")), None);
    for host in 0..3 {
        let key = sched(&record, host, "g.service");
        write(&mut record, 91, &key, None);
    }
    judges(&record, &[]);
}

#[test]
fn entry_of_a_machine_that_comes_back_is_not_written_anew() {
    let mut record = placed();
    place(&mut record, 125, 2, "g.service");
    judges(&record, &["g.service on h3 is written as it was"]);
    let mut record = placed();
    let key = sched(&record, 2, "g.service");
    write(&mut record, 125, &key, None);
    place(&mut record, 126, 2, "g.service");
    judges(&record, &["g.service on h3 is taken from a machine on which it belongs"]);
}

#[test]
fn entries_that_are_missing_too_many_or_not_as_wanted_are_seen() {
    let mut record = run();
    place(&mut record, 50, 0, "g.service");
    place(&mut record, 50, 1, "in-zone-a.service");
    use_them(&mut record, 51);
    judges(
        &record,
        &[
            "in-zone-a.service belongs on h1, and is not",
            "g.service belongs on h2, and is not",
            "in-zone-a.service is scheduled to h2, and does not belong there",
            "g.service belongs on h3, and is not",
            "in-zone-a.service belongs on h3, and is not",
            "in-zone-a.service has no entry on h1",
            "g.service has no entry on h2",
            "g.service has no entry on h3",
            "in-zone-a.service has no entry on h3",
        ],
    );
    let mut record = placed();
    let restarted = wanted(&record, "g.service").restarted().encode();
    write(&mut record, 52, &Key::Global(unit("g.service")), Some(restarted));
    judges(&record, &["g.service on h1: it was not told", "g.service on h2: it", "g.service on h3: it"]);
    let mut record = run();
    place(&mut record, 50, 0, "g.service");
    judges(&record, &["all understand that, and it is not in use"]);
}
