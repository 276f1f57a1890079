//! What happened in a run: all that the judges look at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    model::{Keys, MachineId},
    unit::{Requirements, UnitName},
};
use fleetd::{
    registry::{
        Revision, Stored,
        memory::{Calls, Commit},
    },
    systemd::memory::{Entry, What},
};
use tokio::time::Instant;

use crate::{
    script::{Event, Scenario},
    units::Library,
};

/// A host of the simulation.
#[derive(Clone, Debug)]
pub struct HostFacts {
    /// Its name, which is that of its client at the store, too.
    pub name: String,
    /// Its machine ID.
    pub id: MachineId,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
}

/// Something that was done to the cluster.
#[derive(Clone, Debug)]
pub struct Note {
    /// When.
    pub at: Instant,
    /// Whether it begins; otherwise what it did is over.
    pub begins: bool,
    /// The host that it is done to, by number.
    pub host: Option<usize>,
    /// What.
    pub event: Event,
}

impl Note {
    /// Whether it keeps from a host, at a moment, what is new in the store, and for some time after it is over.
    #[must_use]
    pub fn is_deaf(&self, host: usize, at: Instant, ttl: Duration) -> bool {
        let deaf = matches!(
            self.event,
            Event::Link(..) | Event::Store(..) | Event::Member(..) | Event::Slow(..) | Event::NetworkFaults(..)
        );
        let here = self.host.is_none_or(|whom| whom == host);
        deaf && here && self.begins && self.at <= at && at < self.at + self.event.lasts() + ttl
    }
}

/// How much was asked for in a time in which nothing happened.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    /// What each client asked of the store, before and after.
    pub store: (BTreeMap<String, Calls>, BTreeMap<String, Calls>),
    /// What each host's systemd was asked, before and after.
    pub systemd: (Vec<u64>, Vec<u64>),
    /// Revisions that were written meanwhile.
    pub commits: usize,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its seed.
    pub seed: u64,
    /// What kind of scenario it was.
    pub scenario: Scenario,
    /// When it began.
    pub start: Instant,
    /// The TTL of machines and leaders.
    pub ttl: Duration,
    /// The keys.
    pub keys: Keys,
    /// The hosts.
    pub hosts: Vec<HostFacts>,
    /// All contents of units that there were.
    pub library: Library,
    /// What each unit asks of a machine, whichever contents it has.
    pub requirements: BTreeMap<UnitName, Arc<Requirements>>,
    /// What the operator had done to units, and when; those are excused from standing still.
    pub orders: Vec<(Instant, UnitName)>,
    /// What was done to the cluster.
    pub notes: Vec<Note>,
    /// What was written.
    pub commits: Vec<Commit>,
    /// What happened to units on hosts, in order of time.
    pub log: Vec<Entry>,
    /// What the store held at the end.
    pub entries: Vec<Stored>,
    /// What a mirror of the store showed at the end: keys, and the revisions that wrote them.
    pub mirror: BTreeMap<String, Revision>,
    /// What ran at the end, by host.
    pub alive: Vec<BTreeSet<String>>,
    /// The units of which there is a file or a link on each host in the end.
    pub installed: Vec<BTreeSet<String>>,
    /// What happened after the end.
    pub quiet: Quiet,
    /// Panics and parts that broke.
    pub broken: Vec<String>,
}

impl Record {
    /// The time of a moment in seconds since the start.
    #[must_use]
    pub fn seconds(&self, at: Instant) -> f64 {
        at.duration_since(self.start).as_secs_f64()
    }

    /// The number of the host with this machine ID.
    #[must_use]
    pub fn host_of(&self, id: &MachineId) -> Option<usize> {
        self.hosts.iter().position(|host| host.id == *id)
    }

    /// All of it in lines, in order of time.
    #[must_use]
    pub fn story(&self) -> Vec<String> {
        let mut lines: Vec<(Instant, String)> = Vec::new();
        for note in &self.notes {
            let host = note.host.map(|host| format!("{} ", self.hosts[host].name)).unwrap_or_default();
            let word = if note.begins { "" } else { "over: " };
            lines.push((note.at, format!("     {host}{word}{:?}", note.event)));
        }
        for commit in &self.commits {
            let mut line = format!("r{:<4}{}:", commit.revision, commit.author);
            for change in &commit.changes {
                let sign = if change.after.is_some() { '+' } else { '-' };
                let value = change.after.as_ref().map(|stored| String::from_utf8_lossy(&stored.value).into_owned());
                let key = self.short(&change.key);
                let value = value.map(|value| summary(&key, &value)).unwrap_or_default();
                let _ = write!(line, " {sign}{key}{value}");
            }
            lines.push((commit.at, line));
        }
        for entry in &self.log {
            let what = match entry.what {
                What::Started(run) => format!("started, run {run}"),
                What::Stopped => "stopped".into(),
                What::Asked(verb) => format!("asked: {verb}"),
            };
            // The middle of the name of a batch is the number of this process.
            let unit = match entry.unit.strip_prefix("fleet-batch-").and_then(|rest| rest.rsplit_once('-')) {
                Some((_, count)) => format!("fleet-batch-{count}"),
                None => entry.unit.clone(),
            };
            lines.push((entry.at, format!("     {} {unit} {what}", entry.host)));
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.into_iter().map(|(at, line)| format!("{:9.3} {line}", self.seconds(at))).collect()
    }

    fn short(&self, key: &str) -> String {
        let mut key = key.strip_prefix(self.keys.prefix()).unwrap_or(key).to_owned();
        for host in &self.hosts {
            key = key.replace(host.id.as_str(), &host.name);
        }
        key
    }
}

/// The part of a value that tells something: times of the wall clock would differ from run to run.
fn summary(key: &str, value: &str) -> String {
    let member = |name: &str| {
        let at = value.find(&format!("\"{name}\":"))? + name.len() + 3;
        let rest = &value[at..];
        Some(rest[..rest.find([',', '}'])?].trim_matches('"').to_owned())
    };
    let members = match key.split('/').next() {
        Some("unit" | "global" | "sched") => &["hash", "desired", "generation"][..],
        Some("state") => &["hash", "active", "sub", "current", "generation", "job", "released", "problem"],
        _ => &[],
    };
    let values = members.iter().filter_map(|name| member(name)).map(|value| value.chars().take(12).collect::<String>());
    let values: Vec<String> = values.collect();
    if values.is_empty() { String::new() } else { format!("({})", values.join(" ")) }
}
