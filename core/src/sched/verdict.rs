//! What is told of a unit: where it is, and what each machine has for or against it.

use std::fmt;

use super::reason::Cause;
use crate::{model::MachineId, unit::UnitName};

/// Where a unit is, and what each machine has for or against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Where it is scheduled to; `None` for global units.
    pub placed: Option<MachineId>,
    /// One line for an operator.
    pub summary: String,
    /// One verdict for each machine, by ID.
    pub verdicts: Vec<Verdict>,
}

/// What one machine has for or against a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The machine.
    pub machine: MachineId,
    /// Whether the unit fits there, or may stay there.
    pub fits: bool,
    /// Why.
    pub reason: VerdictReason,
}

/// The reason of a [`Verdict`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerdictReason {
    /// The unit is there and may stay.
    Here,
    /// It could go there.
    Fits {
        /// How many units the machine has.
        units: usize,
        /// A global unit that would leave for it.
        keeps_off: Option<UnitName>,
    },
    /// It is global and belongs there.
    Global,
    /// It does not fit.
    Not(Cause),
}

impl VerdictReason {
    pub(super) fn fits(&self) -> bool {
        !matches!(self, Self::Not(_))
    }
}

impl fmt::Display for VerdictReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("scheduled here"),
            Self::Fits { units, keeps_off } => {
                write!(f, "fits ({units} unit{})", if *units == 1 { "" } else { "s" })?;
                keeps_off.as_ref().map_or(Ok(()), |global| write!(f, ", global {global} would leave for it"))
            }
            Self::Global => f.write_str("fits (global unit)"),
            Self::Not(cause) => cause.fmt(f),
        }
    }
}
