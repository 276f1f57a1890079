//! The cluster that is measured, and what is done to it between the rounds.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fleet_lab::{Host, Lab, Seen, eventually};

use super::{
    Sizes,
    counters::Counters,
    gate::{self, DIR, Finish},
    systemd,
};
use crate::Cluster;

/// What everything must come to an end within.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Where files are put that are started by hand.
const BY_HAND: &str = "run/systemd/system";

/// By then, the files of units that are no more are gone: a minute after the units, some thousands in a few seconds.
const SWEPT: Duration = Duration::from_secs(120);

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

/// Units that are all alike, and each another: no two have the same contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Set {
    /// What their names begin with.
    pub name: &'static str,
    /// How many there are.
    pub count: usize,
}

/// Files by hand: a host, and those it gets, by name.
pub type Hand = (Host, Vec<(String, String)>);

/// Those that [`Stage::populate`] has fleet run.
pub const UNITS: &str = "bench";

impl Set {
    /// The names.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        (1..=self.count).map(|number| format!("{}-{number:04}.service", self.name)).collect()
    }

    /// Names and files, whose contents were never there before: fleet keeps by its contents what it has seen.
    /// `options` goes into `[X-Fleet]`.
    #[must_use]
    pub fn files(self, options: &str) -> Vec<(String, String)> {
        static EDITION: AtomicU32 = AtomicU32::new(1);
        let edition = EDITION.fetch_add(1, Ordering::Relaxed);
        self.names().into_iter().map(|name| (name.clone(), file(&name, edition, options))).collect()
    }

    /// What fits them all.
    #[must_use]
    pub fn pattern(self) -> String {
        format!("{}-*", self.name)
    }

    /// What their names begin with, and no others.
    #[must_use]
    pub fn prefix(self) -> String {
        format!("{}-", self.name)
    }
}

