//! The kinds of keys.

use super::Key;

/// What a key is about: the first part of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `file/`
    File,
    /// `global/`
    Global,
    /// `leader`
    Leader,
    /// `machine/`
    Machine,
    /// `metadata/`
    Metadata,
    /// `sched/`
    Sched,
    /// `state/`
    State,
    /// `cloud-config/`
    Submitted,
    /// `unit/`
    Unit,
}

impl Key {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(_) => Kind::File,
            Self::Global(_) => Kind::Global,
            Self::Leader => Kind::Leader,
            Self::Machine(_) => Kind::Machine,
            Self::Metadata(_) => Kind::Metadata,
            Self::Sched(..) => Kind::Sched,
            Self::State(..) => Kind::State,
            Self::Submitted(..) => Kind::Submitted,
            Self::Unit(_) => Kind::Unit,
        }
    }
}
