//! What the leader holds back, shown in the store for all to see.

use std::{collections::BTreeMap, time::Duration};

use super::{Answer, Change, Controller, Facts, HeldBy, HeldMachine, Outcome};
use crate::{
    model::{HeldMachineRecord, HeldRecord, HeldUnitRecord, Key, Kind, MachineId, Record, timestamp},
    ops::{Write, WriteSet},
    sched::{Known, Planner},
    unit::UnitName,
};

/// Most units that are named: the value has to fit into a request.
const UNITS: usize = 1000;
/// After a write that the store did not take.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps `engine/held` as it should be.
#[derive(Debug)]
pub struct HeldBack {
    /// The time of day, since 1970, from which the leader's time counts. Fixed, so that a moment is always written alike.
    epoch: Duration,
    /// What is in the store; `None` before this leader has written anything.
    shown: Option<HeldRecord>,
    /// What is held back now.
    next: HeldRecord,
    /// What is being written.
    writing: Option<HeldRecord>,
    /// Nothing is written before this.
    pause: Duration,
}

impl HeldBack {
    /// For a leader whose time counts from this time of day, since 1970.
    #[must_use]
    pub fn new(epoch: Duration) -> Self {
        Self { epoch, shown: None, next: HeldRecord::default(), writing: None, pause: Duration::ZERO }
    }

    /// How many machines are shown as held.
    #[must_use]
    pub fn machines(&self) -> usize {
        self.next.machines.len()
    }

    /// What is held back now.
    fn record(&self, facts: &Facts<'_>) -> HeldRecord {
        let Facts { known: Known { placements, .. }, losses, now, .. } = *facts;
        let mut record = HeldRecord::default();
        let held = losses.held(now);
        let told = held.iter().filter_map(|held| Some((&held.machine, (held, reason(held.by)?))));
        let told: BTreeMap<&MachineId, (&HeldMachine, &str)> = told.collect();
        for (machine, dead) in losses.machines() {
            if !dead && let Some((held, _)) = told.get(machine) {
                // They may have to be waited for for longer than the machine.
                for unit in placements.on(machine).filter(|unit| facts.must_be_down(unit, machine)) {
                    let until = held.until.zip(facts.down_at(unit, machine)).map(|(until, down)| until.max(down));
                    record.units.push(self.unit(facts, unit, machine, until));
                }
            } else if dead {
                for unit in placements.on(machine) {
                    let at = facts.down_at(unit, machine);
                    if at.is_none_or(|at| at > now) {
                        record.units.push(self.unit(facts, unit, machine, at));
                    }
                }
            }
        }
        record.units.truncate(UNITS);
        // Of one that nothing is scheduled to, nothing is held back.
        let told = told.into_values().filter(|(held, _)| placements.has_any(&held.machine));
        record.machines = told.map(|(held, reason)| self.machine(held, reason)).collect();
        record
    }

    fn machine(&self, held: &HeldMachine, reason: &str) -> HeldMachineRecord {
        HeldMachineRecord {
            id: held.machine.clone(),
            since: self.time(held.since),
            until: held.until.map(|at| self.time(at)),
            reason: reason.into(),
        }
    }

    fn unit(&self, facts: &Facts<'_>, unit: &UnitName, machine: &MachineId, until: Option<Duration>) -> HeldUnitRecord {
        HeldUnitRecord {
            name: unit.clone(),
            machine: machine.clone(),
            since: facts.losses.gone_since(machine).map(|since| self.time(since)),
            until: until.map(|at| self.time(at)),
        }
    }

    /// A moment of the leader's time as a time of day.
    fn time(&self, at: Duration) -> String {
        timestamp(self.epoch.saturating_add(at).as_secs())
    }
}

impl Controller for HeldBack {
    fn follows(&self) -> &'static [Kind] {
        &[Kind::Machine, Kind::Metadata, Kind::Sched]
    }

    fn reconcile(&mut self, facts: &Facts<'_>, _: &mut Planner) -> Outcome {
        self.next = self.record(facts);
        if self.writing.is_some() || self.shown.as_ref() == Some(&self.next) {
            return Outcome::default();
        }
        if facts.now < self.pause {
            return Outcome { wake_at: Some(self.pause), ..Outcome::default() };
        }
        self.writing = Some(self.next.clone());
        let write = if self.next == HeldRecord::default() {
            Write::Delete(Key::Held)
        } else {
            Write::Put(Key::Held, self.next.encode())
        };
        let set = WriteSet { guards: Vec::new(), writes: vec![write] };
        Outcome { changes: vec![Change { set, ..Change::default() }], ..Outcome::default() }
    }

    fn answered(&mut self, _: &Change, answer: Answer, now: Duration) {
        let written = self.writing.take();
        if answer == Answer::Done {
            self.shown = written;
        } else {
            self.pause = now + PAUSE;
        }
    }
}

/// Why a machine is held, in words; `None` when that is over before anybody could read it.
fn reason(by: HeldBy) -> Option<&'static str> {
    match by {
        HeldBy::Return => None,
        HeldBy::Trouble => Some("etcd was slow or away, or the engine is new: machines that are well come back"),
        HeldBy::Brake => Some("many machines vanished together"),
    }
}
