//! What a cluster costs at the size that people ask about: simulated machines, a real etcd.
//!
//! Each machine is a [`fleetd::node::Node`], which is what a host runs: membership, agent, publisher, candidate.
//! Only its systemd and its disk are in memory. Units are submitted through the HTTP API of the first machine.
//! [`campaign`] does one thing after the other to the cluster and holds the end state of each against what was wanted;
//! [`counted`] counts what the machines ask of etcd and hear from it, [`figures`] what that costs, [`floor`] what plain
//! etcd takes to write the same keys, and [`report`] makes the table. [`globals`] measures global units as entries of
//! the schedule, in a cluster that is too large to be simulated whole.

pub mod campaign;
mod cluster;
mod counted;
mod figures;
mod floor;
pub mod globals;
mod machine;
mod operator;
pub mod report;
mod units;
