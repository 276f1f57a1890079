//! The address of this host, when none is configured: the one that etcd is reached from.

use std::net::IpAddr;

use super::host::is_link_local;

/// What a route to some place tells of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// It begins at this address of the host.
    From(IpAddr),
    /// The place is the host itself.
    Here,
    /// Nothing: there is no route, or the place's name is not known, at the moment.
    Unknown,
}

/// The address that is known of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// The address.
    pub address: IpAddr,
    /// Whether the host still has it.
    pub present: bool,
}

impl Route {
    /// The route to `target` that begins at `local`.
    #[must_use]
    pub fn new(local: IpAddr, target: IpAddr) -> Self {
        let (local, target) = (local.to_canonical(), target.to_canonical());
        match local {
            local if local.is_loopback() => Self::Here,
            local if local.is_unspecified() => Self::Unknown,
            // What a host gives itself while it waits for a real one.
            local if is_link_local(local) && !is_link_local(target) => Self::Unknown,
            local => Self::From(local),
        }
    }
}

/// Chooses the address of this host: the first one from which a member of etcd is reached. Where etcd is only on the host
/// itself, the first from which the world is reached, `elsewhere`; then the only one that the host has, of `own`.
///
/// What is not known at the moment is no reason for another address: a host keeps the one that is `known`, until
/// there is a better one.
#[must_use]
pub fn own_address(etcd: &[Route], elsewhere: &[Route], own: &[IpAddr], known: Option<Known>) -> Option<IpAddr> {
    let first = |routes: &[Route]| {
        routes.iter().enumerate().find_map(|(index, route)| match route {
            Route::From(address) => Some((index, *address)),
            _ => None,
        })
    };
    let is_unknown = |route: &Route| *route == Route::Unknown;
    let found = match first(etcd) {
        Some((index, address)) => Some((address, !etcd[..index].iter().any(is_unknown))),
        None if etcd.contains(&Route::Here) => {
            let address = first(elsewhere).map(|(_, address)| address).or(match own {
                [only] => Some(*only),
                _ => None,
            });
            address.map(|address| (address, !etcd.iter().any(is_unknown)))
        }
        None => None,
    };
    match (found, known) {
        (Some((_, false)) | None, Some(known)) if found.is_none() || known.present => Some(known.address),
        (found, _) => found.map(|(address, _)| address),
    }
}

#[cfg(test)]
mod tests {
    use super::{Route::*, *};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn routes_tell_of_the_host_what_others_can_use() {
        for (local, target, route) in [
            ("10.0.0.7", "10.0.0.1", From(ip("10.0.0.7"))),
            ("fd00::7", "fd00::1", From(ip("fd00::7"))),
            ("::ffff:10.0.0.7", "::ffff:10.0.0.1", From(ip("10.0.0.7"))),
            ("127.0.0.1", "127.0.0.1", Here),
            ("::1", "::1", Here),
            ("0.0.0.0", "10.0.0.1", Unknown),
            ("169.254.9.9", "10.0.0.1", Unknown),
            ("fe80::7", "2001:db8::1", Unknown),
            ("169.254.9.9", "169.254.1.1", From(ip("169.254.9.9"))),
        ] {
            assert_eq!(Route::new(ip(local), ip(target)), route, "{local} to {target}");
        }
    }

    #[test]
    fn address_is_the_one_that_etcd_is_reached_from() {
        let (a, b, v6) = (From(ip("10.0.0.7")), From(ip("10.0.0.8")), From(ip("fd00::7")));
        for (etcd, elsewhere, own, chosen) in [
            (&[a, b][..], &[][..], &[][..], Some("10.0.0.7")),
            (&[v6], &[], &[], Some("fd00::7")),
            // A member on this host tells nothing; the next one does.
            (&[Here, b], &[a], &[], Some("10.0.0.8")),
            (&[Unknown, b], &[a], &[], Some("10.0.0.8")),
            // Etcd is on this host alone.
            (&[Here], &[a, v6], &["10.1.1.1"], Some("10.0.0.7")),
            (&[Here], &[Unknown, v6], &[], Some("fd00::7")),
            (&[Here], &[Unknown, Unknown], &["fd00::9"], Some("fd00::9")),
            (&[Here], &[Unknown, Unknown], &["10.0.0.9", "10.1.0.9"], None),
            // Etcd is not reached at all: then the way to elsewhere tells nothing.
            (&[Unknown], &[a], &["10.0.0.9"], None),
            (&[], &[a], &["10.0.0.9"], None),
        ] {
            let own: Vec<IpAddr> = own.iter().map(|address| ip(address)).collect();
            assert_eq!(own_address(etcd, elsewhere, &own, None), chosen.map(ip), "{etcd:?} {elsewhere:?} {own:?}");
        }
    }

    #[test]
    fn address_that_is_gone_for_a_moment_is_kept() {
        let (old, new) = (ip("10.0.0.7"), ip("10.0.0.8"));
        let known = |present| Some(Known { address: old, present });
        for (etcd, present, chosen) in [
            (&[From(new)][..], false, new),
            // A host may have both for a while: what etcd is reached from counts.
            (&[From(new)], true, new),
            (&[Unknown], false, old),
            (&[Unknown], true, old),
            (&[Here], false, old),
            // Another member is reached from another address: that counts once the old one is gone.
            (&[Unknown, From(new)], true, old),
            (&[Unknown, From(new)], false, new),
            (&[Here, From(new)], true, new),
        ] {
            assert_eq!(own_address(etcd, &[Unknown], &[], known(present)), Some(chosen), "{etcd:?} {present}");
        }
    }
}
