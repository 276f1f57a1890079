//! Every verb on a unit in every state: the tables of `docs/verbs.md` are typed on a real host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, fmt::Write, fs};

use fleet_lab::eventually_eq;
use fleet_tests::{Cluster, DEADLINE, Run};

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const GLOBAL: &str = "[X-Fleet]\nGlobal=true\n";
/// What a destroyed unit may have left on a host.
const LEFT: &str = "ls -d /run/fleet/units/* /run/systemd/system/* /run/systemd/system/*/* 2>/dev/null || true";

/// A row of a table: how the unit is, and by verb what becomes of it.
struct Row {
    state: String,
    cells: Vec<(String, String)>,
}

/// The rows of the tables that have a column for each verb.
fn tables() -> Vec<Row> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verbs.md")).unwrap();
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let mut rows = Vec::new();
    let mut verbs: Vec<String> = Vec::new();
    for line in text.lines() {
        if line.starts_with("| The unit | `start`") {
            verbs = cells(line).split_off(1);
        } else if !line.starts_with("| ") {
            if !line.starts_with("|---") {
                verbs.clear();
            }
        } else if !verbs.is_empty() {
            let mut cells = cells(line).into_iter();
            let state = cells.next().unwrap();
            rows.push(Row { state, cells: verbs.iter().cloned().zip(cells).collect() });
        }
    }
    rows
}

/// A unit for a row: what its name ends in, and its text.
fn unit(state: &str) -> (&'static str, String) {
    match state {
        "starting for ever" => {
            (".service", "[Service]\nType=notify\nExecStart=/bin/sleep infinity\nTimeoutStartSec=0\n".into())
        }
        "refused by systemd" => (".service", format!("[Unit]\nRequires=missing.service\n{SERVICE}")),
        "kept down by an assertion" => (".service", format!("[Unit]\nAssertPathExists=/nonexistent\n{SERVICE}")),
        "kept down by a condition" => (".service", format!("[Unit]\nConditionPathExists=/nonexistent\n{SERVICE}")),
        "a oneshot that succeeded" => (".service", "[Service]\nType=oneshot\nExecStart=/bin/true\n".into()),
        "start limit hit" => (".service", format!("[Unit]\nStartLimitIntervalSec=600\nStartLimitBurst=2\n{SERVICE}")),
        "an instance that failed" => ("@1.service", SERVICE.into()),
        timer if timer.starts_with("a timer") => (".timer", "[Timer]\nOnActiveSec=1h\nUnit=idle.service\n".into()),
        "a socket that listens" => (".socket", "[Socket]\nListenStream=/run/%p.sock\nService=idle.service\n".into()),
        global if global.starts_with("a global unit") => (".service", format!("{SERVICE}{GLOBAL}")),
        _ => (".service", SERVICE.into()),
    }
}

struct Table {
    cluster: Cluster,
    /// What the units of each row and verb are called.
    units: BTreeMap<(String, String), String>,
}

impl Table {
    fn of(&self, state: &str) -> Vec<&String> {
        self.units.iter().filter(|((row, _), _)| row == state).map(|(_, unit)| unit).collect()
    }

    fn sh(&self, script: &str) -> String {
        self.cluster.host("h1").sh(script).unwrap()
    }

    /// Runs fleetctl with these units.
    fn run(&self, verb: &[&str], units: &[&String]) -> Run {
        let units: Vec<&str> = units.iter().map(|unit| &***unit).collect();
        self.cluster.fleetctl(&[verb, &units].concat()).unwrap()
    }

    /// Brings the units of a row into its state.
    fn prepare(&self, state: &str) {
        let units = self.of(state);
        let names = units.iter().map(|unit| format!("'{unit}'")).collect::<Vec<_>>().join(" ");
        match state {
            "inactive" => drop(self.run(&["submit"], &units)),
            "loaded" => drop(self.run(&["load"], &units)),
            "loaded, run by another" => {
                self.run(&["load"], &units);
                self.sh(&format!("systemctl start {names}"));
            }
            "starting for ever" => {
                self.run(&["start", "--no-block"], &units);
                self.until(&units, "activating");
            }
            _ => drop(self.run(&["start"], &units)),
        }
        if state.starts_with("a global unit") {
            // Nobody waits for their first start.
            self.until(&units, "active");
        }
        match state {
            "ended by itself" | "a timer that was stopped on its host" => {
                drop(self.sh(&format!("systemctl stop {names}")));
            }
            "failed" | "an instance that failed" | "a global unit that failed" => {
                self.sh(&format!("systemctl kill --signal=KILL {names}"));
                self.until(&units, "failed");
            }
            "start limit hit" => {
                self.sh(&format!("systemctl kill --signal=KILL {names}"));
                self.until(&units, "failed");
                self.sh(&format!("for i in 1 2 3; do systemctl start {names}; systemctl kill --signal=KILL {names}; done 2>&1 || true"));
                self.until(&units, "failed");
                let refused =
                    self.sh(&format!("for u in {names}; do systemctl start $u 2>/dev/null && echo $u; done; true"));
                assert_eq!(refused, "", "the limit holds");
            }
            _ => {}
        }
    }

