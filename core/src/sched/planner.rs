//! The planner as its owner sees it: what it is told, and what that makes dirty.
//!
//! Nothing is decided here. Each call updates the tables and marks what the change may concern; `plan.rs` decides.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    conflicts::remove_from,
    draft::Draft,
    global::Globals,
    keys::{MachineKey, UnitKey},
    machines::{Machines, Status},
    pending::Pending,
    reason::Unplaceable,
    units::{PlacementChange, Role, Units},
};
use crate::{
    model::MachineId,
    unit::{Requirements, UnitName},
};

/// Incremental planner: fed with changes, asked for decisions. See the [module](super) for its rules.
///
/// Telling it what it knows already costs next to nothing, so a resync may repeat everything.
#[derive(Debug, Default)]
pub struct Planner {
    pub(super) units: Units,
    pub(super) machines: Machines,
    pub(super) globals: Globals,
    pub(super) pending: Pending,
    /// Units to be judged: are they wanted, do they fit where they are?
    pub(super) dirty: BTreeMap<UnitName, UnitKey>,
    /// Wanted units without a machine that are to be tried.
    pub(super) unplaced: BTreeMap<UnitName, Unplaced>,
    /// Units that leave machines, but still stand there in the store, if only to be given up.
    pub(super) departing: BTreeMap<MachineKey, BTreeSet<UnitKey>>,
    /// The plan being made; empty between plans.
    pub(super) draft: Draft,
}

/// A unit to be placed.
#[derive(Debug)]
pub(super) struct Unplaced {
    pub unit: UnitKey,
    pub scope: Scope,
}

/// Where a unit is to be tried.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// On any machine.
    All,
    /// On these, because on all others it has been tried in vain, and they have not changed.
    Only(BTreeSet<MachineKey>),
}

impl Planner {
    /// A planner that knows nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A unit that runs on one machine, new or changed; never a template or a global unit.
    /// `wanted` says that its desired state is loaded or launched.
    pub fn set_unit(&mut self, name: UnitName, requirements: Arc<Requirements>, wanted: bool) {
        self.set_role(name, Role::Single { requirements, wanted });
    }

    /// The unit is gone, whether it ran on one machine or on all.
    pub fn remove_unit(&mut self, name: &UnitName) {
        if self.units.key(name.as_str()).is_some_and(|key| self.units[key].role != Role::Absent) {
            self.set_role(name.clone(), Role::Absent);
        }
    }

    /// A unit that runs on every machine that fits, new or changed. No plan places it: [`Planner::global`] says where it
    /// belongs. Units in conflict with it go where it is only when they fit nowhere else.
    pub fn set_global(&mut self, name: UnitName, requirements: Arc<Requirements>, wanted: bool) {
        self.set_role(name, Role::Global { requirements, wanted });
    }

    /// A machine that takes units, new or with other metadata, or back again.
    pub fn set_machine(&mut self, id: MachineId, metadata: BTreeMap<String, String>) {
        let key = self.machines.intern(id);
        let known = &self.machines[key];
        if known.status == Status::Up && known.metadata == metadata {
            return;
        }
        self.machines.set_up(key, metadata);
        self.release_all(key);
        self.mark_all_on(key);
        self.wake(self.pending.hoping_for(&self.machines[key]), key);
    }

    /// A machine that is to be emptied: its units go where else they fit, the others stay, and it gets no new ones.
    pub fn drain_machine(&mut self, id: MachineId, metadata: BTreeMap<String, String>) {
        let key = self.machines.intern(id);
        let known = &self.machines[key];
        if known.status == Status::Draining && known.metadata == metadata {
            return;
        }
        self.machines.set_draining(key, metadata);
        self.release_all(key);
        self.mark_all_on(key);
    }

    /// The machine counts as dead: its units are planned anew. So are those of machines never heard of.
    pub fn remove_machine(&mut self, id: &MachineId) {
        if let Some(key) = self.machines.key(id).filter(|&key| self.machines[key].status != Status::Gone) {
            self.machines.set_down(key, Status::Gone);
            self.mark_all_on(key);
        }
    }

    /// The machine is away, but does not count as dead yet: its units stay where they are, and it gets no new ones,
    /// until `set_machine` or `remove_machine` says more. A new engine says this of the machines that it finds in the
    /// schedule, but not among the living, until it has waited long enough to call them dead.
    pub fn hold_machine(&mut self, id: MachineId) {
        let key = self.machines.intern(id);
        if self.machines[key].status != Status::Held {
            self.machines.set_down(key, Status::Held);
            self.mark_all_on(key);
        }
    }

    /// One unit stays on the machine even when that is gone, until `release_unit`: it may run there still.
    pub fn hold_unit(&mut self, unit: &UnitName, machine: &MachineId) {
        let (key, machine) = (self.units.intern(unit.clone()), self.machines.intern(machine.clone()));
        if self.units.get_mut(key).held.insert(machine) {
            self.mark(key);
        }
    }

