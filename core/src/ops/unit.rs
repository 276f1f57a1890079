//! What is wanted of a unit.

use std::str::FromStr;

use super::{Current, Edit, Outcome, Refusal, Write, WriteSet, current::CurrentUnit};
use crate::{
    model::{Desired, Key, MachineId, Record, UnitRecord},
    unit::{Requirements, UnitFile, UnitHash, UnitName, UnitOption, verify::MAX_FILE},
};

/// What a request wants of a unit.
#[derive(Clone, Debug)]
pub struct SetUnit {
    /// The unit.
    pub name: UnitName,
    /// Its contents, when they came with the request.
    pub contents: Option<Contents>,
    /// What is wanted, when that was said.
    pub desired: Option<Desired>,
    /// What is done when it was wanted so before.
    pub when_same: WhenSame,
}

/// What is done for a unit that was wanted before as it is wanted now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenSame {
    /// Nothing.
    #[default]
    Nothing,
    /// What is launched and does not run is started, what is loaded and runs is stopped.
    Ensure,
    /// It is run anew, also if it was wanted otherwise for a moment.
    Restart,
}

/// Contents that came with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    text: String,
    hash: UnitHash,
    global: bool,
}

impl Contents {
    /// Those of a unit.
    ///
    /// # Errors
    /// They are too large, or cannot be those of this unit.
    pub fn new(file: &UnitFile, name: &UnitName) -> Result<Self, Refusal> {
        let text = file.canonical();
        if text.len() > MAX_FILE {
            return Err(Refusal::LargeContents(text.len()));
        }
        let requirements = Requirements::read_new(file, name);
        let (requirements, _) = requirements.map_err(|error| Refusal::BadContents(error.to_string()))?;
        Ok(Self { hash: UnitHash::of(&text), text, global: requirements.global })
    }

    /// Their hash.
    #[must_use]
    pub fn hash(&self) -> UnitHash {
        self.hash
    }
}

impl SetUnit {
    /// Reads what came with a request: a name, the word for what is wanted, if any, and contents, if any.
    ///
    /// # Errors
    /// Something of it is wrong by itself, whatever is stored.
    pub fn read(name: &str, desired: &str, options: &[UnitOption]) -> Result<Self, Refusal> {
        let name = UnitName::new(name).map_err(|error| Refusal::BadName(error.to_string()))?;
        let desired = match desired {
            "" => None,
            word => Some(Desired::from_str(word).map_err(Refusal::BadDesiredState)?),
        };
        let contents = match options {
            [] => None,
            options => {
                let file = UnitFile::from_options(options).map_err(|error| Refusal::BadContents(error.to_string()))?;
                Some(Contents::new(&file, &name)?)
            }
        };
        Ok(Self { name, contents, desired, when_same: WhenSame::Nothing })
    }

    /// Where its contents are stored, when they came with the request.
    pub(super) fn file(&self) -> Option<Key> {
        self.contents.as_ref().map(|contents| Key::File(contents.hash))
    }

    pub(super) fn decide(&self, current: &Current) -> Result<Edit, Refusal> {
        let unit = current.unit(&self.name)?;
        let (record, global, outcome) = self.next(&unit, current)?;
        let is_same = unit.record == Some((&record, global));
        let is_stored = self.contents.as_ref().is_none_or(|contents| current.has_contents(contents.hash));
        if is_same && is_stored {
            return Ok(Edit::none());
        }
        let outcome = if is_same { Outcome::Unchanged } else { outcome };
        Ok(Edit { set: write(unit, Some((&record, global)), self.contents.as_ref()), outcome })
    }

