//! Running copies of units, as they tell of themselves.
//!
//! A unit of a fault test runs `fleet-copy`, which writes down when it runs into a directory outside of its host.
//! What is proved with it does not rest on fleet's word, nor on systemd's.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};
use fleet_lab::{Lab, SHARE};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The program that units run.
pub const PROGRAM: &str = "fleet-copy";
/// Between two signs of life.
pub const HEARTBEAT: Duration = Duration::from_millis(100);

/// CLOCK_BOOTTIME: every host of the lab has the machine's.
#[must_use]
pub fn boottime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// A time as copies write it: always of the same length.
#[must_use]
pub fn format_time(time: Duration) -> String {
    format!("{:020}", time.as_nanos())
}

/// What a copy knows of itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Birth {
    /// Its unit.
    pub unit: String,
    /// Its host.
    pub host: String,
    /// Systemd's name for this run.
    pub invocation: String,
    /// When it started.
    pub start: Duration,
}

/// A copy of a unit: one run of it on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copy {
    /// What it is.
    #[serde(flatten)]
    pub birth: Birth,
    /// When it was alive for certain at last.
    pub alive: Duration,
    /// Whether it told of its end.
    pub ended: bool,
}

impl Birth {
    /// Where the copy writes.
    #[must_use]
    pub fn path(&self, outside: &Path) -> PathBuf {
        outside.join("copies").join(&self.unit).join(format!("{}-{}", self.host, self.start.as_nanos()))
    }

    /// The first line of its file.
    ///
    /// # Errors
    /// Never for a name that systemd takes.
    pub fn line(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

impl Copy {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let birth: Birth = serde_json::from_str(lines.next()?).ok()?;
        let time = |line: &str| Some(Duration::from_nanos(line.parse().ok()?));
        let beat = time(lines.next()?)?;
        let end = lines.next().and_then(time);
        Some(Self { birth, alive: end.unwrap_or(beat), ended: end.is_some() })
    }

    /// Whether it is alive at `now`, as far as its heartbeats tell.
    #[must_use]
    pub fn is_running(&self, now: Duration) -> bool {
        // Ten missed in a row: a copy that is only starved of processor time has not ended.
        !self.ended && self.alive + HEARTBEAT * 10 >= now
    }
}

/// Puts the program that copies run into all hosts. `program` is where it was built.
///
/// # Errors
/// When it is not there.
pub fn install(lab: &Lab, program: &Path) -> Result<()> {
    lab.install(PROGRAM, program)
}

/// The `ExecStart=` of a unit whose copies tell of themselves.
#[must_use]
pub fn exec_start(options: &str) -> String {
    format!("ExecStart={SHARE}/{PROGRAM} {options} %n").replace("  ", " ")
}

/// All copies that ever ran in a lab, in the order of their starts.
///
/// # Errors
/// When they cannot be read.
pub fn read(lab: &Lab) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for unit in entries(&lab.outside().join("copies"))? {
        for path in entries(&unit)? {
            let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            // A file without its first lines is of a copy that starts at this moment.
            copies.extend(Copy::parse(&text));
        }
    }
    copies.sort_by_key(|copy| copy.birth.start);
    Ok(copies)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => Ok(entries?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read_as_they_are_written() {
        let birth = Birth {
            unit: "a.service".into(),
            host: "h1".into(),
            invocation: "f00".into(),
            start: Duration::from_secs(5),
        };
        let beating = format!("{}\n{}\n", birth.line().unwrap(), format_time(Duration::from_secs(7)));
        let copy = Copy::parse(&beating).unwrap();
        assert_eq!((copy.alive, copy.ended), (Duration::from_secs(7), false));
        assert!(copy.is_running(Duration::from_millis(7900)) && !copy.is_running(Duration::from_millis(8100)));
        let ended = format!("{beating}{}\n", format_time(Duration::from_secs(9)));
        let copy = Copy::parse(&ended).unwrap();
        assert_eq!((copy.alive, copy.ended), (Duration::from_secs(9), true));
        assert!(!copy.is_running(Duration::from_secs(9)));
        assert_eq!(Copy::parse(&beating[..20]), None);
    }
}
