//! A fleetd that was killed comes back to many units that run.
//!
//! It has taken them up when it does what was asked while it was away: one unit that was stopped is to run. When that
//! was active, systemd has written down. Of all others nothing may be asked.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    process::{Child, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use fleet_lab::{Host, eventually};

use super::{
    Sizes,
    gate::{self, monotonic},
    row::{Measure, Row},
    series::Series,
    slice::{self, Slice},
    stage::{PATIENCE, Stage, between, root, wait},
    systemd::{jobs, property},
    units::{Set, command},
};

const UNITS: Set = Set { name: "cold", count: 0 };
/// The one that is asked for while fleetd is away.
const ASKED: Set = Set { name: "asked", count: 1 };
/// A pipe: the shell that becomes fleetd waits for a line from it, so that what systemd does for a service before
/// that, like its sandbox, is no more in the time than it is by hand.
const HOLD: &str = "/run/bench-hold";
const DROP_IN: &str = "/run/systemd/system/fleet.service.d/bench.conf";
/// What the monitor of calls to PID 1 writes into.
const MONITORED: &str = "/run/bench-monitored";
/// After it has taken up its units, for what it may still ask of them.
const AFTERMATH: Duration = Duration::from_secs(1);

/// Kills the fleetd of a host with many units, and has it come back.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    stage.populate(0)?;
    let host = stage.bystander()?;
    let options = format!("MachineID={}", host.machine_id());
    let set = Set { count: sizes.large, ..UNITS };
    stage.hand_over(&set.files(&options))?;
    stage.hand_over(&ASKED.files(&options))?;
    stage.fleetctl(&["start"], &set.names())?;
    stage.fleetctl(&["load"], &ASKED.names())?;
    stage.each_runs_once(set)?;
    host.sh(&format!("mkfifo {HOLD}"))?;
    let held = format!("/bin/sh -c 'read -r go <{HOLD} && exec /usr/bin/fleetd'");
    host.write(DROP_IN, &format!("[Service]\nExecStart=\nExecStart={held}\nRestartSec=0\n"))?;
    host.sh("systemctl daemon-reload")?;

    let [mut floor, mut ours, mut asked] = [const { Series::new() }; 3];
    for _ in 0..sizes.rounds {
        stage.rest()?;
        floor.push_time(by_hand(stage, &host, set)?);
        stage.rest()?;
        let before = processes(&host, set)?;
        let monitor = Monitor::start(&host)?;
        ours.push_time(come_back(stage, &host)?);
        wait(AFTERMATH);
        let seen = jobs(&monitor.stop()?);
        let (expected, others): (Vec<_>, Vec<_>) = seen.into_iter().partition(|job| job.unit == ASKED.names()[0]);
        ensure!(expected.len() == 1, "one job was to be seen, and {expected:?} were");
        asked.push(others.len() as f64);
        stage.each_runs_once(set)?;
        ensure!(processes(&host, set)? == before, "units were restarted");
        stage.fleetctl(&["stop"], &ASKED.names())?;
    }
    host.sh(&format!("rm {DROP_IN} {HOLD} && systemctl daemon-reload"))?;
    stage.fleetctl(&["destroy"], &[set.names(), ASKED.names()].concat())?;
    stage.gone(set)?;
    let count = sizes.large;
    let what = format!("Cold start of fleetd with {count} running units, until it does what is wanted of them");
    Ok(vec![
        Row::against(what, floor, ours, Some(2.0)),
        Row {
            what: format!("Jobs that it asks systemd for, of the {count} units"),
            measure: Measure::Figure { values: asked, most: 0.0, unit: "", digits: 0 },
        },
    ])
}

/// What there is to know: how systemd says that the units are, and what etcd says is wanted here.
fn by_hand(stage: &Stage, host: &Host, set: Set) -> Result<Duration> {
    let endpoint = stage.cluster.lab.etcd(1).endpoint();
    let keys = format!("/fleet/sched/{}/", host.machine_id());
    let manager = "org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
    let call = format!("busctl call {manager} ListUnitsByNames as {} \"$@\"", set.count);
    let script = format!("{call} && exec etcdctl --endpoints {endpoint} get --prefix {keys}");
    let finish = gate::run(&[(host.clone(), command("sh", &["-c", &script, "by-hand"], &set.names()))])?;
    let last = set.names().pop().context("there are no units")?;
    let times = finish.output[0].matches(&last).count();
    ensure!(times >= 2, "{last} is in the answers {times} times");
    Ok(finish.returned - finish.begun)
}

/// Kills fleetd, asks for a unit while it is away, and has it come back; how long that took until the unit was active.
fn come_back(stage: &Stage, host: &Host) -> Result<Duration> {
    host.sh("systemctl kill --signal=KILL --kill-who=main fleet.service")?;
    eventually(PATIENCE, "fleetd is held back", || {
        let state = property(host, "fleet.service", "SubState")?;
        let pid = property(host, "fleet.service", "MainPID")?;
        Ok(state == "start" && fs::read_to_string(root(host)?.join("proc").join(pid).join("comm"))?.trim() == "sh")
    })?;
    stage.fleetctl(&["start", "--no-block"], &ASKED.names())?;
    let key = format!("/fleet/sched/{}/{}", host.machine_id(), ASKED.names()[0]);
    eventually(PATIENCE, "the engine wants it started", || {
        Ok(stage.cluster.lab.etcdctl(&["get", "--print-value-only", &key])?.contains("launched"))
    })?;
    let slices = [Slice::of(host, &ASKED.prefix())?];
    // Opens as soon as the shell does.
    let mut hold = fs::File::options().write(true).open(root(host)?.join(HOLD.trim_start_matches('/')))?;
    let begun = monotonic();
    hold.write_all(b"go\n")?;
    slice::begun(&slices, 1, PATIENCE)?;
    between(begun, stage.last_active(&stage.each_runs_once(ASKED)?)?)
}

/// The processes of units, by unit.
fn processes(host: &Host, set: Set) -> Result<BTreeMap<String, String>> {
    let slice = Slice::of(host, &set.prefix())?;
    let processes: BTreeMap<String, String> = slice.processes()?;
    ensure!(processes.len() == set.count, "{} units have processes, not {}", processes.len(), set.count);
    Ok(processes)
}

/// Writes down calls to PID 1 over the bus.
struct Monitor {
    host: Host,
    child: Child,
}

impl Monitor {
    fn start(host: &Host) -> Result<Self> {
        let watch = "busctl monitor org.freedesktop.systemd1 --match \"type='method_call'\"";
        let script = format!("echo $$ >{MONITORED}.pid; exec {watch} >{MONITORED} 2>&1");
        host.sh(&format!("rm -f {MONITORED}"))?;
        let mut command = host.command(&["/bin/sh", "-c", &script])?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot run busctl")?;
        let monitor = Self { host: host.clone(), child };
        let path = root(host)?.join(MONITORED.trim_start_matches('/'));
        eventually(PATIENCE, "the monitor listens", || {
            // It says so, or at the latest when it has seen a call.
            host.sh("busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.DBus.Peer Ping")?;
            Ok(fs::read_to_string(&path).is_ok_and(|seen| seen.contains("Member=Ping")))
        })?;
        Ok(monitor)
    }

    fn stop(mut self) -> Result<String> {
        // Asked to end, it writes out what it has seen.
        self.host.sh(&format!("kill \"$(cat {MONITORED}.pid)\""))?;
        self.child.wait()?;
        self.host.sh(&format!("cat {MONITORED}"))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
