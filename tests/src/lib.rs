//! What the cluster tests have in common: a cluster in the lab, an etcd alone, a registry of images.
//!
//! The tests are in `tests/`; they need root, systemd-nspawn and etcd, and fail with a clear error without.

pub mod butane;
mod cluster;
pub mod contract;
pub mod docs;
mod etcd;
pub mod fresh;
pub mod http;
mod registry;

pub use cluster::{Cluster, DEADLINE, Row, Run};
pub use etcd::EtcdProcess;
pub use registry::Registry;
