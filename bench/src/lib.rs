//! What fleet costs and what it endures, measured on real hosts and on a real etcd.
//!
//! [`compare`] holds it against `systemctl` and plain etcd (`make bench`), [`scale`] runs a thousand simulated machines
//! on one etcd (`make scale`), [`soak`] draws faults by seed and judges what came of them (`make faults`). [`place`] puts
//! a result into its document. The tests run all three at small size.

pub mod compare;
pub mod place;
pub mod scale;
pub mod soak;