    /// The unit is down on a machine that is gone: it leaves like all others.
    pub fn release_unit(&mut self, unit: &UnitName, machine: &MachineId) {
        if let (Some(key), Some(machine)) = (self.units.key(unit.as_str()), self.machines.key(machine))
            && self.units.get_mut(key).held.remove(&machine)
        {
            self.units.mark_maybe_unused(key);
            self.mark(key);
        }
    }

    /// The machine is there: what it was held for is over.
    fn release_all(&mut self, machine: MachineKey) {
        for unit in self.machines[machine].units() {
            self.units.get_mut(unit).held.remove(&machine);
        }
    }

    /// The store has `sched/<machine>/<unit>`.
    ///
    /// Confirms what was assumed of the unit, or corrects it: then the unit is planned from what the store says.
    pub fn placed(&mut self, unit: UnitName, machine: MachineId) {
        let key = self.units.intern(unit);
        let machine = self.machines.intern(machine);
        let unit = self.units.get_mut(key);
        if unit.recalled.remove(&machine) {
            unit.leaving.remove(&machine);
            remove_from(&mut self.departing, &machine, &key);
        }
        self.observe(key, PlacementChange { machine, placed: true });
    }

    /// The store has told the machine to give the unit up: it is not scheduled there any more, but may run there until
    /// [`Planner::given_up`], and can go nowhere else.
    pub fn recalled(&mut self, unit: UnitName, machine: MachineId) {
        let key = self.units.intern(unit);
        let machine = self.machines.intern(machine);
        self.observe(key, PlacementChange { machine, placed: false });
        let unit = self.units.get_mut(key);
        unit.recalled.insert(machine);
        self.departing.entry(machine).or_default().insert(key);
        let unit = self.units.get_mut(key);
        if !unit.at.contains(&machine) && unit.leaving.insert(machine) {
            self.mark(key);
        }
    }

    /// The unit is down on a machine that was told to give it up, or is known to be down there otherwise.
    pub fn given_up(&mut self, unit: &UnitName, machine: &MachineId) {
        if let (Some(key), Some(machine)) = (self.units.key(unit.as_str()), self.machines.key(machine)) {
            let unit = self.units.get_mut(key);
            if unit.recalled.remove(&machine) {
                remove_from(&mut self.departing, &machine, &key);
            }
            let held = unit.held.remove(&machine);
            if unit.leaving.remove(&machine) || held {
                self.units.mark_maybe_unused(key);
                self.mark(key);
            }
        }
    }

    /// The store has `sched/<machine>/<unit>` no more. Confirms or corrects as [`Planner::placed`] does.
    pub fn removed(&mut self, unit: &UnitName, machine: &MachineId) {
        if let (Some(key), Some(machine)) = (self.units.key(unit.as_str()), self.machines.key(machine)) {
            self.observe(key, PlacementChange { machine, placed: false });
        }
        self.given_up(unit, machine);
    }

    /// A decision could not be written: what was assumed of the unit is forgotten, the store's truth counts again,
    /// and the unit is planned anew.
    pub fn refused(&mut self, unit: &UnitName) {
        if let Some(key) = self.units.key(unit.as_str()) {
            self.believe_store(key);
        }
    }

    /// Leaves to another planner what is to be decided: this one only explains. It has planned nothing, and so is where
    /// the store is.
    pub fn settle(&mut self) {
        self.dirty.clear();
        self.unplaced.clear();
        self.units.sweep();
    }

    /// The wanted units that are on no machine, by name, each with the reason found when it was last tried in full.
    /// [`Planner::explain`] gives the reason as of now.
    pub fn pending(&self) -> impl Iterator<Item = (&UnitName, &Unplaceable)> {
        let nowhere = |unit: UnitKey| self.units[unit].at.is_empty();
        self.pending.iter().filter(move |(_, unit, _)| nowhere(*unit)).map(|(name, _, reason)| (name, reason))
    }

    fn set_role(&mut self, name: UnitName, role: Role) {
        let key = self.units.intern(name);
        if self.units[key].role == role {
            return;
        }
        // What the old role has kept off may come now.
        match &self.units[key].role {
            Role::Absent => {}
            Role::Single { .. } => self.units[key].at.clone().into_iter().for_each(|on| self.wake_related(key, on)),
            Role::Global { .. } => self.globals.remove(&self.units[key].name),
        }
        // A pending unit that follows this one has been judged by a `MachineOf`, or as part of a cycle, that may have
        // changed with it.
        let followers = self.units.followers(key).into_iter();
        let hopeful = followers.filter(|&follower| self.pending.contains(&self.units[follower].name));
        self.mark_all(hopeful.collect());
        self.mark_held_back(key);
        let name = &self.units[key].name;
        self.pending.remove(name);
        self.unplaced.remove(name);

        if let Role::Global { requirements, wanted: true } = &role {
            self.globals.insert(name, requirements);
        }
        if !self.units.get_mut(key).role.take_wanted(&role) {
            if let Role::Single { requirements, .. } = &role {
                self.machines.rank_by(&requirements.metadata);
            }
            self.units.set_role(key, role);
            let unit = &self.units[key];
            unit.at.iter().for_each(|&on| self.machines.set_hint(on, key, unit.conflict_hint()));
        }
        self.units[key].at.clone().into_iter().for_each(|on| self.assert_place(key, on));
        self.mark(key);
    }

