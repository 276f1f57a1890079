//! The plan: judges what is dirty, places what is unplaced, and says what came of it.

use std::collections::BTreeSet;

use super::{
    conflicts::replaces,
    draft::Touched,
    groups::groups,
    keys::{MachineKey, UnitKey},
    machines::Status,
    planner::{Planner, Scope, Unplaced},
    reason::{Cause, Reason, Unplaceable},
    search::{Found, NotFound},
    units::{PlacementChange, Role},
};
use crate::{model::MachineId, unit::UnitName};

/// One unit's way from where it was to where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The unit.
    pub unit: UnitName,
    /// Placements to remove.
    pub from: Vec<MachineId>,
    /// Where it is scheduled from now on. It may be there already, when only duplicates have to go.
    pub to: Option<MachineId>,
    /// Why.
    pub reason: Reason,
}

/// Most units for which a place is sought together because some of them follow others.
const COLOCATED: usize = 100;

impl Planner {
    /// Plans what has changed since the last plan, and no more.
    /// The decisions are assumed to take effect: the next plan builds on them, until the store says otherwise.
    pub fn plan(&mut self) -> Vec<Decision> {
        loop {
            self.judge_dirty();
            let Some(first) = self.unplaced.values().next().map(|unplaced| unplaced.unit) else { break };
            self.machines.rank();
            self.place_with_targets(first);
        }
        let decisions = self.conclude();
        self.units.sweep();
        decisions
    }

    fn judge_dirty(&mut self) {
        while let Some((_, unit)) = self.dirty.pop_first() {
            self.judge(unit);
        }
    }

    /// Decides where a unit stays, if anywhere.
    fn judge(&mut self, key: UnitKey) {
        let unit = &self.units[key];
        let name = unit.name.clone();
        let mut places = unit.at.clone();
        if unit.wanted().is_none() {
            let cause = if matches!(unit.role, Role::Single { .. }) { Cause::NotWanted } else { Cause::Removed };
            self.unplaced.remove(&name);
            return places.into_iter().for_each(|on| self.release(key, on, cause.clone()));
        }
        // One that is being drained keeps a unit only when no other has it.
        let rank = |on: &MachineKey| (self.machines[*on].status == Status::Draining, &self.machines[*on].id);
        places.sort_by(|one, other| rank(one).cmp(&rank(other)));
        let mut kept: Option<MachineKey> = None;
        for on in places {
            match (self.stays(key, on), kept) {
                (Ok(()), None) => kept = Some(on),
                (Ok(()), Some(_)) if self.machines[on].status == Status::Draining => {
                    self.release(key, on, Cause::Draining);
                }
                (Ok(()), Some(kept)) => {
                    let kept = self.machines[kept].id.clone();
                    self.release(key, on, Cause::Duplicate { kept });
                }
                (Err(cause), _) => self.release(key, on, cause),
            }
        }
        if kept.is_some_and(|on| self.machines[on].status != Status::Draining) {
            self.unplaced.remove(&name);
            self.pending.remove(&name);
        } else {
            self.unplaced.insert(name, Unplaced { unit: key, scope: Scope::All });
        }
    }

    /// Places a unit, but first those of its targets that are unplaced, too.
    ///
    /// The way to the targets ends at placed ones: all *their* targets are placed with them.
    fn place_with_targets(&mut self, key: UnitKey) {
        if !self.units[key].at.is_empty() {
            return self.resettle(key);
        }
        let targets = |key| {
            let targets = self.units[key].targets.iter().copied();
            targets
                .filter(|&target| self.units[target].single().is_some() && self.units[target].at.is_empty())
                .collect()
        };
        for mut group in groups(key, targets) {
            // A group placed a moment ago may have driven others away.
            self.judge_dirty();
            group.sort_by(|one, other| self.units[*one].name.cmp(&self.units[*other].name));
            let scopes = group.iter().filter_map(|&member| self.unplaced.remove(&self.units[member].name));
            if let Some(scope) = scopes.map(|unplaced| unplaced.scope).reduce(Scope::or) {
                self.place(&group, scope);
            }
        }
    }

