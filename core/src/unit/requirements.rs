//! The `[X-Fleet]` section: where a unit may run.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{
    Glob, UnitFile, UnitName, UnitOption, Warning, X_FLEET,
    install::{InstallError, check_install},
    specifier,
    stop_bound::{Unbounded, stop_bound},
    suggest,
};

/// What a unit asks of the machine it runs on. The default asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Only this machine: its whole ID, or the short form of 8 characters.
    pub machine_id: Option<String>,
    /// Only where all of these units are scheduled.
    pub machine_of: BTreeSet<String>,
    /// Only machines that have, for every key, one of its values.
    pub metadata: BTreeMap<String, BTreeSet<String>>,
    /// Not where a unit is scheduled whose name matches, nor the other way round.
    pub conflicts: BTreeSet<Glob>,
    /// Where the matching units are, which then go elsewhere.
    pub replaces: BTreeSet<Glob>,
    /// On every machine that fits.
    pub global: bool,
    /// What the agent does when its machine is cut off from the cluster.
    pub on_partition: OnPartition,
    /// Of a unit with [`OnPartition::Stop`]: the time after which a stop has ended for certain. `None`: there is no
    /// such time, so the unit is never taken for stopped on a machine that does not say so.
    pub stop_bound: Option<Duration>,
}

/// What happens to a unit on a machine that is cut off from etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPartition {
    /// It runs on, and while the cut lasts a second copy elsewhere is possible.
    #[default]
    Keep,
    /// It is stopped before the cluster may start it elsewhere: at most one copy.
    Stop,
}

/// Requirements that contradict each other, with CoreOS fleet's messages, and what no host could carry out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RequirementsError {
    /// Two options that exclude each other. `Peers` is the old word for `MachineOf`.
    #[error("{0} cannot be used with {1}")]
    Exclusive(&'static str, &'static str),
    /// A unit that must be with another and must not be with it.
    #[error("unresolvable requirements: peer \"{peer}\" matches {option} \"{glob}\"")]
    Unresolvable {
        /// The unit of `MachineOf`.
        peer: String,
        /// `conflict` or `replace`.
        option: &'static str,
        /// The pattern that it matches.
        glob: Glob,
    },
    /// A unit that must be down by a certain time, and need not be.
    #[error("OnPartition=stop cannot be kept: {0}")]
    Unbounded(Unbounded),
    /// A name that no host could install the unit under.
    #[error(transparent)]
    Install(InstallError),
}

/// The options by the names they may have; the first is today's.
const KEYS: [(&[&str], Key); 7] = [
    (&["MachineID", "X-ConditionMachineID", "X-ConditionMachineBootID", "ConditionMachineBootID"], Key::MachineId),
    (&["MachineOf", "X-ConditionMachineOf"], Key::MachineOf),
    (&["MachineMetadata", "X-ConditionMachineMetadata"], Key::MachineMetadata),
    (&["Conflicts", "X-Conflicts"], Key::Conflicts),
    (&["Global"], Key::Global),
    (&["Replaces"], Key::Replaces),
    (&["OnPartition"], Key::OnPartition),
];

/// An option of `[X-Fleet]`, whatever its name.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Key {
    MachineId,
    MachineOf,
    MachineMetadata,
    Conflicts,
    Global,
    Replaces,
    OnPartition,
}

impl Key {
    /// The option that has this name.
    pub(super) fn of(name: &str) -> Option<Self> {
        KEYS.iter().find(|(names, _)| names.contains(&name)).map(|(_, key)| *key)
    }
}

impl Requirements {
    /// Reads the `[X-Fleet]` section of `file`, which is the contents of the unit `name`.
    /// What is passed over comes back as warnings.
    ///
    /// # Errors
    /// Options that exclude or contradict each other.
    pub fn read(file: &UnitFile, name: &UnitName) -> Result<(Self, Vec<Warning>), RequirementsError> {
        let mut read = Self::default();
        let mut warnings = Vec::new();
        for option in file.options().iter().filter(|option| option.section == X_FLEET) {
            read.take(option, name, &mut warnings);
        }
        read.check()?;
        if read.on_partition == OnPartition::Stop {
            read.stop_bound = stop_bound(file, name).ok();
        }
        Ok((read, warnings))
    }

    /// As [`Requirements::read`], of a file that the cluster does not have yet.
    ///
    /// # Errors
    /// Also what could not be carried out: a unit that may never be down and has to be, and a name in
    /// `[Install]` that systemd refuses.
    pub fn read_new(file: &UnitFile, name: &UnitName) -> Result<(Self, Vec<Warning>), RequirementsError> {
        let (read, warnings) = Self::read(file, name)?;
        check_install(file, name).map_err(RequirementsError::Install)?;
        if read.on_partition == OnPartition::Stop {
            stop_bound(file, name).map_err(RequirementsError::Unbounded)?;
        }
        Ok((read, warnings))
    }

