//! Why an operation is refused, in the words that clients know.

use thiserror::Error;

use crate::{
    model::{Desired, Key, Keys},
    unit::{UnitName, verify::MAX_FILE},
};

/// Why an operation is refused. Nothing is written then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// There is nothing of the unit.
    #[error("unit does not exist")]
    UnitMissing,
    /// What is asked for is no unit's name.
    #[error("{0}")]
    BadName(String),
    /// The word for what is wanted is unknown.
    #[error("{0}")]
    BadDesiredState(String),
    /// The contents cannot be those of this unit.
    #[error("{0}")]
    BadContents(String),
    /// The contents are too large.
    #[error("unit file has {0} bytes, at most {MAX_FILE} are taken")]
    LargeContents(usize),
    /// A unit that does not exist needs contents.
    #[error("unit does not exist and options field empty")]
    NoContents,
    /// A unit that exists needs another state or other contents.
    #[error("must provide DesiredState to update existing unit")]
    NoDesiredState,
    /// A template runs nowhere.
    #[error("cannot activate template \"{0}\"")]
    TemplateActivated(UnitName),
    /// A unit that is to be destroyed is to be nothing else.
    #[error("what is to be destroyed has neither options nor a desired state")]
    DestroyedAndSet,
    /// The cluster has a unit of this name with other contents, which are not to be replaced.
    #[error("the cluster has a unit of this name with other contents")]
    OtherContents,
    /// The unit is wanted so, and does not run.
    #[error("unit is {0}, only launched units restart")]
    NotLaunched(Desired),
    /// An ordinary unit runs on one machine.
    #[error("only global units restart on one machine after the other")]
    NotGlobal,
    /// The restart that was to go on is not the last one.
    #[error("another restart of the unit has begun meanwhile")]
    OtherRestart,
    /// Nothing is known of the machine.
    #[error("machine does not exist")]
    MachineMissing,
    /// Only a machine that is gone is evicted.
    #[error("machine is alive: drain it, or stop its fleetd")]
    MachineAlive,
    /// The edits of the machine's metadata come to too much.
    #[error("the edited metadata of a machine would have {bytes} bytes, at most {most} are taken")]
    LargeEdits {
        /// To how much.
        bytes: usize,
        /// To how much they may come.
        most: usize,
    },
    /// What is there was written by a newer fleet: changing it would lose what this one does not know.
    #[error("{} in etcd: written with schema version {version}, upgrade this fleet", path(.key))]
    Newer {
        /// Where it is.
        key: Box<Key>,
        /// The version of its schema.
        version: u32,
    },
    /// Others have been faster, each time that it was tried.
    #[error("the unit is being changed by others, try again")]
    UnitContended,
    /// The same of a machine.
    #[error("what is said of the machine is being changed by others, try again")]
    MachineContended,
}

/// A key without the prefix that it has in etcd.
fn path(key: &Key) -> String {
    Keys::new("").format(key).trim_start_matches('/').to_owned()
}
