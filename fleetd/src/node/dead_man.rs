//! The fence while no fleetd runs: `fleetd fence`, which `fleet-fence.service` runs from the end of one fleetd to the
//! start of the next.
//!
//! A fleetd that cannot be started again, say because of its configuration, keeps no lease alive. So this waits until
//! what the last one has proven is over and then stops the units with `OnPartition=stop`. The next fleetd starts them
//! when its own fence opens. Where this cannot run either, the service stops them at once.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use anyhow::{Context, ensure};
use fleet_core::unit::UnitName;
use tokio::process::Command;
use tracing::{info, warn};

use crate::{
    agent::{Disk, strict_of},
    clock::Clock,
    config::Config,
    filesystem::{FileError, Filesystem, Real},
    membership::proof::{proof_file, recall},
};

/// Waits until units with `OnPartition=stop` may not run on this host any more, and stops them.
///
/// # Errors
/// When the directory of unit files cannot be read, or systemd does not take the order.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let strict = wait(Real, &config.units_directory, Clock::Boottime).await?;
    let running = running(&strict).await;
    if running.is_empty() {
        return Ok(());
    }
    warn!(units = ?running, "fleetd is down and its lease may run out: stopping these units");
    if let Err(error) = mark(Real, &config.units_directory, &running) {
        warn!(error = %crate::chain(&error), "the next fleetd will not start these units again");
    }
    let status = systemctl(&["stop", "--no-block", "--"], &running).status().await.context("cannot run systemctl")?;
    ensure!(status.success(), "systemctl did not stop {running:?}: {status}");
    Ok(())
}

/// Waits until those units are to be stopped, and returns them.
///
/// # Errors
/// When the directory of unit files cannot be read.
pub async fn wait<F: Filesystem>(filesystem: F, units: &Path, clock: Clock) -> anyhow::Result<BTreeSet<UnitName>> {
    let disk = Disk::open(filesystem.clone(), units)?;
    let read = |unit: UnitName| disk.file(&unit).map(|file| (unit, file));
    let strict = strict_of(&disk.left()?.units.into_iter().filter_map(read).collect());
    if strict.is_empty() {
        return Ok(strict);
    }
    if let Some(until) = recall(&filesystem, &proof_file(units)) {
        info!(units = ?strict, "fleetd is down: these units are stopped when its lease may run out");
        clock.sleep_until(until).await;
    }
    Ok(strict)
}

/// Tells the next fleetd that these units have not ended by themselves.
///
/// # Errors
/// When that cannot be written.
pub fn mark<F: Filesystem>(filesystem: F, units: &Path, stopped: &BTreeSet<UnitName>) -> Result<(), FileError> {
    let disk = Disk::open(filesystem, units)?;
    let before = disk.fenced()?;
    disk.save_fenced(&before.union(stopped).cloned().collect())
}

/// Those of the units that run, as far as systemd tells.
async fn running(units: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
    if units.is_empty() {
        return BTreeSet::new();
    }
    // One line for each unit, in their order; the exit code says less.
    let output = systemctl(&["is-active", "--"], units).output().await;
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() != units.len() {
        return units.clone();
    }
    let is_up = |state: &str| !["inactive", "failed", "unknown"].contains(&state);
    units.iter().zip(lines).filter(|(_, state)| is_up(state)).map(|(unit, _)| unit.clone()).collect()
}

/// `systemctl` reaches PID 1 without the bus, which may be down, too.
fn systemctl(arguments: &[&str], units: &BTreeSet<UnitName>) -> Command {
    let mut command = Command::new("systemctl");
    command.args(arguments).args(units.iter().map(UnitName::as_str)).stdin(Stdio::null());
    command
}
