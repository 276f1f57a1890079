//! What the account is told by snapshots.

use std::{collections::BTreeSet, time::Duration};

use super::Losses;
use crate::{
    control::{Event, facts::is_present},
    model::{Delta, Key, MachineId, Snapshot},
    sched::Placements,
};

impl Losses {
    /// Takes from a snapshot which machines are there and which are not. Of those that are not it counts those that were
    /// seen to go, those that something is scheduled to, and the ones that were there a moment ago as others have seen:
    /// `recent`.
    pub fn follow(
        &mut self,
        delta: Delta<'_>,
        placements: &Placements,
        recent: &BTreeSet<MachineId>,
        now: Duration,
    ) -> Vec<Event> {
        let (before, snapshot) = (delta.before, delta.after);
        let mut events = Vec::new();
        for diff in delta.machines() {
            let id = diff.key;
            if diff.after.is_some() {
                self.back(id);
                continue;
            }
            self.gone(id, snapshot.departures_of(id), now);
            if snapshot.left_in_order(id) {
                self.left(id);
                events.push(Event::MachineLeft(id.clone()));
            } else {
                events.push(Event::MachineGone(id.clone()));
            }
        }
        // Also one that is known from before: no transaction that gives it a unit would find its entry unchanged.
        machines(&snapshot.unreadable).for_each(|id| self.back(id));
        let lost = machines(&before.unreadable).filter(|id| !is_present(snapshot, id));
        lost.for_each(|id| self.gone(id, snapshot.departures_of(id), now));
        // Those that are not there though units are on them. What was found gone stays so until it is seen again, which
        // its departures tell even if it was not there for long, or until it may have been there unseen.
        let mut expected: BTreeSet<&MachineId> =
            delta.scheduled().filter(|diff| diff.after.is_some()).map(|diff| &diff.key.0).collect();
        if delta.is_listed_anew() {
            expected.extend(placements.machines());
        }
        expected.extend(delta.departed());
        expected.retain(|machine| placements.has_any(machine));
        for machine in expected.into_iter().chain(recent).filter(|machine| !is_present(snapshot, machine)) {
            self.gone(machine, snapshot.departures_of(machine), now);
        }
        events
    }

    /// Lets go what need not be held any more: see [`Losses::step`].
    pub fn settle(&mut self, snapshot: &Snapshot, placements: &Placements, missed: usize, now: Duration) -> Vec<Event> {
        let gone: Vec<(MachineId, bool)> = self.machines().map(|(machine, dead)| (machine.clone(), dead)).collect();
        for (machine, _) in &gone {
            let evicted = snapshot.metadata.get(machine).is_some_and(|edits| edits.record.evicted);
            self.set_evicted(machine, evicted);
        }
        self.step(now, snapshot.machines.len(), missed, |machine| placements.has_any(machine));
        let died = gone.into_iter().filter(|(machine, was_dead)| !was_dead && self.is_dead(machine) == Some(true));
        died.map(|(machine, _)| Event::MachineDead(machine)).collect()
    }
}

fn machines(unreadable: &imbl::OrdSet<Key>) -> impl Iterator<Item = &MachineId> {
    unreadable.iter().filter_map(|key| match key {
        Key::Machine(id) => Some(id),
        _ => None,
    })
}
