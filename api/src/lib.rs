//! The HTTP API, version 1, as types: CoreOS fleet's, member for member, and what was added.
//!
//! Fleetd answers with these types and `fleet-client` reads them. Empty members are left out. What is added is new
//! resources and new optional members, so that every version of either side can talk to every other. Bodies are read
//! with [`fleet_core::model::json`], to which a list is no object.

mod changes;
mod drain;
mod error;
pub mod headers;
mod held;
mod machines;
pub mod paths;
mod states;
mod trace;
mod units;
mod version;
mod watch;
mod why;

pub use self::{
    changes::{Again, Change, ChangeMade, Changes, ChangesMade},
    drain::{Drain, DrainUnit},
    error::{ErrorBody, ErrorEntity, Reason},
    held::{Held, HeldMachine, HeldUnit},
    machines::{Machine, MachinePage},
    states::{UnitState, UnitStatePage},
    trace::{Asked, STAGES, Stages, Trace},
    units::{Unit, UnitOption, UnitPage, options_of},
    version::{Older, Version},
    watch::{UnitReport, UnitStatus},
    why::{Failed, FailedUnit, FileWarning, MachineVerdict, Why},
};

#[cfg(test)]
mod tests;
