//! What a controller wants done, and what becomes of it.

use std::time::Duration;

use crate::{
    model::{Kind, MachineId, Revision},
    ops::WriteSet,
    sched::Reason,
    unit::{UnitHash, UnitName},
};

/// What a controller wants done.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Changes of the store. They are independent of each other: each is carried out, or refused, by itself.
    pub changes: Vec<Change>,
    /// When to ask again though nothing may have changed.
    pub wake_at: Option<Duration>,
    /// What is to be said in the log.
    pub events: Vec<Event>,
    /// Whether all keys of the controller's kind are to be listed, because no snapshot shows them.
    pub list: bool,
}

/// One change of the store. Whoever commits it adds the guard of the leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What is written, and under which guards.
    pub set: WriteSet,
    /// No key that it writes may have been written after this revision.
    pub not_written_after: Option<Revision>,
    /// No key of this kind may have been written after this revision.
    pub none_after: Option<(Kind, Revision)>,
    /// Contents that the machine which the change is for has to come by: they may be sent along.
    pub carries: Option<UnitHash>,
    /// It starts a copy of a unit of which there may be one only: it may be sent once, and not be lost sight of.
    pub once: bool,
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The store has it.
    Done,
    /// A guard did not hold: something has changed meanwhile.
    Refused,
    /// The store did not answer: nobody knows.
    Unknown,
}

/// Something that an operator may want to read in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A unit gets a place.
    Scheduled {
        /// The unit.
        unit: UnitName,
        /// Its machine.
        machine: MachineId,
        /// Why it is that one.
        reason: Reason,
    },
    /// A unit loses its places and gets no other.
    Unscheduled {
        /// The unit.
        unit: UnitName,
        /// Its machines until now.
        from: Vec<MachineId>,
        /// Why.
        reason: Reason,
    },
    /// Machines are told to run a global unit, otherwise than before or at all.
    Global {
        /// The unit.
        unit: UnitName,
        /// How many are told to.
        placed: usize,
        /// How many are told not to any more.
        deleted: usize,
    },
    /// A feature is not used yet because there are machines that do not understand it.
    WaitsFor {
        /// The word for it.
        feature: &'static str,
        /// The machines.
        machines: Vec<MachineId>,
    },
    /// A machine is gone that had said so and stopped its units.
    MachineLeft(MachineId),
    /// A machine is gone that had not said so.
    MachineGone(MachineId),
    /// A machine that is gone counts as dead.
    MachineDead(MachineId),
    /// The eviction of a machine ends.
    EvictionOver {
        /// The machine.
        machine: MachineId,
        /// Whether it is there again; if not, nothing is left to be moved from it.
        there: bool,
    },
}
