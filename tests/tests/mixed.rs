//! Hosts with the programs of an earlier commit beside hosts with today's: `make mixed` builds them.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use fleet_lab::{Lab, SHARE, built, eventually};
use fleet_tests::{Cluster, DEADLINE, Run};
use serde_json::Value;

/// Where the earlier programs are: a directory with fleetd and fleetctl.
const BEFORE: &str = "FLEET_BEFORE";
/// Hosts of the cluster: one with today's programs, and two with the earlier ones.
const NEW: &str = "h1";
const OLD: [&str; 2] = ["h2", "h3"];

/// Units of every kind that the engine and the agents treat differently.
const UNITS: [(&str, &str); 5] = [
    ("plain@.service", "[Service]\nExecStart=/bin/sleep 1000%i\n"),
    ("strict.service", "[Service]\nExecStart=/bin/sleep 10010\n[X-Fleet]\nOnPartition=stop\n"),
    ("apart@.service", "[Service]\nExecStart=/bin/sleep 1002%i\n[X-Fleet]\nConflicts=apart@*.service\n"),
    ("follower.service", "[Service]\nExecStart=/bin/sleep 10030\n[X-Fleet]\nMachineOf=strict.service\n"),
    ("everywhere.service", "[Service]\nExecStart=/bin/sleep 10040\n[X-Fleet]\nGlobal=true\n"),
];
const STARTED: [&str; 8] = [
    "plain@1.service",
    "plain@2.service",
    "plain@3.service",
    "strict.service",
    "apart@1.service",
    "apart@2.service",
    "follower.service",
    "everywhere.service",
];

/// A cluster in which the hosts' programs differ.
struct Mixed {
    cluster: Cluster,
    /// The directories of today's and of the earlier programs.
    new: PathBuf,
    old: PathBuf,
}

/// Systemd's names for the runs of all units, by unit and host.
type Invocations = BTreeMap<(String, String), String>;
/// The members of each record in etcd, by key.
type Members = BTreeMap<String, BTreeSet<String>>;

impl Mixed {
    fn boot() -> Self {
        let old = std::env::var_os(BEFORE).map(PathBuf::from).expect("run it by `make mixed`");
        let new = built("fleetd").unwrap().parent().unwrap().to_owned();
        let mut lab = Lab::builder().hosts(3).ssh(true).config("agent_ttl=\"4s\"").programs(NEW, &new);
        for host in OLD {
            lab = lab.programs(host, &old);
        }
        let mixed = Self { cluster: Cluster::with(lab), new, old };
        for host in [NEW, OLD[0]] {
            for (name, text) in UNITS {
                mixed.cluster.host(host).write(&format!("/root/{name}"), text).unwrap();
            }
        }
        mixed
    }

