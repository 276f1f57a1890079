//! This host in the network: its own address, and word of it when that may be another one.
//!
//! The kernel tells of new and lost addresses, routes and links (rtnetlink, which asks for no privilege). What it tells is
//! not read: whatever has changed, the address is looked for anew, which costs a few system calls and no packet.
//!
//! A connection that began at an address which the host has no more stays open, and nothing comes back on it. So etcd is
//! then connected with anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::unix::net::UnixDatagram as StdDatagram,
    time::Duration,
};

use anyhow::Context;
use fleet_core::address::{Known, Route, Server, own_address};
use futures_util::future::join_all;
use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with},
};
use tokio::{
    net::{UnixDatagram, lookup_host},
    sync::watch,
    time::sleep,
};
use tracing::{debug, warn};

use crate::{config::Config, registry::Etcd};

/// Addresses that are no host's, to see from which of its own a host reaches the world (RFC 5737, RFC 3849).
const ELSEWHERE: [SocketAddr; 2] = [
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9),
    SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)), 9),
];

/// The groups of rtnetlink: links, and addresses and routes of both kinds (`RTMGRP_*` in `linux/rtnetlink.h`).
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// How long nothing may be told before a change counts as over: one comes in many parts, and an address that is renewed
/// may be gone for a moment. And how often that is waited for: a network may never rest.
const CALM: (Duration, u32) = (Duration::from_secs(1), 4);
/// Most that is read at a time.
const MANY: usize = 10_000;

/// The address at which others reach this host: the one that is configured, or that etcd is reached from. While that is
/// not to be found, the one that was `known`.
///
/// # Errors
/// When none is known.
pub async fn address(config: &Config, known: Option<&str>) -> anyhow::Result<String> {
    if let Some(address) = &config.public_ip {
        return Ok(address.clone());
    }
    let etcd = join_all(config.etcd_servers.iter().map(route)).await;
    let (mut elsewhere, mut own) = (Vec::new(), Vec::new());
    if !etcd.iter().any(|route| matches!(route, Route::From(_))) {
        elsewhere.extend(ELSEWHERE.map(towards));
        own.extend(addresses());
    }
    let known = known.and_then(|known| known.parse().ok());
    let known = known.map(|address| Known { address, present: is_own(address) });
    let address = own_address(&etcd, &elsewhere, &own, known).with_context(|| {
        let servers: Vec<String> = config.etcd_servers.iter().map(ToString::to_string).collect();
        let (servers, own) = (servers.join(", "), own.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
        match (etcd.contains(&Route::Here), own.is_empty()) {
            (false, _) => {
                format!("there is no route from this host to etcd at {servers}: set etcd_servers, or public_ip")
            }
            (true, true) => {
                format!("etcd at {servers} is on this host, which has no address that others reach: set public_ip")
            }
            (true, false) => {
                format!("etcd at {servers} is on this host, and others may reach it by any of {own}: set public_ip")
            }
        }
    })?;
    Ok(address.to_string())
}

/// The route to a member of etcd. Of the addresses that a name has, the first one that there is a route to counts.
async fn route(server: &Server) -> Route {
    let Some(target) = server.target() else { return Route::Here };
    let Ok(targets) = lookup_host(target).await else { return Route::Unknown };
    targets.map(towards).find(|route| *route != Route::Unknown).unwrap_or(Route::Unknown)
}

/// The route to an address. Nothing is sent.
fn towards(target: SocketAddr) -> Route {
    let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let local = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect(target)?;
        socket.local_addr()
    });
    local.map_or(Route::Unknown, |local| Route::new(local.ip(), target.ip()))
}

/// An address of each interface that others may reach, of the fourth version if it has one.
fn addresses() -> Vec<IpAddr> {
    let mut by_interface: BTreeMap<String, IpAddr> = BTreeMap::new();
    for interface in if_addrs::get_if_addrs().unwrap_or_default() {
        if interface.is_loopback() || interface.is_link_local() {
            continue;
        }
        let address = interface.ip();
        let chosen = by_interface.entry(interface.name).or_insert(address);
        if chosen.is_ipv6() && address.is_ipv4() {
            *chosen = address;
        }
    }
    by_interface.into_values().collect()
}

/// Tells `changed` whenever the address may be another one, and has `store` connect anew when one is gone from which etcd
/// was reached. Runs until dropped.
pub async fn tell(config: &Config, store: &Etcd, changed: watch::Sender<()>) {
    match follow(config, store, &changed).await {
        Ok(never) => match never {},
        Err(error) => {
            warn!(%error, "the kernel does not tell of new addresses: one is noticed after minutes");
            changed.closed().await;
        }
    }
}

async fn follow(config: &Config, store: &Etcd, changed: &watch::Sender<()>) -> io::Result<std::convert::Infallible> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // The protocol is NETLINK_ROUTE, which is 0.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    // To receive, one kind of datagram socket is like another.
    let socket = UnixDatagram::from_std(StdDatagram::from(socket))?;
    let mut used = origins(config).await;
    loop {
        socket.readable().await?;
        if drain(&socket)? == 0 {
            continue;
        }
        for _ in 0..CALM.1 {
            sleep(CALM.0).await;
            if drain(&socket)? == 0 {
                break;
            }
        }
        if !used.iter().all(|address| is_own(*address)) {
            debug!(addresses = ?used, "etcd is connected with anew: not all of these addresses are left");
            store.reconnect().await;
            used.clear();
        }
        used.extend(origins(config).await);
        changed.send_replace(());
    }
}

/// The addresses of this host from which it reaches etcd.
async fn origins(config: &Config) -> BTreeSet<IpAddr> {
    let routes = join_all(config.etcd_servers.iter().map(route)).await.into_iter();
    routes.filter_map(|route| if let Route::From(address) = route { Some(address) } else { None }).collect()
}

/// Whether the host has this address.
fn is_own(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// Reads what is there, and tells how much that was.
fn drain(socket: &UnixDatagram) -> io::Result<usize> {
    for heard in 0..MANY {
        // The rest of a message is lost with it.
        match socket.try_recv(&mut [0; 16]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(heard),
            // More was told than the kernel keeps.
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(MANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reaching(servers: &[&str]) -> Config {
        let etcd_servers = servers.iter().map(|server| Server::parse(server).unwrap()).collect();
        Config { etcd_servers, ..Config::default() }
    }

    #[tokio::test]
    async fn configured_address_is_what_it_is() {
        let config = Config { public_ip: Some("h1.example.com".into()), ..Config::default() };
        assert_eq!(address(&config, Some("10.0.0.7")).await.unwrap(), "h1.example.com");
    }

    #[tokio::test]
    async fn known_address_is_kept_while_no_other_is_found() {
        let nowhere = reaching(&["http://nosuch.invalid:2379"]);
        assert_eq!(address(&nowhere, Some("10.0.0.7")).await.unwrap(), "10.0.0.7");
        let error = address(&nowhere, None).await.unwrap_err().to_string();
        assert!(error.contains("no route") && error.contains("http://nosuch.invalid:2379"), "{error}");
    }

    #[tokio::test]
    async fn members_on_this_host_are_known_as_such_however_they_are_named() {
        for server in ["http://127.0.0.1:2379", "http://[::1]:2379", "http://localhost", "unix:///run/etcd.sock"] {
            let route = route(&Server::parse(server).unwrap()).await;
            // A machine may be without the one or the other kind of addresses.
            assert!(matches!(route, Route::Here) || server.contains("::1"), "{server}: {route:?}");
        }
    }
}
