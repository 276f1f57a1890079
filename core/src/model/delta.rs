//! What differs between two snapshots.

use imbl::{OrdMap, ordmap::DiffItem};

use super::{Kind, MachineId, MachineRecord, MetadataEdits, Snapshot, StateRecord, UnitRecord, Versioned};
use crate::unit::UnitName;

/// The difference of two snapshots.
///
/// Building one costs nothing. The maps of both share what did not change, so that walking over what did costs just
/// that; each walk goes in order of keys.
#[derive(Clone, Copy)]
pub struct Delta<'s> {
    /// The earlier snapshot.
    pub before: &'s Snapshot,
    /// The later snapshot.
    pub after: &'s Snapshot,
}

/// One key that differs. It is in one of both snapshots at least.
pub struct Diff<'s, K, T> {
    /// The key.
    pub key: &'s K,
    /// What it held; `None`: it is new.
    pub before: Option<&'s Versioned<T>>,
    /// What it holds; `None`: it is gone.
    pub after: Option<&'s Versioned<T>>,
}

impl<'s> Delta<'s> {
    /// What makes `after` of `before`.
    #[must_use]
    pub fn between(before: &'s Snapshot, after: &'s Snapshot) -> Self {
        Self { before, after }
    }

    /// The units that differ.
    pub fn units(self) -> impl Iterator<Item = Diff<'s, UnitName, UnitRecord>> {
        diffs(&self.before.units, &self.after.units)
    }

    /// The global units that differ.
    pub fn globals(self) -> impl Iterator<Item = Diff<'s, UnitName, UnitRecord>> {
        diffs(&self.before.globals, &self.after.globals)
    }

    /// What is scheduled otherwise.
    pub fn scheduled(self) -> impl Iterator<Item = Diff<'s, (MachineId, UnitName), UnitRecord>> {
        diffs(&self.before.scheduled, &self.after.scheduled)
    }

    /// The machines that differ.
    pub fn machines(self) -> impl Iterator<Item = Diff<'s, MachineId, MachineRecord>> {
        diffs(&self.before.machines, &self.after.machines)
    }

    /// The machines of which other things are said.
    pub fn metadata(self) -> impl Iterator<Item = Diff<'s, MachineId, MetadataEdits>> {
        diffs(&self.before.metadata, &self.after.metadata)
    }

    /// The states that differ.
    pub fn states(self) -> impl Iterator<Item = Diff<'s, (MachineId, UnitName), StateRecord>> {
        diffs(&self.before.states, &self.after.states)
    }

    /// The machines whose entry was seen to go, even if it is back.
    pub fn departed(self) -> impl Iterator<Item = &'s MachineId> {
        self.before.departures.diff(&self.after.departures).filter_map(|item| match item {
            DiffItem::Add(id, _) | DiffItem::Update { new: (id, _), .. } => Some(id),
            DiffItem::Remove(..) => None,
        })
    }

    /// Whether a range was listed anew: what came and went before that was not seen.
    #[must_use]
    pub fn is_listed_anew(self) -> bool {
        self.before.lists != self.after.lists
    }

    /// Whether anything of these kinds differs, or may have been otherwise in between: also what cannot be read.
    #[must_use]
    pub fn touches(self, kinds: &[Kind]) -> bool {
        let (before, after) = (self.before, self.after);
        let differs = |kind: &Kind| match kind {
            Kind::File | Kind::Submitted => false,
            Kind::Global => self.globals().next().is_some(),
            Kind::Leader => before.leader != after.leader,
            Kind::Machine => self.machines().next().is_some() || self.departed().next().is_some(),
            Kind::Metadata => self.metadata().next().is_some(),
            Kind::Sched => self.scheduled().next().is_some(),
            Kind::State => self.states().next().is_some(),
            Kind::Unit => self.units().next().is_some(),
        };
        let mut unreadable = before.unreadable.iter().filter(|key| !after.unreadable.contains(*key));
        let mut unreadable_now = after.unreadable.iter().filter(|key| !before.unreadable.contains(*key));
        self.is_listed_anew()
            || kinds.iter().any(differs)
            || unreadable.any(|key| kinds.contains(&key.kind()))
            || unreadable_now.any(|key| kinds.contains(&key.kind()))
    }
}

fn diffs<'s, K: Ord, T>(
    before: &'s OrdMap<K, Versioned<T>>,
    after: &'s OrdMap<K, Versioned<T>>,
) -> impl Iterator<Item = Diff<'s, K, T>> {
    before.diff(after).map(|item| match item {
        DiffItem::Add(key, after) => Diff { key, before: None, after: Some(after) },
        DiffItem::Update { old: (_, before), new: (key, after) } => {
            Diff { key, before: Some(before), after: Some(after) }
        }
        DiffItem::Remove(key, before) => Diff { key, before: Some(before), after: None },
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        model::{Desired, Key, Record},
        unit::UnitHash,
    };

    fn key(unit: &str) -> Key {
        Key::Unit(UnitName::new(unit).unwrap())
    }

    fn put(snapshot: &mut Snapshot, unit: &str, revision: i64) {
        let value = UnitRecord::new(UnitHash::of(""), Desired::Launched, 0).encode();
        snapshot.put(&key(unit), &value, revision, Duration::ZERO).unwrap();
    }

    #[test]
    fn difference_tells_what_came_changed_and_went_in_order() {
        let mut before = Snapshot::default();
        for (unit, revision) in [("a.service", 1), ("b.service", 2), ("c.service", 3)] {
            put(&mut before, unit, revision);
        }
        let mut after = before.clone();
        put(&mut after, "d.service", 4);
        put(&mut after, "b.service", 5);
        put(&mut after, "c.service", 3);
        after.remove(&key("a.service"));
        let told: Vec<_> = Delta::between(&before, &after)
            .units()
            .map(|diff| (diff.key.as_str(), diff.before.map(|v| v.revision), diff.after.map(|v| v.revision)))
            .collect();
        let expected = [("a.service", Some(1), None), ("b.service", Some(2), Some(5)), ("d.service", None, Some(4))];
        assert_eq!(told, expected);
    }

    #[test]
    fn difference_touches_the_kinds_of_what_differs_and_of_what_cannot_be_read() {
        let before = Snapshot::default();
        let mut after = before.clone();
        assert!(!Delta::between(&before, &after).touches(&[Kind::Unit, Kind::Machine]));
        put(&mut after, "a.service", 1);
        assert!(Delta::between(&before, &after).touches(&[Kind::Machine, Kind::Unit]));
        assert!(!Delta::between(&before, &after).touches(&[Kind::Machine, Kind::Global]));
        let before = after.clone();
        after.put(&key("a.service"), b"{}", 2, Duration::ZERO).unwrap_err();
        let (there, back) = (Delta::between(&before, &after), Delta::between(&after, &before));
        assert!(there.touches(&[Kind::Unit]) && back.touches(&[Kind::Unit]) && !there.touches(&[Kind::Sched]));
        after = before.clone();
        after.lists += 1;
        assert!(Delta::between(&before, &after).touches(&[]), "what came and went was not seen");
    }
}
