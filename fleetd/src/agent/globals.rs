//! Which global units fit this host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use fleet_core::{
    model::MachineId,
    sched,
    unit::{Requirements, UnitName},
};

/// Those of the global `candidates` that a machine with this metadata is to run beside what is scheduled to it.
pub(super) fn fitting(
    machine: &MachineId,
    metadata: &BTreeMap<String, String>,
    candidates: &[(UnitName, Arc<Requirements>)],
    scheduled: &[(UnitName, Arc<Requirements>)],
) -> BTreeSet<UnitName> {
    fn borrowed(units: &[(UnitName, Arc<Requirements>)]) -> impl Iterator<Item = (&UnitName, &Requirements)> {
        units.iter().map(|(unit, requirements)| (unit, &**requirements))
    }
    let verdicts = sched::globals_for(machine, metadata, borrowed(candidates), borrowed(scheduled));
    verdicts.into_iter().filter(|(_, verdict)| verdict.fits).map(|(unit, _)| unit.clone()).collect()
}
