//! The cluster, and the rules again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Event, UNITS, name};
use crate::{
    model::MachineId,
    sched::{Decision, Planner, globals_for},
    unit::{Requirements, UnitName},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    units: BTreeMap<UnitName, (Requirements, bool)>,
    globals: BTreeMap<UnitName, (Requirements, bool)>,
    /// Metadata of those that are up.
    up: BTreeMap<MachineId, BTreeMap<String, String>>,
    /// Metadata of those that are being drained.
    drained: BTreeMap<MachineId, BTreeMap<String, String>>,
    held: BTreeSet<MachineId>,
    /// Placements in the store.
    pub store: BTreeSet<(UnitName, MachineId)>,
    /// Placements when all that was decided is written.
    pub at: BTreeSet<(UnitName, MachineId)>,
    /// Decided and written, but not shown to the planner yet.
    pub unseen: Vec<Decision>,
}

impl Cluster {
    /// Lets something happen, and tells the planner.
    pub fn happen(&mut self, event: &Event, planner: &mut Planner) {
        match event.clone() {
            Event::Unit(name, requirements, wanted) => {
                self.units.insert(name.clone(), (requirements.clone(), wanted));
                planner.set_unit(name, Arc::new(requirements), wanted);
            }
            Event::NoUnit(name) => {
                self.units.remove(&name);
                planner.remove_unit(&name);
            }
            Event::Global(name, requirements, wanted) => {
                self.globals.insert(name.clone(), (requirements.clone(), wanted));
                planner.set_global(name, Arc::new(requirements), wanted);
            }
            Event::NoGlobal(name) => {
                self.globals.remove(&name);
                planner.remove_unit(&name);
            }
            Event::Up(id, metadata) => {
                self.forget(&id);
                self.up.insert(id.clone(), metadata.clone());
                planner.set_machine(id, metadata);
            }
            Event::Drained(id, metadata) => {
                self.forget(&id);
                self.drained.insert(id.clone(), metadata.clone());
                planner.drain_machine(id, metadata);
            }
            Event::Held(id) => {
                self.forget(&id);
                self.held.insert(id.clone());
                planner.hold_machine(id);
            }
            Event::Gone(id) => {
                self.forget(&id);
                planner.remove_machine(&id);
            }
            // Others write to the store only what the planner has no decision about on its way.
            Event::Placed(unit, _) | Event::Unplaced(unit, _)
                if self.unseen.iter().any(|decision| decision.unit == unit) => {}
            Event::Placed(unit, id) => {
                self.store.insert((unit.clone(), id.clone()));
                self.at.insert((unit.clone(), id.clone()));
                planner.placed(unit, id);
            }
            Event::Unplaced(unit, id) => {
                self.store.remove(&(unit.clone(), id.clone()));
                self.at.remove(&(unit.clone(), id.clone()));
                planner.removed(&unit, &id);
            }
        }
    }

    fn forget(&mut self, id: &MachineId) {
        self.up.remove(id);
        self.drained.remove(id);
        self.held.remove(id);
    }

    pub fn take(&mut self, decisions: &[Decision]) {
        for Decision { unit, from, to, .. } in decisions {
            assert!(!from.is_empty() || to.is_some(), "{unit}: a decision that decides nothing");
            for id in from {
                assert!(self.at.remove(&(unit.clone(), id.clone())), "{unit} was not on {id}");
                assert_ne!(to.as_ref(), Some(id), "{unit} leaves for where it was");
            }
            if let Some(id) = to {
                self.at.insert((unit.clone(), id.clone()));
            }
        }
    }

    /// Shows the planner a decision in the store.
    pub fn show(&mut self, Decision { unit, from, to, .. }: Decision, planner: &mut Planner) {
        for id in from {
            self.store.remove(&(unit.clone(), id.clone()));
            planner.removed(&unit, &id);
        }
        if let Some(id) = to {
            self.store.insert((unit.clone(), id.clone()));
            planner.placed(unit, id);
        }
    }

    pub fn show_all(&mut self, planner: &mut Planner) {
        for decision in std::mem::take(&mut self.unseen) {
            self.show(decision, planner);
        }
    }

    fn places(&self, unit: &UnitName) -> Vec<&MachineId> {
        self.at.iter().filter(|(name, _)| name == unit).map(|(_, id)| id).collect()
    }

    fn wanted(&self, unit: &UnitName) -> Option<&Requirements> {
        self.units.get(unit).filter(|(_, wanted)| *wanted).map(|(requirements, _)| requirements)
    }

    fn metadata_holds(requirements: &Requirements, metadata: &BTreeMap<String, String>) -> bool {
        requirements.metadata.iter().all(|(key, values)| metadata.get(key).is_some_and(|value| values.contains(value)))
    }

