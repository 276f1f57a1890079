//! A decoded, immutable copy of what the store holds, cheap to clone and to compare. It has a map for each kind of keys
//! that is followed, see [`super::kinds`].
//!
//! Moments are told by a clock of the process that never jumps, as time since some moment before: who puts something in
//! passes the present one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use imbl::{OrdMap, OrdSet};

use super::{
    DecodeError, InUseRecord, Key, Kind, LeaderRecord, MachineId, MachineRecord, MetadataEdits, Placement, Record,
    StateRecord, UnitRecord, kinds::with_kinds,
};
use crate::unit::UnitName;

/// A revision of the store. 0 stands for "no such key" in guards.
pub type Revision = i64;

/// A record and the revision that wrote it.
///
/// Two are equal when their revisions are: a key has one value at a revision.
#[derive(Debug)]
pub struct Versioned<T> {
    /// The record.
    pub record: Arc<T>,
    /// The revision that wrote it.
    pub revision: Revision,
    /// When that revision came here, by the process's clock.
    pub seen: Duration,
}

impl<T> Versioned<T> {
    /// A record that has come here at this moment.
    #[must_use]
    pub fn new(record: T, revision: Revision, seen: Duration) -> Self {
        Self { record: Arc::new(record), revision, seen }
    }
}

impl<T> Clone for Versioned<T> {
    fn clone(&self) -> Self {
        Self { record: Arc::clone(&self.record), ..*self }
    }
}

impl<T> PartialEq for Versioned<T> {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision
    }
}

macro_rules! snapshot {
    (
        followed {$(
            $(#[doc = $about:literal])+
            $kind:ident $(( $($part:ident: $type:ty),+ ))? {
                name: $name:literal, value: $record:ident, field: $field:ident, $($_rest:tt)*
            }
        )+}
        others { $($_others:tt)* }
    ) => {
        /// The part of the cluster that somebody follows, as of one moment.
        ///
        /// Cloning shares everything; a [`Delta`](super::Delta) between two snapshots costs what changed.
        #[expect(unused_parens, reason = "around what is one key of several parts for other kinds")]
        #[derive(Clone, Default)]
        pub struct Snapshot {
            $(
                $(#[doc = $about])+
                pub $field: OrdMap<($($($type),+)?), Versioned<$record>>,
            )+
            /// Keys whose values cannot be read, say because a newer fleet wrote them. What is known of them is what was
            /// read last, if anything; nothing is to be done about them.
            pub unreadable: OrdSet<Key>,
            /// The keys, as the store has them, that are of no use here: values that cannot be read, and names that no
            /// key can have. With the revision at which the log was told, so that it is told once.
            pub reported: OrdMap<String, Revision>,
            /// How often each machine's entry was seen to go, so that one that came and went between two looks at this
            /// is seen to have.
            pub departures: OrdMap<MachineId, Departures>,
            /// What machines are to do with each global unit, as it was read last: many are to do the same.
            pub common: OrdMap<UnitName, Arc<Placement>>,
            /// How often a range was listed anew: what came and went before that was not seen.
            pub lists: u64,
            /// The newest revision that is in here.
            pub revision: Revision,
            /// The revision at which the range that was listed first was listed; 0: all of this comes from the host's
            /// disk.
            pub listed: Revision,
            /// Whether every range has been read to its end. Before that, nobody may decide anything.
            pub complete: bool,
            /// Since when the store has been out of reach, by the process's clock.
            pub stale_since: Option<Duration>,
        }

        #[expect(unused_parens, reason = "around what is one key of several parts for other kinds")]
        impl Snapshot {
            /// Takes a key's new value, which was written at `revision` and has come here `now`. One of a kind that
            /// nobody follows is passed over.
            ///
            /// # Errors
            /// The value cannot be read. What was known of the key stays.
            pub fn put(
                &mut self,
                key: &Key,
                value: &[u8],
                revision: Revision,
                now: Duration,
            ) -> Result<(), DecodeError> {
                self.revision = self.revision.max(revision);
                let outcome = match self.with_known_name(key.clone()) {
                    $( Key::$kind $(( $($part),+ ))? => {
                        insert(&mut self.$field, ($($($part),+)?), value, revision, now)
                    } )+
                    _ => return Ok(()),
                };
                if outcome.is_ok() {
                    self.share(key);
                }
                match &outcome {
                    Ok(()) => self.unreadable.remove(key),
                    Err(_) => self.unreadable.insert(key.clone()),
                };
                outcome
            }

            /// Forgets a key.
            pub fn remove(&mut self, key: &Key) {
                self.unreadable.remove(key);
                match key {
                    Key::Machine(id) => self.depart(id),
                    Key::Global(unit) => drop(self.common.remove(unit)),
                    _ => {}
                }
                match key.clone() {
                    $( Key::$kind $(( $($part),+ ))? => drop(self.$field.remove(&($($($part),+)?))), )+
                    _ => {}
                }
            }

            /// Every key of which something is known, and the revision that wrote that.
            pub fn entries(&self) -> impl Iterator<Item = (Key, Revision)> + '_ {
                let entries = std::iter::empty();
                $(
                    let entries = entries.chain(self.$field.iter().map(|(key, value)| {
                        let ($($($part),+)?) = key.clone();
                        (Key::$kind $(( $($part),+ ))?, value.revision)
                    }));
                )+
                entries
            }
        }
    };
}
with_kinds!(snapshot);

/// How a machine went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// How often.
    pub count: u64,
    /// Whether it had said so the last time.
    pub in_order: bool,
}

