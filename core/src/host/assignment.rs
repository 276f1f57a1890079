//! What the cluster wants of a host.

use crate::{model::Target, unit::UnitHash};

/// What this host should have of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The contents.
    pub hash: UnitHash,
    /// How far to bring it.
    pub target: Target,
    /// Grows when a restart is asked for; `None` is content with any.
    pub generation: Option<u64>,
    /// Grows when somebody asks once more for what was wanted already: what does not run is started then, and what is
    /// only to be loaded is stopped. `None` is content with any.
    pub request: Option<u64>,
}

/// What the cluster wants of a unit on this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Assignment {
    /// Nobody has said yet: nothing is to be decided.
    #[default]
    Unknown,
    /// It is not to be here.
    Absent,
    /// It is to be here.
    Wanted(Wanted),
}

/// What the engine asks of a host that is to give a unit up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The contents that the unit was placed with.
    pub hash: UnitHash,
    /// The modification revision of the key that asks for it.
    pub revision: i64,
}