    /// Whether `one` says that `other` is in conflict with it.
    fn declares(one: &(&UnitName, &Requirements), other: &UnitName) -> bool {
        one.0 != other && one.1.conflicts.iter().any(|glob| glob.matches(other.as_str()))
    }

    fn in_conflict(one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)) -> bool {
        Self::declares(one, other.0) || Self::declares(other, one.0)
    }

    fn replaces(one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)) -> bool {
        let names = |a: &(&UnitName, &Requirements), b: &UnitName| {
            a.0 != b && a.1.replaces.iter().any(|glob| glob.matches(b.as_str()))
        };
        names(one, other.0) && !names(other, one.0)
    }

    /// All that the unit must be with.
    fn followed_by(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let mut all = BTreeSet::new();
        let mut open = vec![unit.clone()];
        while let Some(next) = open.pop() {
            for target in self.units.get(&next).iter().flat_map(|(requirements, _)| &requirements.machine_of) {
                if all.insert(name(target)) {
                    open.push(name(target));
                }
            }
        }
        all
    }

    /// The unit, and those that it follows and that follow it.
    fn group(&self, unit: &UnitName) -> BTreeSet<UnitName> {
        let cycle = self.followed_by(unit).into_iter().filter(|other| self.followed_by(other).contains(unit));
        cycle.chain([unit.clone()]).collect()
    }

    fn residents(&self, id: &MachineId) -> Vec<(&UnitName, &Requirements)> {
        let here = self.at.iter().filter(|(_, on)| on == id);
        here.filter_map(|(unit, _)| Some((unit, &self.units.get(unit)?.0))).collect()
    }

    fn targets_there(&self, one: &(&UnitName, &Requirements), id: &MachineId, group: &BTreeSet<UnitName>) -> bool {
        let there = |target: &UnitName| group.contains(target) || self.at.contains(&(target.clone(), id.clone()));
        one.1.machine_of.iter().map(|target| name(target)).all(|target| target == *one.0 || there(&target))
    }

    fn machine_named(requirements: &Requirements, id: &MachineId) -> bool {
        requirements.machine_id.as_ref().is_none_or(|wanted| id.as_str() == wanted || id.short() == wanted)
    }

    /// Whether a unit may stay where it is.
    fn may_stay(&self, unit: &UnitName, id: &MachineId) -> bool {
        let Some(requirements) = self.wanted(unit) else { return false };
        if self.held.contains(id) {
            return true;
        }
        let Some(metadata) = self.up.get(id).or_else(|| self.drained.get(id)) else { return false };
        let one = (unit, requirements);
        Self::machine_named(requirements, id)
            && Self::metadata_holds(requirements, metadata)
            && self.targets_there(&one, id, &BTreeSet::new())
            && self.residents(id).iter().all(|other| {
                !Self::in_conflict(&one, other) && !Self::replaces(&one, other) && !Self::replaces(other, &one)
            })
    }

    /// Those that are on a machine with a unit, and must stay with it.
    fn colocated(&self, unit: &UnitName, id: &MachineId) -> BTreeSet<UnitName> {
        let here: BTreeSet<&UnitName> = self.residents(id).into_iter().map(|(name, _)| name).collect();
        let follows = |one: &UnitName, other: &UnitName| {
            self.units.get(one).is_some_and(|(wanted, _)| wanted.machine_of.contains(other.as_str()))
        };
        let mut colocated = BTreeSet::from([unit.clone()]);
        loop {
            let related = |name: &&&UnitName| colocated.iter().any(|one| follows(one, name) || follows(name, one));
            let more: BTreeSet<UnitName> = here.iter().filter(related).map(|name| (*name).clone()).collect();
            let known = colocated.len();
            colocated.extend(more);
            if colocated.len() == known {
                return colocated;
            }
        }
    }

    /// Whether a unit could be placed on a machine, together with those it must come with.
    fn could_come(&self, unit: &UnitName, id: &MachineId) -> bool {
        let group = self.group(unit);
        let is_held = |member: &UnitName| self.places(member).iter().any(|id| self.held.contains(*id));
        if group.iter().any(|member| member != unit && is_held(member)) {
            return false;
        }
        self.could_come_together(&group, id, true)
    }

    /// Whether units could be placed on a machine; whether others may have to leave it for them.
    fn could_come_together(&self, group: &BTreeSet<UnitName>, id: &MachineId, evicting: bool) -> bool {
        let Some(metadata) = self.up.get(id) else { return false };
        let Some(members) = group.iter().map(|member| Some((member, self.wanted(member)?))).collect::<Option<Vec<_>>>()
        else {
            return false;
        };
        for one in &members {
            let apart = |other| Self::in_conflict(one, other) || Self::replaces(one, other);
            if !Self::machine_named(one.1, id)
                || !Self::metadata_holds(one.1, metadata)
                || !self.targets_there(one, id, group)
                || members.iter().any(apart)
            {
                return false;
            }
        }
        let (leaving, staying): (Vec<_>, Vec<_>) =
            self.residents(id).into_iter().filter(|other| !group.contains(other.0)).partition(|other| {
                evicting
                    && members.iter().any(|one| Self::replaces(one, other))
                    && !members.iter().any(|one| self.followed_by(one.0).contains(other.0))
            });
        drop(leaving);
        let hostile = |one: &(&UnitName, &Requirements), other: &(&UnitName, &Requirements)| {
            Self::in_conflict(one, other) || Self::replaces(one, other) || Self::replaces(other, one)
        };
        !members.iter().any(|one| staying.iter().any(|other| hostile(one, other)))
    }

    /// The units that are to be on a machine, or still stand there in the store.
    fn scheduled(&self, id: &MachineId) -> Vec<(&UnitName, &Requirements)> {
        let here = self.at.union(&self.store).filter(|(_, on)| on == id);
        here.filter_map(|(unit, _)| Some((unit, &self.units.get(unit)?.0))).collect()
    }

    /// Checks where the planner says that global units belong.
    fn check_globals(&self, planner: &Planner) {
        let wanted = |(name, (requirements, wanted)): (&UnitName, &(Requirements, bool))| {
            wanted.then(|| (name.clone(), requirements.clone()))
        };
        let globals: Vec<_> = self.globals.iter().filter_map(wanted).collect();
        for (id, metadata) in self.up.iter().chain(&self.drained) {
            let verdicts = globals_for(id, metadata, globals.iter().map(|(n, r)| (n, r)), self.scheduled(id));
            for (name, verdict) in verdicts {
                let judged = planner.global(&name).and_then(|judge| judge.on(id)).expect("both are there");
                assert_eq!(judged.is_ok(), verdict.fits, "{name} on {}: {judged:?} {verdict:?}", id.short());
            }
        }
        let unwanted = self.globals.iter().filter(|(_, (_, wanted))| !wanted);
        assert!(unwanted.into_iter().all(|(name, _)| planner.global(name).is_none()));
        assert!(
            globals.iter().all(|(name, _)| self.held.iter().all(|id| planner.global(name).unwrap().on(id).is_none()))
        );
    }

    /// Everything that has to hold after a plan.
    pub fn check(&self, planner: &mut Planner) {
        self.check_globals(planner);
        for (unit, id) in &self.at {
            assert!(self.may_stay(unit, id), "{unit} may not be on {}: {:?}", id.short(), planner.explain(unit));
        }
        let mut pending = BTreeSet::new();
        for name in UNITS.map(name) {
            let places = self.places(&name);
            assert!(places.len() <= 1, "{name} is on {places:?}");
            let explanation = planner.explain(&name);
            assert_eq!(explanation.placed.as_ref(), places.first().copied());
            if self.wanted(&name).is_none() {
                assert!(places.is_empty(), "{name} is not wanted");
                continue;
            }
            for verdict in &explanation.verdicts {
                if places.contains(&&verdict.machine) {
                    assert!(verdict.fits, "{name} is where it does not fit: {verdict:?}");
                } else {
                    let fits = self.could_come(&name, &verdict.machine);
                    assert_eq!(fits, verdict.fits, "{name} on {}: {}", verdict.machine.short(), verdict.reason);
                }
            }
            if let Some(id) = places.first().filter(|id| self.drained.contains_key(**id)) {
                let colocated = self.colocated(&name, id);
                let open = self.up.keys().find(|id| self.could_come_together(&colocated, id, false));
                assert_eq!(open, None, "{name} is on {}, which is drained: {explanation:?}", id.short());
                assert!(planner.stuck_on(id).contains_key(&name), "{name} is not called stuck");
            }
            if places.is_empty() {
                pending.insert(name.clone());
                let open = self.up.keys().find(|id| self.could_come(&name, id));
                assert_eq!(open, None, "{name} is pending, but fits: {explanation:?}");
            }
        }
        assert!(self.up.keys().chain(&self.held).all(|id| planner.stuck_on(id).is_empty()));
        let known: BTreeSet<_> = planner.pending().map(|(name, _)| name.clone()).collect();
        assert_eq!(known, pending);
        for reason in planner.pending().map(|(_, reason)| reason.to_string()) {
            assert!(!reason.is_empty());
        }
    }
}
