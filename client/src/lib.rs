//! The HTTP API of one fleetd as calls, for fleetctl and for programs.
//!
//! * [`Transport`] is the way to fleetd: a unix socket, TCP, or either of them through SSH.
//! * [`Client`] has a method for each resource, with the types of `fleet-api`. Connections are kept and used again.
//! * [`ClientError`] says why there is no good answer, with fleetd's own reason where it has one.

mod changes;
mod client;
mod error;
mod event;
#[cfg(test)]
mod fake;
mod host_port;
mod list;
mod machines;
mod pool;
mod ssh;
mod taken;
mod transport;
mod units;
mod version;
mod watch;

pub use self::{
    changes::NamedError,
    client::Client,
    error::{ClientError, os_message},
    event::Event,
    host_port::HostPort,
    ssh::Ssh,
    taken::Taken,
    transport::{DEFAULT_ENDPOINT, Endpoint, Transport},
    units::Rolling,
    watch::{STREAM, StatusLines},
};

type Result<T> = std::result::Result<T, ClientError>;

#[cfg(test)]
mod tests;
