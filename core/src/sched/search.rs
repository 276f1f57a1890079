//! The search for a machine: in which order machines are tried, and what is learned on the way.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    conflicts::{matching, replaces},
    draft::RuledOut,
    fit::Newcomers,
    keys::{MachineKey, UnitKey},
    planner::{Planner, Scope},
    ranking::Seat,
    reason::{Cause, Choice, Tally, Unplaceable},
    units::UnitSlot,
};
use crate::unit::Requirements;

/// A place found.
pub(super) struct Found {
    pub machine: MachineKey,
    /// The units that have to leave it.
    pub leaving: Vec<UnitKey>,
    pub choice: Choice,
}

/// No place found.
pub(super) struct NotFound {
    /// Why; `None` when only some machines were tried, and what was known of the others still holds.
    pub reason: Option<Unplaceable>,
    pub ruled_out: Option<Box<RuledOut>>,
}

impl NotFound {
    /// No place among the machines that were tried.
    const STILL: Self = Self { reason: None, ruled_out: None };
}

impl From<Unplaceable> for NotFound {
    fn from(reason: Unplaceable) -> Self {
        Self { reason: Some(reason), ruled_out: None }
    }
}

impl Planner {
    /// Finds the machine for units that must be together.
    pub(super) fn find(&self, group: &[UnitKey], scope: Scope) -> Result<Found, NotFound> {
        let newcomers = self.newcomers(group);
        if let Some(reason) = self.hopeless(group, &newcomers) {
            return Err(reason.into());
        }
        let mut search = Search::new(self, &newcomers);
        match scope {
            Scope::Only(machines) => search.first(search.seats(machines), true, Choice::NowFits).ok_or(NotFound::STILL),
            Scope::All => {
                // One that is being replaced itself should not displace others if it can help it.
                let displaced = group.iter().any(|member| self.draft.displaced.contains_key(member));
                let found = search.back();
                let found = found.or_else(|| if displaced { search.anywhere(false) } else { search.replaced() });
                found.or_else(|| search.anywhere(true)).ok_or_else(|| search.in_vain())
            }
        }
    }

    /// Finds the machine for units of which some follow others, if one takes them all as they are. No other unit has
    /// to leave for them, and none of them is tried alone before those that it could replace.
    pub(super) fn find_for_all(&self, group: &[UnitKey], scope: &Scope) -> Result<Found, NotFound> {
        let newcomers = self.newcomers(group);
        let replaces = newcomers.0.iter().any(|one| !one.party.1.replaces.is_empty());
        if group.len() < 2 || replaces {
            return Err(Unplaceable::NoMachine.into());
        }
        if let Some(reason) = self.hopeless(group, &newcomers) {
            return Err(reason.into());
        }
        let mut search = Search::new(self, &newcomers);
        let found = match scope {
            Scope::Only(machines) => search.first(search.seats(machines.clone()), false, Choice::NowFits),
            Scope::All => search.back().or_else(|| search.anywhere(false)),
        };
        found.ok_or_else(|| search.in_vain())
    }

    /// Finds another machine for units that could stay together where they are. No other unit has to leave for them.
    pub(super) fn find_another(&self, group: &[UnitKey], scope: Scope) -> Result<Found, NotFound> {
        let newcomers = self.newcomers(group);
        if let Some(reason) = self.hopeless(group, &newcomers) {
            return Err(reason.into());
        }
        let mut search = Search::new(self, &newcomers);
        match scope {
            Scope::Only(machines) => {
                search.first(search.seats(machines), false, Choice::NowFits).ok_or(NotFound::STILL)
            }
            Scope::All => search.anywhere(false).ok_or_else(|| search.in_vain()),
        }
    }

    /// Tries whether units fit where one of them was told to stop, and may still be running.
    pub(super) fn find_again(&self, group: &[UnitKey], machine: MachineKey) -> Option<Found> {
        let newcomers = self.newcomers(group);
        if self.hopeless(group, &newcomers).is_some() {
            return None;
        }
        let mut search = Search::new(self, &newcomers);
        search.first(search.seats([machine].into()), false, Choice::Back)
    }

