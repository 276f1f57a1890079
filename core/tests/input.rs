//! Where an input comes to depends on the last snapshot only: whoever has followed the cluster for long explains and
//! decides like one who sees it for the first time.

#![allow(missing_docs, reason = "nobody calls a test")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use fleet_core::{
    model::{
        Desired, Features, Key, MachineId, MachineRecord, MetadataEdits, Placement, Record, Snapshot, UnitRecord,
        Unknown,
    },
    sched::{Held, Input},
    unit::{UnitFile, UnitHash, UnitName},
};
use proptest::prelude::*;

const UNITS: [&str; 6] = ["a.service", "b.service", "db.service", "s.service", "web@1.service", "web@2.service"];
const GLOBALS: [&str; 3] = ["g.service", "h.service", "web@2.service"];
/// What contents may say. The last ones are not in the store, and contradict themselves.
const SECTIONS: [&str; 11] = [
    "",
    "OnPartition=stop",
    "OnPartition=stop\nMachineMetadata=disk=ssd",
    "Conflicts=web@*.service",
    "Conflicts=a.service g*",
    "MachineOf=db.service",
    "MachineOf=a.service\nMachineMetadata=disk=ssd",
    "MachineMetadata=disk=ssd",
    "Replaces=b.service",
    "# missing",
    "Conflicts=db.service\nMachineOf=db.service",
];

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

fn machine(n: usize) -> MachineId {
    MachineId::new(&format!("{n:032x}")).unwrap()
}

fn file(section: usize) -> UnitFile {
    UnitFile::parse(&format!("[Service]\nExecStart=/bin/s\nTimeoutStopSec=5\n[X-Fleet]\n{}\n", SECTIONS[section]))
        .unwrap()
}

/// A key that is written or deleted.
#[derive(Clone, Debug)]
enum Event {
    Write(Key, Option<Vec<u8>>),
    Hold(Held),
}

fn record() -> impl Strategy<Value = Vec<u8>> {
    let desired = prop_oneof![1 => Just(Desired::Inactive), 4 => Just(Desired::Launched)];
    (0..SECTIONS.len(), desired)
        .prop_map(|(section, desired)| UnitRecord::new(file(section).hash(), desired, 0).encode())
}

/// A value, one that cannot be read, or none.
fn value(values: impl Strategy<Value = Vec<u8>>) -> impl Strategy<Value = Option<Vec<u8>>> {
    prop_oneof![6 => values.prop_map(Some), 1 => Just(Some(b"{}".to_vec())), 2 => Just(None)]
}

fn machine_record() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(&["ssd", "hdd"][..]).prop_map(|disk| {
        let record = MachineRecord {
            address: "10.0.0.1".into(),
            hostname: "h".into(),
            metadata: [("disk".to_owned(), disk.to_owned())].into(),
            version: "1".into(),
            boot_id: "b".into(),
            cpus: 1,
            memory: 1,
            leaving: false,
            features: Features::default(),
            unknown: Unknown::default(),
        };
        record.encode()
    })
}

fn edits() -> impl Strategy<Value = Vec<u8>> {
    any::<bool>().prop_map(|drain| MetadataEdits { drain, ..MetadataEdits::default() }.encode())
}

fn held() -> impl Strategy<Value = Held> {
    let machines = prop::collection::btree_set((1..5_usize).prop_map(machine), 0..3);
    let units = prop::collection::btree_set((unit(), (1..5_usize).prop_map(machine)), 0..3);
    (machines, units).prop_map(|(machines, units)| Held { machines, units })
}

fn unit() -> impl Strategy<Value = UnitName> {
    prop::sample::select(&UNITS[..]).prop_map(name)
}

/// Also one that is global.
fn any_unit() -> impl Strategy<Value = UnitName> {
    prop_oneof![prop::sample::select(&GLOBALS[..]), prop::sample::select(&UNITS[..])].prop_map(name)
}

/// What a machine is told of a global unit.
fn everywhere() -> impl Strategy<Value = Vec<u8>> {
    record().prop_map(|record| Placement::decode(&record).map(Placement::everywhere).unwrap().encode())
}

fn event() -> impl Strategy<Value = Event> {
    let global = prop::sample::select(&GLOBALS[..]).prop_map(name);
    let id = || (1..5_usize).prop_map(machine);
    let write = |(key, value)| Event::Write(key, value);
    prop_oneof![
        4 => (unit().prop_map(Key::Unit), value(record())).prop_map(write),
        1 => (global.prop_map(Key::Global), value(record())).prop_map(write),
        4 => ((id(), unit()).prop_map(|(id, unit)| Key::Sched(id, unit)), value(record())).prop_map(write),
        2 => ((id(), any_unit()).prop_map(|(id, unit)| Key::Sched(id, unit)), value(everywhere())).prop_map(write),
        3 => (id().prop_map(Key::Machine), value(machine_record())).prop_map(write),
        1 => (id().prop_map(Key::Metadata), value(edits())).prop_map(write),
        1 => held().prop_map(Event::Hold),
    ]
}

/// Brings an input up to date, as its owner does.
fn feed(input: &mut Input, snapshot: &Snapshot, held: &Held) {
    static FILES: LazyLock<BTreeMap<UnitHash, UnitFile>> = LazyLock::new(|| {
        let files = (0..SECTIONS.len()).filter(|n| SECTIONS[*n] != "# missing").map(file);
        files.map(|file| (file.hash(), file)).collect()
    });
    let unread = input.unread(snapshot);
    for hash in unread.hashes() {
        input.read(&unread, hash, FILES.get(&hash));
    }
    input.apply(snapshot);
    input.hold(held);
}

/// All that is said of the cluster.
fn said(input: &mut Input) -> Vec<String> {
    let units = UNITS.into_iter().chain(GLOBALS).map(name);
    let mut said: Vec<String> = units.map(|unit| format!("{unit}: {:?}", input.explain(&unit))).collect();
    said.extend((1..5).map(|n| format!("{n}: {:?}", input.stuck_on(&machine(n)))));
    said.push(format!("{:?}", input.known().placements.globals().collect::<Vec<_>>()));
    said
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn input_that_followed_is_like_one_that_is_new(events in prop::collection::vec(event(), 1..40)) {
        let (mut snapshot, mut held) = (Snapshot::default(), Held::default());
        // One explains after each step, the other has to decide about all of them in the end.
        let (mut explains, mut decides) = (Input::default(), Input::default());
        for (revision, event) in (1..).zip(&events) {
            match event {
                Event::Write(key, Some(value)) => drop(snapshot.put(key, value, revision, Duration::ZERO)),
                Event::Write(key, None) => snapshot.remove(key),
                Event::Hold(now) => held = now.clone(),
            }
            snapshot.revision = revision;
            feed(&mut explains, &snapshot, &held);
            feed(&mut decides, &snapshot, &held);
            explains.explain(&name(UNITS[0]));
        }
        let (mut new, mut decides_anew) = (Input::default(), Input::default());
        feed(&mut new, &snapshot, &held);
        feed(&mut decides_anew, &snapshot, &held);
        for (followed, new) in said(&mut explains).into_iter().zip(said(&mut new)) {
            prop_assert_eq!(followed, new, "{:#?}", events);
        }
        prop_assert_eq!(decides.parts().0.plan(), decides_anew.parts().0.plan());
    }
}
