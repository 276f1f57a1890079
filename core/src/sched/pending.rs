//! Wanted units that no machine could take, indexed by what could change that: those that are nowhere, and those
//! that should leave the machine where they are.
//!
//! A unit is pending because each machine has a reason against it. When one machine changes, only the units for
//! which that change may have removed the reason are tried again, and only on that machine: all others still have
//! theirs. What each reason waits for:
//!
//! | Reason | Found again by |
//! |---|---|
//! | machine not there, or of other metadata or ID | [`Pending::hoping_for`] when a machine comes or changes |
//! | conflict with, or replaced by, a unit there | [`Pending::related_to`] when that unit leaves or changes |
//! | still running where it was told to stop | `given_up`, which has it judged |
//! | target elsewhere or nowhere | the target's followers, in the table of units |

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    conflicts::{Patterns, matching, remove_from},
    keys::UnitKey,
    machines::MachineSlot,
    reason::Unplaceable,
};
use crate::unit::{Requirements, UnitName};

#[derive(Debug)]
struct Entry {
    unit: UnitKey,
    requirements: Arc<Requirements>,
    reason: Unplaceable,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: BTreeMap<UnitName, Entry>,
    /// Those that any machine may help.
    anywhere: BTreeSet<UnitKey>,
    /// Those that only a machine with this metadata may help; of several keys one is enough to find them.
    by_metadata: BTreeMap<String, BTreeMap<String, BTreeSet<UnitKey>>>,
    /// Those that only this machine, whole or short ID, may help.
    by_machine: BTreeMap<String, BTreeSet<UnitKey>>,
    /// What they declare: `Conflicts` and `Replaces`.
    patterns: Patterns<UnitKey>,
}

impl Pending {
    pub fn iter(&self) -> impl Iterator<Item = (&UnitName, UnitKey, &Unplaceable)> {
        self.entries.iter().map(|(name, entry)| (name, entry.unit, &entry.reason))
    }

    pub fn contains(&self, name: &UnitName) -> bool {
        self.entries.contains_key(name)
    }

    /// Takes a unit up, or renews its reason.
    pub fn insert(&mut self, name: &UnitName, unit: UnitKey, requirements: &Arc<Requirements>, reason: Unplaceable) {
        let entry = Entry { unit, requirements: requirements.clone(), reason };
        if self.entries.insert(name.clone(), entry).is_some() {
            return;
        }
        for pattern in requirements.conflicts.iter().chain(&requirements.replaces) {
            self.patterns.insert(pattern, unit);
        }
        if let Some(id) = &requirements.machine_id {
            self.by_machine.entry(id.clone()).or_default().insert(unit);
        } else if let Some((key, values)) = requirements.metadata.first_key_value() {
            let by_value = self.by_metadata.entry(key.clone()).or_default();
            for value in values {
                by_value.entry(value.clone()).or_default().insert(unit);
            }
        } else {
            self.anywhere.insert(unit);
        }
    }

    pub fn remove(&mut self, name: &UnitName) {
        let Some(Entry { unit, requirements, .. }) = self.entries.remove(name) else { return };
        for pattern in requirements.conflicts.iter().chain(&requirements.replaces) {
            self.patterns.remove(pattern, &unit);
        }
        if let Some(id) = &requirements.machine_id {
            remove_from(&mut self.by_machine, id, &unit);
        }
        let first_key = requirements.metadata.first_key_value();
        if let Some((by_value, values)) =
            first_key.and_then(|(key, values)| Some((self.by_metadata.get_mut(key)?, values)))
        {
            values.iter().for_each(|value| remove_from(by_value, value, &unit));
        }
        self.anywhere.remove(&unit);
    }

    /// Those that this machine may help, new or changed as it is.
    pub fn hoping_for(&self, machine: &MachineSlot) -> Vec<UnitKey> {
        let by_id = [machine.id.as_str(), machine.id.short()].into_iter().filter_map(|id| self.by_machine.get(id));
        let by_metadata = machine.metadata.iter().filter_map(|(key, value)| self.by_metadata.get(key)?.get(value));
        [&self.anywhere].into_iter().chain(by_id).chain(by_metadata).flatten().copied().collect()
    }

    /// Those that have a conflict with this unit, or would replace it, or are replaced by it.
    pub fn related_to(&self, name: &UnitName, requirements: &Requirements) -> Vec<UnitKey> {
        if self.entries.is_empty() {
            return Vec::new();
        }
        let patterns = requirements.conflicts.iter().chain(&requirements.replaces);
        let ours = patterns.flat_map(|pattern| matching(&self.entries, pattern)).map(|(_, entry)| entry.unit);
        ours.chain(self.patterns.declared_against(name).copied()).collect()
    }
}
