//! The states of this host's units, as the publisher sees them.

use std::sync::Arc;

use tokio::sync::watch;

use super::{publish::States, units::Units};
use crate::clock::monotonic;

/// Shows the states of units that have changed.
pub(super) struct Reporter {
    states: watch::Sender<Option<States>>,
}

impl Reporter {
    pub fn new(states: watch::Sender<Option<States>>) -> Self {
        Self { states }
    }

    /// Shows what there is to report. `answers`: whether systemd does.
    pub fn report(&self, units: &mut Units, answers: bool) {
        let now = monotonic();
        let Some(reports) = units.cells.report(now, answers) else { return };
        self.states.send_if_modified(|states| {
            let mut modified = states.is_none();
            let states = states.get_or_insert_default();
            for (unit, report) in reports {
                match report {
                    Some(state) => {
                        if states.get(&unit).is_none_or(|shown| **shown != state) {
                            states.insert(unit, Arc::new(state));
                            modified = true;
                        }
                    }
                    None => modified |= states.remove(&unit).is_some(),
                }
            }
            modified
        });
        debug_assert!(self.shows_all(units, answers));
    }

    /// Whether all that is shown is so, but for units that are to be reported yet.
    fn shows_all(&self, units: &Units, answers: bool) -> bool {
        let shown = self.states.borrow();
        let none = States::default();
        let shown = shown.as_ref().unwrap_or(&none);
        let is_known = |unit| units.get(unit).is_some();
        shown.keys().all(is_known)
            && units
                .cells
                .iter()
                .filter(|(_, cell)| !cell.has_news())
                .all(|(unit, cell)| cell.report(answers).as_ref() == shown.get(unit).map(|state| &**state))
    }
}
