//! Records that an earlier fleet wrote into etcd: today's reads them and loses nothing. And what today's writes has the
//! members without which an earlier one could not read it.
//!
//! `records/COMMIT` holds what the programs of that commit wrote on hosts of a lab: a key and its value on each line.
//! `make mixed` runs those programs themselves.

use std::{collections::BTreeSet, fs, path::Path};

use fleet_core::{
    model::{
        ActiveState, Desired, Features, HeldMachineRecord, HeldRecord, HeldUnitRecord, Key, Keys, Kind, LeaderRecord,
        MachineId, MachineRecord, MetadataEdits, Placement, Record, StateRecord, SubmittedRecord, UnitRecord, Unknown,
    },
    unit::{UnitHash, UnitName},
};
use serde::Deserialize;
use serde_json::Value;

/// The commit before records were made to grow.
const BEFORE: &str = "6ba0864";

/// All records that were kept of a commit.
fn kept(commit: &str) -> Vec<(Key, String)> {
    let (dir, keys) = (Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/records").join(commit), Keys::new("fleet"));
    let files = fs::read_dir(&dir).expect("a directory").map(|entry| entry.expect("an entry").path());
    let texts: Vec<String> = files.map(|file| fs::read_to_string(file).expect("a text")).collect();
    let lines = texts.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
    let record = |line: &str| {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        (keys.parse(key).unwrap_or_else(|| panic!("{key} is no key")), value.to_owned())
    };
    lines.map(record).collect()
}

/// A value, read and written again, and whether all of it is known.
fn again<R: Record>(value: &str, unknown: fn(&R) -> &Unknown) -> (Vec<u8>, bool) {
    let record = R::decode(value.as_bytes()).unwrap_or_else(|error| panic!("{error}: {value}"));
    (record.encode(), *unknown(&record) == Unknown::default())
}

#[test]
fn record_of_an_earlier_fleet_is_read_and_written_again_without_a_loss() {
    let mut kinds = BTreeSet::new();
    for (key, value) in kept(BEFORE) {
        kinds.insert(key.kind());
        let (written, known) = match &key {
            Key::Unit(_) | Key::Global(_) => again::<UnitRecord>(&value, |record| &record.unknown),
            Key::Sched(..) => {
                // The text of the contents comes along, and is kept by who writes it.
                let placement = Placement::decode(value.as_bytes()).expect("a placement");
                let written = match Placement::file_in(value.as_bytes()) {
                    Some((_, file)) => placement.encode_with_file(&file),
                    None => placement.encode(),
                };
                (written, placement.unknown == Unknown::default() && !placement.global)
            }
            Key::State(..) => again::<StateRecord>(&value, |record| &record.unknown),
            Key::Machine(_) => again::<MachineRecord>(&value, |record| &record.unknown),
            Key::Metadata(_) => again::<MetadataEdits>(&value, |record| &record.unknown),
            Key::Leader => again::<LeaderRecord>(&value, |record| &record.unknown),
            Key::Held => again::<HeldRecord>(&value, |record| &record.unknown),
            Key::Submitted(..) => again::<SubmittedRecord>(&value, |record| &record.unknown),
            Key::File(_) | Key::Candidate(_) | Key::InUse => continue,
        };
        let [before, after]: [Value; 2] =
            [value.as_bytes(), &written].map(|text| serde_json::from_slice(text).expect("JSON"));
        assert_eq!(before, after, "{key:?}");
        assert!(known, "all members of that time are known today: {key:?} {value}");
    }
    let later = [Kind::InUse];
    let missing: Vec<_> = Kind::ALL.iter().filter(|kind| !kinds.contains(kind) && !later.contains(kind)).collect();
    assert!(missing.is_empty(), "no record is kept of {missing:?}");
}

#[test]
fn records_are_kept_of_what_is_rare() {
    let kept = kept(BEFORE);
    for (kind, part) in [
        (Kind::Global, r#""restarted_to":"#),
        (Kind::Unit, r#""request":"#),
        (Kind::Sched, r#""file":"#),
        (Kind::Sched, r#""desired":"inactive""#),
        (Kind::Machine, r#""leaving":true"#),
        (Kind::Metadata, r#""drain":true"#),
        (Kind::Metadata, r#""evicted":true"#),
        (Kind::Metadata, r#""region":null"#),
        (Kind::State, r#""problem":"#),
        (Kind::State, r#""notice":"#),
        (Kind::State, r#""released":"#),
        (Kind::State, r#""skipped":true"#),
        (Kind::State, r#""finished":true"#),
        (Kind::State, r#""job":true"#),
        (Kind::State, r#""start":{"#),
        (Kind::Held, r#""units":["#),
        (Kind::Held, r#""reason":"#),
    ] {
        let found = kept.iter().any(|(key, value)| key.kind() == kind && value.contains(part));
        assert!(found, "no record of {} has {part}", kind.name());
    }
}

/// What the fleet of [`BEFORE`] does not read a record without: it passes over members that it does not know, leaves
/// alone what has a newer version, and refuses what lacks one of these.
mod old {
    use std::collections::BTreeMap;

    use super::{Deserialize, Value};

    #[derive(Deserialize)]
    pub struct Version {
        pub v: u32,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    #[serde(rename_all = "lowercase")]
    pub enum Desired {
        Inactive,
        Loaded,
        Launched,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct Unit {
        pub hash: String,
        pub desired: Desired,
        pub generation: Option<u64>,
        pub request: Option<u64>,
        pub restarted_to: Option<String>,
        pub file: Option<String>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct Machine {
        pub address: String,
        pub hostname: String,
        pub metadata: Option<BTreeMap<String, String>>,
        pub version: String,
        pub boot_id: String,
        pub cpus: u32,
        pub memory: u64,
        pub leaving: Option<bool>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct Metadata {
        pub edits: Option<BTreeMap<String, Option<String>>>,
        pub drain: Option<bool>,
        pub evicted: Option<bool>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct State {
        pub hash: String,
        pub load: String,
        pub active: String,
        pub sub: String,
        pub current: Desired,
        pub generation: Option<u64>,
        pub request: Option<u64>,
        pub since: u64,
        pub problem: Option<String>,
        pub notice: Option<String>,
        pub released: Option<i64>,
        pub start: Option<Value>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct Held {
        pub machines: Option<Vec<HeldMachine>>,
        pub units: Option<Vec<HeldUnit>>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct HeldMachine {
        pub id: String,
        pub since: String,
        pub until: Option<String>,
        pub reason: String,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct HeldUnit {
        pub name: String,
        pub machine: String,
        pub since: Option<String>,
        pub until: Option<String>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code, reason = "that they are there is all that counts")]
    pub struct Leader {
        pub machine: String,
    }
}

#[track_caller]
fn read<T: for<'de> Deserialize<'de>>(value: &[u8]) -> T {
    let text = String::from_utf8_lossy(value);
    let old::Version { v } = serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error}: {text}"));
    assert_eq!(v, 1, "it is left alone: {text}");
    serde_json::from_slice(value).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn earlier_fleet_reads_what_todays_writes() {
    let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
    let wanted = UnitRecord {
        request: 3,
        restarted_to: Some(Box::new(machine.clone())),
        ..UnitRecord::new(UnitHash::of(""), Desired::Launched, 2)
    };
    let old::Unit { generation, request, restarted_to, .. } = read(&wanted.encode());
    assert_eq!((generation, request, restarted_to.as_deref()), (Some(2), Some(3), Some(machine.as_str())));
    let placement = Placement::of(&wanted).unwrap();
    assert_eq!(read::<old::Unit>(&placement.encode_with_file("[Unit]\n")).file.as_deref(), Some("[Unit]\n"));
    assert!(matches!(read::<old::Unit>(&placement.recall().encode()).desired, old::Desired::Inactive));
    let old::Version { v } = serde_json::from_slice(&placement.everywhere().encode()).unwrap();
    assert!(v > 1, "one that is global is none of its business");

    let record = MachineRecord {
        address: "192.0.2.1".into(),
        hostname: "h1".into(),
        metadata: [("disk".into(), "ssd".into())].into(),
        version: "9.0.0".into(),
        boot_id: "boot".into(),
        cpus: 2,
        memory: 1 << 40,
        leaving: true,
        features: Features::of_this_daemon(),
        unknown: Unknown::default(),
    };
    assert_eq!(read::<old::Machine>(&record.encode()).leaving, Some(true));
    let edits = MetadataEdits { edits: [("disk".into(), None)].into(), drain: true, ..MetadataEdits::default() };
    assert_eq!(read::<old::Metadata>(&edits.encode()).drain, Some(true));

    let state = StateRecord::decode(
        br#"{"v":1,"hash":"da39a3ee5e6b4b0d3255bfef95601890afd80709","load":"loaded","active":"active","sub":"running",
            "current":"launched","generation":1,"since":1,"released":5}"#,
    );
    let state = StateRecord { active: ActiveState::Failed, problem: Some("p".into()), ..state.unwrap() };
    let old::State { active, problem, released, .. } = read(&state.encode());
    assert_eq!((&*active, problem.as_deref(), released), ("failed", Some("p"), Some(5)));

    let held = HeldRecord {
        machines: vec![HeldMachineRecord { id: machine.clone(), since: "s".into(), until: None, reason: "r".into() }],
        units: vec![HeldUnitRecord {
            name: UnitName::new("a.service").unwrap(),
            machine: machine.clone(),
            since: None,
            until: Some("u".into()),
        }],
        ..HeldRecord::default()
    };
    let old::Held { machines, units } = read(&held.encode());
    assert_eq!((machines.map(|all| all.len()), units.map(|all| all.len())), (Some(1), Some(1)));
    let leader =
        LeaderRecord { machine: machine.clone(), features: Features::of_this_daemon(), unknown: Unknown::default() };
    assert_eq!(read::<old::Leader>(&leader.encode()).machine, machine.as_str());
}

/// The other way round, so that the members above are those of that time.
#[test]
fn members_that_an_earlier_fleet_needs_are_in_its_own_records() {
    for (key, value) in kept(BEFORE) {
        let value = value.as_bytes();
        match key.kind() {
            Kind::Unit | Kind::Global | Kind::Sched => drop(read::<old::Unit>(value)),
            Kind::Machine => drop(read::<old::Machine>(value)),
            Kind::Metadata => drop(read::<old::Metadata>(value)),
            Kind::State => drop(read::<old::State>(value)),
            Kind::Held => drop(read::<old::Held>(value)),
            Kind::Leader => drop(read::<old::Leader>(value)),
            _ => {}
        }
    }
}
