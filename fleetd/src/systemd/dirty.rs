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

/// A job that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub job: u32,
    /// How, in systemd's words (`JobRemoved` in `org.freedesktop.systemd1(5)`).
    pub result: String,
}

#[derive(Debug, Default)]
struct State {
    watched: BTreeSet<UnitName>,
    units: BTreeMap<UnitName, Option<Ended>>,
}

impl Dirty {
    /// From now on these units, and no others, are of interest.
    pub fn watch(&self, units: BTreeSet<UnitName>) {
        self.with(|state| state.watched = units);
    }

    /// Something happened to a unit; a job of it ended, if that was it.
    pub fn mark(&self, unit: &str, ended: Option<Ended>) {
        let marked = self.with(|state| {
            let Some(unit) = state.watched.get(unit).cloned() else { return false };
            let entry = state.units.entry(unit).or_default();
            if ended.is_some() {
                *entry = ended;
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

    /// Takes the marked units, each with its last job that ended, if one did.
    pub fn take(&self) -> BTreeMap<UnitName, Option<Ended>> {
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
        let ended = || Some(Ended { job: 7, result: "dependency".into() });
        dirty.mark("foreign.service", ended());
        assert!(dirty.take().is_empty());
        dirty.mark("a.service", ended());
        dirty.mark("a.service", None);
        dirty.marked().await;
        assert_eq!(dirty.take(), [(unit.clone(), ended())].into());
        dirty.mark_all();
        assert_eq!(dirty.take(), [(unit, None)].into());
    }
}
