//! What the engine that leads decides, as pure functions of a snapshot of the cluster and the time.
//!
//! [`Losses`] keeps account of the machines that are gone. On it, and on the other [`Facts`], rest the *controllers*: each
//! is told what has changed, and answers with an [`Outcome`]: what is to be written, when to ask again though nothing may
//! have changed, and what is to be said in the log. Each writes keys of one kind, and no other controller writes those:
//!
//! | controller | writes | decides |
//! |---|---|---|
//! | [`Scheduler`] | `sched/` | which machine runs which unit, and by which steps a unit gets from one to the other: [`handover`] |
//! | [`Evictions`] | `metadata/` | when an eviction is over |
//! | [`HeldBack`] | `engine/held` | what is told of machines and units that are held |
//! | [`InUse`] | `in-use` | when the cluster begins to use what older hosts do not understand |
//! | [`Collection`] | `file/` | which unit files nothing uses any more |
//!
//! Nothing in here knows a clock: every time is a duration since the moment that the leader counts from.

mod change;
mod collection;
mod controller;
mod evictions;
mod facts;
mod globals;
pub mod handover;
mod held_back;
mod in_use;
mod losses;
mod placement;
#[cfg(test)]
mod tests;

pub use change::{Answer, Change, Event, Outcome};
pub use collection::Collection;
pub use controller::Controller;
pub use evictions::Evictions;
pub use facts::Facts;
pub use held_back::HeldBack;
pub use in_use::InUse;
pub use losses::{HeldBy, HeldMachine, Losses, TOGETHER, hold};
pub use placement::Scheduler;
