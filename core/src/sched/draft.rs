//! The draft of a plan: what has been moved so far, and what has been learned on the way.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    keys::{MachineKey, UnitKey},
    reason::{Cause, Choice, Tally},
    units::Places,
};
use crate::unit::Requirements;

/// What has happened in the plan so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// Boxed because a node of them unboxed is too large for the allocator's quick ways.
    pub touched: BTreeMap<UnitKey, Box<Touched>>,
    /// How often units had to leave for one that replaces them.
    pub displaced: BTreeMap<UnitKey, usize>,
    /// What the last search in vain has taught.
    pub ruled_out: Option<Box<RuledOut>>,
    pub steps: usize,
}

/// A unit that the plan has moved.
#[derive(Debug)]
pub(super) struct Touched {
    /// Where it was before the plan.
    pub before: Places,
    pub left: Option<Cause>,
    pub chosen: Option<Choice>,
    /// When it was touched last: decisions come out in this order, targets before followers.
    pub step: usize,
}

impl Draft {
    /// A unit has left this machine: it is worth a look again.
    pub fn reopen(&mut self, machine: MachineKey) {
        if let Some(ruled_out) = &mut self.ruled_out {
            ruled_out.open.insert(machine);
        }
    }
}

/// What a search in vain teaches about the next unit that wants the same, such as one more instance of a template of
/// which there are more than machines: only a few machines are worth a look.
#[derive(Debug)]
pub(super) struct RuledOut {
    pub requirements: Arc<Requirements>,
    /// The machines that these requirements rule out, whatever the unit's name.
    pub tally: Tally,
    /// All others: those that something else spoke against, and those that a unit has left since.
    pub open: BTreeSet<MachineKey>,
}
