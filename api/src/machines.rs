//! Machines that are alive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `GET /fleet/v1/machines`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MachinePage {
    /// The machines, by ID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<Machine>,
    /// Asks for the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_page_token: Option<String>,
}

/// A machine that is alive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Machine {
    /// Its machine ID.
    pub id: String,
    /// Its metadata, edits included.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// The address at which others reach it.
    #[serde(rename = "primaryIP", skip_serializing_if = "String::is_empty")]
    pub primary_ip: String,
    /// Added: its host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Added: it is to be emptied, and gets no new units.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub drained: bool,
}
