//! The host as it is, as far as a document speaks of it: what [`survey`](crate::survey) finds and
//! [`plan`](crate::plan) decides on.

use std::collections::{BTreeMap, BTreeSet};

/// The host as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Present {
    /// The kernel's name of the host.
    pub hostname: String,
    /// What is at each path that the document may change. Paths that are missing have no entry.
    pub paths: BTreeMap<String, Entry>,
    /// The users that there are, of those in question.
    pub users: BTreeMap<String, Account>,
    /// The groups that there are, of those in question, with their numbers.
    pub groups: BTreeMap<String, u32>,
    /// The units in question.
    pub units: BTreeMap<String, UnitState>,
    /// The commands that were carried out since the host booted.
    pub done: BTreeSet<String>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A file.
    File {
        /// Its contents.
        content: Vec<u8>,
        /// Its permissions.
        mode: u32,
        /// The number of its user.
        uid: u32,
        /// The number of its group.
        gid: u32,
    },
    /// A symbolic link to this.
    Link(String),
    /// A directory.
    Directory,
    /// Something else: a device, a pipe, a socket.
    Other,
}

/// A user that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
    /// The hash of the password.
    pub password: Option<String>,
}

/// A unit as systemd has it; systemd's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UnitState {
    /// `LoadState`
    pub load: String,
    /// `ActiveState`
    pub active: String,
    /// `UnitFileState`
    pub file: String,
}

impl UnitState {
    /// Whether it runs or is about to.
    #[must_use]
    pub fn is_up(&self) -> bool {
        ["active", "activating", "reloading"].contains(&&*self.active)
    }
}

impl Present {
    /// The text of a file; empty when there is none.
    #[must_use]
    pub fn text(&self, path: &str) -> String {
        match self.paths.get(path) {
            Some(Entry::File { content, .. }) => String::from_utf8_lossy(content).into_owned(),
            _ => String::new(),
        }
    }

    /// The state of a unit; all empty when systemd was not asked.
    #[must_use]
    pub fn unit(&self, name: &str) -> UnitState {
        self.units.get(name).cloned().unwrap_or_default()
    }
}