/// A unit that sleeps.
fn file(name: &str, edition: u32, options: &str) -> String {
    let section = if options.is_empty() { String::new() } else { format!("\n[X-Fleet]\n{options}\n") };
    // Systemd would refuse the sixth start within ten seconds.
    let unit = format!("Description={name}, edition {edition}\nStartLimitIntervalSec=0");
    format!("[Unit]\n{unit}\n\n[Service]\nExecStart=/bin/sleep infinity\n{section}")
}

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

    /// Waits until systemd says that each unit runs once in the whole cluster, and says where.
    ///
    /// # Errors
    /// When they do not in time.
    pub fn each_runs_once(&self, set: Set) -> Result<Vec<(Host, Vec<String>)>> {
        let mut wanted = set.names();
        wanted.sort();
        eventually(PATIENCE, &format!("each of {} units runs once", set.count), || {
            let placed = self.loaded(&set.pattern())?;
            let rows = placed.iter().flat_map(|(_, rows)| rows);
            // One that was moved may still be known where it was.
            let alive = |state: &str| !state.starts_with("inactive/");
            if let Some(other) = rows.clone().find(|row| alive(&row.state) && row.state != "active/running") {
                return Ok(Seen::NotYet(format!("{} is {}", other.unit, other.state)));
            }
            let mut running: Vec<String> = rows.filter(|row| alive(&row.state)).map(|row| row.unit.clone()).collect();
            running.sort();
            if running != wanted {
                return Ok(Seen::NotYet(format!("{} run of {}", running.len(), wanted.len())));
            }
            let names = |rows: Vec<systemd::Loaded>| {
                rows.into_iter().filter(|row| alive(&row.state)).map(|row| row.unit).collect()
            };
            Ok(Seen::Done(placed.into_iter().map(|(host, rows)| (host, names(rows))).collect()))
        })
    }

    /// Waits until systemd says that each unit is down everywhere.
    ///
    /// # Errors
    /// When they are not in time.
    pub fn none_runs(&self, set: Set) -> Result<()> {
        eventually(PATIENCE, &format!("none of {} units runs", set.count), || {
            let placed = self.loaded(&set.pattern())?;
            let mut rows = placed.iter().flat_map(|(_, rows)| rows);
            Ok(match rows.find(|row| row.state != "inactive/dead") {
                Some(row) => Seen::NotYet(format!("{} is {}", row.unit, row.state)),
                None => Seen::Done(()),
            })
        })
    }

    /// Waits until nothing is left of units that were destroyed: not in systemd, not on disk, not in etcd.
    ///
    /// # Errors
    /// When something is.
    pub fn gone(&self, set: Set) -> Result<()> {
        self.none_runs(set)?;
        eventually(PATIENCE, &format!("nothing is left of {} units", set.count), || {
            for (host, rows) in self.loaded(&set.pattern())? {
                if let Some(row) = rows.first() {
                    return Ok(Seen::NotYet(format!("{} knows {}", host.name(), row.unit)));
                }
                for dir in ["run/fleet/units", BY_HAND] {
                    if let Some(name) = first(&root(&host)?.join(dir), &set.prefix())? {
                        return Ok(Seen::NotYet(format!("{name} is in /{dir} of {}", host.name())));
                    }
                }
            }
            for keys in ["unit", "sched", "state"] {
                let listed =
                    self.cluster.lab.etcdctl(&["get", "--prefix", "--keys-only", &format!("/fleet/{keys}/")])?;
                if let Some(key) = listed.lines().find(|key| key.contains(&format!("/{}", set.prefix()))) {
                    return Ok(Seen::NotYet(format!("{key} is in etcd")));
                }
            }
            Ok(Seen::Done(()))
        })
    }

    fn loaded(&self, pattern: &str) -> Result<Vec<(Host, Vec<systemd::Loaded>)>> {
        let up = self.hosts().iter().filter(|host| host.is_up());
        up.map(|host| Ok((host.clone(), systemd::loaded(host, pattern)?))).collect()
    }

    /// When the last of these units became active, by systemd on their hosts.
    ///
    /// # Errors
    /// When one is not active.
    pub fn last_active(&self, placed: &[(Host, Vec<String>)]) -> Result<Duration> {
        let since: Vec<BTreeMap<String, Duration>> = std::thread::scope(|scope| {
            let asked = placed.iter().map(|(host, units)| scope.spawn(|| systemd::active_since(host, units)));
            let asked: Vec<_> = asked.collect();
            let told = asked.into_iter().map(|one| one.join().unwrap_or_else(|_| bail!("nobody was asked")));
            told.collect::<Vec<_>>().into_iter().collect::<Result<_>>()
        })?;
        since.iter().flat_map(BTreeMap::values).max().copied().context("there is no unit")
    }

    /// etcd's counters.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn counters(&self) -> Result<Counters> {
        Counters::of(&self.cluster.lab.etcd(1))
    }

    /// Lets the cluster finish what it is at: no round pays for another.
    ///
    /// # Errors
    /// When it finds no end.
    pub fn rest(&self) -> Result<()> {
        self.rest_for(self.quiet)
    }

    /// Waits until fleet has deleted the files of units that were destroyed, which it does after a minute.
    ///
    /// # Errors
    /// When they stay.
    pub fn swept(&self) -> Result<()> {
        let list = ["get", "/fleet/file/", "--prefix", "--keys-only"];
        // No two of the units here have the same contents.
        eventually(SWEPT, &format!("etcd has {} unit files", self.running), || {
            let listed = self.cluster.lab.etcdctl(&list)?;
            Ok(listed.lines().filter(|line| !line.is_empty()).count() == self.running)
        })?;
        self.rest()
    }

    /// Waits until etcd has had nothing to write for so long.
    ///
    /// # Errors
    /// When that never happens.
    pub fn rest_for(&self, quiet: Duration) -> Result<()> {
        eventually(PATIENCE, "the cluster is at rest", || {
            let before = self.counters()?;
            wait(quiet);
            let since = self.counters()? - before;
            Ok((since.writes, since.ranges) == (0, 0))
        })
    }
}

/// Deals units to hosts, one each in turn, as a person would.
#[must_use]
pub fn dealt(hosts: &[Host], files: Vec<(String, String)>) -> Vec<Hand> {
    let mut hands: Vec<Hand> = hosts.iter().map(|host| (host.clone(), Vec::new())).collect();
    for (number, file) in files.into_iter().enumerate() {
        let hand = number % hosts.len();
        hands[hand].1.push(file);
    }
    hands.retain(|(_, files)| !files.is_empty());
    hands
}

/// `systemctl VERB UNIT...` for each host that has some.
#[must_use]
pub fn systemctl(verb: &str, hands: &[Hand]) -> Vec<(Host, Vec<String>)> {
    let names = |files: &[(String, String)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    hands.iter().map(|(host, files)| (host.clone(), command("systemctl", &[verb], &names(files)))).collect()
}

/// A program with its arguments.
#[must_use]
pub fn command(program: &str, verb: &[&str], units: &[String]) -> Vec<String> {
    let words = std::iter::once(program).chain(verb.iter().copied()).map(str::to_owned);
    words.chain(units.iter().cloned()).collect()
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

fn first(dir: &Path, prefix: &str) -> Result<Option<String>> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            return Ok(Some(name));
        }
    }
    Ok(None)
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
