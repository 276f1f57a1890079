//! The cells of a host, and which of them there is something to do with.
//!
//! Whoever changes a cell does so through here, which keeps the set of those that are *awake*: a turn asks only them for
//! steps, reports and times. All others are at rest, however many they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    assignment::{Assignment, Recall, Wanted},
    cell::Cell,
    installed::Installed,
    step::Step,
};
use crate::{
    model::StateRecord,
    unit::{Behaviour, UnitName},
};

/// What the cluster wants of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DesiredSet {
    /// The units that it is to have.
    pub units: BTreeMap<UnitName, Wanted>,
    /// Those of them that may run once in the cluster at most.
    pub strict: BTreeSet<UnitName>,
    /// Units that may run elsewhere once this host says that it has them no more.
    pub recalled: BTreeMap<UnitName, Recall>,
}

/// What a new [`DesiredSet`] has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reassigned {
    /// Units that are wanted otherwise than before.
    pub units: Vec<UnitName>,
    /// Other units than before may run once in the cluster at most.
    pub strict: bool,
}

/// The cells of one host. See the [module](self).
#[derive(Debug, Default)]
pub struct Cells {
    cells: BTreeMap<UnitName, Cell>,
    /// Those that are not at rest.
    awake: BTreeSet<UnitName>,
    /// Those that may run once in the cluster at most.
    strict: BTreeSet<UnitName>,
}

impl Cells {
    /// The cell of a unit.
    #[must_use]
    pub fn get(&self, unit: &UnitName) -> Option<&Cell> {
        self.cells.get(unit)
    }

    /// The cell of a unit, to be changed: something happens to it.
    pub fn edit(&mut self, unit: &UnitName) -> Option<&mut Cell> {
        let cell = self.cells.get_mut(unit)?;
        self.awake.insert(unit.clone());
        cell.is_news();
        Some(cell)
    }

    /// All cells, by the names of their units.
    pub fn iter(&self) -> impl Iterator<Item = (&UnitName, &Cell)> {
        self.cells.iter()
    }

    /// The cells that there is something to do with.
    pub fn awake(&self) -> impl Iterator<Item = (&UnitName, &Cell)> {
        self.awake.iter().filter_map(|unit| Some((unit, self.cells.get(unit)?)))
    }

    /// What the agent has put in place of a unit.
    #[must_use]
    pub fn installed(&self, unit: &UnitName) -> Option<&Installed> {
        self.get(unit)?.installed()
    }

    /// All that the agent has put in place.
    pub fn all_installed(&self) -> impl Iterator<Item = (&UnitName, &Installed)> {
        self.iter().filter_map(|(unit, cell)| Some((unit, cell.installed()?)))
    }

    /// The units that may run once in the cluster at most.
    #[must_use]
    pub fn strict(&self) -> &BTreeSet<UnitName> {
        &self.strict
    }

    /// The units of which systemd's word is of interest.
    pub fn watched(&self) -> impl Iterator<Item = &UnitName> {
        self.iter().filter(|(_, cell)| cell.is_watched()).map(|(unit, _)| unit)
    }

    /// Takes up a unit that an earlier run of the agent has put in place.
    pub fn adopt(&mut self, unit: UnitName, installed: Installed) {
        self.awake.insert(unit.clone());
        self.cells.insert(unit, Cell::adopted(installed));
    }

    /// This is what the file of a unit says that an earlier run has put in place.
    pub fn read(&mut self, unit: &UnitName, behaviour: Behaviour, strict: bool) {
        let Some(cell) = self.edit(unit) else { return };
        cell.read(behaviour, strict);
        if strict {
            self.strict.insert(unit.clone());
        }
    }

    /// This is wanted from now on, and nothing else.
    pub fn assign(&mut self, desired: &DesiredSet) -> Reassigned {
        let mut changed = Reassigned::default();
        let known = self.cells.keys().chain(desired.units.keys()).chain(desired.recalled.keys());
        let units: BTreeSet<UnitName> = known.cloned().collect();
        for unit in units {
            let assigned = desired.units.get(&unit).map_or(Assignment::Absent, |wanted| Assignment::Wanted(*wanted));
            let recall = desired.recalled.get(&unit).copied();
            let strict = desired.strict.contains(&unit);
            let cell = self.cells.entry(unit.clone()).or_default();
            if cell.is_assigned(assigned, recall, strict) {
                continue;
            }
            let differs = cell.assign(assigned, recall, strict);
            cell.is_news();
            self.awake.insert(unit.clone());
            if differs {
                changed.units.push(unit);
            }
        }
        let strict = self.iter().filter(|(_, cell)| cell.is_strict()).map(|(unit, _)| unit.clone()).collect();
        changed.strict = self.strict != strict;
        self.strict = strict;
        changed
    }