    /// The reason why no machine need be looked at.
    fn hopeless(&self, group: &[UnitKey], newcomers: &Newcomers<'_>) -> Option<Unplaceable> {
        if self.machines.count() == 0 {
            return Some(Unplaceable::NoMachine);
        }
        if let Some(&unwanted) = group.iter().find(|&&member| self.units[member].wanted().is_none()) {
            return Some(Unplaceable::NotScheduled { target: self.units[unwanted].name.as_str().into() });
        }
        if let Some((unit, cause)) = newcomers.contradiction() {
            return Some(Unplaceable::Contradiction { unit: unit.name.clone(), cause });
        }
        self.missing_target(newcomers)
    }

    /// The first target of `MachineOf` that is on no machine and does not come along.
    pub(super) fn missing_target(&self, newcomers: &Newcomers<'_>) -> Option<Unplaceable> {
        newcomers.0.iter().find_map(|one| self.missing_target_of(one.key, newcomers))
    }

    /// The first of one unit's targets that is on no machine and is no newcomer.
    pub(super) fn missing_target_of(&self, unit: UnitKey, newcomers: &Newcomers<'_>) -> Option<Unplaceable> {
        let mut targets = self.units[unit].single().into_iter().flat_map(|requirements| &requirements.machine_of);
        let missing = targets.find(|target| {
            newcomers.0.iter().all(|one| one.unit.name.as_str() != *target)
                && self.units.key(target).is_none_or(|key| self.units[key].at.is_empty())
        });
        missing.map(|target| Unplaceable::NotScheduled { target: target.clone() })
    }
}

/// A look at one machine after the other, and what it taught.
struct Search<'p> {
    planner: &'p Planner,
    newcomers: &'p Newcomers<'p>,
    tally: Tally,
    /// The part of the tally that is due to the requirements alone.
    by_requirements: Tally,
    /// The machines that are not in that part.
    open: BTreeSet<MachineKey>,
}

impl<'p> Search<'p> {
    fn new(planner: &'p Planner, newcomers: &'p Newcomers<'p>) -> Self {
        Self { planner, newcomers, tally: Tally::default(), by_requirements: Tally::default(), open: BTreeSet::new() }
    }

    /// Back to where they were in the store, if what drove them away has gone in this very plan: nothing moves in vain.
    fn back(&mut self) -> Option<Found> {
        let touched = &self.planner.draft.touched;
        let before = self.newcomers.0.iter().filter_map(|one| touched.get(&one.key));
        let places = before.flat_map(|touched| touched.before.iter().copied()).collect();
        self.first(self.seats(places), false, Choice::Back)
    }

    /// Where units are that one of the newcomers replaces.
    fn replaced(&mut self) -> Option<Found> {
        let units = &self.planner.units;
        let mut places = BTreeSet::new();
        for one in &self.newcomers.0 {
            for (_, &key) in one.party.1.replaces.iter().flat_map(|pattern| matching(units.names().sorted(), pattern)) {
                let replaced = units[key].party().is_some_and(|theirs| replaces(one.party, theirs).is_some());
                places.extend(units[key].at.iter().filter(|_| replaced));
            }
        }
        self.first(self.seats(places), true, Choice::NowFits)
    }

    /// The least loaded of all machines that fit.
    fn anywhere(&mut self, displacing: bool) -> Option<Found> {
        // What was tried first is tried again.
        self.tally = Tally::default();
        self.by_requirements = Tally::default();
        self.open.clear();
        if let Some((target, on)) = self.target() {
            let machine = self.planner.machines[on].id.clone();
            let elsewhere = Cause::ScheduledTo { target: target.name.clone(), machine };
            self.tally.add(self.planner.machines.count().saturating_sub(1), elsewhere);
            return self.first(self.seats([on].into()), displacing, Choice::Follows { target: target.name.clone() });
        }
        if let Some(known) =
            self.planner.draft.ruled_out.as_ref().filter(|known| self.lone() == Some(&known.requirements))
        {
            self.tally = known.tally.clone();
            self.by_requirements = known.tally.clone();
            let of = self.planner.machines.count();
            return self.first(self.seats(known.open.clone()), displacing, Choice::LeastLoaded { of, units: 0 });
        }
        let wanted: Vec<_> = self.newcomers.0.iter().map(|one| one.party.1).collect();
        let candidates = self.planner.machines.candidates(&wanted);
        if let Some(lack) = candidates.others {
            let others = self.planner.machines.count() - candidates.count;
            self.tally.add(others, lack.clone());
            self.by_requirements.add(others, lack);
        }
        self.first(candidates.seats, displacing, Choice::LeastLoaded { of: candidates.count, units: 0 })
    }

