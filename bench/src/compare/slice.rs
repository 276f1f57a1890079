//! Which units have processes, seen from outside of their hosts.
//!
//! A unit that has stopped is soon forgotten by systemd, and with it when that was. So the end of units is watched,
//! on both sides in the same way: each has a control group as long as it runs, and the number of links of the
//! directory above tells how many there are. To look costs microseconds, and nothing of PID 1.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use fleet_lab::Host;

use super::{
    gate::monotonic,
    stage::{root, wait},
};

/// Where the hierarchy may be that systemd keeps its units in, by the layout of the machine.
const HIERARCHIES: [&str; 3] = ["sys/fs/cgroup/systemd", "sys/fs/cgroup/unified", "sys/fs/cgroup"];
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(1);
/// How often names are read though the number says nothing: other services come and go, too.
const READ_EVERY: u32 = 50;

/// The services of a host.
pub struct Slice {
    path: PathBuf,
    prefix: String,
    /// Links of the directory that are none of ours.
    others: u64,
}

impl Slice {
    /// The services of a host whose names begin with `prefix`.
    ///
    /// # Errors
    /// When they are not where they are expected.
    pub fn of(host: &Host, prefix: &str) -> Result<Self> {
        let root = root(host)?;
        let places = HIERARCHIES.map(|place| root.join(place).join("system.slice"));
        let is_systemds = |place: &&PathBuf| place.join("dbus.service").is_dir();
        let path = places.iter().find(is_systemds).with_context(|| format!("no control groups in {}", host.name()))?;
        let mut slice = Self { path: path.clone(), prefix: prefix.to_owned(), others: 0 };
        slice.others = slice.links()?.saturating_sub(slice.units()?.len() as u64);
        Ok(slice)
    }

    /// The units that have processes.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn units(&self) -> Result<Vec<String>> {
        let mut units = Vec::new();
        for entry in fs::read_dir(&self.path).with_context(|| format!("cannot read {}", self.path.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(&self.prefix) {
                units.push(name);
            }
        }
        Ok(units)
    }

    /// The processes of the units, by unit.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn processes(&self) -> Result<BTreeMap<String, String>> {
        let of = |unit: String| {
            let path = self.path.join(&unit).join("cgroup.procs");
            let processes = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Ok((unit, processes))
        };
        self.units()?.into_iter().map(of).collect()
    }

    fn links(&self) -> Result<u64> {
        Ok(fs::metadata(&self.path).with_context(|| format!("cannot look at {}", self.path.display()))?.nlink())
    }
}

/// Waits until so many of the units have processes; nothing but a glance from outside meanwhile.
///
/// # Errors
/// When they have not in time.
pub fn begun(slices: &[Slice], count: usize, deadline: Duration) -> Result<()> {
    let begun = Instant::now();
    for look in 1.. {
        let (mut links, mut units) = (0, 0);
        for slice in slices {
            links += slice.links()?.saturating_sub(slice.others);
        }
        if links >= count as u64 || look % READ_EVERY == 0 {
            for slice in slices {
                units += slice.units()?.len();
            }
        }
        if units >= count {
            return Ok(());
        }
        if begun.elapsed() > deadline {
            break;
        }
        wait(INTERVAL * 5);
    }
    bail!("{count} units do not all run within {deadline:?}")
}

/// Waits until none of the units has a process; says when that was.
///
/// # Errors
/// When they have not ended in time.
pub fn ended(slices: &[Slice], deadline: Duration) -> Result<Duration> {
    let begun = Instant::now();
    let mut left: Vec<&Slice> = slices.iter().collect();
    for look in 1.. {
        let mut running = Vec::new();
        for slice in left {
            let worth_reading = slice.links()? <= slice.others || look % READ_EVERY == 0;
            if !worth_reading || !slice.units()?.is_empty() {
                running.push(slice);
            }
        }
        left = running;
        if left.is_empty() {
            return Ok(monotonic());
        }
        if begun.elapsed() > deadline {
            break;
        }
        wait(INTERVAL);
    }
    bail!("units have not ended within {deadline:?}: {:?}", left.iter().map(|slice| slice.units()).collect::<Vec<_>>())
}
