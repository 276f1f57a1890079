//! Who asks for a change.

use std::{fmt, net::SocketAddr};

/// Who asks for a change, as far as the connection tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// A process on this host, which came by the unix socket.
    Local {
        /// Its user.
        uid: u32,
        /// The user's name, if it has one.
        name: Option<String>,
    },
    /// Whoever reached the TCP port: nobody says who that is.
    Tcp(SocketAddr),
    /// A connection that does not tell.
    Unknown,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local { name: Some(name), .. } => f.write_str(name),
            Self::Local { uid, name: None } => write!(f, "uid {uid}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Unknown => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_are_told_in_a_word_or_two() {
        let local = |name: Option<&str>| Actor::Local { uid: 1000, name: name.map(Into::into) };
        assert_eq!(local(Some("core")).to_string(), "core");
        assert_eq!(local(None).to_string(), "uid 1000");
        assert_eq!(Actor::Tcp(([10, 0, 0, 5], 4711).into()).to_string(), "tcp 10.0.0.5:4711");
    }
}
