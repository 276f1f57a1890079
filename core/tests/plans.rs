//! Golden plans: what happens in a cluster and what the planner decides about it, as an operator reads it.
//!
//! A scenario is a file of `plans/`: its first lines say what it shows, then come events, one a line, and the answers to
//! `plan` and `why` below them, indented. After a change of the rules that is meant,
//! `UPDATE_PLANS=1 cargo test -p fleet-core --test plans` writes the answers anew.
//!
//! | Event | What it says |
//! |---|---|
//! | `machine 1 disk=ssd` | machine 1 is there, or has other metadata than before |
//! | `drain 1 disk=ssd` | machine 1 is to be emptied |
//! | `away 1` | machine 1 is not there and may come back |
//! | `gone 1` | machine 1 counts as dead |
//! | `unit a.service Conflicts=b*; Replaces=c*` | the unit is wanted, with these lines of `[X-Fleet]` |
//! | `stop a.service`, `destroy a.service` | it is wanted no more, it is no more |
//! | `global a.service Conflicts=b*` | the same for a unit of all machines |
//! | `placed a.service 1` | the store has it on machine 1 |
//! | `stopped a.service 1` | it is down on machine 1, which was told to give it up |
//! | `plan` | what the planner decides now; it is written at once |
//! | `why a.service` | what is said of a unit |

#![allow(missing_docs, reason = "nobody calls a test")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::Path,
    sync::Arc,
};

use fleet_core::{
    model::MachineId,
    sched::{Decision, Planner},
    unit::{OnPartition, Requirements, UnitFile, UnitName},
};

/// A cluster in which each decision is written at once.
#[derive(Default)]
struct Scenario {
    planner: Planner,
    units: BTreeMap<UnitName, Arc<Requirements>>,
    globals: BTreeSet<UnitName>,
    /// The machines that are there.
    up: BTreeSet<MachineId>,
}

impl Scenario {
    /// Lets one thing happen; what is said then.
    fn happen(&mut self, event: &str) -> String {
        let (verb, rest) = event.split_once(' ').unwrap_or((event, ""));
        let (subject, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "machine" | "drain" => {
                let metadata = rest.split_whitespace().map(|pair| pair.split_once('=').unwrap());
                let metadata = metadata.map(|(key, value)| (key.into(), value.into())).collect();
                self.up.insert(machine(subject));
                if verb == "drain" {
                    self.planner.drain_machine(machine(subject), metadata);
                } else {
                    self.planner.set_machine(machine(subject), metadata);
                }
            }
            "away" => self.planner.hold_machine(machine(subject)),
            "gone" => {
                self.up.remove(&machine(subject));
                self.planner.remove_machine(&machine(subject));
            }
            "unit" | "global" => {
                let unit = name(subject);
                self.units.insert(unit.clone(), Arc::new(asks(&unit, rest)));
                if verb == "global" {
                    self.globals.insert(unit.clone());
                }
                self.set(&unit, true);
            }
            "stop" => self.set(&name(subject), false),
            "destroy" => {
                let unit = name(subject);
                self.units.remove(&unit);
                self.globals.remove(&unit);
                self.planner.remove_unit(&unit);
            }
            "placed" => self.planner.placed(name(subject), machine(rest)),
            "stopped" => self.planner.given_up(&name(subject), &machine(rest)),
            "plan" => return self.plan(),
            "why" => return self.why(&name(subject)),
            _ => panic!("no such event: {event}"),
        }
        String::new()
    }

    fn set(&mut self, unit: &UnitName, wanted: bool) {
        let requirements = Arc::clone(&self.units[unit]);
        if self.globals.contains(unit) {
            self.planner.set_global(unit.clone(), requirements, wanted);
        } else {
            self.planner.set_unit(unit.clone(), requirements, wanted);
        }
    }

