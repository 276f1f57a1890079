//! Answers to an operator's question: why is this unit there, or nowhere?

use std::collections::BTreeMap;

use super::{
    fit::Newcomers,
    groups::groups,
    judge::GlobalJudge,
    keys::{MachineKey, UnitKey},
    machines::{MachineSlot, Status},
    planner::{Planner, Scope},
    reason::{Cause, Tally, Unplaceable},
    units::{Role, UnitSlot},
    verdict::{Explanation, Verdict, VerdictReason},
};
use crate::{
    model::MachineId,
    unit::{Requirements, UnitName},
};

impl Planner {
    /// Why a unit is, or is not, where it is: a verdict for each machine. Works for global units, too.
    ///
    /// What a plan would change is still to be decided, and is told so. Looks at every machine, and at what is there
    /// that may be in conflict; at other units it does not look.
    pub fn explain(&mut self, unit: &UnitName) -> Explanation {
        self.machines.rank();
        let unknown = || Explanation { placed: None, summary: "unknown unit".into(), verdicts: Vec::new() };
        let Some(key) = self.units.key(unit.as_str()) else { return unknown() };
        match &self.units[key].role {
            Role::Absent => unknown(),
            Role::Global { requirements, wanted } => self.explain_global(unit, requirements, *wanted),
            Role::Single { .. } => self.explain_single(key),
        }
    }

    fn explain_global(&self, name: &UnitName, requirements: &Requirements, wanted: bool) -> Explanation {
        // One that is not wanted is judged as if it were.
        let judge = GlobalJudge::new(self, (name, requirements));
        let verdict = |(on, machine): (MachineKey, &MachineSlot)| {
            let cause = match machine.status {
                // Of one that is away nobody knows what it has.
                Status::Held => Some(Cause::MachineAway),
                _ => judge.cause(on),
            };
            let reason = cause.map_or(VerdictReason::Global, VerdictReason::Not);
            Verdict { machine: machine.id.clone(), fits: reason.fits(), reason }
        };
        let verdicts: Vec<Verdict> = self.machines.known().map(verdict).collect();
        let fitting = verdicts.iter().filter(|verdict| verdict.fits).count();
        let summary = match (wanted, verdicts.len()) {
            (false, _) => Cause::NotWanted.to_string(),
            (true, 0) => Unplaceable::NoMachine.to_string(),
            (true, all) => format!("global: on {fitting} of {all} machines"),
        };
        Explanation { placed: None, summary, verdicts }
    }

    fn explain_single(&self, key: UnitKey) -> Explanation {
        let unit = &self.units[key];
        // Of a cycle, who is on a machine that is held stays there, and does not come along.
        let comes_along = |target: UnitKey| {
            let unit = &self.units[target];
            let moves = unit.at.iter().all(|&on| self.machines[on].status != Status::Held);
            unit.single().is_some() && (moves || target == key)
        };
        let group =
            groups(key, |key| self.units[key].targets.iter().copied().filter(|&target| comes_along(target)).collect());
        // The unit's own group comes last, after all that it leads to.
        let newcomers = self.newcomers(group.last().map_or(&[], Vec::as_slice));
        let impossible = self.impossible(key, &newcomers);

        let verdict = |on: MachineKey| {
            if unit.at.contains(&on) {
                return self.stays(key, on).map_or_else(VerdictReason::Not, |()| VerdictReason::Here);
            }
            let fits = |leaving: Vec<UnitKey>| VerdictReason::Fits {
                units: self.machines[on].load(),
                keeps_off: self.kept_off(&newcomers, on, &leaving).cloned(),
            };
            let cause = impossible.as_ref().map(|(_, cause)| VerdictReason::Not(cause.clone()));
            cause.unwrap_or_else(|| self.enters(&newcomers, on, true).map_or_else(VerdictReason::Not, fits))
        };
        let verdicts: Vec<Verdict> = self
            .machines
            .known()
            .map(|(on, machine)| {
                let why = verdict(on);
                Verdict { machine: machine.id.clone(), fits: why.fits(), reason: why }
            })
            .collect();

        let on = self.place_of(unit);
        let summary = if unit.wanted().is_none() {
            Cause::NotWanted.to_string()
        } else if let Some(on) = on {
            self.explain_place(key, on)
        } else if let Some(on) = unit.leaving.iter().map(|&on| &self.machines[on].id).min() {
            format!("not placed: {}", Unplaceable::Leaving { machine: on.clone() })
        } else if verdicts.iter().any(|verdict| verdict.fits) {
            "not placed yet: the engine is to decide".into()
        } else {
            let known = if self.machines.count() == 0 { Some(Unplaceable::NoMachine) } else { None };
            let known = known.or_else(|| impossible.map(|(reason, _)| reason));
            let known = known.or_else(|| self.missing_target(&newcomers));
            format!("not placed: {}", known.unwrap_or_else(|| Unplaceable::NoneFits(tally(&verdicts))))
        };
        Explanation { placed: on.map(|on| self.machines[on].id.clone()), summary, verdicts }
    }

