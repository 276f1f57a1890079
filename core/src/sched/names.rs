//! The names of units: one found at once, and those found in order that a pattern may mean.

use std::{
    collections::{BTreeMap, HashMap},
    hash::{BuildHasherDefault, DefaultHasher},
};

use super::keys::UnitKey;
use crate::unit::UnitName;

/// Every name that stands for something, twice: a tree alone would compare a name with some thirty others, each in
/// another part of the memory, and most questions are for one.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Hashed without a random seed, and never iterated: it has no order that a decision could rest on.
    keys: HashMap<UnitName, UnitKey, BuildHasherDefault<DefaultHasher>>,
    sorted: BTreeMap<UnitName, UnitKey>,
}

impl Names {
    pub fn get(&self, name: &str) -> Option<UnitKey> {
        self.keys.get(name).copied()
    }

    pub fn sorted(&self) -> &BTreeMap<UnitName, UnitKey> {
        &self.sorted
    }

    pub fn insert(&mut self, name: UnitName, key: UnitKey) {
        self.keys.insert(name.clone(), key);
        self.sorted.insert(name, key);
    }

    pub fn remove(&mut self, name: &UnitName) {
        self.keys.remove(name);
        self.sorted.remove(name);
    }
}
