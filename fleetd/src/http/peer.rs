//! Who is at the other end of a connection.

use std::{convert::Infallible, fs, net::SocketAddr};

use axum::{
    extract::{
        FromRequestParts,
        connect_info::{ConnectInfo, Connected},
    },
    http::request::Parts,
    serve::IncomingStream,
};
use fleet_core::ops::Actor;
use tokio::net::{TcpListener, UnixListener};

/// Who is at the other end of a connection, as the kernel tells.
#[derive(Clone, Copy, Debug)]
pub(super) enum Peer {
    /// A process of this user, on this host.
    Local(Option<u32>),
    /// Whoever has this address.
    Tcp(SocketAddr),
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self::Local(stream.io().peer_cred().ok().map(|peer| peer.uid()))
    }
}

impl Connected<IncomingStream<'_, TcpListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        Self::Tcp(*stream.remote_addr())
    }
}

/// Who makes a request.
pub struct By(pub Actor);

impl<S: Send + Sync> FromRequestParts<S> for By {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self(match parts.extensions.get::<ConnectInfo<Peer>>() {
            Some(ConnectInfo(Peer::Local(Some(uid)))) => Actor::Local { uid: *uid, name: user(*uid) },
            Some(ConnectInfo(Peer::Tcp(address))) => Actor::Tcp(*address),
            Some(ConnectInfo(Peer::Local(None))) | None => Actor::Unknown,
        }))
    }
}

/// The name of a user, from `/etc/passwd` (`passwd(5)`).
fn user(uid: u32) -> Option<String> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}