    fn take(&mut self, option: &UnitOption, name: &UnitName, warnings: &mut Vec<Warning>) {
        let mut hinted =
            |message: String, hint: Option<String>| warnings.push(Warning { line: option.line, message, hint });
        let Some(key) = Key::of(&option.name) else {
            let hint = suggest(&option.name, KEYS.iter().flat_map(|(names, _)| names.iter().copied()))
                .map(|known| format!("did you mean \"{known}\"?"));
            let message = format!("unrecognized requirement in [{X_FLEET}] section: {:?}", option.name);
            return hinted(message, hint);
        };
        let value = option.unfolded();
        let words: Vec<String> = words(&value).iter().map(|word| specifier::expand(word, name)).collect();
        if words.is_empty() {
            // An empty assignment takes back what stood before it, as everywhere in unit files.
            return self.reset(key);
        }
        match key {
            Key::MachineId => {
                self.machine_id.get_or_insert_with(|| words[0].clone());
            }
            Key::MachineOf => self.machine_of.extend(words),
            Key::MachineMetadata => {
                for word in words {
                    match word.split_once('=').filter(|(_, value)| !value.contains('=')) {
                        Some((key, value)) => {
                            self.metadata.entry(key.trim().into()).or_default().insert(value.trim().into());
                        }
                        None => {
                            let message = format!("MachineMetadata {word:?} is ignored: write \"key=value\"");
                            let quoted: Vec<String> =
                                word.split_whitespace().map(|pair| format!("\"{pair}\"")).collect();
                            let hint = format!("write each pair in quotes: MachineMetadata={}", quoted.join(" "));
                            hinted(message, (quoted.len() > 1).then_some(hint));
                        }
                    }
                }
            }
            Key::Conflicts => {
                let globs = words.iter().flat_map(|word| word.split_whitespace()).map(Glob::new);
                self.conflicts.extend(globs.inspect(|glob| {
                    if let Err(error) = glob.check() {
                        hinted(format!("Conflicts is ignored: {error}"), None);
                    }
                }));
            }
            Key::Replaces => self.replaces.extend(words.into_iter().map(Glob::new)),
            Key::Global => self.global = is_true(&words[words.len() - 1]),
            Key::OnPartition => match &*words[words.len() - 1].to_lowercase() {
                "keep" => self.on_partition = OnPartition::Keep,
                "stop" => self.on_partition = OnPartition::Stop,
                other => hinted(format!("OnPartition {other:?} is ignored: write \"keep\" or \"stop\""), None),
            },
        }
    }

    fn reset(&mut self, key: Key) {
        match key {
            Key::MachineId => self.machine_id = None,
            Key::MachineOf => self.machine_of.clear(),
            Key::MachineMetadata => self.metadata.clear(),
            Key::Conflicts => self.conflicts.clear(),
            Key::Replaces => self.replaces.clear(),
            Key::Global => self.global = false,
            Key::OnPartition => self.on_partition = OnPartition::default(),
        }
    }

    fn check(&self) -> Result<(), RequirementsError> {
        let given = [
            ("MachineID", self.machine_id.is_some()),
            ("Peers", !self.machine_of.is_empty()),
            ("Conflicts", !self.conflicts.is_empty()),
            ("Global", self.global),
            ("Replaces", !self.replaces.is_empty()),
        ];
        let has = |option| given.contains(&(option, true));
        for (one, other) in [
            ("MachineID", "Peers"),
            ("MachineID", "Conflicts"),
            ("MachineID", "Global"),
            ("MachineID", "Replaces"),
            ("Global", "Peers"),
            ("Global", "Replaces"),
            ("Conflicts", "Replaces"),
        ] {
            if has(one) && has(other) {
                return Err(RequirementsError::Exclusive(one, other));
            }
        }
        for (option, globs) in [("conflict", &self.conflicts), ("replace", &self.replaces)] {
            for peer in &self.machine_of {
                if let Some(glob) = globs.iter().find(|glob| glob.matches(peer)) {
                    return Err(RequirementsError::Unresolvable { peer: peer.clone(), option, glob: glob.clone() });
                }
            }
        }
        Ok(())
    }
}

/// Splits a value: `"a" "b"` is a list of quoted words, anything else is one word.
pub(super) fn words(value: &str) -> Vec<String> {
    if value.len() < 2 || !value.starts_with('"') || !value.ends_with('"') {
        return if value.is_empty() { Vec::new() } else { vec![value.into()] };
    }
    value.split('"').skip(1).step_by(2).filter(|word| !word.is_empty()).map(Into::into).collect()
}

