//! Every verb on a unit in every state: the tables of `docs/verbs.md` are typed on a real host.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{collections::BTreeMap, fmt::Write, fs};

use fleet_tests::{Cluster, DEADLINE, Run};

const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const GLOBAL: &str = "[X-Fleet]\nGlobal=true\n";
/// What a destroyed unit may have left on a host.
const LEFT: &str = "ls -d /run/fleet/units/* /run/systemd/system/* /run/systemd/system/*/* 2>/dev/null";

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
            // Started together, systemd takes them without what they need.
            "refused by systemd" => units.iter().for_each(|unit| drop(self.run(&["start"], &[unit]))),
            _ => drop(self.run(&["start"], &units)),
        }
        match state {
            "ended by itself" | "a timer that was stopped on its host" => {
                drop(self.sh(&format!("systemctl stop {names}")))
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
        fleet_lab::eventually_eq(DEADLINE, active, &expected.join("\n"), || {
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
    let swept =
        table.sh(&format!("{LEFT} | grep '/t[0-9]' || true; systemctl list-units --all --plain --no-legend 't[0-9]*'"));
    assert_eq!(swept, "", "nothing is left");
}
