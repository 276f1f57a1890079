//! Global units: one on every machine that fits.
//!
//! They come after all others, by one rule: a global unit belongs on a machine where its metadata holds, unless it is in
//! conflict, whoever declares it, with a unit that is scheduled there, or with a global unit that belongs there and whose
//! name sorts before its own. So it does not matter which of them came first. [`globals_for`] says so for one machine of
//! which all is known, [`GlobalJudge`](super::GlobalJudge) for the machines of a planner.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    conflicts::{Party, Patterns, clash, matching},
    filter::suits,
    reason::Cause,
    verdict::{Verdict, VerdictReason},
};
use crate::{
    model::MachineId,
    unit::{Requirements, UnitName},
};

/// Which global units belong on a machine, given what is scheduled to it: a verdict for each of `globals`.
///
/// `globals` are those that are wanted, `scheduled` those under `sched/<machine>/`.
pub fn globals_for<'a>(
    machine: &MachineId,
    metadata: &BTreeMap<String, String>,
    globals: impl IntoIterator<Item = (&'a UnitName, &'a Requirements)>,
    scheduled: impl IntoIterator<Item = (&'a UnitName, &'a Requirements)>,
) -> BTreeMap<UnitName, Verdict> {
    // Of a unit that has just become global the old placement may still stand; it is the same unit.
    let scheduled: Vec<Party<'a>> = scheduled.into_iter().collect();
    let globals: BTreeMap<&UnitName, &Requirements> = globals.into_iter().collect();
    let mut chosen: Vec<Party<'a>> = Vec::new();
    let mut verdicts = BTreeMap::new();
    for (name, requirements) in globals {
        let global = (name, requirements);
        let held_off = |others: &[Party<'a>], are_global| {
            others.iter().find_map(|&other| Some(Cause::conflict(other.0, clash(global, other)?, are_global)))
        };
        let cause = suits(requirements, machine, metadata)
            .err()
            .or_else(|| held_off(&scheduled, false))
            .or_else(|| held_off(&chosen, true));
        if cause.is_none() {
            chosen.push(global);
        }
        let why = cause.map_or(VerdictReason::Global, VerdictReason::Not);
        verdicts.insert(name.clone(), Verdict { machine: machine.clone(), fits: why.fits(), reason: why });
    }
    verdicts
}

/// The global units that are wanted.
#[derive(Debug, Default)]
pub(super) struct Globals {
    by_name: BTreeMap<UnitName, Arc<Requirements>>,
    /// Their `Conflicts`.
    patterns: Patterns<UnitName>,
}

impl Globals {
    pub fn insert(&mut self, name: &UnitName, requirements: &Arc<Requirements>) {
        self.remove(name);
        for pattern in &requirements.conflicts {
            self.patterns.insert(pattern, name.clone());
        }
        self.by_name.insert(name.clone(), requirements.clone());
    }

    pub fn remove(&mut self, name: &UnitName) {
        let Some(requirements) = self.by_name.remove(name) else { return };
        for pattern in &requirements.conflicts {
            self.patterns.remove(pattern, name);
        }
    }

    /// One, and what it asks for.
    pub fn get(&self, name: &UnitName) -> Option<Party<'_>> {
        self.by_name.get_key_value(name).map(|(name, requirements)| (name, &**requirements))
    }

    /// This one and all that may decide whether it comes to a machine: those in conflict with it, those in conflict
    /// with these, and so on.
    pub fn rivals<'g>(&'g self, global: Party<'g>) -> Vec<Party<'g>> {
        let mut rivals = vec![global];
        let mut next = 0;
        while let Some(&rival) = rivals.get(next) {
            next += 1;
            let others = self.against(rival).into_iter();
            let others: Vec<_> = others.filter(|other| rivals.iter().all(|known| known.0 != other.0)).collect();
            rivals.extend(others);
        }
        rivals
    }

    /// Those in conflict with `unit`, whoever declares it, by name.
    pub fn against(&self, unit: Party<'_>) -> Vec<Party<'_>> {
        let ours = unit.1.conflicts.iter().flat_map(|pattern| matching(&self.by_name, pattern));
        let names: BTreeSet<&UnitName> =
            ours.map(|(name, _)| name).chain(self.patterns.declared_against(unit.0)).collect();
        names.into_iter().filter_map(|name| Some((name, &**self.by_name.get(name)?))).collect()
    }
}