    /// The first of the machines that fits; one where a global unit would have to leave only when there is no other.
    fn first(&mut self, seats: impl IntoIterator<Item = Seat>, displacing: bool, otherwise: Choice) -> Option<Found> {
        let mut last_resort = None;
        for seat in seats {
            let machine = self.planner.machines.on(seat);
            match self.planner.enters(self.newcomers, machine, displacing) {
                Ok(leaving) if self.planner.kept_off(self.newcomers, machine, &leaving).is_some() => {
                    last_resort.get_or_insert((machine, leaving));
                }
                Ok(leaving) => return Some(self.found(machine, leaving, otherwise)),
                Err(cause) => {
                    if cause.is_by_requirements() {
                        self.by_requirements.add(1, cause.clone());
                    } else {
                        self.open.insert(machine);
                    }
                    self.tally.add(1, cause);
                }
            }
        }
        last_resort.map(|(machine, leaving)| self.found(machine, leaving, otherwise))
    }

    /// The place, with what most says why it was chosen.
    fn found(&self, machine: MachineKey, leaving: Vec<UnitKey>, otherwise: Choice) -> Found {
        let named = self.newcomers.0.iter().find_map(|one| one.party.1.machine_id.as_ref());
        let choice = match (leaving.first(), self.target(), named, otherwise) {
            (.., Choice::Back) => Choice::Back,
            (Some(&unit), ..) => Choice::Replaces { unit: self.planner.units[unit].name.clone() },
            (None, Some((target, _)), ..) => Choice::Follows { target: target.name.clone() },
            (None, None, Some(wanted), _) => Choice::MachineId { wanted: wanted.clone() },
            (None, None, None, Choice::LeastLoaded { of, .. }) => {
                Choice::LeastLoaded { of, units: self.planner.machines[machine].load() }
            }
            (None, None, None, otherwise) => otherwise,
        };
        Found { machine, leaving, choice }
    }

    fn in_vain(self) -> NotFound {
        let ruled_out = self.lone().map(|requirements| {
            Box::new(RuledOut { requirements: requirements.clone(), tally: self.by_requirements, open: self.open })
        });
        NotFound { reason: Some(Unplaceable::NoneFits(self.tally)), ruled_out }
    }

    /// A target of the newcomers that does not come with them, and where it is.
    fn target(&self) -> Option<(&'p UnitSlot, MachineKey)> {
        let units = &self.planner.units;
        let targets = self.newcomers.0.iter().flat_map(|one| &one.unit.targets);
        let mut others = targets.filter(|target| !self.newcomers.contain(**target)).map(|&target| &units[target]);
        others.find_map(|target| Some((target, *target.at.first()?)))
    }

    /// The requirements, when they are those of one unit and independent of its name and of all other units' places.
    fn lone(&self) -> Option<&'p Arc<Requirements>> {
        let [one] = &self.newcomers.0[..] else { return None };
        one.unit.wanted().filter(|requirements| requirements.machine_of.is_empty() && requirements.replaces.is_empty())
    }

    fn seats(&self, machines: BTreeSet<MachineKey>) -> Vec<Seat> {
        let seats = machines.into_iter().map(|on| self.planner.machines.seat_of(on));
        let mut seats: Vec<Seat> = seats.collect();
        seats.sort_unstable();
        seats
    }
}
