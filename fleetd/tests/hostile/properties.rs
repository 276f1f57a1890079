//! What holds for any input, however hostile. Each function takes raw input and panics when a property is broken.
//!
//! `fleetd/tests/hostile.rs` runs them under proptest, the targets in `fuzz/` under libFuzzer: the code is the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
    time::Duration,
};

use fleet_core::{
    host::Installed,
    model::{Desired, Key, MachineId, Snapshot, Target},
    unit::{UnitFile, UnitHash, UnitName},
};
use fleetd::{agent::Disk, config::Config, filesystem::Real};
use serde_json::json;

/// A configuration file of any bytes: read, or refused with the file and the line.
pub fn config(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    fs::write(file.path(), bytes).expect("it can be written");
    if let Err(error) = Config::load(Some(file.path()), []) {
        let error = format!("{error:#}");
        // Options that are missing beside another one stand on no line.
        let place = error.strip_prefix(&format!("{}:", file.path().display()));
        let line = place.and_then(|rest| rest.split(':').next()?.parse::<usize>().ok());
        let lines = bytes.iter().filter(|byte| **byte == b'\n').count() + 1;
        let names_it = line.is_some_and(|line| (1..=lines).contains(&line));
        assert!(names_it || error.contains(" is given without "), "{error}");
    }
}

/// Something in the directory of unit files.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its name, of any bytes.
    pub name: Vec<u8>,
    /// What it is: file, directory, link to nowhere, link to a file, link to itself.
    pub kind: u8,
    /// Its bytes, when it is a file.
    pub contents: Vec<u8>,
}

/// The directory and the manifest of an agent with anything in them: what is good is loaded, and nothing else.
///
/// `manifest` is all of it; or else `members` stand in it beside a good entry.
pub fn disk(found: &[Found], manifest: Option<&[u8]>, members: &[(String, String)]) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let units = directory.path().join("units");
    let disk = Disk::open(Real, &units).expect("a directory can be made");
    let good = UnitName::new("good.service").expect("a name");
    let entry = Installed { applied: Target::Launched, ..Installed::loaded(UnitHash::of("good"), Some(7)) };
    let text = match manifest {
        Some(bytes) => bytes.to_vec(),
        None => {
            let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text).is_ok();
            let members = members.iter().filter(|(name, value)| name != good.as_str() && is_json(value));
            let mut members: Vec<String> = members.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
            let place = members.len() / 2;
            members.insert(place, format!("\"{good}\":{}", json!(entry)));
            format!("{{{}}}", members.join(",")).into_bytes()
        }
    };
    fs::write(directory.path().join("manifest.json"), text).expect("it can be written");
    fs::write(units.join(good.as_str()), "[Service]\nExecStart=/bin/good\n").expect("it can be written");
    let others: BTreeSet<UnitName> = found.iter().filter_map(|found| put(&units, found, &good)).collect();

    let left = disk.left().expect("the directory can be read");
    if manifest.is_none() {
        assert_eq!(left.installed.get(&good), Some(&entry), "a good entry is kept");
    }
    let read = left.units.iter().filter(|unit| disk.file(unit).is_some());
    let known: BTreeSet<&UnitName> = left.installed.keys().chain(read).collect();
    assert!(known.contains(&good), "a good file is noticed");
    assert!(others.iter().all(|unit| known.contains(unit)), "{others:?} in {known:?}");
    assert!(known.iter().all(|unit| units.join(unit.as_str()).exists()), "nothing is made up");
    disk.save(&left.installed).expect("what was loaded can be saved");
    assert_eq!(disk.left().expect("again").installed, left.installed);
}

