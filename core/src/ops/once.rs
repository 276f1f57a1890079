//! Units of a host's configuration: each is submitted once in the cluster, by its contents.
//!
//! That a unit was submitted is kept under `cloud-config/<unit>/<hash>`, by the very writes that submit it. So it happens
//! once: not again when a host boots again, when another host has the same document, or when hosts with one document boot
//! at the same moment; and a unit that an operator has stopped, changed or destroyed since stays so.

use super::{Contents, Current, Edit, Refusal, SetUnit, WhenSame, Write, unit};
use crate::{
    model::{Desired, Key, MachineId, Record, SubmittedRecord, Unknown},
    unit::UnitName,
};

/// A unit that is to be submitted once in the cluster.
#[derive(Clone, Debug)]
pub struct SubmitOnce {
    /// The unit.
    pub name: UnitName,
    /// Its contents.
    pub contents: Contents,
    /// What is wanted of it.
    pub desired: Desired,
    /// Whether it takes the place of a unit of that name with other contents.
    pub replace: bool,
    /// The host whose configuration it is in.
    pub machine: MachineId,
}

impl SubmitOnce {
    pub(super) fn reads(&self) -> Vec<Key> {
        unit::places(&self.name).into_iter().chain([self.mark()]).collect()
    }

    /// Where it is kept that these contents were submitted.
    fn mark(&self) -> Key {
        Key::Submitted(self.name.clone(), self.contents.hash())
    }

    pub(super) fn decide(&self, current: &Current) -> Result<Edit, Refusal> {
        let mark = self.mark();
        if current.has(&mark) {
            return Ok(Edit::none());
        }
        let unit = current.unit(&self.name)?;
        let mut edit = match unit.record {
            // Somebody else has submitted these contents. That is remembered, and the unit stays as it is.
            Some((record, _)) if record.hash == self.contents.hash() => {
                let mut edit = Edit::none();
                edit.set.guards.extend(unit.places);
                edit
            }
            Some(_) if !self.replace => return Err(Refusal::OtherContents),
            // One that cannot be read may be worth something to somebody.
            None if unit.exists() => return Err(Refusal::OtherContents),
            _ => {
                let set = SetUnit {
                    name: self.name.clone(),
                    contents: Some(self.contents.clone()),
                    desired: Some(self.desired),
                    when_same: WhenSame::Nothing,
                };
                set.decide(current)?
            }
        };
        let record = SubmittedRecord { machine: self.machine.clone(), unknown: Unknown::default() };
        edit.set.guards.push(current.guard(mark.clone()));
        edit.set.writes.push(Write::Put(mark, record.encode()));
        Ok(edit)
    }
}
