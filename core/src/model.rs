//! The nouns of a cluster, and their form in etcd.

mod held;
pub mod json;
mod keys;
mod machine;
mod record;
mod standing;
mod state;

pub use held::{HeldMachineRecord, HeldRecord, HeldUnitRecord, timestamp};
pub use keys::{Key, Keys};
pub use machine::{MachineId, MachineIdError, MachineRecord, MetadataEdits, apply_edits, short};
pub use record::{DecodeError, Desired, Record, ScheduledRecord, UnitRecord};
pub use standing::Standing;
pub use state::{LoadState, StartSteps, StateRecord, Target};
