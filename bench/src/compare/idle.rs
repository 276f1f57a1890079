//! Nothing happens: what that costs.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use fleet_lab::Host;

use super::{
    Sizes,
    row::{Measure, Row},
    series::Series,
    spent,
    stage::{Stage, UNITS, wait},
    systemd::property,
    units::Set,
};

/// Of a core, in percent.
const MOST_CPU: f64 = 0.2;
/// In MiB.
const MOST_MEMORY: f64 = 20.0;
/// Without a write for so long nothing is left of what was before.
const QUIET: Duration = Duration::from_secs(3);

/// Watches a cluster with so many units in which nothing happens.
///
/// # Errors
/// When something did happen to a unit.
pub fn measure(stage: &mut Stage, sizes: &Sizes, count: usize) -> Result<Vec<Row>> {
    stage.populate(count)?;
    if sizes.idle > QUIET {
        stage.swept()?;
    }
    let set = Set { name: UNITS, count };
    stage.rest_for(QUIET.min(sizes.idle))?;
    let placed = by_host(stage.each_runs_once(set)?);
    let daemons = stage.hosts().iter().map(Daemon::of).collect::<Result<Vec<_>>>()?;
    let (before, used) = (stage.counters()?, used(&daemons)?);
    wait(sizes.idle);
    let (asked, spent) = (stage.counters()? - before, self::used(&daemons)?);
    ensure!(by_host(stage.each_runs_once(set)?) == placed, "units moved while nothing happened");
    ensure!(asked.keepalives > 0, "etcd counts no keepalives: it counts nothing");
    let seconds = sizes.idle.as_secs_f64();
    let share = spent.iter().zip(&used).map(|(after, before)| (after - before) / seconds * 100.0);
    let memory = daemons.iter().map(Daemon::memory).collect::<Result<Series>>()?;
    let figure = |what: &str, values: Series, most: f64, unit: &'static str, digits: usize| Row {
        what: format!("Idle for {seconds:.0} s with {count} units: {what}"),
        measure: Measure::Figure { values, most, unit, digits },
    };
    let keepalives = asked.keepalives;
    let once = |value: u64| std::iter::once(value as f64).collect::<Series>();
    Ok(vec![
        figure(&format!("writes in etcd (beside {keepalives} keepalives)"), once(asked.writes), 0.0, "", 0),
        figure("range requests to etcd", once(asked.ranges), 0.0, "", 0),
        figure("fleetd's share of a core, of each host", share.collect(), MOST_CPU, " %", 3),
        figure("fleetd's memory (RSS), of each host", memory, MOST_MEMORY, " MiB", 1),
    ])
}

fn by_host(placed: Vec<(Host, Vec<String>)>) -> Vec<Vec<String>> {
    placed.into_iter().map(|(_, units)| units).collect()
}

/// The fleetd of a host.
struct Daemon {
    proc: PathBuf,
}

impl Daemon {
    fn of(host: &Host) -> Result<Self> {
        let pid = property(host, "fleet.service", "MainPID")?;
        Ok(Self { proc: spent::process(host, &pid)? })
    }

    /// Seconds of processor time that it has used.
    fn used(&self) -> Result<f64> {
        spent::of_process(&self.proc)
    }

    /// Memory that it has, in MiB.
    fn memory(&self) -> Result<f64> {
        let path = self.proc.join("status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        resident(&status).with_context(|| format!("{status:?} does not tell of memory"))
    }
}

fn used(daemons: &[Daemon]) -> Result<Vec<f64>> {
    daemons.iter().map(Daemon::used).collect()
}

fn resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_what_is_resident() {
        assert_eq!(resident("VmPeak:\t 90000 kB\nVmRSS:\t   16384 kB\n"), Some(16.0));
        assert_eq!(resident("Name:\tfleetd\n"), None);
    }
}