    /// Marks the units that cannot leave a machine that is being emptied because this one, which goes with them, cannot.
    fn mark_held_back(&mut self, key: UnitKey) {
        let drained = self.units[key].at.iter().copied().filter(|&on| self.machines[on].status == Status::Draining);
        let colocated = drained.flat_map(|on| self.units.colocated(key, |unit| unit.at.contains(&on)));
        self.mark_all(colocated.collect());
    }

    /// The store shows a placement, or its removal.
    fn observe(&mut self, key: UnitKey, change: PlacementChange) {
        if !self.units.set_stored(key, change) {
            return;
        }
        if !change.placed {
            remove_from(&mut self.departing, &change.machine, &key);
        } else if !self.units[key].at.contains(&change.machine) {
            self.departing.entry(change.machine).or_default().insert(key);
        }
        let unit = self.units.get_mut(key);
        let expected = unit.strike_off(change);
        let fulfilled = !unit.under_way.is_empty() || unit.at == unit.stored;
        if !expected || !fulfilled {
            self.believe_store(key);
        }
    }

    fn believe_store(&mut self, key: UnitKey) {
        let unit = self.units.get_mut(key);
        unit.under_way = VecDeque::new();
        unit.leaving = unit.recalled.clone();
        let (was, is) = (unit.at.clone(), unit.stored.clone());
        was.iter().filter(|on| !is.contains(on)).for_each(|&on| self.leave(key, on));
        for &on in is.iter().filter(|on| !was.contains(on)) {
            self.arrive(key, on);
            self.assert_place(key, on);
        }
        self.mark(key);
    }

    /// A unit is on a machine by the store's word, or has changed there. Unlike one that was placed it may be where
    /// it does not fit, and others have to give way to it.
    fn assert_place(&mut self, key: UnitKey, on: MachineKey) {
        if self.units[key].single().is_some_and(|requirements| !requirements.replaces.is_empty()) {
            self.mark_all_on(on);
        }
    }

    /// Enters a unit on a machine.
    pub(super) fn arrive(&mut self, key: UnitKey, on: MachineKey) {
        let unit = self.units.get_mut(key);
        debug_assert!(!unit.at.contains(&on), "{} is on a machine already", unit.name);
        unit.leaving.remove(&on);
        unit.at.push(on);
        remove_from(&mut self.departing, &on, &key);
        self.machines.enter(on, key, unit.conflict_hint());
        self.mark_all(self.units[key].followers.iter().copied().collect());
    }

    /// Takes a unit from a machine; those that waited for this are tried there.
    pub(super) fn leave(&mut self, key: UnitKey, on: MachineKey) {
        let unit = self.units.get_mut(key);
        unit.at.retain(|machine| *machine != on);
        if unit.stored.contains(&on) {
            self.departing.entry(on).or_default().insert(key);
        }
        self.machines.leave(on, key);
        self.draft.reopen(on);
        self.mark_all(self.units[key].followers.iter().copied().collect());
        self.wake_related(key, on);
    }

    fn wake_related(&mut self, key: UnitKey, on: MachineKey) {
        if let Some((name, requirements)) = self.units[key].party() {
            self.wake(self.pending.related_to(name, requirements), on);
        }
    }

    /// Has pending units tried on one machine.
    fn wake(&mut self, units: Vec<UnitKey>, on: MachineKey) {
        for unit in units {
            let name = &self.units[unit].name;
            let unplaced = self.unplaced.entry(name.clone());
            let unplaced = unplaced.or_insert_with(|| Unplaced { unit, scope: Scope::Only(BTreeSet::new()) });
            if let Scope::Only(machines) = &mut unplaced.scope {
                machines.insert(on);
            }
        }
    }

    fn mark_all_on(&mut self, machine: MachineKey) {
        self.mark_all(self.machines[machine].units().collect());
    }

    fn mark_all(&mut self, units: Vec<UnitKey>) {
        units.into_iter().for_each(|unit| self.mark(unit));
    }

    pub(super) fn mark(&mut self, key: UnitKey) {
        self.dirty.insert(self.units[key].name.clone(), key);
    }
}
