//! The decisions of fleet as pure functions of a snapshot.
//!
//! Nothing in this crate does IO, asks a clock or draws a random number: time and identity are arguments.
//! A bug report should reduce to one call in here with literal arguments.
//!
//! * [`address`]: what people write for a host and for etcd, and the address that a host has itself.
//! * [`unit`]: unit files and what they mean: syntax, names, templates, specifiers, hash, `[X-Fleet]` options.
//! * [`model`]: the nouns of a cluster and their form in etcd (keys and values).
//! * [`ops`]: what a request changes, as guarded writes or a refusal.
//! * [`sched`]: which machine runs which unit, and why or why not.
//! * [`control`]: what the engine that leads decides: its controllers, and which machines are lost.
//! * [`host`]: what one host does with each of its units: the next step, what is reported, when to look again.

pub mod address;
pub mod control;
pub mod host;
pub mod model;
pub mod ops;
pub mod sched;
pub mod unit;
