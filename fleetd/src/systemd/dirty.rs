//! Which units to look at again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use fleet_core::unit::UnitName;
use tokio::sync::Notify;

/// The units that systemd said something about since they were last taken.
///
/// Its size is bounded by the units that are watched, however fast signals come; so the task that drains the bus
/// never waits for the agent.
#[derive(Debug, Default)]
pub struct Dirty {
    state: Mutex<State>,
    notify: Notify,
}

#[derive(Debug, Default)]
struct State {
    watched: BTreeSet<UnitName>,
    units: BTreeMap<UnitName, Option<String>>,
}

impl Dirty {
    /// From now on these units, and no others, are of interest.
    pub fn watch(&self, units: BTreeSet<UnitName>) {
        self.with(|state| state.watched = units);
    }

    /// Something happened to a unit; `result` is how its job ended, when it was a job that ended.
    pub fn mark(&self, unit: &str, result: Option<&str>) {
        let marked = self.with(|state| {
            let Some(unit) = state.watched.get(unit).cloned() else { return false };
            let entry = state.units.entry(unit).or_default();
            if result.is_some() {
                *entry = result.map(Into::into);
            }
            true
        });
        if marked {
            self.notify.notify_one();
        }
    }

    /// Signals may have been lost: look at everything.
    pub fn mark_all(&self) {
        self.with(|state| {
            for unit in state.watched.clone() {
                state.units.entry(unit).or_default();
            }
        });
        self.notify.notify_one();
    }

    /// Waits until there is something to take.
    pub async fn marked(&self) {
        while self.with(|state| state.units.is_empty()) {
            self.notify.notified().await;
        }
    }

    /// Takes the marked units, each with the result of its last job that ended, if one did.
    pub fn take(&self) -> BTreeMap<UnitName, Option<String>> {
        self.with(|state| std::mem::take(&mut state.units))
    }

    fn with<T>(&self, access: impl FnOnce(&mut State) -> T) -> T {
        access(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_watched_units_wake_the_agent_and_job_results_stay() {
        let dirty = Dirty::default();
        let unit = UnitName::new("a.service").unwrap();
        dirty.watch([unit.clone()].into());
        dirty.mark("foreign.service", Some("failed"));
        assert!(dirty.take().is_empty());
        dirty.mark("a.service", Some("dependency"));
        dirty.mark("a.service", None);
        dirty.marked().await;
        assert_eq!(dirty.take(), [(unit.clone(), Some("dependency".into()))].into());
        dirty.mark_all();
        assert_eq!(dirty.take(), [(unit, None)].into());
    }
}