    /// Runs the fleetctl of one host on another, beside that one's daemon.
    fn fleetctl(&self, client: &str, daemon: &str, args: &[&str]) -> Run {
        let program = format!("{SHARE}/{client}/fleetctl");
        let script = ["sh", "-c", "cd /root && exec timeout 120 \"$@\"", "fleetctl", &program];
        let output = self.cluster.host(daemon).exec(&[&script[..], args].concat()).unwrap();
        Run {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn ok(&self, client: &str, daemon: &str, args: &[&str]) -> String {
        let run = self.fleetctl(client, daemon, args);
        assert_eq!(run.code, 0, "the fleetctl of {client} on {daemon}, {args:?}: {run:?}");
        run.stdout
    }

    /// Waits until all units run, and returns their runs.
    fn all_run(&self) -> Invocations {
        let mut seen = Invocations::new();
        eventually(DEADLINE, "all units run, each where it should", || {
            seen = STARTED
                .iter()
                .flat_map(|unit| {
                    let ids = self.cluster.invocations(unit);
                    ids.into_iter().map(|(host, id)| (((*unit).to_owned(), host), id))
                })
                .collect();
            // A global one runs on each host, each other one once.
            Ok(seen.len() == STARTED.len() - 1 + 3)
        })
        .unwrap();
        seen
    }

    /// The host that leads.
    fn leader(&self) -> String {
        let mut leader = String::new();
        eventually(DEADLINE, "a host leads", || {
            let record = self.cluster.lab.etcdctl(&["get", "--print-value-only", "/fleet/leader"])?;
            let record: Value = serde_json::from_str(&record).unwrap_or_default();
            leader = self.cluster.name_of(record["machine"].as_str().unwrap_or_default());
            Ok(self.cluster.names().contains(&leader))
        })
        .unwrap();
        leader
    }

    /// Restarts the fleetd that leads until one of these hosts does.
    fn lead(&self, hosts: &[&str]) {
        for _ in 0..10 {
            let leader = self.leader();
            if hosts.contains(&leader.as_str()) {
                return;
            }
            self.restart(&leader);
            let again = || Ok(self.leader() != leader);
            eventually(DEADLINE, "another host leads", again).unwrap();
        }
        panic!("none of {hosts:?} ever leads");
    }

    fn restart(&self, host: &str) {
        self.cluster.host(host).sh("systemctl restart fleet").unwrap();
        self.cluster.joined(3);
    }

    /// Has both clients work with both daemons.
    fn verbs(&self, round: &str) {
        for (number, (client, daemon)) in
            [(NEW, NEW), (NEW, OLD[0]), (OLD[0], NEW), (OLD[0], OLD[0])].into_iter().enumerate()
        {
            let unit = format!("plain@{round}{number}.service");
            let state = |args: &[&str], wanted: &str| {
                self.ok(client, daemon, args);
                let listed = self.ok(client, daemon, &["list-unit-files", "--no-legend", "--fields=unit,dstate"]);
                let line = listed.lines().find(|line| line.starts_with(&unit)).unwrap_or_default();
                assert_eq!(line.split_whitespace().last(), Some(wanted), "{client} on {daemon}, {args:?}: {listed}");
            };
            state(&["submit", &unit], "inactive");
            state(&["load", &unit], "loaded");
            state(&["start", &unit], "launched");
            assert!(self.ok(client, daemon, &["cat", &unit]).contains("ExecStart=/bin/sleep 1000%i"));
            assert!(self.ok(client, daemon, &["status", &unit]).contains("active (running)"));
            state(&["stop", &unit], "loaded");
            state(&["unload", &unit], "inactive");
            self.ok(client, daemon, &["destroy", &unit]);
            self.ok(client, daemon, &["list-machines"]);
        }
        // What the lists say is the same whoever asks, and whom.
        for list in ["list-units", "list-unit-files", "list-machines"] {
            let lists: BTreeSet<String> = [(NEW, NEW), (NEW, OLD[0]), (OLD[0], NEW), (OLD[0], OLD[0])]
                .map(|(client, daemon)| self.ok(client, daemon, &[list, "--full", "--no-legend"]))
                .into();
            assert_eq!(lists.len(), 1, "{list} differs: {lists:#?}");
        }
    }

    /// What a later fleet may write into a record stays through every verb that today's fleetd carries out.
    fn unknown_members_stay(&self) {
        let key = "/fleet/unit/plain@9.service";
        self.ok(NEW, NEW, &["submit", "plain@9"]);
        let value = || self.cluster.lab.etcdctl(&["get", "--print-value-only", key]).unwrap();
        let mut record: Value = serde_json::from_str(&value()).unwrap();
        record["later"] = serde_json::json!({ "than": "today" });
        self.cluster.lab.etcdctl(&["put", key, &record.to_string()]).unwrap();
        for verb in ["load", "start", "restart", "stop", "unload"] {
            self.ok(NEW, NEW, &[verb, "plain@9"]);
            let after: Value = serde_json::from_str(&value()).unwrap();
            assert_eq!(after["later"], record["later"], "after {verb}: {after}");
        }
        self.ok(NEW, NEW, &["destroy", "plain@9"]);
    }

    /// Waits until the engine has placed the global unit on all hosts, and says so.
    fn globals_are_placed(&self) {
        eventually(DEADLINE, "global units are placed", || {
            let in_use = self.cluster.lab.etcdctl(&["get", "--print-value-only", "/fleet/in-use"])?;
            Ok(in_use.contains("global-placements"))
        })
        .unwrap();
        assert_eq!(self.global_entries().len(), 3);
    }

    /// The entries of the schedule for the global unit, keys and values.
    fn global_entries(&self) -> Vec<(String, String)> {
        let text = self.cluster.lab.etcdctl(&["get", "--prefix", "/fleet/sched/"]).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let entries = lines.chunks_exact(2).map(|entry| (entry[0].to_owned(), entry[1].to_owned()));
        entries.filter(|(_, value)| value.contains(r#""global":true"#)).collect()
    }

    /// The members of what etcd holds of units and their placement.
    fn members(&self) -> Members {
        let paths = ["unit/", "global/", "sched/", "machine/"];
        let dump = |path: &str| self.cluster.lab.etcdctl(&["get", "--prefix", &format!("/fleet/{path}")]).unwrap();
        let mut members = Members::new();
        for text in paths.map(dump) {
            let mut lines = text.lines();
            while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
                let value: Value = serde_json::from_str(value).unwrap_or_else(|error| panic!("{key}: {error}"));
                let names = value.as_object().map(|object| object.keys().cloned().collect());
                members.insert(key.to_owned(), names.unwrap_or_default());
            }
        }
        members
    }
}

/// Says that no record that is still there has lost a member.
#[track_caller]
fn nothing_is_lost(before: &Members, after: &Members) {
    for (key, members) in before {
        let now = after.get(key).unwrap_or_else(|| panic!("{key} is gone"));
        assert!(members.is_subset(now), "{key} had {members:?} and has {now:?}");
    }
}

#[test]
#[ignore = "needs the programs of an earlier commit: make mixed"]
fn old_and_new_hosts_are_one_cluster_and_an_upgrade_host_by_host_restarts_nothing() {
    let mixed = Mixed::boot();
    let (first, second) = STARTED.split_at(4);
    mixed.ok(NEW, NEW, &[&["start"], first].concat());
    mixed.ok(OLD[0], OLD[0], &[&["start"], second].concat());
    let runs = mixed.all_run();
    let members = mixed.members();

    // Whoever leads, nothing is moved or started anew, and everything works.
    for (round, hosts) in [("1", &OLD[..]), ("2", &[NEW]), ("3", &OLD)] {
        mixed.lead(hosts);
        mixed.verbs(round);
        assert_eq!(mixed.all_run(), runs, "while one of {hosts:?} led");
        nothing_is_lost(&members, &mixed.members());
    }

    mixed.unknown_members_stay();
    // Global units wait for the last host, and people are told for which.
    assert!(mixed.global_entries().is_empty());
    let version = mixed.fleetctl(NEW, NEW, &["version"]);
    for host in OLD {
        assert!(version.stderr.contains(&format!("global-placements is not used yet: {host} (")), "{version:?}");
    }

    let upgrade = |host: &str, programs: &Path| {
        mixed.cluster.lab.install_on(host, programs).unwrap();
        mixed.restart(host);
        assert_eq!(mixed.all_run(), runs, "after other programs on {host}");
        nothing_is_lost(&members, &mixed.members());
    };
    for host in OLD {
        upgrade(host, &mixed.new);
    }
    mixed.globals_are_placed();
    assert_eq!(mixed.all_run(), runs, "after the engine has placed global units");
    mixed.verbs("4");
    let entries = mixed.global_entries();
    // And back, as one does who was disappointed.
    upgrade(OLD[1], &mixed.old);
    mixed.lead(&[OLD[1]]);
    assert_eq!(mixed.all_run(), runs);
    assert_eq!(mixed.global_entries(), entries, "an engine that does not know of them leaves them alone");
    mixed.lead(&[NEW, OLD[0]]);
    upgrade(OLD[1], &mixed.new);
    assert_eq!(mixed.global_entries(), entries);
    assert_eq!(mixed.cluster.rows().unwrap().iter().filter(|row| row.active != "active").count(), 0);
}