    /// Where a unit is. Of several places the one that it has been given last: not the one that is being drained.
    fn place_of(&self, unit: &UnitSlot) -> Option<MachineKey> {
        let rank = |on: &MachineKey| (self.machines[*on].status == Status::Draining, &self.machines[*on].id);
        unit.at.iter().copied().min_by(|one, other| rank(one).cmp(&rank(other)))
    }

    /// Where a unit is, and why it is still there when it should not be.
    fn explain_place(&self, key: UnitKey, on: MachineKey) -> String {
        let scheduled = format!("scheduled to {}", self.machines[on].id.short());
        let stays = self.units[key].at.len() == 1 && self.stays(key, on).is_ok();
        let (place, undecided) = match self.machines[on].status {
            Status::Up => (scheduled, !stays),
            Status::Held => (format!("{scheduled}, which is away and may come back"), !stays),
            Status::Gone if !stays => (scheduled, true),
            Status::Gone => {
                (format!("{scheduled}, which is gone, and waiting until it has stopped there for certain"), false)
            }
            Status::Draining => {
                let drained = format!("{scheduled}, which is being drained");
                match self.held_back(key, on) {
                    Some(reason) if stays => (format!("{drained}, and cannot leave: {reason}"), false),
                    _ => (drained, true),
                }
            }
        };
        format!("{place}{}", if undecided { "; the engine is to decide anew" } else { "" })
    }

    /// The units that stay on a machine that is being drained, each with the reason why no other takes it.
    pub fn stuck_on(&mut self, machine: &MachineId) -> BTreeMap<UnitName, Unplaceable> {
        self.machines.rank();
        let Some(on) = self.machines.key(machine).filter(|&on| self.machines[on].status == Status::Draining) else {
            return BTreeMap::new();
        };
        let stays = |key: &UnitKey| self.place_of(&self.units[*key]) == Some(on) && self.stays(*key, on).is_ok();
        let units = self.machines[on].units().filter(stays);
        units.filter_map(|key| Some((self.units[key].name.clone(), self.held_back(key, on)?))).collect()
    }

    /// Why no other machine takes a unit from one that is being drained, and all that must stay with it.
    fn held_back(&self, key: UnitKey, on: MachineKey) -> Option<Unplaceable> {
        let mut group: Vec<UnitKey> = self.units.colocated(key, |unit| unit.at.contains(&on)).into_iter().collect();
        group.sort_by(|one, other| self.units[*one].name.cmp(&self.units[*other].name));
        self.find_another(&group, Scope::All).err()?.reason
    }

    /// What keeps a unit from every machine by itself, because of those that it must be with.
    fn impossible(&self, key: UnitKey, newcomers: &Newcomers<'_>) -> Option<(Unplaceable, Cause)> {
        let others = newcomers.0.iter().filter(|other| other.key != key);
        if let Some(unwanted) = { others }.find(|other| other.unit.wanted().is_none()) {
            let target = unwanted.unit.name.as_str().to_owned();
            return Some((Unplaceable::NotScheduled { target: target.clone() }, Cause::NotScheduled { target }));
        }
        let (unit, cause) = newcomers.contradiction()?;
        Some((Unplaceable::Contradiction { unit: unit.name.clone(), cause: cause.clone() }, cause))
    }
}

fn tally(verdicts: &[Verdict]) -> Tally {
    let mut tally = Tally::default();
    for verdict in verdicts {
        if let VerdictReason::Not(cause) = &verdict.reason {
            tally.add(1, cause.clone());
        }
    }
    tally
}
