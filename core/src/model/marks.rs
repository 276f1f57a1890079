//! What is noted of the cluster as a whole: who leads, and what was submitted from cloud-configs.

use serde::{Deserialize, Serialize};

use super::{Features, MachineId, Unknown, record::record};

/// The host whose engine leads: the value of `leader`, which lives as long as the engine's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The host.
    pub machine: MachineId,
    /// What its engine understands.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// What the cluster uses of what not every fleet understands: the value of `in-use`. It only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUseRecord {
    /// The words for it.
    pub features: Features,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// That contents of a unit were submitted from a cloud-config: the value of `cloud-config/<unit>/<hash>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmittedRecord {
    /// The host that did.
    pub machine: MachineId,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

record!(InUseRecord: version 1);
record!(LeaderRecord: version 1);
record!(SubmittedRecord: version 1);
