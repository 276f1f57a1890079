//! Whether the store and the copies tell the same.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use fleet_lab::Lab;

use super::{
    copies::Copy,
    units::{Kind, Unit},
};

/// What etcd says of a cluster, as far as it is of interest.
#[derive(Debug, Default, PartialEq, Eq)]
struct Picture {
    machines: BTreeSet<String>,
    scheduled: BTreeMap<String, Vec<String>>,
    /// Units by host that are active.
    active: BTreeSet<(String, String)>,
    /// Units by machine of which there is a file or a link.
    installed: BTreeSet<(String, String)>,
}

/// Lists the files and links of fleet's units on a host.
const INSTALLED: &str = "ls /run/fleet/units; find /run/systemd/system -lname '/run/fleet/units/*' -printf '%f\\n'";

/// Where the store and the copies contradict each other while all hosts are well: nothing when they do not.
///
/// # Errors
/// When etcd does not answer.
pub fn contradictions(lab: &Lab, units: &[Unit], copies: &[Copy], now: std::time::Duration) -> Result<Vec<String>> {
    let mut picture = Picture::default();
    for part in ["machine", "sched", "state"] {
        picture.take(&lab.etcdctl(&["get", "--prefix", &format!("/fleet/{part}/"), "--command-timeout=5s"])?)?;
    }
    for host in lab.hosts() {
        let installed = host.sh(INSTALLED)?;
        let machine = host.machine_id();
        picture.installed.extend(installed.lines().map(|unit| (unit.to_owned(), machine.to_owned())));
    }
    let hosts: BTreeMap<&str, &str> = lab.hosts().iter().map(|host| (host.machine_id(), host.name())).collect();
    Ok(picture.compare(&hosts, units, copies, now))
}

impl Picture {
    /// Takes what `etcdctl get` prints: keys and values in turn.
    fn take(&mut self, text: &str) -> Result<()> {
        let mut lines = text.lines();
        while let Some(key) = lines.next() {
            let value = lines.next().context("a key without a value")?;
            match *key.split('/').collect::<Vec<_>>() {
                ["", _, "machine", machine] => {
                    self.machines.insert(machine.to_owned());
                }
                ["", _, "sched", machine, unit] => {
                    self.scheduled.entry(unit.to_owned()).or_default().push(machine.to_owned());
                }
                ["", _, "state", machine, unit] => {
                    let state: serde_json::Value = serde_json::from_str(value)?;
                    if state["active"] == "active" {
                        self.active.insert((unit.to_owned(), machine.to_owned()));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        hosts: &BTreeMap<&str, &str>,
        units: &[Unit],
        copies: &[Copy],
        now: std::time::Duration,
    ) -> Vec<String> {
        let name = |machine: &String| hosts.get(machine.as_str()).map_or(machine.as_str(), |name| *name).to_owned();
        let mut told = Vec::new();
        for (machine, host) in hosts {
            if !self.machines.contains(*machine) {
                told.push(format!("{host} is not registered"));
            }
        }
        let running: BTreeSet<(String, String)> = copies
            .iter()
            .filter(|copy| copy.is_running(now))
            .map(|copy| (copy.birth.unit.clone(), copy.birth.host.clone()))
            .collect();
        let active: BTreeSet<(String, String)> =
            self.active.iter().map(|(unit, machine)| (unit.clone(), name(machine))).collect();
        for (unit, host) in running.symmetric_difference(&active) {
            let (does, says) = if active.contains(&(unit.clone(), host.clone())) { ("not ", "") } else { ("", "not ") };
            told.push(format!("{unit} does {does}run on {host}, and is {says}published as active"));
        }
        let is_wanted =
            |unit: &String, machine: &String| self.scheduled.get(unit).is_some_and(|there| there.contains(machine));
        for (unit, machine) in self.installed.iter().filter(|(unit, machine)| !is_wanted(unit, machine)) {
            told.push(format!("{unit} has a file or a link on {}, and is not wanted there", name(machine)));
        }
        for unit in units.iter().filter(|unit| unit.kind != Kind::Scratch) {
            let there = self.scheduled.get(&unit.name).map_or(&[][..], Vec::as_slice);
            let places = if unit.kind == Kind::Global { self.machines.len() } else { 1 };
            let right =
                |machine: &String| unit.kind == Kind::Failing || running.contains(&(unit.name.clone(), name(machine)));
            if there.len() != places || !there.iter().all(right) {
                let there: Vec<String> = there.iter().map(name).collect();
                told.push(format!("{} is scheduled to [{}]", unit.name, there.join(", ")));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::copies::Birth, *};

    #[test]
    fn files_of_units_that_are_not_wanted_are_told() {
        let mut picture = Picture::default();
        picture.take("/fleet/machine/m1\n{}\n/fleet/sched/m1/a.service\n{}\n").unwrap();
        for unit in ["a.service", "b.service", "glob.service"] {
            picture.installed.insert((unit.into(), "m1".into()));
        }
        let units = [Unit { name: "glob.service".into(), kind: Kind::Global, with: None }];
        let told = picture.compare(&[("m1", "h1")].into(), &units, &[], Duration::ZERO);
        let stray = |unit| format!("{unit} has a file or a link on h1, and is not wanted there");
        assert_eq!(told, [stray("b.service"), stray("glob.service"), "glob.service is scheduled to []".into()]);
    }

    #[test]
    fn store_and_copies_are_held_against_each_other() {
        let mut picture = Picture::default();
        picture.take("/fleet/machine/m1\n{}\n/fleet/sched/m1/a.service\n{}\n").unwrap();
        picture.take("/fleet/state/m1/a.service\n{\"active\":\"active\"}\n").unwrap();
        let unit = Unit { name: "a.service".into(), kind: Kind::Ordinary, with: None };
        let birth = |host: &str| Birth {
            unit: "a.service".into(),
            host: host.into(),
            invocation: String::new(),
            start: Duration::ZERO,
        };
        let copy = |host| Copy { birth: birth(host), alive: Duration::from_secs(1), ended: false };
        let compare = |copies: &[Copy], hosts: &[(&'static str, &'static str)]| {
            picture.compare(
                &hosts.iter().copied().collect(),
                std::slice::from_ref(&unit),
                copies,
                Duration::from_secs(1),
            )
        };
        assert_eq!(compare(&[copy("h1")], &[("m1", "h1")]), Vec::<String>::new());
        let told = compare(&[copy("h2")], &[("m1", "h1"), ("m2", "h2")]);
        assert_eq!(
            told,
            [
                "h2 is not registered",
                "a.service does not run on h1, and is published as active",
                "a.service does run on h2, and is not published as active",
                "a.service is scheduled to [h1]",
            ]
        );
    }
}
