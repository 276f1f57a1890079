//! What units ask for, by their contents.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use smallvec::SmallVec;
use thiserror::Error;

use crate::unit::{OnPartition, Requirements, RequirementsError, UnitFile, UnitHash, UnitName};

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
    #[must_use]
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

/// Contents that say nothing.
#[derive(Debug, Error)]
pub enum Fault {
    /// They are not in the store.
    #[error("its file is missing in the store, submit it again")]
    Missing,
    /// They contradict themselves.
    #[error("its file cannot be understood, it stays as it is")]
    Unusable(#[source] RequirementsError),
}

/// The requirements of units: as they are wanted, and as they are scheduled, which need not be the same.
#[derive(Debug, Default)]
pub struct Contents {
    units: BTreeMap<UnitName, Known>,
    /// Contents that were not in the store when they were asked for, and the units that have them.
    missing: BTreeMap<UnitHash, BTreeSet<UnitName>>,
    /// What most units ask for, once for all of them.
    nothing: Arc<Requirements>,
}

/// What is known of one unit.
#[derive(Debug, Default)]
struct Known {
    /// The contents that are wanted, unless nothing is.
    wanted: Option<UnitHash>,
    /// What contents ask for; `None`: that cannot be read.
    read: SmallVec<[(UnitHash, Option<Arc<Requirements>>); 1]>,
}

impl Known {
    fn of(&self, hash: UnitHash) -> Option<&Arc<Requirements>> {
        self.read.iter().find(|(read, _)| *read == hash)?.1.as_ref()
    }
}

impl Contents {
    /// What a unit asks for as it is wanted; `None` when nobody knows, or it is not there.
    #[must_use]
    pub fn of(&self, unit: &UnitName) -> Option<&Arc<Requirements>> {
        let known = self.units.get(unit)?;
        known.of(known.wanted?)
    }

    /// What a unit asks for by these contents; `None` when nobody knows.
    #[must_use]
    pub fn by(&self, unit: &UnitName, hash: UnitHash) -> Option<&Arc<Requirements>> {
        self.units.get(unit)?.of(hash)
    }

    /// How many copies there may be of a unit as it is wanted.
    #[must_use]
    pub fn wanted_copies(&self, unit: &UnitName) -> Copies {
        self.of(unit).map_or(Copies::Any, |requirements| Copies::of(requirements))
    }

    /// How many copies there may be of a unit that is scheduled with these contents: one, when nobody knows.
    #[must_use]
    pub fn copies(&self, unit: &UnitName, hash: UnitHash) -> Copies {
        self.by(unit, hash).map_or(Copies::One(None), |requirements| Copies::of(requirements))
    }

    /// Contents that were not in the store when they were asked for, and the units that have them.
    #[must_use]
    pub fn missing(&self) -> &BTreeMap<UnitHash, BTreeSet<UnitName>> {
        &self.missing
    }

    /// Whether it is still to be read what a unit asks for by these contents.
    pub(super) fn is_unread(&self, unit: &UnitName, hash: UnitHash) -> bool {
        self.units.get(unit).is_none_or(|known| known.read.iter().all(|(read, _)| *read != hash))
    }

    /// Reads what a unit asks for by these contents, which are `file` if the store has them. What is wrong with them is
    /// told once.
    pub(super) fn read(&mut self, unit: &UnitName, hash: UnitHash, file: Option<&UnitFile>) -> Result<(), Fault> {
        let Some(file) = file else {
            let is_new = self.missing.entry(hash).or_default().insert(unit.clone());
            return if is_new { Err(Fault::Missing) } else { Ok(()) };
        };
        self.missing.remove(&hash);
        let (requirements, outcome) = match Requirements::read(file, unit) {
            Ok((requirements, _)) if requirements == *self.nothing => (Some(Arc::clone(&self.nothing)), Ok(())),
            Ok((requirements, _)) => (Some(Arc::new(requirements)), Ok(())),
            Err(error) => (None, Err(Fault::Unusable(error))),
        };
        let known = self.units.entry(unit.clone()).or_default();
        known.read.retain(|(read, _)| *read != hash);
        known.read.push((hash, requirements));
        outcome
    }

    /// Says which contents a unit has, as it is wanted and as it is scheduled. Others are forgotten.
    pub(super) fn set_used(&mut self, unit: &UnitName, wanted: Option<UnitHash>, scheduled: &[UnitHash]) {
        let is_used = |hash: UnitHash| wanted == Some(hash) || scheduled.contains(&hash);
        if wanted.is_none() && scheduled.is_empty() {
            self.units.remove(unit);
        } else {
            let known = self.units.entry(unit.clone()).or_default();
            known.wanted = wanted;
            known.read.retain(|(hash, _)| is_used(*hash));
        }
        self.missing.retain(|hash, units| {
            if !is_used(*hash) {
                units.remove(unit);
            }
            !units.is_empty()
        });
    }
}
