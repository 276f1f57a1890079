//! The keys in etcd. `docs/etcd-schema.md` describes them to people who watch them from outside.

use super::MachineId;
use crate::unit::{UnitHash, UnitName};

/// Makes and reads keys under one prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

/// A key of the schema.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `file/<hash>`: the text of a unit.
    File(UnitHash),
    /// `unit/<name>`: what is wanted of a unit that runs on one machine, or of a template.
    Unit(UnitName),
    /// `global/<name>`: what is wanted of a unit that runs on every machine that fits.
    Global(UnitName),
    /// `sched/<machine>/<name>`: what the engine wants of a machine.
    Sched(MachineId, UnitName),
    /// `machine/<id>`: a machine that is alive.
    Machine(MachineId),
    /// `metadata/<id>`: edits to a machine's metadata.
    Metadata(MachineId),
    /// `state/<machine>/<name>`: what an agent reports.
    State(MachineId, UnitName),
    /// `leader`: who leads. It stands among the keys of [`Keys::cluster`], so who follows those sees in which order a
    /// new leader began and the one before wrote.
    Leader,
    /// `cloud-config/<name>/<hash>`: that these contents of a unit were submitted from a host's configuration.
    Submitted(UnitName, UnitHash),
}

impl Keys {
    /// Keys under `prefix`, for example `/fleet/`. A missing slash at either end is added.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        match prefix.trim_matches('/') {
            "" => Self { prefix: "/".into() },
            inner => Self { prefix: format!("/{inner}/") },
        }
    }

    /// The prefix, with a slash at both ends.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The key as etcd has it.
    #[must_use]
    pub fn format(&self, key: &Key) -> String {
        let prefix = &self.prefix;
        match key {
            Key::File(hash) => format!("{prefix}file/{hash}"),
            Key::Unit(name) => format!("{prefix}unit/{name}"),
            Key::Global(name) => format!("{prefix}global/{name}"),
            Key::Sched(machine, name) => format!("{prefix}sched/{machine}/{name}"),
            Key::Machine(id) => format!("{prefix}machine/{id}"),
            Key::Metadata(id) => format!("{prefix}metadata/{id}"),
            Key::State(machine, name) => format!("{prefix}state/{machine}/{name}"),
            Key::Leader => format!("{prefix}leader"),
            Key::Submitted(name, hash) => format!("{prefix}cloud-config/{name}/{hash}"),
        }
    }

    /// Reads a key; `None` when it is not of this schema.
    #[must_use]
    pub fn parse(&self, key: &str) -> Option<Key> {
        let key = key.strip_prefix(&self.prefix)?;
        if key == "leader" {
            return Some(Key::Leader);
        }
        let (kind, rest) = key.split_once('/')?;
        let on_machine = || {
            let (machine, name) = rest.split_once('/')?;
            Some((MachineId::new(machine).ok()?, UnitName::new(name).ok()?))
        };
        match kind {
            "file" => rest.parse().ok().map(Key::File),
            "unit" => UnitName::new(rest).ok().map(Key::Unit),
            "global" => UnitName::new(rest).ok().map(Key::Global),
            "sched" => on_machine().map(|(machine, name)| Key::Sched(machine, name)),
            "machine" => MachineId::new(rest).ok().map(Key::Machine),
            "metadata" => MachineId::new(rest).ok().map(Key::Metadata),
            "state" => on_machine().map(|(machine, name)| Key::State(machine, name)),
            "cloud-config" => {
                let (name, hash) = rest.split_once('/')?;
                Some(Key::Submitted(UnitName::new(name).ok()?, hash.parse().ok()?))
            }
            _ => None,
        }
    }

    /// Everything that begins with `path` under the prefix, as etcd's half-open range `[from, to)`.
    /// `path` is for example `global/` or `sched/<machine>/`.
    #[must_use]
    pub fn under(&self, path: &str) -> (String, String) {
        let from = format!("{}{path}", self.prefix);
        let mut end = from.clone().into_bytes();
        *end.last_mut().expect("the prefix ends in a slash") += 1;
        (from, String::from_utf8(end).expect("a path ends in a slash, and `0` follows it"))
    }

    /// All that the engine and the lists rest on, as one contiguous range: global, machine, metadata, sched,
    /// state and unit, but neither the election nor the files' text. One range keeps etcd's order between them.
    #[must_use]
    pub fn cluster(&self) -> (String, String) {
        (self.under("global/").0, self.under("unit/").1)
    }

    /// What the engine holds back.
    #[must_use]
    pub fn held(&self) -> String {
        format!("{}engine/held", self.prefix)
    }

    /// The name of the engine's election.
    #[must_use]
    pub fn election(&self) -> String {
        format!("{}election/engine", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_themselves() {
        let keys = Keys::new("fleet");
        let machine = MachineId::new("d097a72e4aef45bf815b90988acdbf13").unwrap();
        let name = UnitName::new("web@1.service").unwrap();
        for (key, text) in [
            (Key::File(UnitHash::of("")), "/fleet/file/da39a3ee5e6b4b0d3255bfef95601890afd80709".to_owned()),
            (Key::Unit(name.clone()), "/fleet/unit/web@1.service".into()),
            (Key::Global(name.clone()), "/fleet/global/web@1.service".into()),
            (Key::Sched(machine.clone(), name.clone()), format!("/fleet/sched/{machine}/web@1.service")),
            (Key::Machine(machine.clone()), format!("/fleet/machine/{machine}")),
            (Key::Metadata(machine.clone()), format!("/fleet/metadata/{machine}")),
            (Key::State(machine.clone(), name.clone()), format!("/fleet/state/{machine}/web@1.service")),
            (
                Key::Submitted(name, UnitHash::of("")),
                "/fleet/cloud-config/web@1.service/da39a3ee5e6b4b0d3255bfef95601890afd80709".into(),
            ),
            (Key::Leader, "/fleet/leader".into()),
        ] {
            assert_eq!(keys.format(&key), text);
            assert_eq!(keys.parse(&text), Some(key.clone()));
            let (from, to) = keys.cluster();
            assert_eq!(from <= text && text < to, !matches!(key, Key::File(_) | Key::Submitted(..)), "{text}");
        }
        for foreign in [
            "/other/unit/a.service",
            "/fleet/unit/a",
            "/fleet/sched/x/a.service",
            "/fleet/election/engine/1",
            "/fleet/engine/held",
            "",
        ] {
            assert_eq!(keys.parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn prefix_may_be_written_with_or_without_slashes() {
        for (given, prefix) in [("/fleet/", "/fleet/"), ("a/b", "/a/b/"), ("", "/"), ("/", "/")] {
            assert_eq!(Keys::new(given).prefix(), prefix);
        }
        assert_eq!(Keys::new("fleet").under("sched/x/"), ("/fleet/sched/x/".into(), "/fleet/sched/x0".into()));
    }
}
