//! The cells of this host, with what their decisions need and `core` does not have: the time, chance and the log.

use fleet_core::{
    host::{Cell, Cells},
    unit::UnitName,
};
use std::time::Duration;
use tracing::warn;

use crate::clock::monotonic;

/// All units of this host. The parts of the agent tell it what happens to them.
#[derive(Default)]
pub(super) struct Units {
    pub cells: Cells,
}

impl Units {
    pub fn get(&self, unit: &UnitName) -> Option<&Cell> {
        self.cells.get(unit)
    }

    /// Something happens to a unit: does that with its cell, given the time, if it has one.
    pub fn edit<T>(&mut self, unit: &UnitName, event: impl FnOnce(&mut Cell, Duration) -> T) -> Option<T> {
        let now = monotonic();
        self.cells.edit(unit).map(|cell| event(cell, now))
    }

    /// The same happens to several.
    pub fn edit_all<'u>(&mut self, units: impl IntoIterator<Item = &'u UnitName>, event: impl Fn(&mut Cell, Duration)) {
        for unit in units {
            self.edit(unit, &event);
        }
    }

    /// Those of these units whose cells are so.
    pub fn filter<'u>(
        &self,
        units: &'u [UnitName],
        is_so: impl Fn(&Cell) -> bool,
    ) -> impl Iterator<Item = &'u UnitName> {
        units.iter().filter(move |unit| self.get(unit).is_some_and(&is_so))
    }

    /// A step of a unit failed: it is tried again later.
    pub fn failed(&mut self, unit: &UnitName, problem: &str) {
        if self.edit(unit, |cell, now| cell.failed(problem, now, fastrand::f64())) == Some(true) {
            warn!(%unit, problem, "unit is not as it should be, trying again");
        }
    }

    /// The same of several.
    pub fn all_failed<'u>(&mut self, units: impl IntoIterator<Item = &'u UnitName>, problem: &str) {
        for unit in units {
            self.failed(unit, problem);
        }
    }

    /// A unit cannot be started before another one is there.
    pub fn waits_for(&mut self, unit: &UnitName, problem: &str) {
        if self.edit(unit, |cell, now| cell.waits_for(problem, now, fastrand::f64())) == Some(true) {
            warn!(%unit, problem, "unit is not as it should be, trying again");
        }
    }

    /// A start of a unit is over and came to nothing.
    pub fn came_to_nothing(&mut self, unit: &UnitName, problem: &str) {
        if self.edit(unit, |cell, _| cell.came_to_nothing(problem)) == Some(true) {
            warn!(%unit, problem, "unit did not start");
        }
    }
}
