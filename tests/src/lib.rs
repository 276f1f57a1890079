//! What the cluster tests have in common: a cluster in the lab, an etcd alone, copies that tell of themselves; and
//! the soak, which draws faults by seed; the bench; and a thousand simulated machines on a real etcd.
//!
//! The tests are in `tests/`; they need root, systemd-nspawn and etcd, and fail with a clear error without.

pub mod bench;
pub mod butane;
mod cluster;
pub mod contract;
pub mod copies;
pub mod docs;
mod etcd;
pub mod fresh;
pub mod http;
pub mod place;
mod registry;
pub mod scale;
pub mod soak;
pub mod trial;

pub use cluster::{Cluster, DEADLINE, Row, Run};
pub use etcd::EtcdProcess;
pub use registry::Registry;
