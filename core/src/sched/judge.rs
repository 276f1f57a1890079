//! Where global units belong, by the rule of [`globals_for`](super::globals_for), on the machines of a planner.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::{
    conflicts::{Party, clash},
    filter::suits,
    hint::ConflictHint,
    keys::MachineKey,
    machines::Status,
    planner::Planner,
    reason::Cause,
};
use crate::{model::MachineId, unit::UnitName};

/// On which machines of a planner a global unit belongs. Machines may be asked for in any order; who asks for many asks one
/// judge for all of them.
pub struct GlobalJudge<'p> {
    planner: &'p Planner,
    /// What decides about it, by name, and at the end itself.
    rivals: SmallVec<[(Party<'p>, ConflictHint); 1]>,
}

impl Planner {
    /// Where a global unit belongs; `None` when it is not wanted, or nobody knows what it asks for.
    #[must_use]
    pub fn global(&self, unit: &UnitName) -> Option<GlobalJudge<'_>> {
        Some(GlobalJudge::new(self, self.globals.get(unit)?))
    }

    /// The global units in conflict with this one, those in conflict with these, and so on: all of which a change of this
    /// one may decide. Itself is among them.
    pub(super) fn rivals_of(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let rivals = self.globals.get(unit).map(|global| self.globals.rivals(global));
        rivals.into_iter().flatten().map(|(name, _)| name.clone()).collect()
    }
}

impl<'p> GlobalJudge<'p> {
    /// For one that is wanted, or is to be judged as if it were.
    pub(super) fn new(planner: &'p Planner, global: Party<'p>) -> Self {
        let mut rivals: Vec<Party<'p>> = planner.globals.rivals(global);
        rivals.retain(|rival| rival.0 <= global.0);
        rivals.sort_by_key(|rival| rival.0);
        let with_hint = |rival: Party<'p>| (rival, ConflictHint::of(rival.0, Some(rival.1)));
        Self { planner, rivals: rivals.into_iter().map(with_hint).collect() }
    }

    /// Whether it belongs on a machine, or why not; `None` when the machine is not there.
    #[must_use]
    pub fn on(&self, machine: &MachineId) -> Option<Result<(), Cause>> {
        let key = self.planner.machines.key(machine)?;
        let is_there = matches!(self.planner.machines[key].status, Status::Up | Status::Draining);
        is_there.then(|| self.cause(key).map_or(Ok(()), Err))
    }

    /// Why it does not belong on a machine.
    pub(super) fn cause(&self, on: MachineKey) -> Option<Cause> {
        let machine = &self.planner.machines[on];
        // A unit that moves away may run there as long as it stands there.
        let departing = || self.planner.departing.get(&on).into_iter().flatten().copied();
        let mut chosen: SmallVec<[Party<'p>; 4]> = SmallVec::new();
        let mut last = None;
        for &(global, hint) in &self.rivals {
            let scheduled = || {
                let units = machine.maybe_conflicting(std::iter::once(hint)).chain(departing());
                self.planner.first_by_name(units, |unit| {
                    Some(Cause::conflict(&unit.name, clash(global, unit.party()?)?, false))
                })
            };
            let held_off =
                || chosen.iter().find_map(|&other| Some(Cause::conflict(other.0, clash(global, other)?, true)));
            last = suits(global.1, &machine.id, &machine.metadata).err().or_else(scheduled).or_else(held_off);
            if last.is_none() {
                chosen.push(global);
            }
        }
        last
    }
}
