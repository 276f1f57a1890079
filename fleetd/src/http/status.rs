//! How units stand: worked out of one snapshot of the cluster.

use std::collections::{BTreeSet, HashMap, HashSet};

use fleet_api::{UnitReport, UnitStatus};
use fleet_core::{
    model::{Desired, MachineId, Placement, Snapshot, StateRecord, UnitRecord},
    unit::UnitName,
};

/// A snapshot of the cluster, indexed by unit.
pub struct Index<'c> {
    cluster: &'c Snapshot,
    scheduled: HashMap<&'c UnitName, &'c MachineId>,
    reports: HashMap<&'c UnitName, Vec<(&'c MachineId, &'c StateRecord)>>,
}

impl<'c> Index<'c> {
    /// Indexes all units, or only those in `units`.
    pub fn new(cluster: &'c Snapshot, units: Option<&HashSet<UnitName>>) -> Self {
        let asked = |unit: &UnitName| units.is_none_or(|units| units.contains(unit));
        let mut index = Self { cluster, scheduled: HashMap::new(), reports: HashMap::new() };
        for (place, value) in cluster.scheduled.iter().filter(|((_, unit), _)| asked(unit)) {
            index.add_scheduled(place, &value.record);
        }
        for (place, value) in cluster.states.iter().filter(|((_, unit), _)| asked(unit)) {
            index.add_report(place, &value.record);
        }
        index
    }

    /// Indexes these units, of which there is something on these machines at most.
    pub fn at(
        cluster: &'c Snapshot,
        units: &HashSet<UnitName>,
        places: &HashMap<UnitName, BTreeSet<MachineId>>,
    ) -> Self {
        let mut index = Self { cluster, scheduled: HashMap::new(), reports: HashMap::new() };
        for (unit, machines) in units.iter().filter_map(|unit| places.get_key_value(unit)) {
            for machine in machines {
                let place = (machine.clone(), unit.clone());
                if let Some((place, value)) = cluster.scheduled.get_key_value(&place) {
                    index.add_scheduled(place, &value.record);
                }
                if let Some((place, value)) = cluster.states.get_key_value(&place) {
                    index.add_report(place, &value.record);
                }
            }
        }
        index
    }

    fn add_scheduled(&mut self, (machine, unit): &'c (MachineId, UnitName), placement: &Placement) {
        // A global unit has no machine. Of two, the one on a machine that is being drained is on its way out.
        let leaves = placement.is_recall() || placement.global;
        if !leaves && (!self.cluster.drains(machine) || !self.scheduled.contains_key(unit)) {
            self.scheduled.insert(unit, machine);
        }
    }

    fn add_report(&mut self, (machine, unit): &'c (MachineId, UnitName), state: &'c StateRecord) {
        self.reports.entry(unit).or_default().push((machine, state));
    }

    /// The machine that a unit is scheduled to.
    pub fn machine(&self, unit: &UnitName) -> Option<&'c MachineId> {
        self.scheduled.get(unit).copied()
    }

    /// How far the cluster brought a unit that runs on one machine.
    pub fn current(&self, unit: &UnitName) -> &'static str {
        let machine = self.machine(unit);
        let report = self.reports(unit).iter().find(|(reporter, _)| Some(*reporter) == machine);
        report.map_or(Desired::Inactive.as_str(), |(_, state)| state.current.as_str())
    }

    /// What machines report of a unit.
    pub fn reports(&self, unit: &UnitName) -> &[(&'c MachineId, &'c StateRecord)] {
        self.reports.get(unit).map_or(&[], Vec::as_slice)
    }

    /// Everything about a unit but its contents.
    pub fn status(&self, unit: &UnitName) -> UnitStatus {
        let ordinary = self.cluster.units.get(unit);
        let global = self.cluster.globals.get(unit);
        let reports = self.reports(unit).iter().map(|(machine, state)| report(machine, state)).collect();
        let base = UnitStatus { name: unit.to_string(), reports, ..UnitStatus::default() };
        let of = |record: &UnitRecord| UnitStatus {
            exists: true,
            hash: record.hash.to_string(),
            desired_state: record.desired.to_string(),
            generation: record.generation,
            request: record.request,
            ..base.clone()
        };
        match (ordinary, global) {
            (Some(value), _) => UnitStatus {
                current_state: self.current(unit).into(),
                machine_id: self.machine(unit).map(ToString::to_string).unwrap_or_default(),
                ..of(&value.record)
            },
            (None, Some(value)) => UnitStatus { global: true, ..of(&value.record) },
            (None, None) => base,
        }
    }
}

fn report(machine: &MachineId, state: &StateRecord) -> UnitReport {
    UnitReport {
        machine_id: machine.to_string(),
        hash: state.hash.to_string(),
        current_state: state.current.to_string(),
        generation: state.generation,
        request: state.request,
        acted: state.acted,
        finished: state.finished,
        job: state.job,
        load: state.load.clone(),
        active: state.active.to_string(),
        sub: state.sub.clone(),
        since: state.since,
        problem: state.problem.clone(),
        notice: state.notice.clone(),
    }
}
