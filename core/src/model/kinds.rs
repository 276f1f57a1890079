//! The kinds of keys in etcd: the one table of them.
//!
//! Whatever depends on which kinds there are comes from this table: the keys ([`Key`](super::Key)), the maps of a
//! [`Snapshot`](super::Snapshot), the parts of a [`Delta`](super::Delta), and the table of `docs/etcd-schema.md`. A new
//! kind is one entry here.

use std::fmt;

use super::{
    HeldRecord, InUseRecord, LeaderRecord, MachineRecord, MetadataEdits, Placement, Record, StateRecord,
    SubmittedRecord, UnitRecord,
};

/// Hands the table to a macro, which makes of it what it needs.
///
/// An entry has what its keys name after their `name`, in order, and with the words by which the schema calls that. Its
/// `value` is a record, or `text` that has no version. What is `followed` is in a snapshot, in `field`: that is said
/// here, not by where a name stands in the alphabet.
macro_rules! with_kinds {
    ($derive:ident) => {
        $derive! {
            followed {
                /// What is wanted of a global unit.
                Global(unit: UnitName) {
                    name: "global", value: UnitRecord, field: globals,
                    writers: [Api, CloudConfig], lives: Until("it is destroyed"),
                }
                /// What the cluster uses that hosts have to understand.
                InUse {
                    name: "in-use", value: InUseRecord, field: in_use,
                    writers: [Engine], lives: ForGood,
                }
                /// The host whose engine leads.
                Leader {
                    name: "leader", value: LeaderRecord, field: leader,
                    writers: [Engine], lives: EngineLease,
                }
                /// A machine that is alive.
                Machine(id: MachineId) {
                    name: "machine", value: MachineRecord, field: machines,
                    writers: [Node], lives: MachineLease,
                }
                /// Edits to a machine's metadata, and whether it is drained or evicted; the engine takes `evicted` back.
                Metadata(id: MachineId) {
                    name: "metadata", value: MetadataEdits, field: metadata,
                    writers: [Api, Engine], lives: ForGood,
                }
                /// What the machine is to do with a unit; a host that leaves in order takes its own away.
                Sched(id: MachineId, unit: UnitName) {
                    name: "sched", value: Placement, field: scheduled,
                    writers: [Engine, Node], lives: While("the unit is scheduled there"),
                }
                /// How a unit is on a machine.
                State(id: MachineId, unit: UnitName) {
                    name: "state", value: StateRecord, field: states,
                    writers: [Agent], lives: MachineLease,
                }
                /// What is wanted of a unit or template.
                Unit(unit: UnitName) {
                    name: "unit", value: UnitRecord, field: units,
                    writers: [Api, CloudConfig], lives: Until("it is destroyed"),
                }
            }
            others {
                /// Machine IDs of the hosts that lead or would; the one with the lowest create revision leads, as in
                /// etcd's own election API.
                Candidate(lease: LeaseId) {
                    name: "election/engine", value: text,
                    writers: [Engine], lives: EngineLease,
                }
                /// The text of a unit file; `<hash>` is its SHA-1.
                File(hash: UnitHash) {
                    name: "file", value: text,
                    writers: [Api, CloudConfig], lives: Until("no unit has used it for a minute"),
                }
                /// What the engine holds back; only while there is something.
                Held {
                    name: "engine/held", value: HeldRecord,
                    writers: [Engine], lives: While("anything is held"),
                }
                /// That these contents were submitted from a [cloud-config](cloud-config.md); without it, a document that
                /// has them submits them again.
                Submitted(unit: UnitName, hash: UnitHash) {
                    name: "cloud-config", value: SubmittedRecord,
                    writers: [CloudConfig], lives: ForGood,
                }
            }
        }
    };
}
pub(super) use with_kinds;

/// Who writes keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Whoever asks through the HTTP API.
    Api,
    /// `fleetd cloud-config`.
    CloudConfig,
    /// The engine that leads. Of candidates, each its own.
    Engine,
    /// The agent of the machine that the key names.
    Agent,
    /// The host that the key names, as a member of the cluster.
    Node,
}

impl fmt::Display for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Api => "API",
            Self::CloudConfig => "`fleetd cloud-config`",
            Self::Engine => "the engine",
            Self::Agent => "its agent",
            Self::Node => "its host",
        })
    }
}

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It stays.
    ForGood,
    /// Until something happens, in words.
    Until(&'static str),
    /// As long as something is so, in words.
    While(&'static str),
    /// As long as the lease of its machine.
    MachineLease,
    /// As long as the lease of its engine.
    EngineLease,
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForGood => f.write_str("for good"),
            Self::Until(event) => write!(f, "until {event}"),
            Self::While(state) => write!(f, "while {state}"),
            Self::MachineLease => f.write_str("with the machine's lease"),
            Self::EngineLease => f.write_str("with the engine's lease"),
        }
    }
}

