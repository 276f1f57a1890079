//! What a request changes: pure functions from an operation, and the records that it rests on, to guarded writes or a
//! refusal.
//!
//! An [`Operation`] says which keys it rests on ([`Operation::reads`]). Who carries it out reads them, asks
//! [`Operation::decide`], commits the [`WriteSet`], and begins again when a guard did not hold: somebody else has been
//! faster. The HTTP API, `fleetd cloud-config` and the operator of the simulation all go this way, through
//! `fleetd::registry::commit`.

mod actor;
mod current;
mod edit;
mod machine;
mod once;
mod operation;
#[cfg(test)]
mod properties;
mod refusal;
mod unit;
mod write;

pub use actor::Actor;
pub use current::Current;
pub use edit::{Edit, Outcome};
pub use once::SubmitOnce;
pub use operation::Operation;
pub use refusal::Refusal;
pub use unit::{Contents, RestartUnit, SetUnit, WhenSame};
pub use write::{Guard, Write, WriteSet};
