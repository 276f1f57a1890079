//! A decoded, immutable copy of what the store holds, cheap to clone and to compare.
//!
//! Moments are told by a clock of the process that never jumps, as time since some moment before: who puts something in
//! passes the present one.

use std::{sync::Arc, time::Duration};

use imbl::{OrdMap, OrdSet};

use super::{DecodeError, Key, MachineId, MachineRecord, MetadataEdits, Record, StateRecord, UnitRecord};
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

/// The part of the cluster that somebody follows, as of one moment.
///
/// Cloning shares everything; a [`Delta`](super::Delta) between two snapshots costs what changed.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// `unit/`
    pub units: OrdMap<UnitName, Versioned<UnitRecord>>,
    /// `global/`
    pub globals: OrdMap<UnitName, Versioned<UnitRecord>>,
    /// `sched/`
    pub scheduled: OrdMap<(MachineId, UnitName), Versioned<UnitRecord>>,
    /// `machine/`
    pub machines: OrdMap<MachineId, Versioned<MachineRecord>>,
    /// `metadata/`
    pub metadata: OrdMap<MachineId, Versioned<MetadataEdits>>,
    /// `state/`
    pub states: OrdMap<(MachineId, UnitName), Versioned<StateRecord>>,
    /// `leader`: the revision at which the engine that leads has signed last.
    pub leader: Option<Revision>,
    /// Keys whose values cannot be read, say because a newer fleet wrote them. What is known of them is what was read
    /// last, if anything; nothing is to be done about them.
    pub unreadable: OrdSet<Key>,
    /// The keys, as the store has them, that are of no use here: values that cannot be read, and keys of no known kind.
    /// With the revision at which the log was told, so that it is told once.
    pub reported: OrdMap<String, Revision>,
    /// How often each machine's entry was seen to go, so that one that came and went between two looks at this is
    /// seen to have.
    pub departures: OrdMap<MachineId, Departures>,
    /// How often a range was listed anew: what came and went before that was not seen.
    pub lists: u64,
    /// The newest revision that is in here.
    pub revision: Revision,
    /// The revision at which the range that was listed first was listed; 0: all of this comes from the host's disk.
    pub listed: Revision,
    /// Whether every range has been read to its end. Before that, nobody may decide anything.
    pub complete: bool,
    /// Since when the store has been out of reach, by the process's clock.
    pub stale_since: Option<Duration>,
}

/// How a machine went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Departures {
    /// How often.
    pub count: u64,
    /// Whether it had said so the last time.
    pub in_order: bool,
}

impl Snapshot {
    /// Takes a key's new value, which was written at `revision` and has come here `now`.
    ///
    /// # Errors
    /// The value cannot be read. What was known of the key stays.
    pub fn put(&mut self, key: &Key, value: &[u8], revision: Revision, now: Duration) -> Result<(), DecodeError> {
        let outcome = match key.clone() {
            Key::Unit(name) => insert(&mut self.units, name, value, revision, now),
            Key::Global(name) => insert(&mut self.globals, name, value, revision, now),
            Key::Sched(machine, name) => insert(&mut self.scheduled, (machine, name), value, revision, now),
            Key::Machine(id) => insert(&mut self.machines, id, value, revision, now),
            Key::Metadata(id) => insert(&mut self.metadata, id, value, revision, now),
            Key::State(machine, name) => insert(&mut self.states, (machine, name), value, revision, now),
            Key::Leader => {
                self.leader = Some(revision);
                Ok(())
            }
            Key::File(_) | Key::Submitted(..) => Ok(()),
        };
        self.revision = self.revision.max(revision);
        match &outcome {
            Ok(()) => self.unreadable.remove(key),
            Err(_) => self.unreadable.insert(key.clone()),
        };
        outcome
    }

    /// Forgets a key.
    pub fn remove(&mut self, key: &Key) {
        self.unreadable.remove(key);
        match key.clone() {
            Key::Unit(name) => drop(self.units.remove(&name)),
            Key::Global(name) => drop(self.globals.remove(&name)),
            Key::Sched(machine, name) => drop(self.scheduled.remove(&(machine, name))),
            Key::Machine(id) => {
                if let Some(gone) = self.machines.remove(&id) {
                    let departures = self.departures.entry(id).or_default();
                    departures.count += 1;
                    departures.in_order = gone.record.leaving;
                }
            }
            Key::Metadata(id) => drop(self.metadata.remove(&id)),
            Key::State(machine, name) => drop(self.states.remove(&(machine, name))),
            Key::Leader => self.leader = None,
            Key::File(_) | Key::Submitted(..) => {}
        }
    }

    /// Whether this is how things are now, and not how they were when the store was last in reach.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.complete && self.stale_since.is_none()
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

    /// Every key that is in here.
    pub fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        let units = self.units.keys().cloned().map(Key::Unit);
        let globals = self.globals.keys().cloned().map(Key::Global);
        let scheduled = self.scheduled.keys().cloned().map(|(machine, name)| Key::Sched(machine, name));
        let machines = self.machines.keys().cloned().map(Key::Machine);
        let metadata = self.metadata.keys().cloned().map(Key::Metadata);
        let states = self.states.keys().cloned().map(|(machine, name)| Key::State(machine, name));
        let leader = self.leader.map(|_| Key::Leader);
        let known = units.chain(globals).chain(scheduled).chain(machines).chain(metadata).chain(states).chain(leader);
        known.chain(self.unreadable.iter().cloned())
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
