//! I5: nothing happens when nothing should. I7: what is not fleet's is left alone.

use fleetd::systemd::memory::What;

use super::Violation;
use crate::record::Record;

/// The slow resync may fall into the quiet time: so many calls are its.
const RESYNC: u64 = 3;
/// And so many those that try once more to start a unit that systemd refuses.
const RETRY: u64 = 6;

/// No input, no writes, no reads, no calls to systemd.
pub fn nothing_happens_when_nothing_should(record: &Record) -> Vec<Violation> {
    // One that flaps is news all the time.
    if record.orders.iter().any(|(_, unit)| unit.as_str().starts_with("flapping")) {
        return Vec::new();
    }
    let mut violations = Vec::new();
    let mut violation = |how: String| violations.push(Violation { invariant: "I5", at: None, how });
    let quiet = &record.quiet;
    if quiet.commits > 0 {
        violation(format!("{} revisions are written in the quiet time", quiet.commits));
    }
    for (client, after) in &quiet.store.1 {
        let before = quiet.store.0.get(client).cloned().unwrap_or_default();
        let asked = after.but_beats() - before.but_beats();
        if asked > RESYNC {
            violation(format!("{client} asks the store {asked} times in the quiet time: {before:?}, {after:?}"));
        }
    }
    for (number, (before, after)) in quiet.systemd.0.iter().zip(&quiet.systemd.1).enumerate() {
        let refuses = record.library.values().any(|contents| !contents.file.values("Unit", "Requires").is_empty());
        if after - before > RESYNC + if refuses { RETRY } else { 0 } {
            let host = &record.hosts[number].name;
            violation(format!("{host} asks systemd {} times in the quiet time", after - before));
        }
    }
    violations
}

/// Systemd is asked to do nothing with units that nobody submitted.
pub fn foreign_units_are_left_alone(record: &Record) -> Vec<Violation> {
    let foreign = record.log.iter().filter(|entry| {
        matches!(entry.what, What::Asked(_))
            && !entry.unit.starts_with("fleet-batch-")
            && !record.orders.iter().any(|(_, unit)| unit.as_str() == entry.unit)
    });
    foreign
        .map(|entry| Violation {
            invariant: "I7",
            at: Some(entry.at),
            how: format!("{}: {:?} of {}", entry.host, entry.what, entry.unit),
        })
        .collect()
}
