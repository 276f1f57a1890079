//! The version of fleetd, and what it can do.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Added: `GET /fleet/v1/version`: what a client has to know of the fleetd that answers, and of the cluster behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Version {
    /// The version of this fleetd: `0.1.0`.
    pub version: String,
    /// What it can do beyond the first of its kind, one word each, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// The version of the schema that it writes in etcd.
    pub schema: u32,
    /// The version of the oldest fleetd that is alive in the cluster; absent while the cluster is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<String>,
    /// What the cluster uses that all its daemons have to understand, one word each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub in_use: Vec<String>,
    /// What it does not use yet, and the machines for which it waits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub waits_for: BTreeMap<String, Vec<Older>>,
}

/// Added: a machine whose fleetd does not understand something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Older {
    /// Its machine ID.
    pub id: String,
    /// Its host name; absent when its entry cannot be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// The version of its fleetd; absent when its entry cannot be read.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
}