    /// What the record becomes, and whether it is global.
    fn next(&self, unit: &CurrentUnit<'_>, current: &Current) -> Result<(UnitRecord, bool, Outcome), Refusal> {
        let Self { name, contents, desired, when_same } = self;
        match (unit.record, contents) {
            (None, None) => Err(Refusal::NoContents),
            (None, Some(new)) => {
                // The revision sets apart a unit that is destroyed and submitted again from one that never went.
                let generation = u64::try_from(current.revision).unwrap_or_default();
                let record = UnitRecord::new(new.hash, desired.unwrap_or(Desired::Inactive), generation);
                Ok((record, new.global, Outcome::Created))
            }
            (Some(_), _) if name.is_template() && desired.is_some_and(|desired| desired != Desired::Inactive) => {
                Err(Refusal::TemplateActivated(name.clone()))
            }
            (Some((now, _)), Some(new)) if new.hash != now.hash => {
                let desired = desired.unwrap_or(Desired::Inactive);
                let record = UnitRecord { hash: new.hash, desired, restarted_to: None, ..now.clone() };
                Ok((record, new.global, Outcome::Replaced))
            }
            (Some((now, global)), _) => {
                let desired = desired.ok_or(Refusal::NoDesiredState)?;
                let record = UnitRecord { desired, ..now.clone() };
                let record = match when_same {
                    WhenSame::Restart => record.restarted(),
                    WhenSame::Ensure if record == *now && desired != Desired::Inactive => record.asked_again(),
                    _ => record,
                };
                Ok((record, global, Outcome::Changed))
            }
        }
    }
}

pub(super) fn destroy(name: &UnitName, current: &Current) -> Result<Edit, Refusal> {
    let unit = current.unit(name)?;
    if !unit.exists() {
        return Err(Refusal::UnitMissing);
    }
    Ok(Edit { set: write(unit, None, None), outcome: Outcome::Changed })
}

/// A unit is to restart, at once or, a global one, from machine to machine.
#[derive(Clone, Debug)]
pub struct RestartUnit {
    /// The unit.
    pub name: UnitName,
    /// The last machine, in the order of their IDs, that restarts for now; without, all do.
    pub up_to: Option<MachineId>,
    /// The restart that goes on; without, another one begins.
    pub generation: Option<u64>,
}

impl RestartUnit {
    pub(super) fn decide(&self, current: &Current) -> Result<Edit, Refusal> {
        let unit = current.unit(&self.name)?;
        let (now, global) = unit.record.ok_or(Refusal::UnitMissing)?;
        let next = self.next(now, global)?;
        if next == *now {
            return Ok(Edit::none());
        }
        Ok(Edit { set: write(unit, Some((&next, global)), None), outcome: Outcome::Changed })
    }

    fn next(&self, record: &UnitRecord, global: bool) -> Result<UnitRecord, Refusal> {
        if record.desired != Desired::Launched {
            return Err(Refusal::NotLaunched(record.desired));
        }
        if self.up_to.is_some() && !global {
            return Err(Refusal::NotGlobal);
        }
        let up_to = self.up_to.clone().map(Box::new);
        match self.generation {
            None => Ok(UnitRecord { restarted_to: up_to, ..record.restarted() }),
            Some(generation) if generation != record.generation => Err(Refusal::OtherRestart),
            // One that has come to all machines cannot go back.
            Some(_) => {
                let restarted_to = record.restarted_to.clone().zip(up_to);
                let restarted_to = restarted_to.map(|(known, up_to)| known.max(up_to));
                Ok(UnitRecord { restarted_to, ..record.clone() })
            }
        }
    }
}

/// The two places of which a unit is in one at most: as ordinary and as global unit.
pub(super) fn places(name: &UnitName) -> [Key; 2] {
    [Key::Unit(name.clone()), Key::Global(name.clone())]
}

/// What is to be wanted of a unit, and whether it is global; guarded by what was there.
fn write(unit: CurrentUnit<'_>, wanted: Option<(&UnitRecord, bool)>, contents: Option<&Contents>) -> WriteSet {
    let mut writes = Vec::new();
    if let Some(Contents { text, hash, .. }) = contents {
        writes.push(Write::Put(Key::File(*hash), text.clone().into_bytes()));
    }
    for (place, is_global) in unit.places.iter().zip([false, true]) {
        match wanted {
            Some((record, global)) if global == is_global => {
                writes.push(Write::Put(place.key.clone(), record.encode()));
            }
            _ if place.revision != 0 => writes.push(Write::Delete(place.key.clone())),
            _ => {}
        }
    }
    WriteSet { guards: unit.places.into(), writes }
}

#[cfg(test)]
mod tests;
