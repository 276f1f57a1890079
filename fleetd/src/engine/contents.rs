//! What units ask for, by their contents.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Placement, UnitRecord},
    unit::{OnPartition, Requirements, UnitFile, UnitHash, UnitName},
};
use tracing::warn;

use crate::registry::{Store, StoreError, files::Files};

/// Files that are read at a time, and most that stay after that: a new leader has to read those of all units, and memory
/// is to hold few of them.
const AT_ONCE: usize = 1024;

/// Whether a copy of a unit must be down before another one starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// Two for a while are better than none.
    Any,
    /// One at most. A machine that is cut off stops it within this time; `None`: at no time that is known.
    One(Option<Duration>),
}

impl Copies {
    /// Whether a copy that is down by this rule may be running still by the other.
    pub fn is_weaker_than(self, other: Self) -> bool {
        match (self, other) {
            (_, Self::Any) | (Self::One(None), _) => false,
            (Self::Any, Self::One(_)) | (Self::One(Some(_)), Self::One(None)) => true,
            (Self::One(Some(ours)), Self::One(Some(theirs))) => ours < theirs,
        }
    }

    fn of(requirements: &Requirements) -> Self {
        match requirements.on_partition {
            OnPartition::Keep => Self::Any,
            OnPartition::Stop => Self::One(requirements.stop_bound),
        }
    }
}

/// Reads the requirements of units, and keeps them.
#[derive(Default)]
pub struct Contents {
    requirements: BTreeMap<UnitName, (UnitHash, Arc<Requirements>)>,
    /// Of all that is wanted, and of what is scheduled, which need not be what is wanted now.
    copies: BTreeMap<UnitHash, Copies>,
    /// Files that are not in the store.
    missing: BTreeSet<UnitHash>,
}

impl Contents {
    /// Reads what these units, and these placements, ask for. Of the files it leaves in `files` those of units that are
    /// new, for whoever places them.
    ///
    /// # Errors
    /// The store does not answer. What is asked for again then is what has not been read.
    pub async fn read<'r, S: Store>(
        &mut self,
        files: &Files<S>,
        units: impl Iterator<Item = (&'r UnitName, &'r UnitRecord)>,
        placements: impl Iterator<Item = (&'r UnitName, &'r Placement)>,
    ) -> Result<(), StoreError> {
        let units: Vec<_> = units
            .map(|(unit, record)| (unit, record.hash))
            .filter(|(unit, hash)| self.requirements.get(*unit).is_none_or(|read| read.0 != *hash))
            .collect();
        let placements: BTreeMap<UnitHash, &UnitName> = placements
            .map(|(unit, record)| (record.hash, unit))
            .filter(|(hash, _)| !self.copies.contains_key(hash))
            .collect();
        let asked: BTreeSet<UnitHash> = units.iter().map(|(_, hash)| *hash).chain(placements.keys().copied()).collect();
        let mut users: BTreeMap<UnitHash, Vec<&UnitName>> = BTreeMap::new();
        for (unit, hash) in units {
            users.entry(hash).or_default().push(unit);
        }
        let new: BTreeSet<UnitHash> =
            users.keys().filter(|hash| !placements.contains_key(hash)).take(AT_ONCE).copied().collect();
        let asked: Vec<UnitHash> = asked.into_iter().collect();
        for asked in asked.chunks(AT_ONCE) {
            let read = files.get(asked.iter().copied()).await?;
            for hash in asked {
                let users = users.get(hash).map(Vec::as_slice).unwrap_or_default();
                let Some(file) = read.get(hash) else {
                    for unit in users {
                        self.requirements.remove(*unit);
                        if !self.missing.contains(hash) {
                            warn!(%unit, %hash, "the unit's file is missing in the store, submit it again");
                        }
                    }
                    self.missing.insert(*hash);
                    continue;
                };
                self.missing.remove(hash);
                // What is wanted will be scheduled.
                if let Some(unit) = placements.get(hash).or(users.first()) {
                    self.copies.insert(*hash, scheduled_copies(file, unit));
                }
                users.iter().for_each(|unit| self.read_wanted(unit, *hash, file));
            }
            // Of the others is kept what was read in them.
            files.retain(|hash| self.missing.contains(hash) || new.contains(hash));
        }
        Ok(())
    }

    fn read_wanted(&mut self, unit: &UnitName, hash: UnitHash, file: &UnitFile) {
        match Requirements::read(file, unit) {
            Ok((requirements, _)) => {
                self.requirements.insert(unit.clone(), (hash, Arc::new(requirements)));
            }
            Err(error) => {
                warn!(%unit, %error, "what the unit asks for cannot be read, it stays as it is");
                self.requirements.remove(unit);
            }
        }
    }

    /// Files that were not in the store when they were asked for.
    pub fn missing(&self) -> &BTreeSet<UnitHash> {
        &self.missing
    }

    /// What a unit asks for; `None` when nobody knows.
    pub fn of(&self, unit: &UnitName) -> Option<&Arc<Requirements>> {
        self.requirements.get(unit).map(|(_, requirements)| requirements)
    }

    /// How many copies there may be of a unit as it is wanted.
    pub fn wanted_copies(&self, unit: &UnitName) -> Copies {
        self.of(unit).map_or(Copies::Any, |requirements| Copies::of(requirements))
    }

    /// How many copies there may be of what is scheduled with these contents: one, when nobody knows.
    pub fn copies(&self, hash: UnitHash) -> Copies {
        self.copies.get(&hash).copied().unwrap_or(Copies::One(None))
    }

    /// Forgets a unit.
    pub fn remove(&mut self, unit: &UnitName) {
        self.requirements.remove(unit);
    }

    /// Forgets contents that nothing uses.
    pub fn retain(&mut self, used: &HashSet<UnitHash>) {
        self.copies.retain(|hash, _| used.contains(hash));
        self.missing.retain(|hash| used.contains(hash));
    }
}

/// How many copies there may be of a unit as it is scheduled; one, if its file does not tell.
fn scheduled_copies(file: &UnitFile, unit: &UnitName) -> Copies {
    Requirements::read(file, unit).map_or(Copies::One(None), |(requirements, _)| Copies::of(&requirements))
}
