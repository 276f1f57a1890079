//! Writes that happen all or not at all, in terms of the schema's keys.

use crate::model::{Key, Revision};

/// A condition: the key was last written at this revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The key.
    pub key: Key,
    /// When it was last written; 0: it does not exist.
    pub revision: Revision,
}

/// A change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Gives it a value, which stays until it is deleted.
    Put(Key, Vec<u8>),
    /// Deletes it.
    Delete(Key),
}

impl Write {
    /// The key.
    #[must_use]
    pub fn key(&self) -> &Key {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

/// Writes that happen all or not at all, and only when every guard holds. Without writes there is nothing to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteSet {
    /// The conditions.
    pub guards: Vec<Guard>,
    /// The changes, of each key one at most.
    pub writes: Vec<Write>,
}
