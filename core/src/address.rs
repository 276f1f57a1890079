//! Addresses: what people write for a host and for etcd, and the one that a host has itself.

mod choice;
mod host;
mod server;

pub use choice::{Known, Route, own_address};
pub use host::{HostAddress, HostError};
pub use server::{Server, ServerError};
