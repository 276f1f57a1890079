use std::time::Duration;

use super::*;
use crate::{
    model::Snapshot,
    ops::{Guard, Operation},
};

fn contents(text: &str) -> Contents {
    let (file, name) = (UnitFile::parse(text).unwrap(), UnitName::new("a.service").unwrap());
    Contents::new(&file, &name).unwrap()
}

fn name(name: &str) -> UnitName {
    UnitName::new(name).unwrap()
}

/// The store at revision 42, with a record that was written at 40.
fn with(key: Option<Key>, record: &UnitRecord) -> Current {
    let mut current = Current::at(42);
    if let Some(key) = key {
        current.put(key, &record.encode(), 40);
        current.put(Key::File(record.hash), b"[Unit]\nDescription=old\n", 30);
    }
    current
}

fn put(write: &Write) -> Option<UnitRecord> {
    match write {
        Write::Put(Key::Unit(_) | Key::Global(_), value) => Some(UnitRecord::decode(value).unwrap()),
        _ => None,
    }
}

#[test]
fn requests_become_records_as_clients_expect() {
    use Desired::{Inactive, Launched, Loaded};
    use Outcome::{Changed, Created, Replaced};
    let (old, other) = (contents("[Unit]\nDescription=old\n"), contents("[Unit]\nDescription=new\n"));
    let decide = |name: &UnitName, there: Option<Desired>, new: Option<&Contents>, desired, when_same| {
        let record = UnitRecord::new(old.hash, there.unwrap_or(Inactive), 7);
        let current = with(there.map(|_| Key::Unit(name.clone())), &record);
        let request = SetUnit { name: name.clone(), contents: new.cloned(), desired, when_same };
        let edit = Operation::Set(request).decide(&current)?;
        Ok(edit.set.writes.iter().find_map(put).map(|record| (record, edit.outcome)))
    };
    let unit = name("a.service");
    let outcome = |there, new, desired| {
        let decided = decide(&unit, there, new, desired, WhenSame::Nothing)?;
        Ok(decided.map(|(record, outcome)| (record.desired, record.generation, outcome)))
    };
    for (there, new, desired, expected) in [
        (None, Some(&old), None, Some((Inactive, 42, Created))),
        (None, Some(&old), Some(Launched), Some((Launched, 42, Created))),
        (Some(Inactive), None, Some(Loaded), Some((Loaded, 7, Changed))),
        (Some(Loaded), Some(&old), Some(Launched), Some((Launched, 7, Changed))),
        (Some(Launched), Some(&other), Some(Launched), Some((Launched, 7, Replaced))),
        (Some(Launched), Some(&other), None, Some((Inactive, 7, Replaced))),
        (Some(Launched), Some(&old), Some(Launched), None),
        (Some(Launched), None, Some(Launched), None),
    ] {
        assert_eq!(outcome(there, new, desired), Ok(expected), "{there:?} {new:?} {desired:?}");
    }
    assert_eq!(outcome(None, None, Some(Loaded)), Err(Refusal::NoContents));
    assert_eq!(outcome(Some(Loaded), Some(&old), None), Err(Refusal::NoDesiredState));
    let template = name("a@.service");
    let refused = decide(&template, Some(Inactive), None, Some(Loaded), WhenSame::Nothing);
    assert_eq!(refused, Err(Refusal::TemplateActivated(template)));

    let asked = |when_same, desired| {
        let decided = decide(&unit, Some(Launched), None, Some(desired), when_same).unwrap();
        decided.map(|(record, _)| (record.request, record.generation))
    };
    assert_eq!(asked(WhenSame::Nothing, Launched), None, "said again, and nothing is off");
    assert_eq!(asked(WhenSame::Ensure, Launched), Some((1, 7)), "asked for once more");
    assert_eq!(asked(WhenSame::Ensure, Loaded), Some((0, 7)), "another state asks enough");
    assert_eq!(asked(WhenSame::Ensure, Inactive), Some((0, 7)));
    assert_eq!(asked(WhenSame::Restart, Launched), Some((0, 8)));
}

#[test]
fn contents_that_are_not_stored_are_put_again_with_the_record() {
    let text = "[Unit]\nDescription=old\n";
    let (new, unit) = (contents(text), name("a.service"));
    let record = UnitRecord::new(new.hash, Desired::Launched, 7);
    for stored in [None, Some("[Unit]\n"), Some("")] {
        let mut current = Current::at(42);
        current.put(Key::Unit(unit.clone()), &record.encode(), 40);
        if let Some(wrong) = stored {
            current.put(Key::File(new.hash), wrong.as_bytes(), 30);
        }
        let desired = Some(Desired::Launched);
        let request =
            SetUnit { name: unit.clone(), contents: Some(new.clone()), desired, when_same: WhenSame::Nothing };
        let edit = Operation::Set(request).decide(&current).unwrap();
        assert_eq!(edit.outcome, Outcome::Unchanged);
        let file = Write::Put(Key::File(new.hash), text.as_bytes().into());
        // The record, too: its revision tells the engine to look at the contents again.
        assert_eq!(edit.set.writes, [file, Write::Put(Key::Unit(unit.clone()), record.encode())]);
    }
}

