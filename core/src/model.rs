//! The nouns of a cluster, and their form in etcd.
//!
//! Which kinds of keys there are is said by one table, in `kinds.rs`. A [`Snapshot`] is what of them is followed; a
//! [`Delta`] is what differs between two of those. Values are [`Record`]s.

mod delta;
pub mod features;
mod held;
pub mod json;
mod keys;
mod kinds;
mod machine;
mod marks;
mod placement;
mod record;
mod snapshot;
mod standing;
mod state;
mod unit;
mod unknown;

pub use delta::{Delta, Diff};
pub use features::Features;
pub use held::{HeldMachineRecord, HeldRecord, HeldUnitRecord, timestamp};
pub use keys::{Key, Keys, LeaseId, Range};
pub use kinds::{Kind, Life, Writer};
pub use machine::{MachineId, MachineIdError, MachineRecord, MetadataEdits, apply_edits, short};
pub use marks::{InUseRecord, LeaderRecord, SubmittedRecord};
pub use placement::{Placement, Task};
pub use record::{DecodeError, Record};
pub use snapshot::{Departures, Revision, Snapshot, Versioned};
pub use standing::Standing;
pub use state::{ActiveState, LoadState, StartSteps, StateRecord, Target};
pub use unit::{Desired, UnitRecord};
pub use unknown::Unknown;
