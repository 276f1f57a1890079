//! Waits until the cluster is as it should be, by the word of systemd, the disk and etcd.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::{Context, Result, bail};
use fleet_lab::{Host, Seen, eventually};

use super::{
    super::{counters::Counters, systemd, units::Set},
    BY_HAND, PATIENCE, Stage, root, wait,
};

/// By then, the files of units that are no more are gone: a minute after the units, some thousands in a few seconds.
const SWEPT: Duration = Duration::from_secs(120);

impl Stage {
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

fn first(dir: &Path, prefix: &str) -> Result<Option<String>> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
