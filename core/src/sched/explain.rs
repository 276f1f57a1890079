//! Answers to an operator's question: why is this unit there, or nowhere?

use super::{
    fit::Newcomers,
    global::globals_for,
    groups::groups,
    keys::{MachineKey, UnitKey},
    machines::Status,
    planner::Planner,
    reason::{Cause, Tally, Unplaceable},
    units::{Role, UnitSlot},
    verdict::{Explanation, Verdict, VerdictReason},
};
use crate::unit::{Requirements, UnitName};

impl Planner {
    /// Why a unit is, or is not, where it is: a verdict for each machine. Works for global units, too.
    ///
    /// What has changed since the last plan, or was refused, is still to be decided, and is told so.
    /// Looks at every machine, and so costs more than a decision.
    #[must_use]
    pub fn explain(&self, unit: &UnitName) -> Explanation {
        let unknown = || Explanation { placed: None, summary: "unknown unit".into(), verdicts: Vec::new() };
        let Some(key) = self.units.key(unit.as_str()) else { return unknown() };
        match &self.units[key].role {
            Role::Absent => unknown(),
            Role::Global { requirements, wanted } => self.explain_global(unit, requirements, *wanted),
            Role::Single { .. } => self.explain_single(key),
        }
    }

    fn explain_global(&self, name: &UnitName, requirements: &Requirements, wanted: bool) -> Explanation {
        let verdicts: Vec<Verdict> = self
            .machines
            .known()
            .filter_map(|(_, machine)| {
                // One that is not wanted is judged as if it were.
                let globals = self.globals.parties().chain([(name, requirements)]);
                let mut scheduled: Vec<_> = machine.units().filter_map(|other| self.units[other].party()).collect();
                scheduled.sort_by_key(|(name, _)| *name);
                globals_for(&machine.id, &machine.metadata, globals, scheduled).remove(name)
            })
            .collect();
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
            let fits = |_| VerdictReason::Fits { units: self.machines[on].load() };
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

        let placed = unit.at.first().map(|&on| self.machines[on].id.clone());
        let is_news = self.dirty.contains_key(&unit.name) || self.unplaced.contains_key(&unit.name);
        let summary = if unit.wanted().is_none() {
            Cause::NotWanted.to_string()
        } else if let Some(&on) = unit.at.first() {
            let undecided = if is_news { "; the engine is to decide anew" } else { "" };
            format!("{}{undecided}", self.explain_place(unit, on))
        } else if let Some(on) = unit.leaving.iter().map(|&on| &self.machines[on].id).min() {
            format!("not placed: {}", Unplaceable::Leaving { machine: on.clone() })
        } else if is_news {
            "not placed yet: the engine is to decide".into()
        } else {
            let known = if self.machines.count() == 0 { Some(Unplaceable::NoMachine) } else { None };
            let known = known.or_else(|| impossible.map(|(reason, _)| reason));
            let known = known.or_else(|| self.missing_target(&newcomers));
            format!("not placed: {}", known.unwrap_or_else(|| Unplaceable::NoneFits(tally(&verdicts))))
        };
        Explanation { placed, summary, verdicts }
    }

    /// Where a unit is, and why it is still there when it should not be.
    fn explain_place(&self, unit: &UnitSlot, on: MachineKey) -> String {
        let scheduled = format!("scheduled to {}", self.machines[on].id.short());
        match self.machines[on].status {
            Status::Up => scheduled,
            Status::Held => format!("{scheduled}, which is away and may come back"),
            Status::Gone => format!("{scheduled}, which is gone, and waiting until it has stopped there for certain"),
            Status::Draining => match self.pending.reason(&unit.name) {
                Some(reason) => format!("{scheduled}, which is being drained, and cannot leave: {reason}"),
                None => format!("{scheduled}, which is being drained"),
            },
        }
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
