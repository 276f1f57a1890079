//! Commands that wait for the word in their hosts.
//!
//! To get a process into a host takes longer than to start a unit there. So the shell that becomes the command is
//! there before the clock starts, for both sides alike; from then on counts what a person at a shell would wait for.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use fleet_lab::Host;
use rustix::time::{ClockId, clock_gettime};

use super::stat;

/// Where commands run, and where unit files for `fleetctl` are.
pub const DIR: &str = "/root/bench";
/// Where a command's output goes.
const OUTPUT: &str = "/run/bench-output";

/// Says that it is there, waits for a line, and becomes its arguments.
const WAIT: &str = r#"cd "$1" && shift && echo there && read -r go && exec "$@" >"$0" 2>&1"#;

/// CLOCK_MONOTONIC: the hosts have the machine's, and systemd writes down by it what it does.
#[must_use]
pub fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A command in a host, about to start.
struct Gate {
    host: Host,
    child: Child,
    stdin: ChildStdin,
    command: String,
}

/// Commands that have been started at one moment.
pub struct Race {
    gates: Vec<Gate>,
    /// When that was.
    pub begun: Duration,
    /// What children of this process that had ended before took of the processor.
    children: f64,
}

/// What commands that ran at one time came to.
pub struct Finish {
    /// When they were let go.
    pub begun: Duration,
    /// When the last of them had returned.
    pub returned: Duration,
    /// Seconds of processor time that they took together.
    pub processor: f64,
    /// What they printed, in their order.
    pub output: Vec<String>,
}

/// Brings commands into their hosts, and lets them go at one moment.
///
/// # Errors
/// When one cannot be brought there.
pub fn start(commands: &[(Host, Vec<String>)]) -> Result<Race> {
    let children = stat::of_children()?;
    let mut gates = commands.iter().map(|(host, args)| Gate::new(host, args)).collect::<Result<Vec<_>>>()?;
    let begun = monotonic();
    for gate in &mut gates {
        gate.stdin.write_all(b"go\n").with_context(|| format!("`{}` is not there", gate.command))?;
    }
    Ok(Race { gates, begun, children })
}

/// Runs commands at one time to their end.
///
/// # Errors
/// When one fails.
pub fn run(commands: &[(Host, Vec<String>)]) -> Result<Finish> {
    start(commands)?.finish()
}

impl Race {
    /// Waits until all have returned.
    ///
    /// # Errors
    /// When one has failed.
    pub fn finish(mut self) -> Result<Finish> {
        let mut ends = Vec::new();
        for gate in &mut self.gates {
            ends.push(gate.child.wait().with_context(|| format!("`{}` is lost", gate.command))?);
        }
        let returned = monotonic();
        let processor = stat::of_children()? - self.children;
        let mut output = Vec::new();
        for (gate, end) in self.gates.iter().zip(ends) {
            let said = gate.host.sh(&format!("cat {OUTPUT}"))?;
            if !end.success() {
                bail!("`{}` on {}: {end}: {}", gate.command, gate.host.name(), said.trim());
            }
            output.push(said);
        }
        Ok(Finish { begun: self.begun, returned, processor, output })
    }
}

impl Gate {
    fn new(host: &Host, args: &[String]) -> Result<Self> {
        let shell = ["/bin/sh", "-c", WAIT, OUTPUT, DIR].map(str::to_owned);
        let mut child = host
            .command(&[&shell, args].concat())?
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("nothing can be run in {}", host.name()))?;
        let stdin = child.stdin.take().context("no way to speak to a command")?;
        let mut there = String::new();
        let stdout = child.stdout.take().context("no way to hear a command")?;
        BufReader::new(stdout).read_line(&mut there)?;
        let command = args.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(" ");
        if there.trim() != "there" {
            bail!("`{command}` does not get into {}", host.name());
        }
        Ok(Self { host: host.clone(), child, stdin, command })
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // One that was never let go. Those that have ended take no harm.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