macro_rules! version {
    (text) => {
        None
    };
    ($record:ident) => {
        Some(<$record as Record>::VERSION)
    };
}

macro_rules! kind {
    (
        followed {$(
            $(#[doc = $about:literal])+
            $followed:ident $(( $($part:ident: $type:ty),+ ))? {
                name: $name:literal, value: $value:ident, field: $field:ident,
                writers: [$($writer:ident),+], lives: $life:ident $(($lives:literal))?,
            }
        )+}
        others {$(
            $(#[doc = $other_about:literal])+
            $other:ident $(( $($other_part:ident: $other_type:ty),+ ))? {
                name: $other_name:literal, value: $other_value:ident,
                writers: [$($other_writer:ident),+], lives: $other_life:ident $(($other_lives:literal))?,
            }
        )+}
    ) => {
        /// What a key is about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[doc = $about])+ $followed,)+
            $($(#[doc = $other_about])+ $other,)+
        }

        impl Kind {
            /// All there are, those that are followed first.
            pub const ALL: &[Self] = &[$(Self::$followed,)+ $(Self::$other,)+];

            /// Those that are in a [`Snapshot`](super::Snapshot).
            pub const FOLLOWED: &[Self] = &[$(Self::$followed,)+];

            /// What its keys begin with, under the prefix.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$followed => $name,)+ $(Self::$other => $other_name,)+ }
            }

            /// Its keys as people write them: `sched/<id>/<unit>`.
            #[must_use]
            pub fn pattern(self) -> &'static str {
                match self {
                    $(Self::$followed => concat!($name $($(, "/<", stringify!($part), ">")+)?),)+
                    $(Self::$other => concat!($other_name $($(, "/<", stringify!($other_part), ">")+)?),)+
                }
            }

            /// What its values say.
            #[must_use]
            pub fn about(self) -> &'static str {
                match self {
                    $(Self::$followed => concat!($($about),+).trim(),)+
                    $(Self::$other => concat!($($other_about),+).trim(),)+
                }
            }

            /// Who writes them. The engine writes only what it is named for here.
            #[must_use]
            pub fn writers(self) -> &'static [Writer] {
                match self {
                    $(Self::$followed => &[$(Writer::$writer),+],)+
                    $(Self::$other => &[$(Writer::$other_writer),+],)+
                }
            }

            /// How long they live.
            #[must_use]
            pub fn lives(self) -> Life {
                match self {
                    $(Self::$followed => Life::$life $(($lives))?,)+
                    $(Self::$other => Life::$other_life $(($other_lives))?,)+
                }
            }

            /// The newest version of its records that is written and read here; `None`: they have none.
            #[must_use]
            pub fn version(self) -> Option<u32> {
                match self { $(Self::$followed => version!($value),)+ $(Self::$other => version!($other_value),)+ }
            }
        }
    };
}
with_kinds!(kind);

impl Kind {
    /// The newest version that any kind's records have.
    #[must_use]
    pub fn newest_version() -> u32 {
        Self::ALL.iter().filter_map(|kind| kind.version()).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_apart() {
        for (n, kind) in Kind::ALL.iter().enumerate() {
            for other in &Kind::ALL[..n] {
                let [one, two] = [kind, other].map(|kind| format!("{}/", kind.name()));
                assert!(!one.starts_with(&two) && !two.starts_with(&one), "{one} {two}");
            }
        }
    }

    #[test]
    fn documented_table_is_this_one() {
        let docs = include_str!("../../../docs/etcd-schema.md");
        let mut kinds = Kind::ALL.to_vec();
        kinds.sort_by_key(|kind| kind.name());
        let mut table = String::from("| Key | Value | Version | Written by | Lives |\n|---|---|---|---|---|\n");
        for kind in kinds {
            let writers: Vec<String> = kind.writers().iter().map(ToString::to_string).collect();
            let (first, about) = kind.about().trim_end_matches('.').split_at(1);
            let version = kind.version().map(|version| version.to_string()).unwrap_or_default();
            table += &format!(
                "| `{}` | {}{about} | {version} | {} | {} |\n",
                kind.pattern(),
                first.to_lowercase(),
                writers.join(", "),
                kind.lives()
            );
        }
        assert!(docs.contains(&table), "docs/etcd-schema.md is to have:\n{table}");
    }
}