    /// Moves a unit off a machine that is being drained, with all that must stay with it; or leaves them where they are.
    fn resettle(&mut self, key: UnitKey) {
        // A group placed a moment ago may have driven others away.
        self.judge_dirty();
        let Some(&on) = self.units[key].at.first() else { return };
        let Some(Unplaced { scope, .. }) = self.unplaced.remove(&self.units[key].name) else { return };
        let mut group: Vec<UnitKey> = self.units.colocated(key, |unit| unit.at.contains(&on)).into_iter().collect();
        group.sort_by(|one, other| self.units[*one].name.cmp(&self.units[*other].name));
        let scopes = group.iter().filter_map(|&member| self.unplaced.remove(&self.units[member].name));
        let scope = scopes.map(|unplaced| unplaced.scope).fold(scope, Scope::or);
        match self.find_another(&group, scope) {
            Ok(Found { machine, choice, .. }) => {
                for &unit in &group {
                    self.pending.remove(&self.units[unit].name);
                }
                // One that must be down before it starts elsewhere leaves first, and those that must be where it is
                // come with it. The others lead the way: it will go where they are.
                let strict: Vec<UnitKey> = group.iter().copied().filter(|&unit| self.units[unit].is_strict()).collect();
                let wait: BTreeSet<UnitKey> = strict.iter().flat_map(|&unit| self.units.followers(unit)).collect();
                let goes = |unit: &UnitKey| !strict.contains(unit) && !wait.contains(unit);
                for &unit in group.iter().filter(|unit| goes(unit) || strict.contains(unit)) {
                    self.release(unit, on, Cause::Draining);
                }
                for &unit in group.iter().filter(|unit| goes(unit)) {
                    self.touch(unit).chosen = Some(choice.clone());
                    self.arrive(unit, machine);
                }
                for unit in group.into_iter().filter(|unit| !goes(unit)) {
                    self.mark(unit);
                }
            }
            Err(not_found) => self.note_pending(&group, not_found),
        }
    }

    /// Places units that must be together: one unit, or a cycle of `MachineOf`.
    fn place(&mut self, group: &[UnitKey], scope: Scope) {
        let leaving =
            group.iter().flat_map(|&unit| &self.units[unit].leaving).copied().min_by_key(|&on| &self.machines[on].id);
        let found = match leaving {
            None => match self.place_with_followers(group, &scope) {
                true => return,
                false => self.find(group, scope),
            },
            Some(on) => self
                .find_again(group, on)
                .ok_or_else(|| Unplaceable::Leaving { machine: self.machines[on].id.clone() }.into()),
        };
        match found {
            Ok(Found { machine, leaving, choice }) => {
                // Before anything leaves, lest they be woken by what leaves for them.
                for &unit in group {
                    self.pending.remove(&self.units[unit].name);
                }
                for unit in leaving {
                    self.displace(unit, machine, group);
                }
                for &unit in group {
                    self.touch(unit).chosen = Some(choice.clone());
                    self.arrive(unit, machine);
                }
            }
            Err(not_found) => self.note_pending(group, not_found),
        }
    }

    /// Places units where those fit, too, that must be with them and are on no machine. Whether there is such a place.
    fn place_with_followers(&mut self, group: &[UnitKey], scope: &Scope) -> bool {
        let group = self.with_followers(group);
        let Ok(Found { machine, choice, .. }) = self.find_for_all(&group, scope) else { return false };
        for &unit in &group {
            let name = self.units[unit].name.clone();
            self.pending.remove(&name);
            self.unplaced.remove(&name);
            self.touch(unit).chosen = Some(choice.clone());
            self.arrive(unit, machine);
        }
        true
    }

    /// Units, and all on no machine that must be where they are and have no other reason to wait. Only the units when
    /// these are too many to be compared with each other.
    fn with_followers(&self, group: &[UnitKey]) -> Vec<UnitKey> {
        let mut all: Vec<UnitKey> = group.to_vec();
        let mut seen: BTreeSet<UnitKey> = group.iter().copied().collect();
        let mut next = 0;
        while let Some(&unit) = all.get(next) {
            next += 1;
            for &follower in &self.units[unit].followers {
                let unit = &self.units[follower];
                if unit.wanted().is_some() && unit.at.is_empty() && unit.leaving.is_empty() && seen.insert(follower) {
                    all.push(follower);
                }
            }
            if all.len() > COLOCATED {
                return group.to_vec();
            }
        }
        // Without a target of theirs they cannot come.
        loop {
            let newcomers = self.newcomers(&all);
            let waits = |unit: UnitKey| self.missing_target_of(unit, &newcomers).is_some();
            let come: Vec<UnitKey> =
                all.iter().copied().filter(|&unit| group.contains(&unit) || !waits(unit)).collect();
            if come.len() == all.len() {
                break;
            }
            all = come;
        }
        let mut rest = all.split_off(group.len());
        rest.sort_by(|one, other| self.units[*one].name.cmp(&self.units[*other].name));
        while !rest.is_empty() {
            // Targets come first, as far as there is no cycle.
            let is_next = |unit: &UnitKey| !self.units[*unit].targets.iter().any(|target| rest.contains(target));
            let next = rest.iter().position(is_next).unwrap_or_default();
            all.push(rest.remove(next));
        }
        all
    }

