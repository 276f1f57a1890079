//! What the controllers have to say, in the log.

use fleet_core::control::Event;
use tracing::{info, warn};

/// Logs events.
pub fn log(events: Vec<Event>) {
    for event in events {
        match event {
            Event::Scheduled { unit, machine, reason } => info!(%unit, %machine, %reason, "unit scheduled"),
            Event::Unscheduled { unit, from, reason } => info!(%unit, ?from, %reason, "unit unscheduled"),
            Event::Global { unit, placed, deleted } => info!(%unit, placed, deleted, "machines told of a global unit"),
            Event::WaitsFor { feature, machines } => {
                info!(feature, ?machines, "not used yet: these machines do not understand it");
            }
            Event::MachineLeft(machine) => info!(%machine, "machine has left"),
            Event::MachineGone(machine) => warn!(%machine, "machine is gone"),
            Event::MachineDead(machine) => info!(%machine, "machine counts as dead, its units move"),
            Event::EvictionOver { machine, there } => info!(%machine, there, "its eviction is over"),
        }
    }
}