    fn plan(&mut self) -> String {
        let decisions = self.planner.plan();
        let mut said = String::new();
        for decision in &decisions {
            writeln!(said, "  {}", told(decision)).unwrap();
            self.write(decision);
        }
        if decisions.is_empty() {
            said.push_str("  nothing to do\n");
        }
        let pending: Vec<UnitName> = self.planner.pending().map(|(unit, _)| unit.clone()).collect();
        for unit in pending {
            let summary = short(&self.planner.explain(&unit).summary);
            writeln!(said, "  {unit}: {summary}").unwrap();
        }
        for on in &self.up {
            for (unit, reason) in self.planner.stuck_on(on) {
                writeln!(said, "  {unit} stays on {}: {}", number(on), short(&reason.to_string())).unwrap();
            }
        }
        assert_eq!(self.planner.plan(), [], "a plan leaves nothing to do");
        said
    }

    /// Writes a decision as the engine does: a machine that is there is told to give a strict unit up.
    fn write(&mut self, Decision { unit, from, to, .. }: &Decision) {
        let strict = self.units.get(unit).is_some_and(|wanted| wanted.on_partition == OnPartition::Stop);
        for id in from {
            if strict && self.up.contains(id) {
                self.planner.recalled(unit.clone(), id.clone());
            } else {
                self.planner.removed(unit, id);
            }
        }
        if let Some(id) = to {
            self.planner.placed(unit.clone(), id.clone());
        }
    }

    fn why(&mut self, unit: &UnitName) -> String {
        let explanation = self.planner.explain(unit);
        let mut said = format!("  {}\n", short(&explanation.summary));
        for verdict in explanation.verdicts {
            writeln!(said, "    {}: {}", number(&verdict.machine), short(&verdict.reason.to_string())).unwrap();
        }
        said
    }
}

/// Requirements as the lines of `[X-Fleet]`.
fn asks(unit: &UnitName, section: &str) -> Requirements {
    let file = UnitFile::parse(&format!("[X-Fleet]\n{}\n", section.replace("; ", "\n"))).unwrap();
    Requirements::read(&file, unit).unwrap().0
}

/// A decision in a line: `a.service  1 -> 2  machine is gone; least loaded that fits of 2 machines (1 unit)`.
fn told(Decision { unit, from, to, reason }: &Decision) -> String {
    let from: Vec<String> = from.iter().map(number).collect();
    let to = to.as_ref().map_or_else(|| "nowhere".to_owned(), number);
    let from = if from.is_empty() { String::new() } else { format!("{} ", from.join(", ")) };
    format!("{unit}: {from}-> {to}, {}", short(&reason.to_string()))
}

fn name(text: &str) -> UnitName {
    UnitName::new(text).unwrap()
}

fn machine(number: &str) -> MachineId {
    let number: u32 = number.parse().unwrap();
    MachineId::new(&format!("{number:08x}{number:024x}")).unwrap()
}

fn number(machine: &MachineId) -> String {
    u32::from_str_radix(machine.short(), 16).unwrap().to_string()
}

/// A text with the numbers of machines in place of their IDs.
fn short(text: &str) -> String {
    let ids = (1..10).map(|number| (format!("{number:08x}"), format!("{number}")));
    ids.fold(text.to_owned(), |text, (id, number)| text.replace(&id, &number))
}

/// A scenario with its answers written anew.
fn answered(text: &str) -> String {
    let mut scenario = Scenario::default();
    let mut answered = String::new();
    for line in text.lines().filter(|line| !line.starts_with(' ')) {
        writeln!(answered, "{line}").unwrap();
        if !line.is_empty() && !line.starts_with('#') {
            answered += &scenario.happen(line);
        }
    }
    answered
}

#[test]
fn plans_are_as_they_were() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut scenarios: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    scenarios.sort();
    assert!(scenarios.len() >= 10, "{} has the scenarios", directory.display());
    for path in scenarios {
        let known = fs::read_to_string(&path).unwrap();
        let now = answered(&known);
        if std::env::var_os("UPDATE_PLANS").is_some() {
            fs::write(&path, now).unwrap();
        } else {
            assert!(now == known, "{} differs; if that is meant, run with UPDATE_PLANS=1:\n{now}", path.display());
        }
    }
}