    fn note_pending(&mut self, group: &[UnitKey], NotFound { reason, ruled_out }: NotFound) {
        if ruled_out.is_some() {
            self.draft.ruled_out = ruled_out;
        }
        for &key in group {
            let unit = &self.units[key];
            let Some(requirements) = unit.wanted() else { continue };
            if let Some(reason) = &reason {
                self.pending.insert(&unit.name, key, requirements, reason.clone());
            }
        }
    }

    /// Moves a unit out of the way of those that replace it.
    fn displace(&mut self, key: UnitKey, on: MachineKey, group: &[UnitKey]) {
        let unit = &self.units[key];
        let name = unit.name.clone();
        let cause = group.iter().find_map(|&member| {
            let by = self.units[member].party()?;
            let pattern = replaces(by, unit.party()?)?.clone();
            Some(Cause::ReplacedBy { by: by.0.clone(), pattern })
        });
        *self.draft.displaced.entry(key).or_default() += 1;
        self.release(key, on, cause.unwrap_or(Cause::Removed));
        self.unplaced.insert(name, Unplaced { unit: key, scope: Scope::All });
    }

    fn release(&mut self, key: UnitKey, on: MachineKey, cause: Cause) {
        let touched = self.touch(key);
        touched.left = Some(cause);
        touched.chosen = None;
        if self.units[key].is_strict() && self.machines[on].status != Status::Gone {
            self.units.get_mut(key).leaving.insert(on);
        }
        self.leave(key, on);
    }

    fn touch(&mut self, key: UnitKey) -> &mut Touched {
        let unit = &self.units[key];
        let before = || Box::new(Touched { before: unit.at.clone(), left: None, chosen: None, step: 0 });
        let touched = self.draft.touched.entry(key).or_insert_with(before);
        self.draft.steps += 1;
        touched.step = self.draft.steps;
        touched
    }

    /// Ends the plan: the difference that it made, as decisions, and as what is assumed from now on.
    fn conclude(&mut self) -> Vec<Decision> {
        let draft = std::mem::take(&mut self.draft);
        let mut touched: Vec<_> = draft.touched.into_iter().collect();
        touched.sort_by_key(|(_, touched)| touched.step);
        touched.into_iter().filter_map(|(unit, touched)| self.decide(unit, *touched)).collect()
    }

    fn decide(&mut self, unit: UnitKey, Touched { before, left, chosen, .. }: Touched) -> Option<Decision> {
        let unit = self.units.get_mut(unit);
        let leaves: Vec<MachineKey> = before.iter().copied().filter(|on| !unit.at.contains(on)).collect();
        let enters: Vec<MachineKey> = unit.at.iter().copied().filter(|on| !before.contains(on)).collect();
        if leaves.is_empty() && enters.is_empty() {
            return None;
        }
        let removed = leaves.iter().map(|&machine| PlacementChange { machine, placed: false });
        let added = enters.iter().map(|&machine| PlacementChange { machine, placed: true });
        unit.under_way.push_back(removed.chain(added).collect());
        let mut from: Vec<MachineId> = leaves.iter().map(|&on| self.machines[on].id.clone()).collect();
        from.sort();
        let to = unit.at.first().map(|&on| self.machines[on].id.clone());
        let left = left.filter(|_| !from.is_empty());
        let chosen = chosen.filter(|_| !enters.is_empty());
        Some(Decision { unit: unit.name.clone(), from, to, reason: Reason { left, chosen } })
    }
}

impl Scope {
    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Only(mut one), Self::Only(other)) => {
                one.extend(other);
                Self::Only(one)
            }
            _ => Self::All,
        }
    }
}