#[test]
fn a_snapshot_is_enough_to_go_by_unless_contents_or_values_are_in_question() {
    let (new, unit) = (contents("[Unit]\nDescription=old\n"), name("a.service"));
    let record = UnitRecord::new(new.hash, Desired::Loaded, 7);
    let mut snapshot = Snapshot::default();
    snapshot.put(&Key::Unit(unit.clone()), &record.encode(), 40, Duration::ZERO).unwrap();
    let set = |contents: Option<&Contents>, desired| {
        let (name, contents) = (unit.clone(), contents.cloned());
        Operation::Set(SetUnit { name, contents, desired: Some(desired), when_same: WhenSame::Nothing })
    };
    let outcome = |operation: &Operation, snapshot: &Snapshot| {
        operation.decide_by(snapshot, 50).map(|decided| decided.map(|edit| edit.outcome))
    };
    let launch = set(Some(&new), Desired::Launched);
    assert_eq!(outcome(&launch, &snapshot), Some(Ok(Outcome::Changed)));
    assert_eq!(outcome(&set(None, Desired::Loaded), &snapshot), Some(Ok(Outcome::Unchanged)));
    assert_eq!(outcome(&set(Some(&new), Desired::Loaded), &snapshot), None, "are its contents stored?");
    let other = Operation::Destroy(name("b.service"));
    assert_eq!(outcome(&other, &snapshot), Some(Err(Refusal::UnitMissing)));
    let machine = MachineId::new(&"1".repeat(32)).unwrap();
    assert_eq!(outcome(&Operation::Drain(machine), &snapshot), None);
    snapshot.put(&Key::Global(unit.clone()), br#"{"v":9}"#, 41, Duration::ZERO).unwrap_err();
    assert_eq!(outcome(&launch, &snapshot), None, "what is it that cannot be read?");
}

#[test]
fn a_unit_that_becomes_global_is_no_longer_an_ordinary_one() {
    let unit = name("a.service");
    let record = UnitRecord::new(contents("[Unit]\nDescription=old\n").hash, Desired::Launched, 7);
    let current = with(Some(Key::Unit(unit.clone())), &record);
    let global = Some(contents("[X-Fleet]\nGlobal=true\n"));
    let request = SetUnit { name: unit.clone(), contents: global, desired: None, when_same: WhenSame::Nothing };
    let set = Operation::Set(request).decide(&current).unwrap().set;
    let [ordinary, other] = places(&unit);
    let guard = |key: &Key, revision| Guard { key: key.clone(), revision };
    assert_eq!(set.guards, [guard(&ordinary, 40), guard(&other, 0)]);
    assert_eq!(set.writes[1], Write::Delete(ordinary));
    assert!(matches!(&set.writes[2], Write::Put(key, _) if *key == other));
}

#[test]
fn garbage_is_overwritten_and_destroyed_and_what_a_newer_fleet_wrote_is_left() {
    let unit = name("a.service");
    let set = Operation::Set(SetUnit {
        name: unit.clone(),
        contents: Some(contents("[Unit]\n")),
        desired: None,
        when_same: WhenSame::Nothing,
    });
    let restart = Operation::Restart(RestartUnit { name: unit.clone(), up_to: None, generation: None });
    let destroy = Operation::Destroy(unit.clone());
    let mut current = Current::at(42);
    current.put(Key::Global(unit.clone()), b"garbage", 40);
    assert_eq!(set.decide(&current).unwrap().outcome, Outcome::Created);
    assert_eq!(destroy.decide(&current).unwrap().set.writes, [Write::Delete(Key::Global(unit.clone()))]);
    assert_eq!(restart.decide(&current), Err(Refusal::UnitMissing));
    current.put(Key::Global(unit.clone()), br#"{"v":9,"new":1}"#, 41);
    for operation in [set, destroy, restart] {
        let newer = Refusal::Newer { key: Box::new(Key::Global(unit.clone())), version: 9 };
        assert_eq!(operation.decide(&current), Err(newer), "{operation}");
    }
}

#[test]
fn a_rolling_restart_goes_on_from_machine_to_machine_and_never_back() {
    let id = |digit: &str| MachineId::new(&digit.repeat(32)).unwrap();
    let record = UnitRecord::new(UnitHash::of(""), Desired::Launched, 7);
    let restart =
        |up_to: Option<&str>, generation| RestartUnit { name: name("a.service"), up_to: up_to.map(id), generation };
    let step = |record: &UnitRecord, up_to, generation| restart(up_to, generation).next(record, true);
    let first = step(&record, Some("1"), None).unwrap();
    assert_eq!((first.generation, first.restarted_to.as_deref()), (8, Some(&id("1"))));
    let second = step(&first, Some("3"), Some(8)).unwrap();
    assert_eq!((second.generation, second.restarted_to.as_deref()), (8, Some(&id("3"))));
    assert_eq!(step(&second, Some("2"), Some(8)).unwrap(), second);
    let last = step(&second, None, Some(8)).unwrap();
    assert_eq!((last.generation, last.restarted_to.as_deref()), (8, None));
    assert_eq!(step(&last, Some("2"), Some(8)).unwrap(), last, "one that is over");
    assert_eq!(step(&second, Some("2"), Some(7)), Err(Refusal::OtherRestart));
    assert_eq!(step(&last, None, None).unwrap().generation, 9);
    assert_eq!(restart(Some("1"), None).next(&record, false), Err(Refusal::NotGlobal));
    let loaded = UnitRecord { desired: Desired::Loaded, ..record };
    assert_eq!(restart(None, None).next(&loaded, false), Err(Refusal::NotLaunched(Desired::Loaded)));
}
