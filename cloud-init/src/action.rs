//! What is done to a host, as data.

use std::fmt;

use crate::document::{Owner, Verb};

/// One change of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tells the kernel the host's name.
    SetHostname(String),
    /// Makes a user; the arguments are those of useradd.
    AddUser {
        /// The user.
        name: String,
        /// Options of useradd.
        options: Vec<String>,
    },
    /// Sets the hash of a password.
    SetPassword {
        /// The user.
        user: String,
        /// The hash.
        hash: String,
    },
    /// Writes the `authorized_keys` of a user.
    Authorize {
        /// The user.
        user: String,
        /// The user's home directory.
        home: String,
        /// How many keys are new.
        new: usize,
        /// The whole file.
        content: String,
    },
    /// Gives a file these contents, permissions and owner at once; makes its directory.
    Write {
        /// The file.
        path: String,
        /// The contents.
        content: Vec<u8>,
        /// The permissions.
        mode: u32,
        /// The owner.
        owner: Owner,
    },
    /// Gives a file whose contents stay these permissions and this owner.
    SetAttributes {
        /// The file.
        path: String,
        /// The permissions.
        mode: u32,
        /// The owner.
        owner: Owner,
    },
    /// Links a unit to `/dev/null`, in place of its file.
    Mask {
        /// The unit's file.
        path: String,
    },
    /// Takes such a link away.
    Unmask {
        /// The unit's file.
        path: String,
    },
    /// Has systemd read all units again.
    Reload,
    /// Carries out the `[Install]` section of a unit.
    Enable {
        /// The unit.
        unit: String,
        /// Whether until the next boot only.
        runtime: bool,
    },
    /// Does something with a unit.
    Command {
        /// The unit.
        unit: String,
        /// What.
        verb: Verb,
        /// What to remember it by until the next boot.
        mark: Option<String>,
    },
}

impl Action {
    /// The file that it changes.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        match self {
            Self::Write { path, .. }
            | Self::SetAttributes { path, .. }
            | Self::Mask { path }
            | Self::Unmask { path } => Some(path.clone()),
            Self::Authorize { home, .. } => Some(keys_file(home)),
            _ => None,
        }
    }
}

/// Where the keys that let a user in stand.
#[must_use]
pub fn keys_file(home: &str) -> String {
    format!("{}/.ssh/authorized_keys", home.trim_end_matches('/'))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetHostname(name) => write!(f, "name this host {name}"),
            Self::AddUser { name, .. } => write!(f, "make user {name}"),
            Self::SetPassword { user, .. } => write!(f, "set the password of {user}"),
            Self::Authorize { user, new, .. } => {
                write!(f, "authorize {new} key{} for {user}", if *new == 1 { "" } else { "s" })
            }
            Self::Write { path, content, mode, owner } => {
                let Owner { user, group } = owner;
                write!(f, "write {path} ({} bytes, {mode:04o} {user}:{group})", content.len())
            }
            Self::SetAttributes { path, mode, owner } => {
                write!(f, "set {path} to {mode:04o} {}:{}", owner.user, owner.group)
            }
            Self::Mask { path } => write!(f, "mask {path}"),
            Self::Unmask { path } => write!(f, "unmask {path}"),
            Self::Reload => write!(f, "reload systemd's units"),
            Self::Enable { unit, runtime } => {
                write!(f, "enable {unit}{}", if *runtime { " until the next boot" } else { "" })
            }
            Self::Command { unit, verb, .. } => write!(f, "{verb} {unit}"),
        }
    }
}
