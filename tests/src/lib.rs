//! What the cluster tests have in common: a cluster in the lab, and an etcd alone.
//!
//! The tests are in `tests/`; they need root, systemd-nspawn and etcd, and fail with a clear error without.

mod cluster;
pub mod contract;
mod etcd;
pub mod http;

pub use cluster::{Cluster, DEADLINE, Row, Run};
pub use etcd::EtcdProcess;