impl Snapshot {
    /// Takes note that a machine's entry goes.
    fn depart(&mut self, id: &MachineId) {
        if let Some(gone) = self.machines.get(id) {
            let departures = self.departures.entry(id.clone()).or_default();
            departures.count += 1;
            departures.in_order = gone.record.leaving;
        }
    }

    /// The same key, with the name of a global unit as it is in here: it stands in two keys for each machine, and those
    /// need not have one each.
    fn with_known_name(&self, key: Key) -> Key {
        let known = |unit: UnitName| self.globals.get_key_value(&unit).map_or(unit, |(known, _)| known.clone());
        match key {
            Key::Sched(id, unit) => Key::Sched(id, known(unit)),
            Key::State(id, unit) => Key::State(id, known(unit)),
            key => key,
        }
    }

    /// Has an entry of a global unit share its placement with others of the same.
    fn share(&mut self, key: &Key) {
        let Key::Sched(id, unit) = key else { return };
        let Some((known, _)) = self.globals.get_key_value(unit) else { return };
        let Some(entry) = self.scheduled.get_mut(&(id.clone(), unit.clone())).filter(|it| it.record.global) else {
            return;
        };
        match self.common.get(unit).filter(|common| **common == entry.record) {
            Some(common) => entry.record = Arc::clone(common),
            None => drop(self.common.insert(known.clone(), Arc::clone(&entry.record))),
        }
    }

    /// Every key that is in here.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.entries().map(|(key, _)| key).chain(self.unreadable.iter().cloned())
    }

    /// Whether this is how things are now, and not how they were when the store was last in reach.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.complete && self.stale_since.is_none()
    }

    /// Whether an engine leads.
    #[must_use]
    pub fn has_leader(&self) -> bool {
        !self.leader.is_empty() || self.unreadable.contains(&Key::Leader)
    }

    /// Whether a machine is being drained.
    #[must_use]
    pub fn drains(&self, machine: &MachineId) -> bool {
        self.metadata.get(machine).is_some_and(|edits| edits.record.drain)
    }

    /// A number that is another one once the machine has been here since it was last looked at.
    #[must_use]
    pub fn departures_of(&self, machine: &MachineId) -> u64 {
        self.lists + self.departures.get(machine).map_or(0, |departures| departures.count)
    }

    /// Whether the machine had stopped its units and said that it goes when it was last here.
    #[must_use]
    pub fn left_in_order(&self, machine: &MachineId) -> bool {
        self.departures.get(machine).is_some_and(|departures| departures.in_order)
    }

    /// Whether the cluster uses this.
    #[must_use]
    pub fn uses(&self, feature: &str) -> bool {
        self.in_use.values().any(|in_use| in_use.record.features.has(feature))
    }

    /// Whether all machines understand this, and so does the leader, if there is one: a capability that concerns them is
    /// used only then. Of one whose entry cannot be read nobody knows.
    #[must_use]
    pub fn all_understand(&self, feature: &str) -> bool {
        let unreadable = |key: &Key| matches!(key.kind(), Kind::Machine | Kind::Leader);
        self.machines.values().all(|machine| machine.record.features.has(feature))
            && self.leader.values().all(|leader| leader.record.features.has(feature))
            && !self.unreadable.iter().any(unreadable)
    }

    /// The machines for which a capability waits: those that do not say that they understand it, that of the leader if
    /// that does not, and those whose entries cannot be read.
    #[must_use]
    pub fn without(&self, feature: &str) -> BTreeSet<&MachineId> {
        let machines = self.machines.iter().filter(|(_, machine)| !machine.record.features.has(feature));
        let leaders = self.leader.values().filter(|leader| !leader.record.features.has(feature));
        let unreadable = self.unreadable.iter().filter_map(|key| match key {
            Key::Machine(id) => Some(id),
            _ => None,
        });
        machines.map(|(id, _)| id).chain(leaders.map(|leader| &leader.record.machine)).chain(unreadable).collect()
    }

    /// The oldest version of fleetd on any machine.
    #[must_use]
    pub fn oldest_version(&self) -> Option<&str> {
        // `0.10.0` comes after `0.9.1`, and before a release of a number come those of it with a name, as in `1.2.0-rc1`.
        let numbers =
            |version: &str| -> Vec<u64> { version.split(['.', '-']).map_while(|part| part.parse().ok()).collect() };
        let versions = self.machines.values().map(|machine| &*machine.record.version);
        versions.min_by_key(|version| (numbers(version), !version.contains('-')))
    }
}

