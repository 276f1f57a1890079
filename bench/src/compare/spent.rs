//! Who had the processor: where the time goes that fleet takes and systemd alone does not.
//!
//! On a machine that is busy otherwise, these figures are steadier than times.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use fleet_lab::Host;

use super::{
    row::Row,
    series::Series,
    stage::{Stage, root},
    stat::{is, used},
};

/// Programs on the hosts, as the kernel names them, and as the table does.
const PROGRAMS: [(&str, &str); 4] =
    [("systemd", "PID 1"), ("dbus-daemon", "dbus-daemon"), ("systemd-journal", "journald"), ("fleetd", "fleetd")];

/// What is beside [`PROGRAMS`].
const OTHERS: [&str; 2] = ["etcd", "the commands"];
const ALL: usize = PROGRAMS.len() + OTHERS.len();

/// Seconds of processor time: of [`PROGRAMS`], each on all hosts together, and of [`OTHERS`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent([f64; ALL]);

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
        // Of the commands, their end tells: see `Finish`.
        spent.0[PROGRAMS.len()] = stage.counters()?.processor;
        Ok(spent)
    }
}

/// Who spent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Systemd alone.
    ByHand,
    /// Fleet.
    Fleet,
}

/// What both sides spent, round by round.
#[derive(Default)]
pub struct Account([[Series; ALL]; 2]);

impl Account {
    /// Of no round yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { [const { Series::new() }; ALL] }; 2])
    }

    /// Adds what was spent on one side.
    pub fn add(&mut self, side: Side, before: &Spent, after: &Spent, commands: f64) {
        let mut after = *after;
        after.0[ALL - 1] = commands;
        let side = side as usize;
        for (series, (before, after)) in self.0[side].iter_mut().zip(before.0.iter().zip(after.0)) {
            series.push(after - before);
        }
    }

    /// A row for each program.
    #[must_use]
    pub fn rows(self, what: &str) -> Vec<Row> {
        let programs = PROGRAMS.map(|(_, program)| program).into_iter().chain(OTHERS);
        let [floor, ours] = self.0;
        let sides = floor.into_iter().zip(ours);
        let row =
            |(program, (floor, ours))| Row::against(format!("{what}: processor time of {program}"), floor, ours, None);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_has_a_row_for_each_program() {
        let mut account = Account::new();
        let after = Spent([1.0, 2.0, 3.0, 4.0, 5.0, 0.0]);
        account.add(Side::ByHand, &Spent::default(), &after, 7.0);
        account.add(Side::Fleet, &after, &after, 8.0);
        let rows = account.rows("it");
        assert_eq!(rows.len(), 6);
        assert_eq!(rows[5].cells()[..3], ["it: processor time of the commands", "7.00 s", "8.00 s"]);
        assert!(rows.iter().all(Row::is_whole));
        assert_eq!(rows[4].cells()[..3], ["it: processor time of etcd", "5.00 s", "0.0 ms"]);
    }
}
