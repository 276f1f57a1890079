//! CoreOS's `#cloud-config` on any host with systemd, and what CoreOS never could: units for the cluster in it.
//!
//! ```text
//!   text ──▶ yaml ──▶ document ─┐
//!                               ├──▶ plan ──▶ actions ──▶ apply
//!   host ──▶ survey ──▶ present ┘   (pure)
//! ```
//!
//! [`Document::parse`] tells all that is wrong with a document, each with its line. [`plan()`] is a pure function of a
//! document and of what [`survey()`] found; on a host that is as the document says it gives nothing to do.
//! [`apply()`] carries out what it gives. The units for the cluster are only read here; fleetd submits them.

mod action;
mod apply;
mod conf;
mod document;
mod encoding;
mod fault;
mod plan;
mod present;
mod reader;
mod survey;
mod yaml;

pub use action::Action;
pub use apply::{Applied, apply, remember};
pub use document::{Check, ClusterUnit, Document, DropIn, File, Owner, Reading, Settings, Unit, User, Verb};
pub use fault::{Fault, Mark, Note};
pub use plan::{Plan, plan};
pub use present::{Account, Entry, Present, UnitState};
pub use reader::Addresses;
pub use survey::survey;
