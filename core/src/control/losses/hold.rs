//! What of the machines that are gone stays as it is, for the planner.

use std::time::Duration;

use crate::{control::Facts, sched::Held};

/// The machines that may come back, and the units that may still run on machines that count as dead; and when one of
/// these is down.
#[must_use]
pub fn hold(facts: &Facts<'_>) -> (Held, Option<Duration>) {
    let mut held = Held::default();
    let mut next: Option<Duration> = None;
    for (machine, dead) in facts.losses.machines() {
        if !dead {
            held.machines.insert(machine.clone());
            continue;
        }
        for unit in facts.known.placements.on(machine) {
            let at = facts.down_at(unit, machine);
            if at.is_none_or(|at| at > facts.now) {
                held.units.insert((unit.clone(), machine.clone()));
                next = next.into_iter().chain(at).min();
            }
        }
    }
    (held, next)
}