    /// Nothing is wanted any more: the host leaves.
    pub fn leave(&mut self) {
        self.strict.clear();
        for (unit, cell) in &mut self.cells {
            cell.leave();
            cell.is_news();
            self.awake.insert(unit.clone());
        }
    }

    /// The fence is open or closed: units that may run once at most run here only while it is open. Returns whether that
    /// changes anything.
    pub fn apply_fence(&mut self, is_open: bool) -> bool {
        let mut changes = false;
        for unit in &self.strict {
            let Some(cell) = self.cells.get_mut(unit) else { continue };
            if cell.apply_fence(is_open) {
                cell.is_news();
                self.awake.insert(unit.clone());
                changes = true;
            }
        }
        changes
    }

    /// Forgets what systemd said of units that are of no interest any more.
    pub fn unwatch_others(&mut self) {
        self.cells.values_mut().filter(|cell| !cell.is_watched()).for_each(Cell::unwatch);
    }

    /// Jobs have ended, of these units, with these numbers.
    pub fn jobs_ended<'u>(&mut self, ended: impl IntoIterator<Item = (&'u UnitName, u32)>) {
        for (unit, job) in ended {
            if let Some(cell) = self.edit(unit) {
                cell.job_ended(job);
            }
        }
    }

    /// Units have come: those that may have waited for them are tried again at once.
    pub fn lack_no_more(&mut self, now: Duration) {
        let lacking = self.awake().filter(|(_, cell)| cell.is_lacking());
        for unit in lacking.map(|(unit, _)| unit.clone()).collect::<Vec<_>>() {
            if let Some(cell) = self.edit(&unit) {
                cell.lacks_no_more(now);
            }
        }
    }

    /// The steps that can be taken now, and why.
    #[must_use]
    pub fn steps(&self, now: Duration) -> Vec<(UnitName, Step, &'static str)> {
        debug_assert!(self.iter().all(|(unit, cell)| self.awake.contains(unit) || cell.is_at_rest(now)));
        let steps = self.awake().filter_map(|(unit, cell)| Some((unit.clone(), cell.step(now)?)));
        steps.map(|(unit, (step, reason))| (unit, step, reason)).collect()
    }

    /// The units that are to be looked at though nothing was heard of them.
    pub fn due(&self, now: Duration) -> impl Iterator<Item = &UnitName> {
        self.awake().filter(move |(_, cell)| cell.is_due(now)).map(|(unit, _)| unit)
    }

    /// When to turn to them again though nothing is heard. Steps were taken last at `now`.
    #[must_use]
    pub fn wake(&self, now: Duration) -> Option<Duration> {
        self.awake().filter_map(|(_, cell)| cell.wake(now)).min()
    }

    /// Whether what is installed is to be written down.
    #[must_use]
    pub fn is_unsaved(&self) -> bool {
        self.awake().any(|(_, cell)| cell.is_unsaved())
    }

    /// What is installed is written down.
    pub fn saved(&mut self) {
        for unit in &self.awake {
            if let Some(cell) = self.cells.get_mut(unit) {
                cell.saved();
            }
        }
    }

    /// What is to be reported of units that something has changed of; `None` of one that is the agent's no more.
    /// `answers`: whether systemd does. No reports at all before systemd has told of all that is installed, or what is published of
    /// them would be taken back.
    pub fn report(&mut self, now: Duration, answers: bool) -> Option<Vec<(UnitName, Option<StateRecord>)>> {
        if self.awake().any(|(_, cell)| cell.is_unseen() && cell.installed().is_some()) {
            return None;
        }
        let mut reports = Vec::new();
        for unit in &self.awake {
            let Some(cell) = self.cells.get_mut(unit) else { continue };
            // Whether a unit that is recalled is gone depends on more than itself.
            if (cell.has_news() || cell.is_recalled()) && !cell.is_in_grace(now) {
                cell.reported();
                reports.push((unit.clone(), cell.report(answers)));
            }
        }
        Some(reports)
    }

    /// Lets those rest that nothing is to be done with, and forgets those that nothing is known of.
    pub fn rest(&mut self, now: Duration) {
        let cells = &mut self.cells;
        self.awake.retain(|unit| {
            let Some(cell) = cells.get(unit) else { return false };
            if cell.is_empty() {
                cells.remove(unit);
                return false;
            }
            !cell.is_at_rest(now)
        });
    }
}

#[cfg(test)]
mod tests;