/// Puts something in place. Returns its unit when it is a file that is one.
fn put(units: &Path, found: &Found, good: &UnitName) -> Option<UnitName> {
    if found.name.is_empty() || found.name.contains(&b'/') || found.name == good.as_str().as_bytes() {
        return None;
    }
    let path = units.join(OsStr::from_bytes(&found.name));
    // Names that no file can have, and those that are taken, are not there.
    if path.symlink_metadata().is_ok() {
        return None;
    }
    let made = match found.kind % 5 {
        0 => fs::write(&path, &found.contents),
        1 => fs::create_dir(&path),
        2 => symlink("nowhere", &path),
        3 => symlink(good.as_str(), &path),
        _ => symlink(&path, &path),
    };
    let name = UnitName::new(std::str::from_utf8(&found.name).ok()?).ok()?;
    let bytes = fs::read(&path).ok().filter(|_| made.is_ok())?;
    UnitFile::parse_bytes(&bytes).is_ok().then_some(name)
}

/// What happens to a key.
#[derive(Clone, Debug)]
pub struct Happening {
    /// Which key, of a small number.
    pub key: u8,
    /// Its new value, a good one or these bytes; nothing when it is deleted.
    pub value: Option<Result<u8, Vec<u8>>>,
}

/// Good and bad values of all kinds in any order: the bad ones are known as such, the good ones as if the bad had never
/// been written.
pub fn cluster(happenings: &[Happening]) {
    let (mut cluster, mut without_bad) = (Snapshot::default(), Snapshot::default());
    let mut unreadable: BTreeMap<Key, ()> = BTreeMap::new();
    for (revision, happening) in (1..).zip(happenings) {
        let key = key(happening.key);
        let Some(value) = &happening.value else {
            cluster.remove(&key);
            without_bad.remove(&key);
            unreadable.remove(&key);
            continue;
        };
        let value = match value {
            Ok(variant) => good_value(&key, *variant),
            Err(bytes) => bytes.clone(),
        };
        let taken = cluster.put(&key, &value, revision, Duration::ZERO);
        assert!(taken.is_ok() || happening.value.as_ref().is_some_and(Result::is_err), "a good value is taken");
        if taken.is_ok() {
            without_bad.put(&key, &value, revision, Duration::ZERO).expect("it was taken before");
            unreadable.remove(&key);
        } else {
            unreadable.insert(key, ());
        }
    }
    assert!(cluster.units == without_bad.units && cluster.globals == without_bad.globals);
    assert!(cluster.scheduled == without_bad.scheduled && cluster.states == without_bad.states);
    assert!(cluster.machines == without_bad.machines && cluster.metadata == without_bad.metadata);
    assert!(cluster.unreadable.iter().eq(unreadable.keys()), "{:?} {unreadable:?}", cluster.unreadable);
    assert!(without_bad.unreadable.is_empty());
}

/// One of a few keys of every kind.
fn key(number: u8) -> Key {
    let unit = UnitName::new(if number & 8 == 0 { "a.service" } else { "web@1.service" }).expect("a name");
    let machine = MachineId::new(&format!("{:032x}", number >> 4 & 1)).expect("an ID");
    match number & 7 {
        0 | 6 => Key::Unit(unit),
        1 | 7 => Key::Global(unit),
        2 => Key::Sched(machine, unit),
        3 => Key::Machine(machine),
        4 => Key::Metadata(machine),
        _ => Key::State(machine, unit),
    }
}

/// A value that belongs to a key.
pub fn good_value(key: &Key, variant: u8) -> Vec<u8> {
    let hash = UnitHash::of(&variant.to_string());
    let desired = [Desired::Inactive, Desired::Loaded, Desired::Launched][usize::from(variant) % 3];
    let value = match key {
        Key::Machine(_) => json!({
            "v": 1, "address": format!("10.0.0.{variant}"), "hostname": "h", "version": "1", "boot_id": "b", "cpus": 1,
            "memory": u64::MAX,
        }),
        Key::Metadata(_) => json!({"v": 1, "edits": {"a": variant.to_string()}}),
        Key::State(..) => json!({
            "v": 1, "hash": hash, "load": "loaded", "active": "active", "sub": "running", "current": desired,
            "since": u64::MAX,
        }),
        _ => json!({"v": 1, "hash": hash, "desired": desired, "generation": u64::MAX}),
    };
    value.to_string().into_bytes()
}
