//! Whether units fit on a machine: those that are there, and those that would come.

use super::{
    conflicts::{Party, clash, replaces},
    filter::suits,
    hint::ConflictHint,
    keys::{MachineKey, UnitKey},
    machines::Status,
    planner::Planner,
    reason::Cause,
    units::UnitSlot,
};
use crate::unit::UnitName;

/// How often a unit may have to leave in one plan. Two that replace the same unit are served; three that replace each
/// other in a circle, on too few machines, do not chase one another for ever.
const DISPLACEMENTS: usize = 4;

/// Units that look for a machine together, with what is the same for all machines worked out once.
pub(super) struct Newcomers<'p>(pub Vec<Newcomer<'p>>);

pub(super) struct Newcomer<'p> {
    pub key: UnitKey,
    pub unit: &'p UnitSlot,
    pub party: Party<'p>,
    hint: ConflictHint,
    /// The global units in conflict with it.
    globals: Vec<Party<'p>>,
}

impl Newcomers<'_> {
    pub fn contain(&self, key: UnitKey) -> bool {
        self.0.iter().any(|newcomer| newcomer.key == key)
    }

    /// The first pair that cannot be on one machine.
    pub fn contradiction(&self) -> Option<(&UnitSlot, Cause)> {
        let pairs = self.0.iter().flat_map(|one| self.0.iter().map(move |other| (one, other)));
        pairs.into_iter().find_map(|(one, other)| Some((one.unit, aversion(one.party, other.party)?)))
    }
}

/// What keeps `one` from coming to a machine where `other` is and stays.
fn aversion(one: Party<'_>, other: Party<'_>) -> Option<Cause> {
    if let Some(clash) = clash(one, other) {
        return Some(Cause::conflict(other.0, clash, false));
    }
    if let Some(pattern) = replaces(other, one) {
        return Some(Cause::ReplacedBy { by: other.0.clone(), pattern: pattern.clone() });
    }
    let pattern = replaces(one, other)?;
    Some(Cause::Replaces { unit: other.0.clone(), pattern: pattern.clone() })
}

