//! A cluster for fleetctl to talk to, and fleetctl run against it.

#[path = "../../../client/src/fake.rs"]
#[allow(unreachable_pub, reason = "shared with the unit tests")]
pub mod fake;

use std::{
    collections::BTreeMap,
    path::Path,
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use fake::{Answer, Asked, Fake};
use fleet_api::{
    Change, ChangeMade, Changes, ChangesMade, Drain, DrainUnit, ErrorBody, ErrorEntity, FileWarning, Held, HeldMachine,
    Machine, MachinePage, MachineVerdict, Older, Trace, Unit, UnitPage, UnitReport, UnitStatus, Version, Why,
};
use fleet_core::{
    model::StartSteps,
    unit::{UnitFile, UnitName, doubts},
};
use serde::Serialize;
use tokio::process::Command;

pub const MACHINE: &str = "d097a72e4aef45bf815b90988acdbf13";
/// A machine that is gone, and held.
pub const GONE: &str = "e515483f4aef45bf815b90988acdbf13";
pub const HELLO: &str = "[Service]\nExecStart=/bin/sleep 1\n";

/// A cluster of one machine, on which everything happens at once. Units whose name begins with `bad` fail there,
/// those that begin with `lone` fit nowhere, and those that begin with `stay` nowhere else. No engine places those that
/// begin with `wait`.
#[derive(Clone, Default)]
pub struct StandIn {
    pub units: Arc<Mutex<BTreeMap<String, Unit>>>,
    pub generation: Arc<Mutex<u64>>,
    /// CoreOS fleet's, without watch, why and restart, and all that is newer.
    pub old: bool,
    pub drained: Arc<AtomicBool>,
    /// Whether the next look at the drain is one from before it.
    pub lags: Arc<AtomicBool>,
    /// Whether [`GONE`] has vanished.
    pub held: Arc<AtomicBool>,
    /// Whether the first watch breaks before anything has happened.
    pub breaks: Arc<AtomicBool>,
}

pub struct Ran {
    pub out: String,
    pub err: String,
    pub code: i32,
}

impl StandIn {
    pub fn serve(&self) -> Fake {
        let cluster = self.clone();
        Fake::new(move |asked| cluster.answer(asked))
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let (method, path) = asked.line.split_once(' ').unwrap();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, &*parts) {
            ("GET", ["version"]) if !self.old => json(&Version {
                version: "0.3.0".into(),
                features: vec!["new".into()],
                schema: 1,
                oldest: Some("0.2.0".into()),
                in_use: vec!["known".into()],
                waits_for: [("new".into(), vec![older("h3", "0.2.0"), older("", "")])].into(),
            }),
            ("GET", ["machines"]) => json(&MachinePage { machines: vec![machine()], next_page_token: None }),
            ("GET", ["machines", MACHINE, "drain"]) if !self.old => self.drain(),
            ("PUT" | "DELETE", ["machines", MACHINE, "drain"]) if !self.old => {
                self.drained.store(method == "PUT", Ordering::Relaxed);
                Answer::Whole(204, String::new())
            }
            ("DELETE", ["machines", GONE, "drain"]) => Answer::Whole(204, String::new()),
            ("GET", ["held"]) if !self.old => {
                let machine = HeldMachine {
                    id: GONE.into(),
                    since: "2026-11-21T10:50:43Z".into(),
                    until: Some("2026-11-21T10:51:03Z".into()),
                    reason: "many machines vanished together".into(),
                };
                let machines = if self.held.load(Ordering::Relaxed) { vec![machine] } else { Vec::new() };
                json(&Held { machines, units: Vec::new() })
            }
            ("PUT", ["machines", GONE, "evict"]) if !self.old => {
                self.held.store(false, Ordering::Relaxed);
                Answer::Whole(204, String::new())
            }
            ("GET", ["units"]) => {
                let units = self.units.lock().unwrap().values().cloned().collect();
                json(&UnitPage { units, next_page_token: None })
            }
            ("GET", ["units", name]) => self.units.lock().unwrap().get(*name).map_or_else(unknown, json),
            ("PUT", ["units", name]) => match self.put(name, serde_json::from_str(&asked.body).unwrap()) {
                Answer::Whole(code, body) if !self.old => Answer::Timed(code, body),
                answer => answer,
            },
            ("DELETE", ["units", name]) => {
                self.units.lock().unwrap().remove(*name).map_or_else(unknown, |_| Answer::Whole(204, String::new()))
            }
            ("POST", ["changes"]) if !self.old => self.change(serde_json::from_str(&asked.body).unwrap()),
            ("GET", ["units", name, "trace"]) if !self.old => self.trace(name),
            ("GET", ["units", name, "why"]) if !self.old => self.why(name),
            ("POST", ["units", _, "restart"]) if !self.old => {
                *self.generation.lock().unwrap() += 1;
                Answer::Whole(204, String::new())
            }
            ("GET", ["watch"]) if !self.old => {
                if self.breaks.swap(false, Ordering::Relaxed) {
                    return Answer::BrokenLines(Vec::new());
                }
                let names = query.split('&').map(|pair| pair.trim_start_matches("unit="));
                Answer::Lines(names.map(|name| serde_json::to_string(&self.status(name)).unwrap()).collect())
            }
            ("GET", ["state"]) => {
                let names: Vec<_> = self.units.lock().unwrap().keys().cloned().collect();
                let asked = names.iter().filter(|name| query.is_empty() || query.ends_with(*name));
                states(asked.map(|name| self.status(name)))
            }
            _ => error(404, ""),
        }
    }

    fn put(&self, name: &str, sent: Unit) -> Answer {
        let mut units = self.units.lock().unwrap();
        if sent.options.is_empty() && !units.contains_key(name) {
            return error(409, "unit does not exist and options field empty");
        }
        if name.contains("@.") && sent.desired_state != "inactive" {
            return error(400, &format!("cannot activate template \"{name}\""));
        }
        let unit = units.entry(name.into()).or_default();
        unit.name = name.into();
        if !sent.options.is_empty() {
            unit.options = sent.options;
        }
        let placed = sent.desired_state != "inactive" && !name.starts_with("lone") && !name.starts_with("wait");
        unit.machine_id = if placed { MACHINE.into() } else { String::new() };
        unit.current_state = if placed { sent.desired_state.clone() } else { "inactive".into() };
        unit.desired_state = sent.desired_state;
        Answer::Whole(204, String::new())
    }

    fn change(&self, asked: Changes) -> Answer {
        let made = asked.changes.into_iter().map(|Change { name, desired_state, options, destroy, again: _ }| {
            let answer = match destroy {
                true => {
                    self.units.lock().unwrap().remove(&name).map_or_else(unknown, |_| Answer::Whole(204, String::new()))
                }
                false => self.put(&name, Unit { desired_state, options, ..Unit::default() }),
            };
            let Answer::Whole(code, body) = answer else { unreachable!("changes have whole answers") };
            let message =
                serde_json::from_str::<ErrorEntity>(&body).map_or(String::new(), |entity| entity.error.message);
            ChangeMade { name, code, message, reason: None }
        });
        let Answer::Whole(code, body) = json(&ChangesMade { results: made.collect() }) else { unreachable!() };
        Answer::Timed(code, body)
    }

    /// Of what was started here.
    fn trace(&self, name: &str) -> Answer {
        if !self.units.lock().unwrap().contains_key(name) {
            return unknown();
        }
        let start = StartSteps {
            revision: 1,
            noticed: 1,
            installed: Some(2),
            queued: Some(3),
            active: Some(4),
            settled: Some(5),
        };
        let (wanted, scheduled, reported) = (30, 40, 50);
        json(&Trace { name: name.into(), machine_id: MACHINE.into(), wanted, scheduled, reported, start })
    }

    /// At each look one unit leaves, for [`GONE`], which is not so gone then.
    fn drain(&self) -> Answer {
        let mut units = self.units.lock().unwrap();
        let here: Vec<String> =
            units.values().filter(|unit| unit.machine_id == MACHINE).map(|unit| unit.name.clone()).collect();
        let state = |name: &String| match name.starts_with("stay") {
            true => DrainUnit {
                name: name.clone(),
                state: "stuck".into(),
                reason: "no machine fits".into(),
                ..DrainUnit::default()
            },
            false => DrainUnit { name: name.clone(), state: "waiting".into(), ..DrainUnit::default() },
        };
        let status = Drain {
            machine_id: MACHINE.into(),
            drained: self.drained.load(Ordering::Relaxed) && !self.lags.swap(false, Ordering::Relaxed),
            units: here.iter().map(state).collect(),
            globals: vec!["glob.service".into()],
        };
        if let Some(unit) = here.iter().find(|name| !name.starts_with("stay")).and_then(|name| units.get_mut(name)) {
            unit.machine_id = GONE.into();
        }
        json(&status)
    }

    fn status(&self, name: &str) -> UnitStatus {
        let units = self.units.lock().unwrap();
        let Some(unit) = units.get(name) else { return UnitStatus { name: name.into(), ..UnitStatus::default() } };
        let options: Vec<_> = unit.options.iter().cloned().map(Into::into).collect();
        let hash = UnitFile::from_options(&options).unwrap().hash().to_string();
        let generation = *self.generation.lock().unwrap();
        let (active, sub) = match &*unit.current_state {
            "launched" if name.starts_with("bad") => ("failed", "failed"),
            "launched" => ("active", "running"),
            _ => ("inactive", "dead"),
        };
        let report = UnitReport {
            machine_id: MACHINE.into(),
            hash: hash.clone(),
            current_state: unit.current_state.clone(),
            generation,
            load: "loaded".into(),
            active: active.into(),
            sub: sub.into(),
            ..UnitReport::default()
        };
        UnitStatus {
            name: name.into(),
            exists: true,
            global: name.starts_with("glob"),
            hash,
            desired_state: unit.desired_state.clone(),
            current_state: unit.current_state.clone(),
            machine_id: unit.machine_id.clone(),
            generation,
            request: 0,
            reports: if unit.machine_id.is_empty() { Vec::new() } else { vec![report] },
        }
    }

    fn why(&self, name: &str) -> Answer {
        let units = self.units.lock().unwrap();
        let Some(unit) = units.get(name) else { return unknown() };
        let fits = !name.starts_with("lone");
        let reason = if fits { "least loaded" } else { "lacks disk=ssd" };
        json(&Why {
            name: name.into(),
            summary: format!("not placed: {reason}"),
            machine_id: unit.machine_id.clone(),
            machines: vec![MachineVerdict {
                id: MACHINE.into(),
                primary_ip: "10.82.0.13".into(),
                fits,
                reason: reason.into(),
            }],
            warnings: doubts_of(unit),
        })
    }
}

