//! Units of which an old copy runs on until the new one does.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    control::Facts,
    model::MachineId,
    sched::{Cause, Decision},
    unit::UnitName,
};

/// How long the old copy of a unit waits for the new one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The units whose old copy waits. It waits for as long as the new one's machine is away, and for [`PATIENCE`] since
/// that is there.
#[derive(Debug, Default)]
pub struct Overlap {
    /// Since when the new copy's machine has been there, if it is.
    waiting: BTreeMap<UnitName, Option<Duration>>,
    /// The units whose new copy is not as far as it will come.
    unsettled: BTreeSet<UnitName>,
}

impl Overlap {
    /// What this becomes with new decisions.
    pub fn next(&self, decisions: &[Decision], facts: &Facts<'_>) -> Self {
        let unsettled = unsettled(decisions, facts);
        let mut waiting = BTreeMap::new();
        for decision in decisions {
            let (unit, Some(to)) = (&decision.unit, &decision.to) else { continue };
            let may_wait = matches!(decision.reason.left, Some(Cause::Draining | Cause::Duplicate { .. }))
                || self.waiting.contains_key(unit);
            if may_wait && unsettled.contains(unit) && !facts.is_strict(unit) {
                let since = self.waiting.get(unit).copied().flatten();
                waiting.insert(unit.clone(), facts.is_there(to).then(|| since.unwrap_or(facts.now)));
            }
        }
        Self { waiting, unsettled }
    }

    /// The units that it is about.
    pub fn units(&self) -> impl Iterator<Item = &UnitName> {
        self.waiting.keys()
    }

    /// Whether it is known of a unit already.
    pub fn contains(&self, unit: &UnitName) -> bool {
        self.waiting.contains_key(unit)
    }

    /// Whether the old copy of a unit is to run on for now.
    pub fn keeps(&self, unit: &UnitName, now: Duration) -> bool {
        let is_patient = |since: &Option<Duration>| since.is_none_or(|since| now < since + PATIENCE);
        self.unsettled.contains(unit) && self.waiting.get(unit).is_some_and(is_patient)
    }

    /// When patience with one of them ends next.
    pub fn due(&self, now: Duration) -> Option<Duration> {
        self.waiting.values().flatten().map(|since| *since + PATIENCE).filter(|at| *at > now).min()
    }
}

/// The units whose new copy is not as far as it will come, and those that such a unit must be with: of units that must
/// be together none loses its old copy alone.
fn unsettled(decisions: &[Decision], facts: &Facts<'_>) -> BTreeSet<UnitName> {
    let moving: BTreeMap<UnitName, &MachineId> =
        decisions.iter().filter_map(|decision| Some((decision.unit.clone(), decision.to.as_ref()?))).collect();
    let open = moving.iter().filter(|(unit, machine)| !facts.is_settled(unit, machine));
    let mut open: Vec<&UnitName> = open.map(|(unit, _)| unit).collect();
    let mut unsettled: BTreeSet<UnitName> = open.iter().map(|unit| (*unit).clone()).collect();
    while let Some(unit) = open.pop() {
        let targets = facts.known.contents.of(unit).into_iter().flat_map(|wanted| &wanted.machine_of);
        let targets = targets.filter_map(|target| Some(moving.get_key_value(target.as_str())?.0));
        open.extend(targets.filter(|target| unsettled.insert((*target).clone())));
    }
    unsettled
}
