//! I4: a strict unit runs once at most. And: nothing is stopped without a reason.

use std::{collections::BTreeMap, time::Duration};

use fleet_core::model::Key;
use fleetd::systemd::memory::What;
use tokio::time::Instant;

use super::Violation;
use crate::{record::Record, script::Event, units::is_lasting};

/// A change in the store may reach a host so much later that a run begins between the two.
pub(super) const LAG: Duration = Duration::from_secs(20);

/// The runs of a unit on a host: when each began and ended.
pub(super) struct Run<'r> {
    pub(super) host: &'r str,
    pub(super) unit: &'r str,
    began: Instant,
    pub(super) ended: Option<Instant>,
}

pub(super) fn runs(record: &Record) -> Vec<Run<'_>> {
    let mut open: BTreeMap<(&str, &str), Run<'_>> = BTreeMap::new();
    let mut runs = Vec::new();
    for entry in &record.log {
        let key = (&*entry.host, &*entry.unit);
        match entry.what {
            What::Started(_) => {
                open.insert(key, Run { host: &entry.host, unit: &entry.unit, began: entry.at, ended: None });
            }
            What::Stopped => {
                if let Some(run) = open.remove(&key) {
                    runs.push(Run { ended: Some(entry.at), ..run });
                }
            }
            What::Asked(_) => {}
        }
    }
    runs.extend(open.into_values());
    runs.sort_by_key(|run| (run.began, run.host, run.unit));
    runs
}

/// No two hosts run a strict unit at the same time.
pub fn strict_units_run_once(record: &Record) -> Vec<Violation> {
    let runs = runs(record);
    let strict: Vec<&Run<'_>> = runs.iter().filter(|run| run.unit.starts_with("strict")).collect();
    let mut violations = Vec::new();
    for (number, one) in strict.iter().enumerate() {
        for other in strict[number + 1..].iter().filter(|other| other.unit == one.unit && other.host != one.host) {
            // `other` began later.
            if one.ended.is_none_or(|ended| ended > other.began) {
                let until = one.ended.map_or("for ever".into(), |ended| format!("until {:.3}", record.seconds(ended)));
                let (began, unit) = (record.seconds(other.began), one.unit);
                violations.push(Violation {
                    invariant: "I4",
                    at: Some(other.began),
                    how: format!("{unit} starts on {} at {began:.3}, and runs on {} {until}", other.host, one.host),
                });
            }
        }
    }
    violations
}

/// A unit that ends only when it is stopped ends because something about it changed, or its host was struck.
pub fn nothing_is_stopped_without_reason(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    for run in runs(record) {
        let Some(ended) = run.ended else { continue };
        let Some(host) = record.hosts.iter().position(|host| host.name == run.host) else { continue };
        let strict = run.unit.starts_with("strict");
        if is_excused(record, host, &run, ended, strict) {
            continue;
        }
        let mut contents = record.library.values().filter(|_| !run.unit.starts_with("foreign"));
        let known = ["u", "strict", "global", "apart", "follower"].iter().any(|name| run.unit.starts_with(name));
        if !known || !contents.any(is_lasting) {
            continue;
        }
        violations.push(Violation {
            invariant: "needless stop",
            at: Some(ended),
            how: format!("{} on {} is stopped at {:.3}", run.unit, run.host, record.seconds(ended)),
        });
    }
    violations
}

fn is_excused(record: &Record, host: usize, run: &Run<'_>, ended: Instant, strict: bool) -> bool {
    let id = &record.hosts[host].id;
    let since = run.began.checked_sub(LAG).unwrap_or(run.began);
    let global = run.unit.starts_with("global");
    let concerns = |key: &str| match record.keys.parse(key) {
        Some(Key::Sched(machine, unit)) => machine == *id && (unit.as_str() == run.unit || global),
        Some(Key::Global(unit)) => unit.as_str() == run.unit,
        _ => false,
    };
    let before = record.commits.iter().filter(|commit| commit.at <= ended);
    let mut changes = before.flat_map(|commit| commit.changes.iter().map(move |change| (commit.at, change)));
    let last = changes.rfind(|(_, change)| concerns(&change.key));
    // What is not wanted at all was started from the last good set.
    let changed = last.is_none_or(|(at, change)| at > since || change.after.is_none());
    let struck = record.notes.iter().any(|note| {
        let here = note.host == Some(host) || note.host.is_none();
        let strikes = match note.event {
            Event::PowerLoss(..) => note.at == ended,
            Event::Leave(..) => note.begins && note.at <= ended && ended <= note.at + Duration::from_secs(60),
            _ => false,
        };
        // The fence closes while nothing is heard of the store, and for whatever else keeps keepalives away.
        let fenced = strict && note.at <= ended && ended < note.at + note.event.lasts() + 3 * record.ttl;
        // What began while nothing was heard of the store, began from the last good set, which may be behind it.
        let blind = note.is_deaf(host, run.began, record.ttl);
        blind || here && (strikes || fenced)
    });
    changed || struck
}
