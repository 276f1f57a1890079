//! The cluster that is measured, and what is done to it between the rounds.

mod settle;

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fleet_lab::{Host, Lab, eventually};
use fleet_tests::Cluster;

use super::{
    Sizes,
    gate::{self, DIR, Finish},
    units::{Hand, Set, command},
};

/// What everything must come to an end within.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Where files are put that are started by hand.
const BY_HAND: &str = "run/systemd/system";

/// The cluster.
pub struct Stage {
    /// It.
    pub cluster: Cluster,
    /// `agent_ttl`.
    pub ttl: Duration,
    /// Without a write for so long, the cluster has nothing left to do.
    quiet: Duration,
    /// How many units of [`UNITS`] fleet has been told to run.
    running: usize,
}

/// Those that [`Stage::populate`] has fleet run.
pub const UNITS: &str = "bench";

impl Stage {
    /// Boots three hosts with fleet, `bin` is where its programs are.
    ///
    /// # Errors
    /// When they do not boot.
    pub fn set(sizes: &Sizes, bin: Option<&Path>) -> Result<Self> {
        let (ttl, quiet) = (sizes.ttl, sizes.quiet);
        let mut lab = Lab::builder().hosts(3).config(&format!("agent_ttl=\"{}s\"", ttl.as_secs()));
        if let Some(bin) = bin {
            lab = lab.fleetd(bin.join("fleetd")).fleetctl(bin.join("fleetctl"));
        }
        let stage = Self { cluster: Cluster { lab: lab.up()? }, ttl, quiet, running: 0 };
        stage.joined()?;
        for host in stage.hosts() {
            host.sh(&format!("mkdir -p {DIR}"))?;
        }
        Ok(stage)
    }

    /// The hosts.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        self.cluster.lab.hosts()
    }

    /// Where `fleetctl` runs.
    #[must_use]
    pub fn seat(&self) -> &Host {
        &self.hosts()[0]
    }

    /// Waits until every host is a member.
    ///
    /// # Errors
    /// When one is not in time.
    pub fn joined(&self) -> Result<()> {
        eventually(PATIENCE, "every host is a member", || {
            let list = self.cluster.fleetctl(&["list-machines", "--no-legend"])?;
            Ok(list.code == 0 && list.stdout.lines().count() == self.hosts().len())
        })
    }

    /// A host that neither leads nor runs `fleetctl`.
    ///
    /// # Errors
    /// When it is not known who leads.
    pub fn bystander(&self) -> Result<Host> {
        let leader = self.cluster.lab.etcdctl(&["get", "--print-value-only", "/fleet/leader"])?;
        let leader: serde_json::Value = serde_json::from_str(&leader).context("nobody leads")?;
        let stands_by = |host: &&Host| host.name() != self.seat().name() && leader["machine"] != host.machine_id();
        self.hosts().iter().find(stands_by).cloned().context("every host leads or runs fleetctl")
    }

    /// Puts files where `fleetctl` finds them.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn hand_over(&self, files: &[(String, String)]) -> Result<()> {
        write(&root(self.seat())?.join(DIR.trim_start_matches('/')), files)
    }

    /// Puts files onto hosts for systemd alone, and has it know them.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn lay_out(&self, files: &[Hand]) -> Result<()> {
        for (host, files) in files {
            write(&root(host)?.join(BY_HAND), files)?;
        }
        self.on_each(files.iter().map(|(host, _)| host), "systemctl daemon-reload")
    }

    /// Takes away what [`lay_out`](Self::lay_out) put there.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn clear_away(&self, files: &[Hand]) -> Result<()> {
        for (host, files) in files {
            let dir = root(host)?.join(BY_HAND);
            for (name, _) in files {
                fs::remove_file(dir.join(name)).with_context(|| format!("cannot remove {name}"))?;
            }
        }
        Ok(())
    }

    /// Has every host leave the cluster, so that no fleetd listens to systemd.
    ///
    /// # Errors
    /// When one does not.
    pub fn leave(&self) -> Result<()> {
        let stop = "systemctl stop fleet.service fleet.socket && systemctl stop fleet-fence.service";
        self.on_each(self.hosts().iter(), stop)
    }

    /// Has every host come back.
    ///
    /// # Errors
    /// When one does not.
    pub fn come_back(&self) -> Result<()> {
        self.on_each(self.hosts().iter(), "systemctl start fleet.socket fleet.service")?;
        self.joined()
    }

    fn on_each<'h>(&self, hosts: impl Iterator<Item = &'h Host>, script: &str) -> Result<()> {
        std::thread::scope(|scope| {
            let running: Vec<_> = hosts.map(|host| scope.spawn(|| host.sh(script).map(drop))).collect();
            let ended = running.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("`{script}` panicked")));
            ended.collect::<Vec<_>>().into_iter().collect()
        })
    }

    /// Runs `fleetctl VERB UNIT...` on one host to its end, as a person would.
    ///
    /// # Errors
    /// When it fails.
    pub fn fleetctl(&self, verb: &[&str], units: &[String]) -> Result<Finish> {
        gate::run(&[(self.seat().clone(), command("fleetctl", verb, units))])
    }

    /// Has fleet run so many units, and no others of its own.
    ///
    /// # Errors
    /// When that does not come about.
    pub fn populate(&mut self, count: usize) -> Result<()> {
        if count == self.running {
            return Ok(());
        }
        if self.running > 0 {
            let old = Set { name: UNITS, count: self.running };
            self.fleetctl(&["destroy"], &old.names())?;
            self.gone(old)?;
        }
        self.running = count;
        if count > 0 {
            let new = Set { name: UNITS, count };
            self.hand_over(&new.files(""))?;
            self.fleetctl(&["start"], &new.names())?;
            self.each_runs_once(new)?;
        }
        self.rest()
    }

    /// Says that units may not be as [`populate`](Self::populate) left them: they are started anew the next time.
    ///
    /// # Errors
    /// When they cannot be destroyed.
    pub fn disperse(&mut self) -> Result<()> {
        self.populate(0)
    }
}

/// The root of a host that is up, from outside.
///
/// # Errors
/// When it is down.
pub fn root(host: &Host) -> Result<PathBuf> {
    Ok(PathBuf::from(format!("/proc/{}/root", host.pid1()?)))
}

fn write(dir: &Path, files: &[(String, String)]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for (name, text) in files {
        fs::write(dir.join(name), text).with_context(|| format!("cannot write {name} into {}", dir.display()))?;
    }
    Ok(())
}

/// Lets time pass.
#[allow(clippy::disallowed_methods, reason = "there is no runtime here to block")]
pub fn wait(time: Duration) {
    std::thread::sleep(time);
}

/// Fails unless `time` comes after `begun`; the time between.
///
/// # Errors
/// When it does not: whatever was seen is not what was begun.
pub fn between(begun: Duration, time: Duration) -> Result<Duration> {
    ensure!(time > begun, "this was so before it was asked for");
    Ok(time - begun)
}
