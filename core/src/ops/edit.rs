//! What comes of an operation.

use super::WriteSet;

/// What an operation writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The writes; none when everything is as it is to be.
    pub set: WriteSet,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was as it is to be. If there are writes all the same, they mend what is kept beside the record: the
    /// stored contents, or the mark of who has submitted them.
    Unchanged,
    /// Something is wanted otherwise.
    Changed,
    /// There is a new unit.
    Created,
    /// A unit has other contents.
    Replaced,
}

impl Edit {
    /// Nothing is to be written.
    pub(super) fn none() -> Self {
        Self { set: WriteSet::default(), outcome: Outcome::Unchanged }
    }
}
