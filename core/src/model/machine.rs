//! Machines: the hosts of a cluster.

use std::{
    borrow::Borrow,
    collections::BTreeMap,
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Features, Unknown, record::record};

/// The identity of a host: its `/etc/machine-id`, 32 lower-case hexadecimal digits (`machine-id(5)`).
///
/// Kept in place, not shared: each unit that is placed takes a copy, and none needs to look elsewhere in memory for it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MachineId([u8; 32]);

/// The string is not 32 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a machine ID: want 32 lower-case hexadecimal digits, see machine-id(5)")]
pub struct MachineIdError(String);

impl MachineId {
    /// Checks `id` and takes it.
    ///
    /// # Errors
    /// When it has not the form of a machine ID.
    pub fn new(id: &str) -> Result<Self, MachineIdError> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        let digits = id.as_bytes().try_into().ok().filter(|_| id.bytes().all(digit));
        digits.map(Self).ok_or_else(|| MachineIdError(id.into()))
    }

    /// The whole ID.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("checked in new")
    }

    /// The first 8 characters, by which people know the machine.
    #[must_use]
    pub fn short(&self) -> &str {
        short(self.as_str())
    }
}

/// The first 8 characters of an ID, or all of it when it has no more.
#[must_use]
pub fn short(id: &str) -> &str {
    id.char_indices().nth(8).map_or(id, |(end, _)| &id[..end])
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl TryFrom<String> for MachineId {
    type Error = MachineIdError;

    fn try_from(id: String) -> Result<Self, MachineIdError> {
        Self::new(&id)
    }
}

impl From<MachineId> for String {
    fn from(id: MachineId) -> Self {
        id.as_str().into()
    }
}

impl Borrow<str> for MachineId {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

/// As text, by which it can be looked up.
impl Hash for MachineId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// What a host says of itself: the value of `machine/<id>`, which lives as long as the host's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// The address at which others reach it.
    pub address: String,
    /// Its host name.
    pub hostname: String,
    /// Metadata from its configuration.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The version of its fleetd.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`: tells two boots, and two hosts with one machine ID, apart.
    pub boot_id: String,
    /// Processors that it can use.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory: u64,
    /// It has stopped its units and goes: what follows is no loss.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// What its fleetd understands.
    #[serde(default, skip_serializing_if = "Features::is_empty")]
    pub features: Features,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// What is said of a machine through the API: the value of `metadata/<id>`. It outlives the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataEdits {
    /// Changes to its metadata: the value by key; `None` hides the key that the machine was configured with.
    #[serde(default)]
    pub edits: BTreeMap<String, Option<String>>,
    /// It is to be emptied, and gets no new units.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub drain: bool,
    /// It is gone for good: nothing that could be running there is to be waited for. Taken back when it is seen alive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub evicted: bool,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// The metadata that counts: what the machine was configured with, then the edits.
#[must_use]
pub fn apply_edits(mut metadata: BTreeMap<String, String>, edits: Option<&MetadataEdits>) -> BTreeMap<String, String> {
    for (key, value) in edits.iter().flat_map(|edits| &edits.edits) {
        match value {
            Some(value) => metadata.insert(key.clone(), value.clone()),
            None => metadata.remove(key),
        };
    }
    metadata
}

record!(MachineRecord: version 1);
record!(MetadataEdits: version 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_32_lower_case_hexadecimal_digits() {
        let id = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
        assert_eq!(id.short(), "d097a72e");
        for bad in ["", "d097a72e", "D097A72E4AEF45BF815B90988ACDBF13", "d097a72e-4aef-45bf-815b-90988acdbf13"] {
            assert!(MachineId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn edits_cover_configured_metadata() {
        let pairs = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
        };
        let configured = pairs(&[("disk", "ssd"), ("region", "us")]);
        let edits = MetadataEdits {
            edits: [("region".into(), Some("eu".into())), ("disk".into(), None), ("new".into(), Some("1".into()))]
                .into(),
            ..Default::default()
        };
        assert_eq!(apply_edits(configured.clone(), Some(&edits)), pairs(&[("new", "1"), ("region", "eu")]));
        assert_eq!(apply_edits(configured.clone(), None), configured);
    }
}
