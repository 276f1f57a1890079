//! No fault starts, stops or restarts a global unit; and which of them a host is to have.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    model::{Desired, Key, Record as _, UnitRecord, Unknown},
    sched::globals_for,
    unit::{Requirements, UnitHash, UnitName},
};
use fleetd::{registry::Stored, systemd::memory::What};
use tokio::time::Instant;

use super::{Violation, copies::LAG};
use crate::{
    record::{HostFacts, Record},
    script::Event,
};

/// The global units that are wanted on a host beside the ordinary ones that are scheduled to it.
pub(super) fn wanted_globals<'u>(
    record: &Record,
    host: &HostFacts,
    globals: impl IntoIterator<Item = (&'u UnitName, &'u UnitRecord)>,
    scheduled: impl IntoIterator<Item = (&'u UnitName, UnitHash)>,
) -> Vec<(&'u UnitName, &'u UnitRecord)> {
    let none = Requirements::default();
    let asks = |hash| record.library.get(&hash).map_or(&none, |contents| &*contents.requirements);
    let wanted: Vec<_> = globals.into_iter().filter(|(_, entry)| entry.desired != Desired::Inactive).collect();
    let verdicts = globals_for(
        &host.id,
        &host.metadata,
        wanted.iter().map(|(unit, entry)| (*unit, asks(entry.hash))),
        scheduled.into_iter().map(|(unit, hash)| (unit, asks(hash))),
    );
    wanted.into_iter().filter(|(unit, _)| verdicts.get(*unit).is_some_and(|verdict| verdict.fits)).collect()
}

/// The global units that there ever were.
pub(super) fn all_globals(record: &Record) -> BTreeSet<UnitName> {
    let keys = record.commits.iter().flat_map(|commit| super::touched(record, commit));
    keys.filter_map(|key| if let Key::Global(unit) = key { Some(unit) } else { None }).collect()
}

/// A global unit is started, stopped or restarted on a host because its record asks for it, because the host boots or
/// leaves, or because of what is scheduled beside it: each of these is a reason for one start and one stop. Lost leases,
/// elections, partitions, outages of the store, restarts and upgrades of fleetd are none.
pub fn no_fault_starts_or_stops_a_global_unit(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    let globals = all_globals(record);
    for (number, host) in record.hosts.iter().enumerate() {
        for unit in &globals {
            let reasons = Reasons::of(record, number, unit, &globals);
            let here = record.log.iter().filter(|entry| entry.host == host.name && entry.unit == unit.as_str());
            let mut counts: BTreeMap<&str, (usize, Option<Instant>)> = BTreeMap::new();
            for entry in here {
                let (word, reasons) = match entry.what {
                    What::Started(_) => ("started", &reasons.starts),
                    What::Stopped => ("stopped", &reasons.stops),
                    What::Asked(_) => continue,
                };
                let (count, last) = counts.entry(word).or_default();
                let reasons: Vec<Instant> = reasons.iter().copied().filter(|reason| *reason <= entry.at).collect();
                let new = last.is_none_or(|last| {
                    let since = unseen_since(record, number, last);
                    reasons.iter().any(|reason| *reason > since)
                });
                *count += 1;
                *last = Some(entry.at);
                if reasons.len() < *count || !new {
                    let (at, reasons) = (record.seconds(entry.at), reasons.len());
                    violations.push(Violation {
                        invariant: "global units",
                        at: Some(entry.at),
                        how: format!(
                            "{unit} on {} is {word} at {at:.3}, {count} times by now, with {reasons} reasons",
                            host.name
                        ),
                    });
                }
            }
        }
    }
    violations
}

/// What may have a host start or stop a global unit once.
#[derive(Default)]
struct Reasons {
    starts: Vec<Instant>,
    stops: Vec<Instant>,
}

impl Reasons {
    fn of(record: &Record, host: usize, unit: &UnitName, globals: &BTreeSet<UnitName>) -> Self {
        let mut reasons = Self::default();
        let id = &record.hosts[host].id;
        let rivals = rivals(record, unit, globals);
        for commit in &record.commits {
            for change in &commit.changes {
                let [before, after] = [&change.before, &change.after].map(Option::as_ref);
                match record.keys.parse(&change.key) {
                    Some(Key::Global(changed)) => {
                        let [before, after] = [before, after].map(|stored| stored.and_then(asked));
                        let launched = |asked: &Option<UnitRecord>| {
                            asked.as_ref().is_some_and(|asked| asked.desired == Desired::Launched)
                        };
                        // The same once more is no reason.
                        if changed == *unit && before != after {
                            reasons.starts.extend(launched(&after).then_some(commit.at));
                            reasons.stops.extend(launched(&before).then_some(commit.at));
                        } else if rivals.contains(&changed) && launched(&before) != launched(&after) {
                            reasons.add(commit.at);
                        }
                    }
                    // Where a global unit is scheduled is no reason: that comes from the others.
                    Some(Key::Sched(machine, other))
                        if machine == *id
                            && !globals.contains(&other)
                            && rivals.contains(&other)
                            && before.is_some() != after.is_some() =>
                    {
                        reasons.add(commit.at);
                    }
                    _ => {}
                }
            }
        }
        for note in record.notes.iter().filter(|note| note.host == Some(host) && note.begins) {
            if matches!(note.event, Event::PowerLoss(..) | Event::Leave(..)) {
                reasons.add(note.at);
            }
        }
        reasons.starts.sort();
        reasons.stops.sort();
        reasons
    }

    fn add(&mut self, at: Instant) {
        self.starts.push(at);
        self.stops.push(at);
    }
}

/// What a value of `global/` asks for. What is not known of it makes no difference.
fn asked(stored: &Stored) -> Option<UnitRecord> {
    let record = UnitRecord::decode(&stored.value).ok()?;
    Some(UnitRecord { unknown: Unknown::default(), ..record })
}

/// The units whose places may decide whether a global one belongs on a machine: those in conflict with it, and those in
/// conflict with the global ones among these, and so on.
fn rivals(record: &Record, unit: &UnitName, globals: &BTreeSet<UnitName>) -> BTreeSet<UnitName> {
    let declares = |one: &UnitName, other: &UnitName| {
        let asks = record.requirements.get(one);
        asks.is_some_and(|asks| asks.conflicts.iter().any(|glob| glob.matches(other.as_str())))
    };
    let mut rivals = BTreeSet::new();
    let mut next = vec![unit.clone()];
    while let Some(one) = next.pop() {
        let others = record.requirements.keys().filter(|other| **other != one && *other != unit);
        for other in others.filter(|other| declares(&one, other) || declares(other, &one)) {
            if rivals.insert(other.clone()) && globals.contains(other) {
                next.push(other.clone());
            }
        }
    }
    rivals
}

/// What reached a host at this moment may be as old as this: as a change takes to get there, and all the time in which
/// it heard nothing of the store.
fn unseen_since(record: &Record, host: usize, at: Instant) -> Instant {
    let mut since = at;
    loop {
        let deaf = record.notes.iter().filter(|note| note.is_deaf(host, since, record.ttl)).map(|note| note.at);
        match deaf.min().filter(|began| *began < since) {
            Some(began) => since = began,
            None => return since.checked_sub(LAG).unwrap_or(since),
        }
    }
}
