//! Who had the processor: where the time goes that fleet takes and systemd alone does not.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use fleet_lab::Host;

use super::{
    row::Row,
    series::Series,
    stage::{Stage, root},
};

/// Programs on the hosts, as the kernel names them, and as the table does.
const PROGRAMS: [(&str, &str); 4] =
    [("systemd", "PID 1"), ("dbus-daemon", "dbus-daemon"), ("systemd-journal", "journald"), ("fleetd", "fleetd")];
/// The clock that the kernel counts processor time by, on every Linux that there is a Debian for.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time: of [`PROGRAMS`], each on all hosts together, and of etcd.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent([f64; PROGRAMS.len() + 1]);

impl Spent {
    /// Until now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn until_now(stage: &Stage) -> Result<Self> {
        let mut spent = Self::default();
        for host in stage.hosts() {
            let proc = root(host)?.join("proc");
            for entry in fs::read_dir(&proc).with_context(|| format!("cannot read {}", proc.display()))? {
                // One that ends meanwhile is none of those that are looked for.
                let Ok(stat) = fs::read_to_string(entry?.path().join("stat")) else { continue };
                let known = PROGRAMS.iter().position(|(comm, _)| is(&stat, comm));
                if let (Some(program), Some(seconds)) = (known, used(&stat)) {
                    spent.0[program] += seconds;
                }
            }
        }
        spent.0[PROGRAMS.len()] = stage.counters()?.processor;
        Ok(spent)
    }
}

/// What both sides spent, round by round.
pub struct Account([[Series; PROGRAMS.len() + 1]; 2]);

impl Account {
    /// Of no round yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { [const { Series::new() }; PROGRAMS.len() + 1] }; 2])
    }

    /// Adds what systemd alone spent.
    pub fn by_hand(&mut self, before: &Spent, after: &Spent) {
        self.add(0, before, after);
    }

    /// Adds what was spent with fleet.
    pub fn with_fleet(&mut self, before: &Spent, after: &Spent) {
        self.add(1, before, after);
    }

    fn add(&mut self, side: usize, before: &Spent, after: &Spent) {
        for (series, (before, after)) in self.0[side].iter_mut().zip(before.0.iter().zip(after.0)) {
            series.push(after - before);
        }
    }

    /// A row for each program.
    #[must_use]
    pub fn rows(self, what: &str) -> Vec<Row> {
        let programs = PROGRAMS.map(|(_, program)| program).into_iter().chain(["etcd"]);
        let [floor, ours] = self.0;
        let sides = floor.into_iter().zip(ours);
        let row = |(program, (floor, ours))| {
            Row::against(format!("{what}: processor time of {program}, on all hosts"), floor, ours, None)
        };
        programs.zip(sides).map(row).collect()
    }
}

/// Seconds of processor time of a process of a host.
///
/// # Errors
/// When there is no such process.
pub fn of_process(proc: &Path) -> Result<f64> {
    let path = proc.join("stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    used(&stat).with_context(|| format!("{stat:?} is no stat of a process"))
}

/// Where the kernel tells of a process of a host.
///
/// # Errors
/// When the host is down.
pub fn process(host: &Host, pid: &str) -> Result<std::path::PathBuf> {
    Ok(root(host)?.join("proc").join(pid))
}

fn is(stat: &str, comm: &str) -> bool {
    stat.split_once(" (").and_then(|(_, rest)| rest.rsplit_once(") ")).is_some_and(|(name, _)| name == comm)
}

/// In user and in kernel mode.
fn used(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(|field| field.parse::<f64>().ok());
    Some((fields.next()?? + fields.next()??) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (fle) etd) S 1 42 42 0 -1 4194560 2411 0 3 0 17 25 0 0 20 0 4 0 5168 98304 4016";

    #[test]
    fn processor_time_is_that_of_both_modes() {
        assert_eq!(used(STAT), Some(0.42));
        assert_eq!(used("42 (fleetd) S 1"), None);
    }

    #[test]
    fn programs_are_known_by_their_whole_names() {
        assert!(is(STAT, "fle) etd"));
        assert!(!is(STAT, "etd"));
    }

    #[test]
    fn account_has_a_row_for_each_program() {
        let mut account = Account::new();
        let after = Spent([1.0, 2.0, 3.0, 4.0, 5.0]);
        account.by_hand(&Spent::default(), &after);
        account.with_fleet(&after, &after);
        let rows = account.rows("it");
        assert_eq!(rows.len(), 5);
        assert!(rows.iter().all(Row::is_whole));
        assert_eq!(rows[4].cells()[..3], ["it: processor time of etcd, on all hosts", "5.00 s", "0.0 ms"]);
    }
}
