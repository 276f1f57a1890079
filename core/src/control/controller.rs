//! What all controllers have in common.

use std::time::Duration;

use super::{Answer, Change, Facts, Outcome};
use crate::{
    model::{Key, Kind},
    sched::Planner,
};

/// Decides about the keys of one kind, which is known to its driver.
pub trait Controller {
    /// The kinds of keys of which a change matters to it now. It is told of others, too, but not for their sake.
    fn follows(&self) -> &'static [Kind];

    /// What is to be done now. It is told of every change of the snapshot, once. The planner knows the facts; only one
    /// asks it for decisions.
    fn reconcile(&mut self, facts: &Facts<'_>, planner: &mut Planner) -> Outcome;

    /// What became of a change that it wanted.
    fn answered(&mut self, change: &Change, answer: Answer, now: Duration);

    /// The keys of the kind that it writes, when it has asked for them; `None`: the store did not tell.
    fn listed(&mut self, _keys: Option<Vec<Key>>, _now: Duration) {}
}
