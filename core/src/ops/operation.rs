//! Everything that a request can ask for.

use std::{collections::BTreeMap, fmt};

use super::{Current, Edit, Outcome, Refusal, RestartUnit, SetUnit, SubmitOnce, machine, unit};
use crate::{
    model::{Key, MachineId, Revision, Snapshot},
    unit::UnitName,
};

/// Something to be changed.
#[derive(Clone, Debug)]
pub enum Operation {
    /// What is wanted of a unit: its contents, its state, or both.
    Set(SetUnit),
    /// A unit is forgotten.
    Destroy(UnitName),
    /// A unit restarts.
    Restart(RestartUnit),
    /// A unit of a host's configuration is submitted, once in the cluster.
    SubmitOnce(SubmitOnce),
    /// A machine's metadata: the value by key; `None` hides the key.
    EditMetadata(MachineId, BTreeMap<String, Option<String>>),
    /// A machine is emptied.
    Drain(MachineId),
    /// A machine takes units again.
    Undrain(MachineId),
    /// A machine that is not there is gone for good.
    Evict {
        /// The machine.
        machine: MachineId,
        /// Whether units are scheduled to it, or the engine waits for it.
        is_known: bool,
    },
}

impl Operation {
    /// The keys that it rests on.
    #[must_use]
    pub fn reads(&self) -> Vec<Key> {
        match self {
            Self::Set(request) => unit::places(&request.name).into_iter().chain(request.file()).collect(),
            Self::Destroy(name) | Self::Restart(RestartUnit { name, .. }) => unit::places(name).into(),
            Self::SubmitOnce(request) => request.reads(),
            Self::EditMetadata(machine, _) => vec![Key::Metadata(machine.clone())],
            Self::Drain(machine) | Self::Undrain(machine) | Self::Evict { machine, .. } => {
                vec![Key::Machine(machine.clone()), Key::Metadata(machine.clone())]
            }
        }
    }

    /// What it writes, going by the records as they stand.
    ///
    /// # Errors
    /// It is refused.
    pub fn decide(&self, current: &Current) -> Result<Edit, Refusal> {
        match self {
            Self::Set(request) => request.decide(current),
            Self::Destroy(name) => unit::destroy(name, current),
            Self::Restart(request) => request.decide(current),
            Self::SubmitOnce(request) => request.decide(current),
            Self::EditMetadata(machine, edits) => machine::edit_metadata(machine, edits, current),
            Self::Drain(machine) => machine::drain(machine, current),
            Self::Undrain(machine) => machine::undrain(machine, current),
            Self::Evict { machine, is_known } => machine::evict(machine, *is_known, current),
        }
    }

    /// What it writes, going by a snapshot of the cluster, which may be old: the guards find that out. A unit that it
    /// creates is told by `revision`, one of the present, from those of its name that went before. `None` when the snapshot
    /// is not enough to go by.
    #[must_use]
    pub fn decide_by(&self, snapshot: &Snapshot, revision: Revision) -> Option<Result<Edit, Refusal>> {
        let current = Current::shown(self.reads(), snapshot, revision)?;
        let decided = self.decide(&current);
        // Whether the contents are stored, too, the snapshot does not show.
        let mends = |edit: &Edit| edit.outcome == Outcome::Unchanged && !edit.set.writes.is_empty();
        (!decided.as_ref().is_ok_and(mends)).then_some(decided)
    }

    /// The refusal when others have been faster again and again.
    #[must_use]
    pub fn contended(&self) -> Refusal {
        match self {
            Self::Set(_) | Self::Destroy(_) | Self::Restart(_) | Self::SubmitOnce(_) => Refusal::UnitContended,
            Self::EditMetadata(..) | Self::Drain(_) | Self::Undrain(_) | Self::Evict { .. } => {
                Refusal::MachineContended
            }
        }
    }
}

/// In a few words, for a log.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set(SetUnit { name, contents, desired, .. }) => {
                write!(f, "{} {name}", if contents.is_some() { "submit" } else { "set" })?;
                desired.map_or(Ok(()), |desired| write!(f, " {desired}"))
            }
            Self::Destroy(name) => write!(f, "destroy {name}"),
            Self::Restart(RestartUnit { name, up_to, .. }) => {
                write!(f, "restart {name}")?;
                up_to.as_ref().map_or(Ok(()), |machine| write!(f, " up to {}", machine.short()))
            }
            Self::SubmitOnce(request) => write!(f, "submit {} once", request.name),
            Self::EditMetadata(machine, _) => write!(f, "edit metadata of {machine}"),
            Self::Drain(machine) => write!(f, "drain {machine}"),
            Self::Undrain(machine) => write!(f, "undrain {machine}"),
            Self::Evict { machine, .. } => write!(f, "evict {machine}"),
        }
    }
}
