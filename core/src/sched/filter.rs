//! What a unit asks of a machine by itself, whatever else is there: its ID and its metadata.

use std::collections::BTreeMap;

use super::reason::Cause;
use crate::{model::MachineId, unit::Requirements};

/// Checks what a unit asks of the machine itself.
pub(super) fn suits(
    requirements: &Requirements,
    id: &MachineId,
    metadata: &BTreeMap<String, String>,
) -> Result<(), Cause> {
    if let Some(wanted) = requirements.machine_id.as_ref().filter(|wanted| !is_named(id, wanted)) {
        return Err(Cause::MachineId { wanted: wanted.clone() });
    }
    let mut unmet = requirements.metadata.iter().map(|(key, wanted)| (key, wanted, metadata.get(key)));
    match unmet.find(|(_, wanted, has)| !has.is_some_and(|value| wanted.contains(value))) {
        None => Ok(()),
        Some((key, wanted, has)) => {
            Err(Cause::Metadata { key: key.clone(), wanted: wanted.clone(), has: has.cloned() })
        }
    }
}

/// Whether `MachineID=wanted` means this machine.
pub(super) fn is_named(machine: &MachineId, wanted: &str) -> bool {
    machine.as_str() == wanted || machine.short() == wanted
}