    fn until(&self, units: &[&String], active: &str) {
        let names = units.iter().map(|unit| format!("'{unit}'")).collect::<Vec<_>>().join(" ");
        let expected = vec![active; units.len()];
        eventually_eq(DEADLINE, active, &expected.join("\n"), || {
            Ok(self.sh(&format!("systemctl is-active {names} || true")).trim().to_owned())
        })
        .unwrap();
    }

    /// The run that a unit is in; `None` when it does not run.
    fn invocation(&self, unit: &str) -> Option<String> {
        let shown = self.sh(&format!("systemctl show -p ActiveState -p InvocationID --value '{unit}'"));
        let (one, two) = shown.split_once('\n')?;
        let (state, id) = if one.len() == 32 { (two.trim(), one) } else { (one.trim(), two.trim()) };
        let runs = !["inactive", "failed"].contains(&state);
        runs.then(|| id.to_owned())
    }

    /// How often a oneshot has run.
    fn runs(&self, unit: &str) -> usize {
        let said = self.sh(&format!("journalctl --no-pager -o cat -u '{unit}' | grep -c '^Finished' || true"));
        said.trim().parse().unwrap()
    }

    /// Does what a cell is about, and says in its words what came of it.
    fn outcome(&self, state: &str, verb: &str, unit: &str, left: &mut String) -> String {
        let (before, runs) = (self.invocation(unit), self.runs(unit));
        let patience: &[&str] = if state == "starting for ever" { &["--block-attempts=1"] } else { &[] };
        let ended = self.run(&[&[verb], patience].concat(), &[&unit.to_owned()]);
        let after = self.invocation(unit);
        let is_known = self.sh(LEFT).lines().any(|path| path.ends_with(&format!("/{unit}")));
        let outcome = match (ended.code, before, after) {
            (0, None, None) if verb == "destroy" || verb == "unload" && state != "inactive" => {
                if is_known {
                    "left"
                } else {
                    "gone"
                }
            }
            (0, Some(_), None) if verb == "destroy" || verb == "unload" => {
                if is_known {
                    "left"
                } else {
                    "gone"
                }
            }
            (0, None, None) if ended.stderr.contains("was not restarted") => "passed over",
            (0, None, None) if self.runs(unit) > runs => "started",
            (0, None, None) => "stays down",
            (0, Some(_), None) => "stopped",
            (0, Some(before), Some(after)) if before == after => "runs on",
            (0, _, Some(_)) => "started",
            (1, None, None) if ended.stderr.contains("cannot stop") => "refused",
            (1, None, None) if ended.stderr.contains("systemd") => "fails",
            (1, _, Some(_)) if ended.stderr.contains("timed out") => "waits",
            _ => "?",
        };
        let _ = writeln!(left, "\n{state}: fleetctl {verb} {unit}: {outcome}\n{ended:?}");
        outcome.into()
    }
}

