//! What one host does with its units, as decisions: a [`Cell`] holds all that is known of one unit here and says what is
//! the next step, what is to be reported, and when to look again. [`Cells`] are those of a host.
//!
//! ```text
//!   what the cluster wants ──▶ ┌──────┐ ──▶ step    next_step, see `step`
//!   what systemd says      ──▶ │ cell │ ──▶ report  the state record
//!   how a step went        ──▶ └──────┘ ──▶ wake    when to ask again though nothing happens
//! ```
//!
//! Nothing in here knows a clock: every time is a duration since some moment that the owner has chosen, but for `since`,
//! which is in seconds since 1970. The agent in `fleetd` tells cells what happens, and carries out what they say.

mod assignment;
mod cell;
mod cells;
mod fence;
mod installed;
mod release;
mod retry;
mod runtime;
mod start;
mod step;
mod trouble;

pub use assignment::{Assignment, Recall, Wanted};
pub use cell::Cell;
pub use cells::{Cells, DesiredSet, Reassigned};
pub use installed::Installed;
pub use runtime::{Active, Job, Runtime};
pub use start::{CONFIRM, SETTLE, START_GRACE};
pub use step::{Step, next_step};
