//! What differs between two snapshots.

use imbl::{OrdMap, OrdSet, ordmap::DiffItem};

use super::{
    InUseRecord, Key, Kind, LeaderRecord, MachineId, MachineRecord, MetadataEdits, Placement, Snapshot, StateRecord,
    UnitRecord, Versioned, kinds::with_kinds,
};
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

macro_rules! delta {
    (
        followed {$(
            $(#[doc = $about:literal])+
            $kind:ident $(( $($part:ident: $type:ty),+ ))? {
                name: $name:literal, value: $record:ident, field: $field:ident, $($_rest:tt)*
            }
        )+}
        others { $($_others:tt)* }
    ) => {
        #[expect(unused_parens, reason = "around what is one key of several parts for other kinds")]
        impl<'s> Delta<'s> {
            $(
                #[doc = concat!("The keys under `", $name, "` that differ.")]
                pub fn $field(self) -> impl Iterator<Item = Diff<'s, ($($($type),+)?), $record>> {
                    diffs(&self.before.$field, &self.after.$field)
                }
            )+

            /// All keys that differ, in order within each kind.
            pub fn keys(self) -> impl Iterator<Item = Key> + 's {
                let keys = std::iter::empty();
                $(
                    let keys = keys.chain(self.$field().map(|diff| {
                        let ($($($part),+)?) = diff.key.clone();
                        Key::$kind $(( $($part),+ ))?
                    }));
                )+
                keys
            }

            /// Whether any key of a kind differs.
            fn has(self, kind: Kind) -> bool {
                match kind {
                    $(Kind::$kind => self.$field().next().is_some(),)+
                    _ => false,
                }
            }
        }
    };
}
with_kinds!(delta);

impl<'s> Delta<'s> {
    /// What makes `after` of `before`.
    #[must_use]
    pub fn between(before: &'s Snapshot, after: &'s Snapshot) -> Self {
        Self { before, after }
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
        let (before, after) = (&self.before.unreadable, &self.after.unreadable);
        let only = |these: &'s OrdSet<Key>, those: &'s OrdSet<Key>| these.iter().filter(|key| !those.contains(*key));
        let mut readable_otherwise = only(before, after).chain(only(after, before));
        self.is_listed_anew()
            || kinds.iter().any(|kind| self.has(*kind))
            || kinds.contains(&Kind::Machine) && self.departed().next().is_some()
            || readable_otherwise.any(|key| kinds.contains(&key.kind()))
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
        model::{Desired, Record},
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
        let keys: Vec<Key> = Delta::between(&before, &after).keys().collect();
        assert_eq!(keys, ["a.service", "b.service", "d.service"].map(key));
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
