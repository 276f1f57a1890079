//! What controllers rest on: the cluster as it is, and what is known of copies that may run.

use std::time::Duration;

use super::Losses;
use crate::{
    model::{ActiveState, Delta, Desired, Key, MachineId, Placement, Snapshot, StateRecord, Versioned},
    sched::{Applied, Copies, Known},
    unit::UnitName,
};

/// Whether a machine has an entry, even if that cannot be read.
pub(super) fn is_present(snapshot: &Snapshot, machine: &MachineId) -> bool {
    snapshot.machines.contains_key(machine) || snapshot.unreadable.contains(&Key::Machine(machine.clone()))
}

/// All that the leader knows at one moment.
#[derive(Clone, Copy)]
pub struct Facts<'f> {
    /// The cluster as it is, and as it was when controllers were asked last.
    pub delta: Delta<'f>,
    /// Where units are, and what they ask for.
    pub known: Known<'f>,
    /// What the snapshot has brought.
    pub news: &'f Applied,
    /// Which machines are gone.
    pub losses: &'f Losses,
    /// Whether no unit waits to be placed. What is in no hurry waits for that.
    pub at_rest: bool,
    /// The leader's time.
    pub now: Duration,
}

impl<'f> Facts<'f> {
    /// The cluster as it is.
    #[must_use]
    pub fn snapshot(&self) -> &'f Snapshot {
        self.delta.after
    }

    /// What is scheduled of a unit on a machine.
    #[must_use]
    pub fn scheduled(&self, unit: &UnitName, machine: &MachineId) -> Option<&'f Versioned<Placement>> {
        self.snapshot().scheduled.get(&(machine.clone(), unit.clone()))
    }

    /// How many copies there may be of a unit as it is scheduled there.
    fn copies(&self, unit: &UnitName, machine: &MachineId) -> Copies {
        let scheduled = self.scheduled(unit, machine);
        scheduled.map_or(Copies::Any, |scheduled| self.known.contents.copies(unit, scheduled.record.hash))
    }

    /// Whether no second copy may run of a unit, as it is wanted or as it is scheduled anywhere.
    #[must_use]
    pub fn is_strict(&self, unit: &UnitName) -> bool {
        let scheduled = || self.known.placements.of(unit).any(|machine| self.copies(unit, machine) != Copies::Any);
        self.known.contents.wanted_copies(unit) != Copies::Any || scheduled()
    }

    /// Whether a unit is to run everywhere: no machine gives it up for what was scheduled of it.
    #[must_use]
    pub fn is_global(&self, unit: &UnitName) -> bool {
        self.snapshot().globals.contains_key(unit)
    }

    /// Whether a copy has to be down before its entry goes.
    #[must_use]
    pub fn must_be_down(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let comes_strict = || self.is_there(machine) && self.known.contents.wanted_copies(unit) != Copies::Any;
        !self.is_global(unit) && (self.copies(unit, machine) != Copies::Any || comes_strict())
    }

    /// Whether what is wanted of a unit would hide how long the copy that is scheduled there may take to stop: should
    /// the machine be cut off, nobody could tell which of both it has read last.
    #[must_use]
    pub fn hides_copy(&self, unit: &UnitName, machine: &MachineId) -> bool {
        self.known.contents.wanted_copies(unit).is_weaker_than(self.copies(unit, machine))
    }

    /// When the copy of a unit on a machine that is gone can be running no more; `None` when nobody knows.
    #[must_use]
    pub fn down_at(&self, unit: &UnitName, machine: &MachineId) -> Option<Duration> {
        match self.copies(unit, machine) {
            Copies::Any => Some(Duration::ZERO),
            Copies::One(bound) => self.losses.down_at(machine, bound),
        }
    }

    /// Whether the machine is there, as far as one can tell.
    #[must_use]
    pub fn is_there(&self, machine: &MachineId) -> bool {
        self.losses.is_dead(machine).is_none()
    }

    /// Whether a machine that is gone for good, or said so itself, cannot be running the unit any more.
    #[must_use]
    pub fn is_down(&self, unit: &UnitName, machine: &MachineId) -> bool {
        if let Some(dead) = self.losses.is_dead(machine) {
            return dead && self.down_at(unit, machine).is_some_and(|at| at <= self.now);
        }
        let Some(scheduled) = self.scheduled(unit, machine) else { return true };
        let released = self.state(unit, machine).and_then(|state| state.released);
        scheduled.record.is_recall() && released == Some(scheduled.revision)
    }

    /// Whether the copy of a unit on a machine is as far as it will come: it runs, has failed, or cannot be started and
    /// no other copy runs that would be lost for it.
    #[must_use]
    pub fn is_settled(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let Some(wanted) = self.snapshot().units.get(unit).map(|value| &value.record) else { return true };
        if wanted.desired != Desired::Launched {
            return true;
        }
        self.state(unit, machine).is_some_and(|state| {
            let at_rest = state.active == ActiveState::Active || is_down(state);
            let is_done = state.current == Desired::Launched && at_rest && !state.job;
            state.hash == wanted.hash && (is_done || state.problem.is_some() && !self.runs_elsewhere(unit, machine))
        })
    }

    fn runs_elsewhere(&self, unit: &UnitName, machine: &MachineId) -> bool {
        let mut others = self.known.placements.of(unit).filter(|other| *other != machine);
        others.any(|other| self.state(unit, other).is_some_and(|state| !is_down(state)))
    }

    pub(super) fn state(&self, unit: &UnitName, machine: &MachineId) -> Option<&'f StateRecord> {
        self.snapshot().states.get(&(machine.clone(), unit.clone())).map(|value| &*value.record)
    }
}

/// Whether nothing of a unit runs.
fn is_down(state: &StateRecord) -> bool {
    matches!(state.active, ActiveState::Failed | ActiveState::Inactive)
}
