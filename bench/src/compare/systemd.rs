//! What systemd on the hosts says of units.
//!
//! When a unit became active is asked for afterwards: systemd has written it down by CLOCK_MONOTONIC, to the
//! microsecond. So nobody has to look while the clock runs, which would take PID 1 from those who are measured.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use fleet_lab::Host;

/// A unit on a host that is not gone without a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The unit.
    pub unit: String,
    /// Systemd's active and sub state, like `active/running`.
    pub state: String,
}

/// The units of a host whose names fit a pattern.
///
/// # Errors
/// When systemd does not answer.
pub fn loaded(host: &Host, pattern: &str) -> Result<Vec<Loaded>> {
    let listed = host.sh(&format!("systemctl list-units --all --plain --no-legend --full '{pattern}'"))?;
    Ok(parse_list(&listed))
}

/// When those of these units that are active became so.
///
/// # Errors
/// When systemd does not answer, or tells of one that is not active.
pub fn active_since(host: &Host, units: &[String]) -> Result<BTreeMap<String, Duration>> {
    if units.is_empty() {
        return Ok(BTreeMap::new());
    }
    let properties = "-p Id -p ActiveState -p ActiveEnterTimestampMonotonic";
    let shown = host.sh(&format!("systemctl show {properties} {}", units.join(" ")))?;
    let since = parse_since(&shown)?;
    ensure!(since.len() == units.len(), "{} tells of {} units, not {}", host.name(), since.len(), units.len());
    Ok(since)
}

/// A property of a unit.
///
/// # Errors
/// When systemd does not answer.
pub fn property(host: &Host, unit: &str, property: &str) -> Result<String> {
    Ok(host.sh(&format!("systemctl show -p {property} --value '{unit}'"))?.trim().to_owned())
}

fn parse_list(text: &str) -> Vec<Loaded> {
    let row = |line: &str| {
        let mut cells = line.split_whitespace();
        let (unit, _load, active, sub) = (cells.next()?, cells.next()?, cells.next()?, cells.next()?);
        Some(Loaded { unit: unit.to_owned(), state: format!("{active}/{sub}") })
    };
    text.lines().filter_map(row).collect()
}

fn parse_since(text: &str) -> Result<BTreeMap<String, Duration>> {
    let mut since = BTreeMap::new();
    for block in text.split("\n\n").filter(|block| !block.trim().is_empty()) {
        let properties: BTreeMap<&str, &str> = block.lines().filter_map(|line| line.split_once('=')).collect();
        let property = |name: &str| properties.get(name).with_context(|| format!("there is no {name} in {block:?}"));
        let (unit, state) = (*property("Id")?, *property("ActiveState")?);
        ensure!(state == "active", "{unit} is {state}");
        let micros = property("ActiveEnterTimestampMonotonic")?.parse().context("a time is a number")?;
        since.insert(unit.to_owned(), Duration::from_micros(micros));
    }
    Ok(since)
}

/// A call to PID 1 that asks for a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The method, like `StartUnit`.
    pub method: String,
    /// Its first argument.
    pub unit: String,
}

/// The jobs in what `busctl monitor` has seen of calls.
#[must_use]
pub fn jobs(monitored: &str) -> Vec<Job> {
    let mut jobs = Vec::new();
    let mut asked: Option<String> = None;
    for line in monitored.lines().map(str::trim) {
        if let Some((_, method)) = line.split_once("Member=") {
            let method = method.split_whitespace().next().unwrap_or_default();
            asked = is_job(method).then(|| method.to_owned());
        } else if let Some(text) = line.strip_prefix("STRING \"")
            && let Some(method) = asked.take()
        {
            jobs.push(Job { method, unit: text.trim_end_matches(['"', ';']).to_owned() });
        }
    }
    jobs
}

fn is_job(method: &str) -> bool {
    let verbs = ["Start", "Stop", "Restart", "TryRestart", "Reload", "ReloadOrRestart", "ReloadOrTryRestart", "Kill"];
    let of_unit = method.strip_suffix("Unit").is_some_and(|verb| verbs.contains(&verb));
    of_unit || ["StartUnitReplace", "StartUnitWithFlags", "StartTransientUnit", "EnqueueUnitJob"].contains(&method)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read_from_the_list() {
        let text = "a.service loaded active   running A unit\nb.service not-found inactive dead b.service\n";
        let states: Vec<String> = parse_list(text).into_iter().map(|row| row.unit + "=" + &row.state).collect();
        assert_eq!(states, ["a.service=active/running", "b.service=inactive/dead"]);
    }

    #[test]
    fn times_are_only_of_units_that_are_active() {
        let text = "Id=a.service\nActiveState=active\nActiveEnterTimestampMonotonic=1500000\n\n\
                    Id=b.service\nActiveState=active\nActiveEnterTimestampMonotonic=2\n";
        let since = parse_since(text).unwrap();
        assert_eq!(since["a.service"], Duration::from_millis(1500));
        assert_eq!(since.len(), 2);
        assert!(parse_since(&text.replace("=active\nActiveEnterTimestampMonotonic=2", "=failed\n")).is_err());
    }

    #[test]
    fn jobs_are_told_from_looks() {
        let text = "\
‣ Type=method_call  Endian=l  Flags=0  Version=1 Cookie=9
  Sender=:1.5  Destination=org.freedesktop.systemd1  Path=/a  Interface=b  Member=ListUnitsByNames
  MESSAGE \"as\" {
          STRING \"a.service\";
  };
‣ Type=method_call  Endian=l  Flags=0  Version=1 Cookie=10
  Sender=:1.5  Destination=org.freedesktop.systemd1  Path=/a  Interface=b  Member=StartUnit
  MESSAGE \"ss\" {
          STRING \"b.service\";
          STRING \"replace\";
  };
";
        assert_eq!(jobs(text), [Job { method: "StartUnit".into(), unit: "b.service".into() }]);
    }
}
