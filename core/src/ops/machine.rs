//! What is said of a machine: its metadata, and whether it is to be emptied or given up.

use std::collections::BTreeMap;

use super::{Current, Edit, Outcome, Refusal, Write, WriteSet};
use crate::model::{Key, MachineId, MetadataEdits, Record};

/// Largest value that the edits of one machine may come to, in bytes.
const MAX_EDITS: usize = 64 << 10;

pub(super) fn edit_metadata(
    machine: &MachineId,
    edits: &BTreeMap<String, Option<String>>,
    current: &Current,
) -> Result<Edit, Refusal> {
    change(machine, current, |known| known.edits.extend(edits.clone()))
}

pub(super) fn drain(machine: &MachineId, current: &Current) -> Result<Edit, Refusal> {
    if !current.has(&Key::Machine(machine.clone())) {
        return Err(Refusal::MachineMissing);
    }
    change(machine, current, |known| known.drain = true)
}

pub(super) fn undrain(machine: &MachineId, current: &Current) -> Result<Edit, Refusal> {
    // Also of a machine that is gone for now: it is to take units when it is back.
    if ![Key::Machine(machine.clone()), Key::Metadata(machine.clone())].iter().any(|key| current.has(key)) {
        return Err(Refusal::MachineMissing);
    }
    change(machine, current, |known| known.drain = false)
}

pub(super) fn evict(machine: &MachineId, is_known: bool, current: &Current) -> Result<Edit, Refusal> {
    let alive = Key::Machine(machine.clone());
    if current.has(&alive) {
        return Err(Refusal::MachineAlive);
    }
    if !is_known {
        return Err(Refusal::MachineMissing);
    }
    let mut edit = change(machine, current, |known| known.evicted = true)?;
    if !edit.set.writes.is_empty() {
        // One that comes back meanwhile keeps its units.
        edit.set.guards.push(current.guard(alive));
    }
    Ok(edit)
}

fn change(machine: &MachineId, current: &Current, change: impl FnOnce(&mut MetadataEdits)) -> Result<Edit, Refusal> {
    let key = Key::Metadata(machine.clone());
    let known = current.metadata(&key)?.cloned().unwrap_or_default();
    let mut edits = known.clone();
    change(&mut edits);
    if edits == known {
        return Ok(Edit::none());
    }
    let value = edits.encode();
    if value.len() > MAX_EDITS {
        return Err(Refusal::LargeEdits { bytes: value.len(), most: MAX_EDITS });
    }
    let guards = vec![current.guard(key.clone())];
    Ok(Edit { set: WriteSet { guards, writes: vec![Write::Put(key, value)] }, outcome: Outcome::Changed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Operation;

    fn machine() -> MachineId {
        MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap()
    }

    /// What an operation writes of a machine, beside others of which something is stored.
    fn written(
        operation: &Operation,
        metadata: Option<&MetadataEdits>,
        alive: bool,
    ) -> Result<Option<String>, Refusal> {
        let mut current = Current::at(50);
        if let Some(edits) = metadata {
            current.put(Key::Metadata(machine()), &edits.encode(), 40);
        }
        if alive {
            current.put(Key::Machine(machine()), b"{}", 41);
        }
        let set = operation.decide(&current)?.set;
        assert_eq!(set.writes.is_empty(), set.guards.is_empty(), "{set:?}");
        let text = |write: &Write| match write {
            Write::Put(_, value) => String::from_utf8(value.clone()).unwrap(),
            Write::Delete(key) => panic!("{key:?} is deleted"),
        };
        Ok(set.writes.first().map(text))
    }

    #[test]
    fn one_thing_that_is_said_of_a_machine_leaves_the_others() {
        let edits = MetadataEdits { edits: [("disk".into(), Some("ssd".into()))].into(), ..Default::default() };
        let drained = MetadataEdits { drain: true, ..edits.clone() };
        let rack =
            Operation::EditMetadata(machine(), [("rack".into(), Some("r7".into())), ("old".into(), None)].into());
        for (operation, before, after) in [
            (Operation::Drain(machine()), Some(&edits), Some(r#"{"v":1,"edits":{"disk":"ssd"},"drain":true}"#)),
            (Operation::Drain(machine()), None, Some(r#"{"v":1,"edits":{},"drain":true}"#)),
            (Operation::Drain(machine()), Some(&drained), None),
            (Operation::Undrain(machine()), Some(&drained), Some(r#"{"v":1,"edits":{"disk":"ssd"}}"#)),
            (Operation::Undrain(machine()), Some(&edits), None),
            (Operation::Undrain(machine()), None, None),
            (rack, Some(&edits), Some(r#"{"v":1,"edits":{"disk":"ssd","old":null,"rack":"r7"}}"#)),
        ] {
            assert_eq!(written(&operation, before, true).unwrap().as_deref(), after, "{operation}");
        }
    }

    #[test]
    fn a_machine_that_is_gone_can_be_undrained_and_evicted_only() {
        let edits = MetadataEdits { drain: true, ..Default::default() };
        let evict = |is_known| Operation::Evict { machine: machine(), is_known };
        assert_eq!(written(&Operation::Drain(machine()), Some(&edits), false), Err(Refusal::MachineMissing));
        assert_eq!(written(&Operation::Undrain(machine()), None, false), Err(Refusal::MachineMissing));
        assert!(written(&Operation::Undrain(machine()), Some(&edits), false).is_ok());
        assert_eq!(written(&evict(true), None, true), Err(Refusal::MachineAlive));
        assert_eq!(written(&evict(false), None, false), Err(Refusal::MachineMissing));
        let mut current = Current::at(50);
        current.put(Key::Metadata(machine()), &edits.encode(), 40);
        let set = evict(true).decide(&current).unwrap().set;
        let guard = |key, revision| crate::ops::Guard { key, revision };
        assert_eq!(set.guards, [guard(Key::Metadata(machine()), 40), guard(Key::Machine(machine()), 0)]);
    }

    #[test]
    fn edits_are_bounded_and_those_of_a_newer_fleet_are_left() {
        let value = "x".repeat(MAX_EDITS);
        let large = Operation::EditMetadata(machine(), [("a".into(), Some(value))].into());
        assert!(matches!(large.decide(&Current::at(1)), Err(Refusal::LargeEdits { .. })));
        let mut current = Current::at(50);
        current.put(Key::Metadata(machine()), br#"{"v":2,"edits":{}}"#, 40);
        current.put(Key::Machine(machine()), b"{}", 41);
        let refusal = Operation::Drain(machine()).decide(&current).unwrap_err();
        let words = format!("metadata/{} in etcd: written with schema version 2, upgrade this fleet", machine());
        assert_eq!(refusal.to_string(), words);
    }
}
