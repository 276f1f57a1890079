//! Which machine runs which unit, and why or why not.
//!
//! A [`Planner`] is told what the store says, and asked for decisions, and where global units belong
//! ([`Planner::global`]). An [`Input`] tells a planner all that differs between two snapshots of the cluster: so do those who explain
//! decisions ([`Input::explain`]) and the judges of the simulation.
//!
//! ```text
//!  set_unit  set_machine  placed  refused        what changed, from the store
//!      │          │          │       │
//!      └──────────┴────┬─────┴───────┘
//!                      ▼
//!     ┌──────────────────────────────────┐
//!     │ dirty     units to be judged     │       each change marks what it may concern, by indexes:
//!     │ unplaced  units to be placed     │       nothing else is looked at
//!     └──────────────────────────────────┘
//!                      │ plan()
//!          judge: does it fit where it is? ── yes ─→ stays; nothing moves for balance
//!                      │ no
//!                      ▼
//!          place: least loaded that fits ─── none ─→ pending, until something there changes
//!                      │
//!                      ▼
//!                  Decision ──→ transaction ──→ placed() confirms it, refused() takes it back
//! ```
//!
//! **What goes in.** Units, global units, machines with their metadata, and the placements in the store, in any order
//! and as often as the store repeats them. **What comes out.** Decisions that bring the placements in line, each with
//! its reason. A decision is assumed to take effect, so that plans need not wait for the store; where the store shows
//! something else, the store is right.
//!
//! **What is guaranteed** after each `plan()`, of all placements on machines that are up (DESIGN.md, section 9, I1 and
//! I3): no requirement is violated, every wanted unit that fits somewhere is somewhere, no other unit is anywhere, and
//! a second `plan()` without news decides nothing. Plans are deterministic: they depend on what changed, not on the
//! order in which the planner was told.
//!
//! # Rules
//!
//! * **Choice**: the least loaded machine that fits; load is the number of units scheduled to it. Of equally
//!   loaded ones it is the one with the least ID.
//! * **Staying**: a unit stays where it fits. It leaves when its machine is gone, its `MachineID` or metadata do not
//!   hold any more, a target of its `MachineOf` has left, a unit there replaces it, or it is in conflict with another.
//!   Of two units in conflict on one machine the one that *changed* leaves (new requirements, or placed there by the
//!   store); when both changed, the one whose name sorts first stays.
//! * **`MachineOf`**: all targets must be scheduled to the machine. A follower follows in the same plan. Units that
//!   follow each other in a cycle are placed together or not at all.
//! * **`Conflicts`**: both ways, whoever declares it.
//! * **Global units** yield to all others, whichever came first: see [`GlobalJudge`]. An ordinary unit goes where one in
//!   conflict with it would have to leave only when it fits nowhere else.
//! * **`Replaces`**: the unit goes where a unit is that it replaces, least loaded first, and that one is moved; the two
//!   are never on one machine. When no replaced unit is placed, or the unit fits at none of their places, it is placed
//!   like any other. When two replace each other, neither does. A unit cannot replace what it follows. A unit that is
//!   itself being replaced looks for a free place before it replaces others.
//! * **Duplicates**: of several placements of one unit the valid one on the machine with the least ID stays.
//! * **Held machines** ([`Planner::hold_machine`]): what is there stays as it is, nothing new is added.
//! * **Drained machines** ([`Planner::drain_machine`]): nothing new is added; what is there goes where else it fits, those
//!   that must be together all at once, and nobody has to leave for them. What fits nowhere else stays.
//! * **Strict units** (`OnPartition=stop`): a decision takes one from a machine that is there, and no decision places it
//!   until [`Planner::given_up`] says that it is down; meanwhile it can only go back. On a machine that is gone it stays
//!   as long as [`Planner::hold_unit`] says so.

mod conflicts;
mod contents;
mod draft;
mod explain;
mod filter;
mod fit;
mod global;
mod groups;
mod hint;
mod ids;
mod input;
mod judge;
mod keys;
mod machines;
mod names;
mod pending;
mod placements;
mod plan;
mod planner;
mod ranking;
mod reason;
mod search;
mod units;
mod verdict;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use contents::{Contents, Copies, Fault};
pub use global::globals_for;
pub use input::{Applied, Held, Input, Known, Unread};
pub use judge::GlobalJudge;
pub use placements::Placements;
pub use plan::Decision;
pub use planner::Planner;
pub use reason::{Cause, Choice, Reason, Tally, Unplaceable};
pub use verdict::{Explanation, Verdict, VerdictReason};
