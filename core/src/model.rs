//! The nouns of a cluster, and their form in etcd.

mod delta;
mod held;
pub mod json;
mod keys;
mod kinds;
mod machine;
mod record;
mod snapshot;
mod standing;
mod state;

pub use delta::{Delta, Diff};
pub use held::{HeldMachineRecord, HeldRecord, HeldUnitRecord, timestamp};
pub use keys::{Key, Keys};
pub use kinds::Kind;
pub use machine::{MachineId, MachineIdError, MachineRecord, MetadataEdits, apply_edits, short};
pub use record::{DecodeError, Desired, Record, SCHEMA, ScheduledRecord, UnitRecord};
pub use snapshot::{Departures, Revision, Snapshot, Versioned};
pub use standing::Standing;
pub use state::{LoadState, StartSteps, StateRecord, Target};
