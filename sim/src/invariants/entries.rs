//! The entries of global units in the schedule: who is away keeps his, nothing is written for nothing, and in the end
//! they are those of the rule.

use std::collections::{BTreeMap, BTreeSet};

use fleet_core::{
    model::{Desired, Key, MachineId, MachineRecord, MetadataEdits, Placement, Record as _, UnitRecord, features},
    unit::UnitName,
};
use fleetd::registry::{Stored, memory::Commit};
use tokio::time::Instant;

use super::{
    Past, Violation, copies::LAG, end_state::read, globals::wanted_globals, leadership::is_departure, touched,
};
use crate::record::Record;

/// Global units as of some time.
struct Moment {
    /// Until when it was so; `None`: it is.
    until: Option<Instant>,
    /// What a machine is told of those that are wanted at all.
    asked: BTreeMap<UnitName, Placement>,
    /// Those that belong on each host.
    wanted: Vec<BTreeSet<UnitName>>,
}

/// How a machine is away.
#[derive(Clone, Copy)]
struct Away {
    since: Instant,
    /// It had said so.
    in_order: bool,
}

/// What was known up to a transaction.
struct Story<'r> {
    record: &'r Record,
    past: Past<'r>,
    moments: Vec<Moment>,
    /// By host.
    away: Vec<Option<Away>>,
}

impl<'r> Story<'r> {
    fn new(record: &'r Record) -> Self {
        let away = vec![Some(Away { since: record.start, in_order: false }); record.hosts.len()];
        Self { record, past: Past::new(record), moments: Vec::new(), away }
    }

    fn apply(&mut self, commit: &'r Commit) {
        self.past.apply(commit);
        for change in &commit.changes {
            let Some(Key::Machine(id)) = self.record.keys.parse(&change.key) else { continue };
            let Some(host) = self.record.host_of(&id) else { continue };
            let in_order = |before: &Stored| MachineRecord::decode(&before.value).is_ok_and(|before| before.leaving);
            self.away[host] = change
                .after
                .is_none()
                .then(|| Away { since: commit.at, in_order: change.before.as_ref().is_some_and(in_order) });
        }
        if touched(self.record, commit).any(|key| matches!(key, Key::Global(_) | Key::Sched(..))) {
            self.moments.last_mut().into_iter().for_each(|last| last.until = Some(commit.at));
            let moment = self.moment();
            self.moments.push(moment);
        }
    }

    fn moment(&self) -> Moment {
        let globals: Vec<(UnitName, UnitRecord)> = self
            .past
            .keys
            .iter()
            .filter_map(|(key, stored)| match self.record.keys.parse(key)? {
                Key::Global(unit) => Some((unit, UnitRecord::decode(&stored.value).ok()?)),
                _ => None,
            })
            .collect();
        let ordinary: Vec<_> = self.past.scheduled().filter(|(_, _, entry)| !entry.global).collect();
        let wanted = self.record.hosts.iter().map(|host| {
            let here = ordinary.iter().filter(|(machine, ..)| *machine == host.id);
            let globals = globals.iter().map(|(unit, entry)| (unit, entry));
            let wanted = wanted_globals(self.record, host, globals, here.map(|(_, unit, entry)| (unit, entry.hash)));
            wanted.into_iter().map(|(unit, _)| unit.clone()).collect()
        });
        let wanted = wanted.collect();
        let asked = globals.iter().filter(|(_, entry)| entry.desired != Desired::Inactive);
        let asked =
            asked.filter_map(|(unit, entry)| Some((unit.clone(), Placement::of(entry)?.everywhere()))).collect();
        Moment { until: None, asked, wanted }
    }

    /// How things were of late: an engine may have decided by that.
    fn of_late(&self, now: Instant) -> impl Iterator<Item = &Moment> {
        self.moments.iter().rev().take_while(move |moment| moment.until.is_none_or(|until| until + LAG >= now))
    }

    fn is_evicted(&self, machine: &MachineId) -> bool {
        let key = self.record.keys.format(&Key::Metadata(machine.clone()));
        let edits = self.past.keys.get(&*key).and_then(|stored| MetadataEdits::decode(&stored.value).ok());
        edits.is_some_and(|edits| edits.evicted)
    }

    /// Why an entry may not be written so; `None`: it may.
    fn objection(
        &self,
        host: usize,
        unit: &UnitName,
        before: Option<&Placement>,
        after: &Placement,
        now: Instant,
    ) -> Option<&str> {
        if self.away[host].is_some_and(|away| away.since + LAG < now) {
            return Some("is written for a machine that is away");
        }
        if before.is_some_and(|before| before.is_as(after)) {
            return Some("is written as it was");
        }
        // Of a restart of one machine after the other some have the generation of before.
        let same = |asked: &Placement| Placement { generation: after.generation, ..asked.clone() }.is_as(after);
        let says = self.of_late(now).any(|moment| moment.asked.get(unit).is_some_and(same));
        (!says).then_some("is not what is wanted of the unit")
    }