fn is_true(value: &str) -> bool {
    ["true", "yes", "1", "on", "t"].contains(&&*value.to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, section: &str) -> Result<(Requirements, Vec<Warning>), RequirementsError> {
        let file = UnitFile::parse(&format!("[Service]\nExecStart=/bin/a\n[X-Fleet]\n{section}\n")).unwrap();
        Requirements::read(&file, &UnitName::new(name).unwrap())
    }

    fn good(section: &str) -> Requirements {
        read("web@1.service", section).unwrap().0
    }

    fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
        items.into_iter().collect()
    }

    #[test]
    fn every_option_and_its_old_name_is_read() {
        for (section, expected) in [
            ("", Requirements::default()),
            ("MachineID=abc", Requirements { machine_id: Some("abc".into()), ..Default::default() }),
            ("X-ConditionMachineBootID=abc", Requirements { machine_id: Some("abc".into()), ..Default::default() }),
            ("MachineID=abc\nMachineID=def", Requirements { machine_id: Some("abc".into()), ..Default::default() }),
            (
                "MachineOf=%p-db@%i.service\nX-ConditionMachineOf=b.service",
                Requirements { machine_of: set(["web-db@1.service".into(), "b.service".into()]), ..Default::default() },
            ),
            (
                "Conflicts=%p@*.service a.service\nX-Conflicts=\"b.*\" \"c.*\"",
                Requirements {
                    conflicts: set(["web@*.service", "a.service", "b.*", "c.*"].map(Glob::new)),
                    ..Default::default()
                },
            ),
            ("Replaces=old.service", Requirements { replaces: set([Glob::new("old.service")]), ..Default::default() }),
            (
                "MachineMetadata=\"disk=ssd\" \"disk=nvme\"\nMachineMetadata=region=us",
                Requirements {
                    metadata: [
                        ("disk".into(), set(["ssd".into(), "nvme".into()])),
                        ("region".into(), set(["us".into()])),
                    ]
                    .into(),
                    ..Default::default()
                },
            ),
            ("Global=no\nGlobal=Yes", Requirements { global: true, ..Default::default() }),
            ("Global=yes\nGlobal=maybe", Requirements::default()),
            (
                "OnPartition=stop",
                Requirements {
                    on_partition: OnPartition::Stop,
                    stop_bound: Some(Duration::from_secs(90)),
                    ..Default::default()
                },
            ),
            (
                "Conflicts=a.*\nConflicts=\nMachineOf=a.service",
                Requirements { machine_of: set(["a.service".into()]), ..Default::default() },
            ),
        ] {
            assert_eq!(good(section), expected, "{section}");
        }
    }

    #[test]
    fn what_is_passed_over_is_said_with_its_line() {
        let (_, warnings) =
            read("a.service", "Bogus=1\nMachineMetdata=a=b\nMachineMetadata=a=b=c\nConflicts=[").unwrap();
        let said: Vec<_> = warnings.iter().map(|warning| (warning.line, &*warning.message)).collect();
        assert_eq!(warnings[1].hint.as_deref(), Some("did you mean \"MachineMetadata\"?"));
        assert_eq!(
            said,
            [
                (4, "unrecognized requirement in [X-Fleet] section: \"Bogus\""),
                (5, "unrecognized requirement in [X-Fleet] section: \"MachineMetdata\""),
                (6, "MachineMetadata \"a=b=c\" is ignored: write \"key=value\""),
                (7, "Conflicts is ignored: malformed pattern `[`"),
            ]
        );
    }

    #[test]
    fn unit_that_may_never_be_down_is_refused_when_new_and_has_no_bound_when_stored() {
        let name = UnitName::new("a.service").unwrap();
        let strict = |options: &str| {
            let file = UnitFile::parse(&format!("[Service]\n{options}\n[X-Fleet]\nOnPartition=stop\n")).unwrap();
            (Requirements::read(&file, &name).unwrap().0.stop_bound, Requirements::read_new(&file, &name))
        };
        let (bound, new) = strict("TimeoutStopSec=20");
        assert_eq!((bound, new.unwrap().1), (Some(Duration::from_secs(20)), Vec::new()));
        let (bound, new) = strict("TimeoutStopSec=infinity");
        assert_eq!(bound, None);
        assert_eq!(
            new.unwrap_err().to_string(),
            "OnPartition=stop cannot be kept: TimeoutStopSec=infinity lets a stop take for ever: give a finite time"
        );
        let file = UnitFile::parse("[Service]\nTimeoutStopSec=infinity\n").unwrap();
        assert!(Requirements::read_new(&file, &name).is_ok(), "other units may take for ever");
    }

    #[test]
    fn contradictions_get_the_messages_that_clients_know() {
        for (section, message) in [
            ("MachineID=a\nMachineOf=b.service", "MachineID cannot be used with Peers"),
            ("MachineID=a\nConflicts=b", "MachineID cannot be used with Conflicts"),
            ("MachineID=a\nGlobal=true", "MachineID cannot be used with Global"),
            ("MachineID=a\nReplaces=b", "MachineID cannot be used with Replaces"),
            ("Global=true\nMachineOf=b.service", "Global cannot be used with Peers"),
            ("Global=true\nReplaces=b", "Global cannot be used with Replaces"),
            ("Conflicts=a\nReplaces=b", "Conflicts cannot be used with Replaces"),
            (
                "MachineOf=x.service\nConflicts=x.*",
                "unresolvable requirements: peer \"x.service\" matches conflict \"x.*\"",
            ),
            (
                "MachineOf=x.service\nReplaces=x.*",
                "unresolvable requirements: peer \"x.service\" matches replace \"x.*\"",
            ),
        ] {
            assert_eq!(read("a.service", section).unwrap_err().to_string(), message);
        }
    }
}
