//! Global units of a host that begins to go by their placements.
//!
//! To a host that was away when all others were given placements, the engine gives them once it is back, and an election
//! may take until then. And a host that has heard of all changes so far may have carried out one that is not placed yet.
//! So what was wanted stands until the placement is there, for a while.

use std::{collections::BTreeMap, time::Duration};

use fleet_core::{
    host::{DesiredSet, Wanted},
    unit::UnitName,
};

/// How long placements may be behind what the agent has just done by itself.
const CATCH_UP: Duration = Duration::from_secs(5);
/// How long they may take to come at all: longer than an election.
const ARRIVAL: Duration = Duration::from_secs(60);

/// What was wanted of the units whose placements do not say so yet; `None`: that they are not here.
#[derive(Debug, Default)]
pub(super) struct Carried {
    since: Duration,
    /// Whether what was wanted was how things were, until now.
    followed: bool,
    units: BTreeMap<UnitName, Option<Wanted>>,
}

impl Carried {
    /// Begins with these.
    pub fn new(units: BTreeMap<UnitName, Option<Wanted>>, followed: bool, now: Duration) -> Self {
        Self { since: now, followed, units }
    }

    /// Has them stay in a set as they were. Those of which it says the same, or more than is known here, are let go.
    /// Returns whether any are left.
    pub fn keep(&mut self, desired: &mut DesiredSet, now: Duration) -> bool {
        let may_come = now < self.since + ARRIVAL;
        let may_be_behind = self.followed && now < self.since + CATCH_UP;
        self.units.retain(|unit, before| match (&*before, desired.units.get(unit)) {
            (Some(before), None) if may_come => {
                desired.units.insert(unit.clone(), *before);
                true
            }
            (Some(before), Some(placed)) if may_be_behind && !is_same(before, placed) => {
                desired.units.insert(unit.clone(), *before);
                true
            }
            (None, Some(_)) if may_be_behind => {
                desired.units.remove(unit);
                true
            }
            _ => false,
        });
        !self.units.is_empty()
    }
}

/// Whether a placement asks for what the agent had decided. A unit that a restart has not come to yet was content with any
/// generation.
fn is_same(before: &Wanted, placed: &Wanted) -> bool {
    *before == Wanted { generation: before.generation.and(placed.generation), ..*placed }
}