#[test]
fn every_verb_does_what_the_tables_say() {
    let rows = tables();
    assert!(rows.len() >= 18, "the tables are there");
    let mut table = Table { cluster: Cluster::new(1), units: BTreeMap::new() };
    let mut files = Vec::new();
    for (number, row) in rows.iter().enumerate() {
        for (verb, _) in &row.cells {
            let (suffix, text) = unit(&row.state);
            let name = format!("t{number}-{verb}{suffix}");
            files.push((name.replace("@1", "@"), text));
            table.units.insert((row.state.clone(), verb.clone()), name);
        }
    }
    files.push(("idle.service".into(), SERVICE.into()));
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    table.cluster.write(&files);
    // What the timers and sockets are to start.
    table.cluster.ok(&["load", "idle.service"]);
    let mut log = String::new();
    let mut wrong = Vec::new();
    for row in &rows {
        table.prepare(&row.state);
        for (verb, expected) in &row.cells {
            let unit = &table.units[&(row.state.clone(), verb.clone())];
            let outcome = table.outcome(&row.state, verb, unit, &mut log);
            if outcome != *expected {
                wrong.push(format!("{}, {verb}: {outcome}, not {expected}", row.state));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}\n{log}");
    // Whatever state it was in: destroyed, nothing of it is left.
    let all: Vec<&String> = table.units.values().collect();
    for units in all.chunks(40) {
        table.run(&["destroy"], units);
    }
    let swept = table
        .sh(&format!("({LEFT}) | grep '/t[0-9]' || true; systemctl list-units --all --plain --no-legend 't[0-9]*'"));
    assert_eq!(swept, "", "nothing is left");
}

/// What a unit is in on each host that runs it.
fn ids(cluster: &Cluster, unit: &str) -> BTreeMap<String, String> {
    cluster.invocations(unit)
}

#[test]
fn what_is_wanted_and_does_not_run_is_named_and_mended_and_nothing_else_is_touched() {
    let cluster = Cluster::new(3);
    let with = |section: &str| format!("{section}{SERVICE}[X-Fleet]\nMachineOf=main.service\n");
    // Where fleetctl runs, which reaches other hosts' journals by ssh only.
    let h1 = cluster.host("h1").machine_id().to_owned();
    let loud = format!("[Service]\nExecStart=/bin/sh -c 'echo this run; exit 7'\n[X-Fleet]\nMachineID={h1}\n");
    cluster.write(&[
        ("main.service", SERVICE),
        ("side.service", &with("[Unit]\nBindsTo=main.service\nAfter=main.service\n")),
        ("glob.service", &format!("{SERVICE}{GLOBAL}")),
        ("needy.service", &with("[Unit]\nRequires=needed.service\nAfter=needed.service\n")),
        ("needed.service", &with("")),
        ("tick.timer", "[Timer]\nOnActiveSec=1h\n[X-Fleet]\nMachineOf=main.service\n"),
        ("tick.service", &with("")),
        ("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        ("loud.service", &loud),
        ("one.service", &format!("{}[Install]\nAlias=shared.service\n", with(""))),
        ("two.service", &format!("{}[Install]\nAlias=shared.service\n", with(""))),
        ("stuck.service", "[Unit]\nRequires=missing.service\n[Service]\nExecStart=/bin/sleep infinity\n"),
    ]);
    let run = |args: &[&str]| cluster.fleetctl(args).unwrap();
    let failed = || -> Vec<String> {
        let list = cluster.ok(&["list-units", "--failed", "--no-legend", "--fields=unit"]);
        list.lines().map(str::to_owned).collect()
    };

    // A sidekick that its main service took along.
    cluster.ok(&["start", "main", "side"]);
    cluster.ok(&["stop", "main"]);
    cluster.ok(&["start", "main"]);
    let main = ids(&cluster, "main.service");
    eventually_eq(DEADLINE, "units that do not run", &vec!["side.service".to_owned()], || Ok(failed())).unwrap();
    let why = cluster.ok(&["why"]);
    assert!(why.contains("side.service") && why.contains("inactive (dead)"), "{why}");
    assert!(cluster.ok(&["start", "side", "main"]).contains("Unit side.service launched on "));
    assert_eq!(failed(), [""; 0]);
    assert_eq!(ids(&cluster, "main.service"), main, "what runs is left alone");

    // A global unit that is dead on one host of three.
    cluster.ok(&["start", "glob"]);
    eventually_eq(DEADLINE, "hosts", &3, || {
        Ok(cluster.rows()?.iter().filter(|row| row.unit == "glob.service").count())
    })
    .unwrap();
    let running =
        |name: &str| cluster.rows().unwrap().iter().filter(|row| row.unit == name && row.active == "active").count();
    eventually_eq(DEADLINE, "hosts that run it", &3, || Ok(running("glob.service"))).unwrap();
    let before = ids(&cluster, "glob.service");
    cluster.host("h2").sh("systemctl kill --signal=KILL glob.service").unwrap();
    eventually_eq(DEADLINE, "units that do not run", &vec!["glob.service".to_owned()], || Ok(failed())).unwrap();
    let h2 = cluster.host("h2").machine_id()[..8].to_owned();
    let why = cluster.ok(&["why", "glob"]);
    assert!(why.contains(&format!("it does not run on {h2}")) && why.contains("failed (failed)"), "{why}");
    let mended = run(&["start", "glob"]);
    assert!(mended.code == 0 && mended.stderr.contains(&format!("glob.service started on {h2}")), "{mended:?}");
    let after = ids(&cluster, "glob.service");
    let changed: Vec<&String> = before.keys().filter(|host| before[*host] != after[*host]).collect();
    assert_eq!(changed, ["h2"], "that host only");
    let restarted = run(&["restart", "glob"]);
    let again = ids(&cluster, "glob.service");
    assert!(restarted.code == 0 && again.keys().eq(after.keys()), "{restarted:?}");
    assert!(after.iter().all(|(host, id)| again[host] != *id), "it restarts on each: {restarted:?}");
    let mut machines: Vec<String> = cluster.lab.hosts().iter().map(|host| host.machine_id().to_owned()).collect();
    machines.sort();
    let began = |machine: &String| -> u64 {
        let show = "systemctl show -p ActiveEnterTimestampMonotonic --value glob.service";
        cluster.host(&cluster.name_of(machine)).sh(show).unwrap().trim().parse().unwrap()
    };
    // The hosts share one kernel, and its clock.
    let times: Vec<u64> = machines.iter().map(began).collect();
    assert!(times.is_sorted(), "one after another: {times:?}");

    // What waits for another unit starts when that comes, and is told of once until then.
    let lacking = run(&["start", "needy"]);
    assert!(lacking.code == 1 && lacking.stderr.contains("needed.service not found"), "{lacking:?}");
    let early = run(&["start", "tick.timer"]);
    assert!(early.code == 1 && early.stderr.contains("tick.service"), "{early:?}");
    cluster.ok(&["start", "needed", "tick.service"]);
    for unit in ["needy.service", "tick.timer"] {
        eventually_eq(DEADLINE, unit, &1, || Ok(running(unit))).unwrap();
    }
    let host = cluster.host_of("main.service").unwrap();
    let told = "journalctl --no-pager -o cat -u fleet | grep -c 'needed.service not found' || true";
    assert_eq!(cluster.host(&host).sh(told).unwrap().trim(), "1", "one line a change");

    // The journal's end is that of this run, and what is unknown is told of.
    for _ in 0..2 {
        let loud = run(&["start", "loud"]);
        // Of what the process wrote, journald now and then loses whose it was; not of what systemd writes.
        let lines = |words: &str| loud.stderr.matches(words).count();
        assert!(loud.code == 1 && lines("Main process exited") == 1 && lines(": this run") <= 1, "{loud:?}");
        assert!(loud.stderr.contains(": it failed (exit status 7)\n"), "{loud:?}");
    }
    assert!(cluster.ok(&["why", "loud"]).contains("exit status 7"));
    // It can be nowhere else.
    cluster.ok(&["destroy", "loud"]);
    let stopped = run(&["stop", "nosuch", "side"]);
    let words = "warning: unit nosuch.service does not exist\nstopped side.service\n";
    assert_eq!((stopped.code, &*stopped.stderr), (0, words));

    cluster.ok(&["start", "once"]);
    assert_eq!(run(&["stop", "once"]).stderr, "did not run: once.service\n", "it was over");

    // One name for two units: the first keeps it, the second gets it when the first goes.
    let owner = || cluster.host(&host).sh("readlink /run/systemd/system/shared.service || true").unwrap();
    cluster.ok(&["start", "one"]);
    let second = run(&["start", "two"]);
    assert!(second.code == 0 && second.stderr.contains("Alias=shared.service is one.service's"), "{second:?}");
    assert!(owner().contains("one.service"), "{}", owner());
    // One that asks for the name no more has nothing to wait for.
    cluster.write(&[("two.service", &with("[Unit]\nDescription=without a name\n"))]);
    cluster.ok(&["start", "--replace", "two"]);
    assert!(!cluster.ok(&["why", "two"]).contains("Alias="), "{}", cluster.ok(&["why", "two"]));
    cluster.write(&[("two.service", &format!("{}[Install]\nAlias=shared.service\n", with("")))]);
    cluster.ok(&["start", "--replace", "two"]);
    cluster.ok(&["destroy", "one"]);
    assert!(owner().contains("two.service"), "{}", owner());
    assert!(!cluster.ok(&["why", "two"]).contains("Alias="), "nothing is to be told any more");

    // A unit that systemd refuses does not hold up a drain.
    assert_eq!(run(&["start", "stuck"]).code, 1);
    let host = cluster.host_of("stuck.service").unwrap();
    let drained = run(&["drain", "--block-attempts=15", &host]);
    assert!(drained.code == 0 && drained.stdout.contains("Unit stuck.service moved from "), "{drained:?}");
    assert_ne!(cluster.host_of("stuck.service").unwrap(), host);
}