fn older(hostname: &str, version: &str) -> Older {
    Older { id: MACHINE.into(), hostname: hostname.into(), version: version.into() }
}

fn doubts_of(unit: &Unit) -> Vec<FileWarning> {
    let options: Vec<_> = unit.options.iter().cloned().map(Into::into).collect();
    let file = UnitFile::from_options(&options).unwrap();
    doubts(&file, &UnitName::new(&unit.name).unwrap()).into_iter().map(Into::into).collect()
}

pub fn machine() -> Machine {
    Machine { id: MACHINE.into(), primary_ip: "10.82.0.13".into(), ..Machine::default() }
}

pub fn states(statuses: impl Iterator<Item = UnitStatus>) -> Answer {
    use fleet_api::{UnitState, UnitStatePage};
    let state = |status: UnitStatus| {
        let report = status.reports.into_iter().next()?;
        Some(UnitState {
            hash: report.hash,
            machine_id: report.machine_id,
            name: status.name,
            systemd_active_state: report.active,
            systemd_load_state: report.load,
            systemd_sub_state: report.sub,
        })
    };
    json(&UnitStatePage { states: statuses.filter_map(state).collect(), next_page_token: None })
}

pub fn json<T: Serialize>(body: &T) -> Answer {
    Answer::Whole(200, serde_json::to_string(body).unwrap())
}