    /// Why an entry may not be deleted; `None`: it may.
    fn objection_to_removal(&self, host: usize, unit: &UnitName, now: Instant) -> Option<&str> {
        let away = self.away[host];
        if away.is_some_and(|away| away.in_order) || self.is_evicted(&self.record.hosts[host].id) {
            return None;
        }
        if away.is_some_and(|away| away.since + LAG < now) {
            let gone = self.of_late(now).any(|moment| !moment.asked.contains_key(unit));
            return (!gone).then_some("is taken from a machine that is away");
        }
        let unfit = self.of_late(now).any(|moment| !moment.wanted[host].contains(unit));
        (!unfit).then_some("is taken from a machine on which it belongs")
    }
}

/// Entries of global units change because of what is wanted. While a machine is away they stay, except those of units
/// that are wanted no more; and when it is back, nothing is written that says the same.
pub fn entries_change_for_a_reason(record: &Record) -> Vec<Violation> {
    let mut story = Story::new(record);
    let mut violations = Vec::new();
    for commit in &record.commits {
        story.apply(commit);
        let departs = is_departure(record, commit);
        for change in &commit.changes {
            let Some(Key::Sched(machine, unit)) = record.keys.parse(&change.key) else { continue };
            let Some(host) = record.host_of(&machine) else { continue };
            let [before, after] = [&change.before, &change.after]
                .map(|stored| stored.as_ref().and_then(|stored| Placement::decode(&stored.value).ok()));
            let objection = match (before, after) {
                (before, Some(after)) if after.global => {
                    story.objection(host, &unit, before.as_ref(), &after, commit.at)
                }
                (Some(before), None) if before.global && !departs => story.objection_to_removal(host, &unit, commit.at),
                _ => None,
            };
            violations.extend(objection.map(|objection| Violation {
                invariant: "global entries",
                at: Some(commit.at),
                how: format!("revision {}: {unit} on {} {objection}", commit.revision, record.hosts[host].name),
            }));
        }
    }
    violations
}

/// When the host that leads says that entries decide what of global units runs where, there are all that are needed on
/// machines that are there.
pub fn nothing_is_missing_when_they_come_into_use(record: &Record) -> Vec<Violation> {
    let mut story = Story::new(record);
    let mut violations = Vec::new();
    for commit in &record.commits {
        story.apply(commit);
        let begins = commit.changes.iter().any(|change| {
            record.keys.parse(&change.key) == Some(Key::InUse) && change.before.is_none() && change.after.is_some()
        });
        if !begins {
            continue;
        }
        let entries: BTreeSet<(MachineId, UnitName)> =
            story.past.scheduled().filter(|(_, _, entry)| entry.global).map(|(id, unit, _)| (id, unit)).collect();
        for (number, host) in record.hosts.iter().enumerate().filter(|(number, _)| story.away[*number].is_none()) {
            let Some(now) = story.moments.last() else { continue };
            let missing = now.wanted[number].iter().filter(|unit| {
                let long = story.of_late(commit.at).all(|moment| moment.wanted[number].contains(*unit));
                long && !entries.contains(&(host.id.clone(), (*unit).clone()))
            });
            violations.extend(missing.map(|unit| Violation {
                invariant: "global entries",
                at: Some(commit.at),
                how: format!("revision {}: {unit} has no entry on {}", commit.revision, host.name),
            }));
        }
    }
    violations
}

/// In the end each machine has the entries of the global units that belong there, as their records ask for them.
pub fn entries_are_those_of_the_rule(record: &Record) -> Vec<Violation> {
    let snapshot = read(record);
    let mut violations = Vec::new();
    let mut violation = |how: String| violations.push(Violation { invariant: "global entries", at: None, how });
    let placed = snapshot.scheduled.values().any(|entry| entry.record.global);
    if !snapshot.uses(features::GLOBAL_PLACEMENTS) {
        if placed && snapshot.all_understand(features::GLOBAL_PLACEMENTS) {
            violation("global units are placed, all understand that, and it is not in use".into());
        }
        return violations;
    }
    for host in &record.hosts {
        let Some(machine) = snapshot.machines.get(&host.id) else { continue };
        let here = snapshot.scheduled.iter().filter(|((id, _), _)| *id == host.id);
        let (global, ordinary): (Vec<_>, Vec<_>) =
            here.map(|((_, unit), entry)| (unit, &*entry.record)).partition(|(_, entry)| entry.global);
        // One that does not understand it decides by itself.
        let understands = machine.record.features.has(features::GLOBAL_PLACEMENTS);
        let globals = snapshot.globals.iter().filter(|_| understands).map(|(unit, entry)| (unit, &*entry.record));
        let wanted = wanted_globals(record, host, globals, ordinary.iter().map(|(unit, entry)| (*unit, entry.hash)));
        let wanted: BTreeMap<&UnitName, Placement> =
            wanted.into_iter().filter_map(|(unit, entry)| Some((unit, Placement::of(entry)?.everywhere()))).collect();
        let global: BTreeMap<&UnitName, &Placement> = global.into_iter().collect();
        for unit in wanted.keys().chain(global.keys()).collect::<BTreeSet<_>>() {
            match (wanted.get(unit), global.get(unit)) {
                (Some(wanted), Some(entry)) if wanted.is_as(entry) => {}
                (Some(_), Some(_)) => violation(format!("{unit} on {}: it was not told what is wanted", host.name)),
                (Some(_), None) => violation(format!("{unit} belongs on {}, and is not scheduled", host.name)),
                _ => violation(format!("{unit} is scheduled to {}, and does not belong there", host.name)),
            }
        }
    }
    violations
}
