//! The records that an operation rests on.

use std::{collections::BTreeMap, sync::Arc};

use super::{Guard, Refusal};
use crate::{
    model::{DecodeError, Key, MetadataEdits, Record, Revision, Snapshot, UnitRecord},
    unit::{UnitHash, UnitName},
};

/// The records that an operation rests on, as they stand. A key that is not in here does not exist.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// The revision at which they were read.
    pub revision: Revision,
    entries: BTreeMap<Key, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    revision: Revision,
    value: Value,
}

/// What is known of a value, as far as operations look at it.
#[derive(Clone, Debug)]
enum Value {
    Unit(Arc<UnitRecord>),
    Metadata(Box<MetadataEdits>),
    /// The contents that belong under their hash.
    Contents,
    /// A newer fleet's.
    Newer(u32),
    /// One that counts as absent, or that nobody looks into. Its key exists.
    Opaque,
}

/// A unit as it stands.
pub(super) struct CurrentUnit<'c> {
    /// What is wanted of it, and whether it is global. A record that cannot be read counts as absent, and is overwritten
    /// or deleted like any other.
    pub record: Option<(&'c UnitRecord, bool)>,
    /// Its two possible places, as ordinary and as global unit, and when each was last written.
    pub places: [Guard; 2],
}

impl CurrentUnit<'_> {
    /// Whether there is anything of it.
    pub fn exists(&self) -> bool {
        self.places.iter().any(|place| place.revision != 0)
    }
}

impl Current {
    /// Nothing, as of a revision.
    #[must_use]
    pub fn at(revision: Revision) -> Self {
        Self { revision, entries: BTreeMap::new() }
    }

    /// Takes a key's value as it is stored, and the revision that wrote it.
    pub fn put(&mut self, key: Key, value: &[u8], revision: Revision) {
        let value = match &key {
            Key::Unit(_) | Key::Global(_) => read(value, |record| Value::Unit(Arc::new(record))),
            Key::Metadata(_) => read(value, |edits| Value::Metadata(Box::new(edits))),
            // What others have put there in its place is overwritten.
            Key::File(hash) if str::from_utf8(value).is_ok_and(|text| UnitHash::of(text) == *hash) => Value::Contents,
            _ => Value::Opaque,
        };
        self.entries.insert(key, Entry { revision, value });
    }

    /// The units among these keys as a snapshot shows them, without their contents; `None` when something of them cannot
    /// be read, or when there are others among the keys.
    pub(super) fn shown(keys: Vec<Key>, snapshot: &Snapshot, revision: Revision) -> Option<Self> {
        let mut current = Self::at(revision);
        for key in keys {
            let shown = match &key {
                key if snapshot.unreadable.contains(key) => return None,
                Key::Unit(name) => snapshot.units.get(name),
                Key::Global(name) => snapshot.globals.get(name),
                Key::File(_) => None,
                _ => return None,
            };
            if let Some(shown) = shown {
                let value = Value::Unit(Arc::clone(&shown.record));
                current.entries.insert(key, Entry { revision: shown.revision, value });
            }
        }
        Some(current)
    }

    /// The newest revision that wrote anything in here; 0 when there is nothing.
    #[must_use]
    pub fn newest(&self) -> Revision {
        self.entries.values().map(|entry| entry.revision).max().unwrap_or(0)
    }

    /// Whether a key exists.
    pub(super) fn has(&self, key: &Key) -> bool {
        self.entries.contains_key(key)
    }

    /// Whether the contents are stored under their hash.
    pub(super) fn has_contents(&self, hash: UnitHash) -> bool {
        let entry = self.entries.get(&Key::File(hash));
        entry.is_some_and(|entry| matches!(entry.value, Value::Contents))
    }

    /// That a key is as it stands.
    pub(super) fn guard(&self, key: Key) -> Guard {
        let revision = self.entries.get(&key).map_or(0, |entry| entry.revision);
        Guard { key, revision }
    }

    /// A unit as it stands.
    pub(super) fn unit(&self, name: &UnitName) -> Result<CurrentUnit<'_>, Refusal> {
        let keys = [Key::Unit(name.clone()), Key::Global(name.clone())];
        let mut record = None;
        for (key, is_global) in keys.iter().zip([false, true]) {
            if let Some(Value::Unit(found)) = self.value(key)? {
                record = Some((&**found, is_global));
            }
        }
        Ok(CurrentUnit { record, places: keys.map(|key| self.guard(key)) })
    }

    /// What is said of a machine; `None` when that is nothing, or cannot be read.
    pub(super) fn metadata(&self, key: &Key) -> Result<Option<&MetadataEdits>, Refusal> {
        Ok(match self.value(key)? {
            Some(Value::Metadata(edits)) => Some(edits),
            _ => None,
        })
    }

    /// A value that may be changed.
    fn value(&self, key: &Key) -> Result<Option<&Value>, Refusal> {
        match self.entries.get(key).map(|entry| &entry.value) {
            Some(Value::Newer(version)) => Err(Refusal::Newer { key: Box::new(key.clone()), version: *version }),
            value => Ok(value),
        }
    }
}

fn read<T: Record>(value: &[u8], known: impl FnOnce(T) -> Value) -> Value {
    match T::decode(value) {
        Ok(record) => known(record),
        Err(DecodeError::Newer { version, .. }) => Value::Newer(version),
        Err(DecodeError::Shape(_)) => Value::Opaque,
    }
}