pub fn error(code: u16, message: &str) -> Answer {
    let body = ErrorEntity { error: ErrorBody { code, message: message.into(), reason: None } };
    Answer::Whole(code, serde_json::to_string(&body).unwrap())
}

pub fn unknown() -> Answer {
    error(404, "unit does not exist")
}

pub async fn fleetctl(fake: &Fake, directory: &Path, line: &str) -> Ran {
    let output = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .arg(format!("--endpoint={}", fake.endpoint))
        .args(line.split_whitespace())
        .current_dir(directory)
        // No programs but those of the test: there are no machines to reach.
        .env("PATH", directory)
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran { out: text(output.stdout), err: text(output.stderr), code: output.status.code().unwrap() }
}

/// Runs each line and compares the whole transcript: `1>` is stdout, `2>` stderr, `[N]` the exit code.
pub async fn transcript(fake: &Fake, directory: &Path, lines: &[(&str, &str)]) {
    for (line, expected) in lines {
        let ran = fleetctl(fake, directory, line).await;
        let mut got: Vec<String> = ran.out.lines().map(|line| format!("1> {line}")).collect();
        got.extend(ran.err.lines().map(|line| format!("2> {line}")));
        got.push(format!("[{}]", ran.code));
        assert_eq!(got.join("\n"), *expected, "\n$ fleetctl {line}");
    }
}

pub fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}
