//! I3: no constraint is violated in any committed revision. And: what is well stays where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fleet_core::{
    model::{Key, Placement, Record as _},
    unit::UnitName,
};
use fleetd::registry::memory::Link;
use tokio::time::Instant;

use super::{Past, Violation, touched};
use crate::{record::Record, script::Event};

/// One place for a unit at most, conflicts apart, metadata matched.
pub fn no_constraint_is_violated(record: &Record) -> Vec<Violation> {
    let mut past = Past::new(record);
    let mut violations = Vec::new();
    for commit in &record.commits {
        past.apply(commit);
        if !touched(record, commit).any(|key| matches!(key, Key::Sched(..))) {
            continue;
        }
        let mut violation = |how: String| violations.push(Violation { invariant: "I3", at: Some(commit.at), how });
        let mut places: BTreeMap<UnitName, usize> = BTreeMap::new();
        let scheduled: Vec<_> = past.scheduled().collect();
        for (machine, unit, entry) in &scheduled {
            *places.entry(unit.clone()).or_default() += usize::from(!entry.global);
            let Some(contents) = record.library.get(&entry.hash) else {
                violation(format!("revision {}: {unit} has contents that nobody submitted", commit.revision));
                continue;
            };
            let host = record.host_of(machine).map(|host| &record.hosts[host]);
            let metadata = host.map(|host| host.metadata.clone()).unwrap_or_default();
            let wanted = &contents.requirements.metadata;
            if !wanted.iter().all(|(key, values)| metadata.get(key).is_some_and(|value| values.contains(value))) {
                violation(format!("revision {}: {unit} is on {machine} against its metadata", commit.revision));
            }
            // A global unit gives way to what is placed beside it: in the end, not in every revision.
            let others = scheduled
                .iter()
                .filter(|(there, other, beside)| there == machine && other != unit && !entry.global && !beside.global);
            for (_, other, _) in others {
                if contents.requirements.conflicts.iter().any(|glob| glob.matches(other.as_str())) {
                    violation(format!("revision {}: {unit} and {other} are together", commit.revision));
                }
            }
        }
        // Away from a host that is drained the new copy comes before the old one goes; so each drain may add one.
        let drained = |note: &&crate::record::Note| matches!(note.event, Event::Drain(..)) && note.at <= commit.at;
        let drains = record.notes.iter().filter(drained).count();
        places.retain(|unit, count| *count > 1 + drains || unit.as_str().starts_with("strict"));
        for (unit, count) in places.into_iter().filter(|(_, count)| *count > 1) {
            violation(format!("revision {}: {unit} is scheduled {count} times", commit.revision));
        }
    }
    violations
}

/// A unit without relations leaves a host only because its operator said something, or because the host was gone.
pub fn nothing_moves_from_a_host_that_is_well(record: &Record) -> Vec<Violation> {
    let mut violations = Vec::new();
    let ordered: BTreeMap<&UnitName, Vec<Instant>> =
        record.orders.iter().fold(BTreeMap::new(), |mut all: BTreeMap<_, Vec<_>>, (at, unit)| {
            all.entry(unit).or_default().push(*at);
            all
        });
    for commit in &record.commits {
        for change in commit.changes.iter().filter(|change| change.after.is_none() && change.before.is_some()) {
            let Some(Key::Sched(machine, unit)) = record.keys.parse(&change.key) else { continue };
            let Some(host) = record.host_of(&machine) else { continue };
            // A global unit gives way to what comes beside it: `entries` judges that.
            if change
                .before
                .as_ref()
                .and_then(|stored| Placement::decode(&stored.value).ok())
                .is_some_and(|it| it.global)
            {
                continue;
            }
            let plain = !has_relations(record, &unit);
            let excused = ordered.get(&unit).is_some_and(|orders| {
                orders.iter().any(|at| *at <= commit.at && *at + Duration::from_secs(60) > commit.at)
            });
            if plain && !excused && is_well(record, host, commit.at) {
                violations.push(Violation {
                    invariant: "needless move",
                    at: Some(commit.at),
                    how: format!("revision {}: {unit} leaves {}", commit.revision, record.hosts[host].name),
                });
            }
        }
    }
    violations
}

/// Whether where a unit runs depends on other units, or other units' places on it.
fn has_relations(record: &Record, unit: &UnitName) -> bool {
    record.library.values().any(|contents| contents.requirements.machine_of.contains(unit.as_str()))
        || ["apart", "follower"].iter().any(|name| unit.as_str().starts_with(name))
}

/// Whether nothing has ailed a host for as long as a loss of it could show.
fn is_well(record: &Record, host: usize, at: Instant) -> bool {
    let long = record.ttl * 12 + Duration::from_secs(30);
    let hurts = |event: &Event| match event {
        Event::Link(_, link, lasts) => *link != Link::Up && *lasts >= record.ttl / 3,
        Event::Kill(_, lasts) | Event::RestartDaemon(_, lasts) | Event::Upgrade(_, lasts) => *lasts >= record.ttl / 3,
        Event::Leave(..) | Event::PowerLoss(..) | Event::Drain(..) | Event::Slow(..) => true,
        // It may be unable to write down its lease, or to renew it.
        Event::FullDisk(..) | Event::NetworkFaults(..) => true,
        _ => false,
    };
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut last = None;
    for (number, note) in record.notes.iter().enumerate().filter(|(_, note)| note.at <= at) {
        // A unit that leaves a host that is drained has two places for a while, and may go back.
        let here = note.host == Some(host) || note.host.is_none() || matches!(note.event, Event::Drain(..));
        if !hurts(&note.event) || !here {
            continue;
        }
        if note.begins {
            open.insert(number);
        } else {
            last = Some(note.at);
            let same = |other: &usize| record.notes[*other].event == note.event;
            let ended = open.iter().copied().find(same);
            if let Some(number) = ended {
                open.remove(&number);
            }
        }
    }
    open.is_empty() && last.is_none_or(|last| last + long < at)
}