impl Planner {
    /// `group` as newcomers; those that are no units for one machine are left out.
    pub(super) fn newcomers(&self, group: &[UnitKey]) -> Newcomers<'_> {
        let newcomer = |&key| {
            let unit = &self.units[key];
            let party = unit.party()?;
            let globals = self.globals.against(party);
            Some(Newcomer { key, unit, party, hint: unit.conflict_hint(), globals })
        };
        Newcomers(group.iter().filter_map(newcomer).collect())
    }

    /// Whether a unit may stay where it is.
    pub(super) fn stays(&self, key: UnitKey, on: MachineKey) -> Result<(), Cause> {
        let machine = &self.machines[on];
        let unit = &self.units[key];
        let Some(party) = unit.party() else { return Err(Cause::Removed) };
        match machine.status {
            Status::Gone if unit.held.contains(&on) => return Ok(()),
            Status::Gone => return Err(Cause::MachineGone),
            Status::Held => return Ok(()),
            Status::Up | Status::Draining => {}
        }
        self.targets_are_there(party, on, |_| false)?;
        suits(party.1, &machine.id, &machine.metadata)?;
        // One that is still to be judged will meet this one here, and leave.
        let settled = |other: &UnitSlot| !self.dirty.contains_key(&other.name);
        let objection = self.first_by_name(machine.maybe_conflicting(std::iter::once(unit.conflict_hint())), |other| {
            let theirs = other.party()?;
            if let Some(pattern) = replaces(theirs, party) {
                return Some(Cause::ReplacedBy { by: other.name.clone(), pattern: pattern.clone() });
            }
            let clash = clash(party, theirs).filter(|_| settled(other))?;
            Some(Cause::conflict(&other.name, clash, false))
        });
        objection.map_or(Ok(()), Err)
    }

    /// Whether newcomers fit on a machine, and which units have to leave it for them. Without `displacing` none may.
    pub(super) fn enters(
        &self,
        newcomers: &Newcomers<'_>,
        on: MachineKey,
        displacing: bool,
    ) -> Result<Vec<UnitKey>, Cause> {
        let machine = &self.machines[on];
        match machine.status {
            Status::Gone => return Err(Cause::MachineGone),
            Status::Held => return Err(Cause::MachineAway),
            Status::Draining => return Err(Cause::Draining),
            Status::Up => {}
        }
        for newcomer in &newcomers.0 {
            self.targets_are_there(newcomer.party, on, |target| newcomers.contain(target))?;
            suits(newcomer.party.1, &machine.id, &machine.metadata)?;
        }
        let conflicting = machine.maybe_conflicting(newcomers.0.iter().map(|one| one.hint));
        let gives_way = |key: &UnitKey| {
            let replaced = |party| newcomers.0.iter().any(|newcomer| replaces(newcomer.party, party).is_some());
            displacing && self.units[*key].party().is_some_and(replaced) && self.gives_way(*key, newcomers)
        };
        let others = conflicting.filter(|&key| !newcomers.contain(key));
        let (mut leaving, staying): (Vec<_>, Vec<_>) = others.partition(gives_way);
        leaving.sort_by_key(|&key| &self.units[key].name);
        let objection = self.first_by_name(staying, |resident| {
            let resident = resident.party()?;
            newcomers.0.iter().find_map(|newcomer| aversion(newcomer.party, resident))
        });
        if let Some(cause) = objection {
            return Err(cause);
        }
        Ok(leaving)
    }

    /// The first global unit, by name, that would have to leave a machine for newcomers, when these units leave it, too.
    pub(super) fn kept_off<'p>(
        &'p self,
        newcomers: &Newcomers<'p>,
        on: MachineKey,
        leaving: &[UnitKey],
    ) -> Option<&'p UnitName> {
        let machine = &self.machines[on];
        let stays = |key: &UnitKey| !newcomers.contain(*key) && !leaving.contains(key);
        let is_there = |global: Party<'_>| {
            let mut staying = machine.units().filter(stays).filter_map(|key| self.units[key].party());
            suits(global.1, &machine.id, &machine.metadata).is_ok()
                && !staying.any(|resident| clash(global, resident).is_some())
        };
        let globals = newcomers.0.iter().flat_map(|newcomer| &newcomer.globals);
        globals.filter(|global| is_there(**global)).map(|global| global.0).min()
    }

    /// What the first of these units that has something to say, by name, says.
    pub(super) fn first_by_name(
        &self,
        units: impl IntoIterator<Item = UnitKey>,
        say: impl Fn(&UnitSlot) -> Option<Cause>,
    ) -> Option<Cause> {
        let say = units.into_iter().map(|key| &self.units[key]).filter_map(|unit| Some((&unit.name, say(unit)?)));
        say.min_by_key(|(name, _)| *name).map(|(_, cause)| cause)
    }

    /// Whether a unit can be moved away for newcomers that replace it: not when they would have to go with it, and
    /// not again and again.
    fn gives_way(&self, resident: UnitKey, newcomers: &Newcomers<'_>) -> bool {
        self.draft.displaced.get(&resident).is_none_or(|&times| times < DISPLACEMENTS)
            && !newcomers.0.iter().any(|newcomer| self.units.follows(newcomer.key, resident))
    }

    /// Checks that all targets of `MachineOf` are on the machine, those passed over that come along.
    fn targets_are_there(
        &self,
        (name, requirements): Party<'_>,
        on: MachineKey,
        comes_along: impl Fn(UnitKey) -> bool,
    ) -> Result<(), Cause> {
        for target in requirements.machine_of.iter().filter(|target| *target != name.as_str()) {
            let Some(key) = self.units.key(target) else {
                return Err(Cause::NotScheduled { target: target.clone() });
            };
            let unit = &self.units[key];
            if unit.at.contains(&on) || comes_along(key) {
                continue;
            }
            return Err(match unit.at.iter().map(|&on| &self.machines[on].id).min() {
                Some(machine) => Cause::ScheduledTo { target: unit.name.clone(), machine: machine.clone() },
                None => Cause::NotScheduled { target: target.clone() },
            });
        }
        Ok(())
    }
}