fn insert<K: Ord + Clone, T: Record>(
    map: &mut OrdMap<K, Versioned<T>>,
    key: K,
    value: &[u8],
    revision: Revision,
    now: Duration,
) -> Result<(), DecodeError> {
    let mut value = Versioned::new(T::decode(value)?, revision, now);
    // A list, and a watch that is opened again, tell what is known already.
    if let Some(known) = map.get(&key).filter(|known| known.revision == value.revision) {
        value.seen = known.seen;
    }
    map.insert(key, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Features, features};

    fn machine(n: u32) -> MachineId {
        MachineId::new(&format!("{n:032x}")).unwrap()
    }

    fn put(snapshot: &mut Snapshot, key: &Key, value: &str) {
        let _ = snapshot.put(key, value.as_bytes(), snapshot.revision + 1, Duration::ZERO);
    }

    #[test]
    fn machine_that_goes_and_comes_back_is_seen_to_have_gone() {
        let mut snapshot = Snapshot::default();
        let key = Key::Machine(machine(1));
        let value = r#"{"v":1,"address":"","hostname":"","version":"1","boot_id":"","cpus":1,"memory":1"#;
        put(&mut snapshot, &key, &format!("{value}}}"));
        let before = snapshot.departures_of(&machine(1));
        snapshot.remove(&key);
        assert!(!snapshot.left_in_order(&machine(1)));
        put(&mut snapshot, &key, &format!("{value},\"leaving\":true}}"));
        snapshot.remove(&key);
        assert!(snapshot.left_in_order(&machine(1)) && snapshot.departures_of(&machine(1)) == before + 2);
        snapshot.remove(&key);
        assert_eq!(snapshot.departures_of(&machine(1)), before + 2, "it was not there");
    }

    #[test]
    fn capability_is_used_only_when_all_who_are_concerned_say_that_they_understand_it() {
        let feature = features::KEEPS_UNKNOWN;
        let host = |version: &str, features: &str| {
            format!(
                r#"{{"v":1,"address":"","hostname":"","version":"{version}","boot_id":"","cpus":1,"memory":1{features}}}"#
            )
        };
        let own = format!(",\"features\":{}", serde_json::to_string(&Features::of_this_daemon()).unwrap());
        let mut snapshot = Snapshot::default();
        assert_eq!(snapshot.oldest_version(), None);
        put(&mut snapshot, &Key::Machine(machine(1)), &host("0.10.0", &own));
        put(&mut snapshot, &Key::Machine(machine(2)), &host("0.9.1", r#","features":["later","keeps-unknown"]"#));
        assert!(snapshot.all_understand(feature) && !snapshot.all_understand("later"));
        assert_eq!(snapshot.oldest_version(), Some("0.9.1"));
        let all = snapshot.clone();
        put(&mut snapshot, &Key::Leader, &format!(r#"{{"v":1,"machine":"{}"}}"#, machine(1)));
        assert!(!snapshot.all_understand(feature), "the leader does not say so");
        snapshot = all.clone();
        put(&mut snapshot, &Key::Machine(machine(3)), &host("0.9", ""));
        assert!(!snapshot.all_understand(feature) && snapshot.oldest_version() == Some("0.9"));
        put(&mut snapshot, &Key::Machine(machine(3)), &host("0.9-rc1", ""));
        assert_eq!(snapshot.oldest_version(), Some("0.9-rc1"));
        put(&mut snapshot, &Key::Machine(machine(4)), &host("unknown", ""));
        assert_eq!(snapshot.oldest_version(), Some("unknown"));
        snapshot = all;
        put(&mut snapshot, &Key::Machine(machine(3)), r#"{"v":2}"#);
        assert!(!snapshot.all_understand(feature), "nobody knows of one that cannot be read");
    }

    #[test]
    fn capability_waits_for_those_who_do_not_say_that_they_understand_it() {
        let feature = features::GLOBAL_PLACEMENTS;
        let host = |features: &str| {
            let value = r#"{"v":1,"address":"","hostname":"","version":"1","boot_id":"","cpus":1,"memory":1"#;
            format!("{value},\"features\":{features}}}")
        };
        let [own, few] = [r#"["global-placements","later"]"#, r#"["keeps-unknown"]"#];
        let mut snapshot = Snapshot::default();
        assert!(snapshot.without(feature).is_empty());
        put(&mut snapshot, &Key::Machine(machine(1)), &host(own));
        put(&mut snapshot, &Key::Machine(machine(2)), &host(few));
        put(&mut snapshot, &Key::Machine(machine(3)), &host("[]"));
        assert_eq!(snapshot.without(feature), [&machine(2), &machine(3)].into());
        assert_eq!(snapshot.without("later"), [&machine(2), &machine(3)].into());
        snapshot.remove(&Key::Machine(machine(2)));
        put(&mut snapshot, &Key::Machine(machine(3)), &host(own));
        assert!(snapshot.without(feature).is_empty() && snapshot.all_understand(feature));
        put(&mut snapshot, &Key::Leader, &format!(r#"{{"v":1,"machine":"{}"}}"#, machine(1)));
        assert_eq!(snapshot.without(feature), [&machine(1)].into(), "the engine is an older one");
        put(&mut snapshot, &Key::Leader, &format!(r#"{{"v":1,"machine":"{}","features":{own}}}"#, machine(1)));
        put(&mut snapshot, &Key::Machine(machine(4)), r#"{"v":2}"#);
        assert_eq!(snapshot.without(feature), [&machine(4)].into(), "nobody knows");
    }

    #[test]
    fn entries_of_a_global_unit_that_say_the_same_are_kept_once() {
        let mut snapshot = Snapshot::default();
        let unit = UnitName::new("a.service").unwrap();
        let hash = "0".repeat(40);
        let value = format!(r#"{{"v":1,"hash":"{hash}","desired":"launched""#);
        let entry = |generation| format!(r#"{},"generation":{generation},"global":true}}"#, value.replace(":1", ":2"));
        put(&mut snapshot, &Key::Global(unit.clone()), &format!("{value}}}"));
        for (n, generation) in [(1, 1), (2, 1), (3, 2)] {
            put(&mut snapshot, &Key::Sched(machine(n), unit.clone()), &entry(generation));
        }
        put(&mut snapshot, &Key::Sched(machine(4), unit.clone()), &format!("{value},\"generation\":2}}"));
        let record = |n| &snapshot.scheduled.get(&(machine(n), unit.clone())).unwrap().record;
        assert!(Arc::ptr_eq(record(1), record(2)) && !Arc::ptr_eq(record(2), record(3)));
        assert_eq!((record(2).generation, record(3).generation, record(4).global), (1, 2, false));
        let names = snapshot.scheduled.keys().map(|(_, name)| name.as_str().as_ptr());
        assert_eq!(names.collect::<std::collections::BTreeSet<_>>().len(), 1);
        snapshot.remove(&Key::Global(unit));
        assert!(snapshot.common.is_empty() && snapshot.scheduled.len() == 4);
    }

    #[test]
    fn what_nobody_follows_is_passed_over() {
        let mut snapshot = Snapshot::default();
        put(&mut snapshot, &Key::Held, "no JSON");
        snapshot.remove(&Key::Held);
        assert!(snapshot.keys().next().is_none() && snapshot.revision == 1);
    }
}
