//! What a machine is to do with a unit.

use serde::{Deserialize, Serialize};

use super::{
    Desired, Target, UnitRecord, Unknown, json,
    record::{self, record},
};
use crate::unit::UnitHash;

/// What a machine is to do with a unit: the value of `sched/<machine>/<unit>`, and how the engine tells it.
///
/// The contents may come along, see [`Placement::encode_with_file`]. They are not kept in here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// The contents of the unit, stored under `file/<hash>`.
    pub hash: UnitHash,
    /// What is to be done with it.
    #[serde(rename = "desired", with = "task")]
    pub task: Task,
    /// The count of restarts that the unit's record had, see [`UnitRecord::generation`].
    #[serde(default)]
    pub generation: u64,
    /// The count of requests that the unit's record had, see [`UnitRecord::request`].
    #[serde(default, skip_serializing_if = "super::unit::is_zero")]
    pub request: u64,
    /// Whether the unit is global. Such a placement is of version 2: who knows only the first leaves it alone, as there the
    /// machine decides by itself whether it runs a global unit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub global: bool,
    /// What is not known here.
    #[serde(skip)]
    pub unknown: Unknown,
}

/// What is to be done with a unit on a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// It is to be there, brought as far as this.
    Run(Target),
    /// It is to be given up: stopped, removed, and said to be, before it runs elsewhere.
    Recall,
}

impl Placement {
    /// What a machine is to do with a unit of which this is wanted; `None`: it is to be on no machine.
    #[must_use]
    pub fn of(wanted: &UnitRecord) -> Option<Self> {
        let target = match wanted.desired {
            Desired::Inactive => return None,
            Desired::Loaded => Target::Loaded,
            Desired::Launched => Target::Launched,
        };
        let UnitRecord { hash, generation, request, .. } = *wanted;
        Some(Self { hash, task: Task::Run(target), generation, request, global: false, unknown: Unknown::default() })
    }

    /// The same of a unit that is global.
    #[must_use]
    pub fn everywhere(self) -> Self {
        Self { global: true, ..self }
    }

    /// The same unit, to be given up.
    #[must_use]
    pub fn recall(&self) -> Self {
        Self { task: Task::Recall, ..self.clone() }
    }

    /// Whether the machine is only to give the unit up.
    #[must_use]
    pub fn is_recall(&self) -> bool {
        self.task == Task::Recall
    }

    /// Whether another one asks for the same, as far as it is known here.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        let known = |placement: &Self| {
            (placement.hash, placement.task, placement.generation, placement.request, placement.global)
        };
        known(self) == known(other)
    }

    /// What is written in place of `before`: this, and what of that is not known here.
    #[must_use]
    pub fn instead_of(self, before: &Self) -> Self {
        Self { unknown: before.unknown.clone(), ..self }
    }

    /// The version that it is written with.
    fn version_of(&self) -> u32 {
        if self.global { 2 } else { 1 }
    }

    /// The value as bytes, with the canonical text of the contents, so that the machine need not ask for it.
    #[must_use]
    pub fn encode_with_file(&self, file: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct File<'f> {
            file: &'f str,
        }
        record::encode(self, &File { file })
    }

    /// The hash and the text of the contents that come with a value, when they do.
    #[must_use]
    pub fn file_in(value: &[u8]) -> Option<(UnitHash, String)> {
        #[derive(Deserialize)]
        struct WithFile {
            hash: UnitHash,
            file: String,
        }
        let WithFile { hash, file } = json::from_slice(value).ok()?;
        Some((hash, file))
    }
}

record!(Placement: version 2, written as version_of, beside "file");

/// A task is written as what is desired there, and a recall as `inactive`.
mod task {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Desired, Target, Task};

    pub(super) fn serialize<S: Serializer>(task: &Task, serializer: S) -> Result<S::Ok, S::Error> {
        let desired = match task {
            Task::Run(target) => (*target).into(),
            Task::Recall => Desired::Inactive,
        };
        desired.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Task, D::Error> {
        Ok(match Desired::deserialize(deserializer)? {
            Desired::Inactive => Task::Recall,
            Desired::Loaded => Task::Run(Target::Loaded),
            Desired::Launched => Task::Run(Target::Launched),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Record;

    fn launched() -> UnitRecord {
        UnitRecord::new(UnitHash::of(""), Desired::Launched, 2)
    }

    #[test]
    fn placement_is_written_as_what_is_wanted_with_or_without_the_file() {
        let placement = Placement::of(&launched()).unwrap();
        assert_eq!(placement.encode(), launched().encode());
        let with = placement.encode_with_file("[Unit]\n");
        assert_eq!(Placement::decode(&with).unwrap(), placement, "the file is not kept");
        assert_eq!(Placement::file_in(&with), Some((UnitHash::of(""), "[Unit]\n".into())));
        assert_eq!(Placement::file_in(&placement.encode()), None);
        let plain = String::from_utf8(placement.encode()).unwrap();
        assert_eq!(String::from_utf8(with).unwrap(), plain.replace('}', r#","file":"[Unit]\n"}"#));
    }

    #[test]
    fn placement_of_a_global_unit_is_left_alone_by_who_knows_the_first_version_only() {
        let placement = Placement::of(&launched()).unwrap().everywhere();
        let text = String::from_utf8(placement.encode()).unwrap();
        assert!(text.starts_with(r#"{"v":2,"#) && text.ends_with(r#","global":true}"#), "{text}");
        assert_eq!(Placement::decode(text.as_bytes()).unwrap(), placement);
        assert!(!placement.is_as(&Placement::of(&launched()).unwrap()));
    }

    #[test]
    fn recall_is_written_as_inactive_and_keeps_the_rest() {
        let value = Placement::of(&launched()).unwrap().encode_with_file("");
        let value = String::from_utf8(value).unwrap().replace('}', r#","later":1}"#);
        let recall = Placement::decode(value.as_bytes()).unwrap().recall();
        let text = String::from_utf8(recall.encode()).unwrap();
        assert!(text.contains(r#""desired":"inactive""#) && text.ends_with(r#""generation":2,"later":1}"#), "{text}");
        assert!(recall.is_recall() && Placement::decode(&recall.encode()).unwrap() == recall);
    }

    #[test]
    fn what_is_written_in_place_of_another_asks_for_its_own_and_keeps_what_is_not_known() {
        let before =
            Placement::decode(&[&launched().encode()[..launched().encode().len() - 1], b",\"later\":1}"].concat());
        let before = before.unwrap();
        let placement = Placement::of(&launched().restarted()).unwrap();
        assert!(!placement.is_as(&before) && Placement::of(&launched()).unwrap().is_as(&before));
        let written = placement.clone().instead_of(&before);
        assert!(written.is_as(&placement) && written != placement && written.unknown == before.unknown);
        assert_eq!(Placement::of(&UnitRecord { desired: Desired::Inactive, ..launched() }), None);
    }
}
