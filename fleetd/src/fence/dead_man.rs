//! The fence while no fleetd runs: `fleetd fence`, which `fleet-fence.service` runs from the end of one fleetd to the
//! start of the next.
//!
//! A fleetd that cannot be started again, say because its binary is broken, keeps no lease alive. So this waits
//! until what the last one has proven is over and then stops the units with `OnPartition=stop`. The next fleetd starts
//! them when its own fence opens.

use std::{collections::BTreeSet, path::Path, process::Stdio};

use anyhow::{Context, ensure};
use fleet_core::{model::Target, unit::UnitName};
use tokio::process::Command;
use tracing::{info, warn};

use super::recall;
use crate::{
    agent::{Disk, strict_of},
    clock::Clock,
    config::Config,
    filesystem::{Filesystem, Real},
    member::proof_file,
};

/// Waits until units with `OnPartition=stop` may not run on this host any more, and stops them.
///
/// # Errors
/// When the directory of unit files cannot be read, or systemd does not take the order.
pub async fn run(config: &Config) -> anyhow::Result<()> {
    let strict = wait(Real, &config.units_directory, Clock::Boottime).await?;
    if strict.is_empty() {
        return Ok(());
    }
    // `systemctl` reaches PID 1 without the bus, which may be down, too.
    let stop = Command::new("systemctl")
        .args(["stop", "--no-block", "--"])
        .args(strict.iter().map(UnitName::as_str))
        .stdin(Stdio::null())
        .status();
    let status = stop.await.context("cannot run systemctl")?;
    ensure!(status.success(), "systemctl did not stop {strict:?}: {status}");
    Ok(())
}

/// Waits until those units are to be stopped, and returns them.
///
/// # Errors
/// When the directory of unit files cannot be read.
pub async fn wait<F: Filesystem>(filesystem: F, units: &Path, clock: Clock) -> anyhow::Result<BTreeSet<UnitName>> {
    let disk = Disk::open(filesystem.clone(), units)?;
    let left = disk.load()?;
    let strict: BTreeSet<UnitName> = strict_of(&left.files);
    if strict.is_empty() {
        return Ok(strict);
    }
    if let Some(until) = recall(&filesystem, &proof_file(units)) {
        info!(units = ?strict, "fleetd is down: these units are stopped when its lease may run out");
        clock.sleep_until(until).await;
    }
    // First of all the next fleetd must know that they are not to be taken for running.
    let mut installed = left.installed;
    installed
        .iter_mut()
        .filter(|(unit, _)| strict.contains(*unit))
        .for_each(|(_, entry)| entry.applied = Target::Loaded);
    if let Err(error) = disk.save(&installed) {
        warn!(error = %crate::chain(&error), "manifest not written: the next fleetd will not start these units again");
    }
    warn!(units = ?strict, "fleetd is down and its lease may run out: stopping these units");
    Ok(strict)
}
