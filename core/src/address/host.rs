//! The address or the name that others reach a host by.

use std::{fmt, net::IpAddr, str::FromStr};

use thiserror::Error;

/// Most bytes of a name, without a dot at its end, and of a part of it: RFC 1035.
const LONGEST: (usize, usize) = (253, 63);

/// An IP address, or a name that others resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAddress {
    /// An address, shown in its shortest form.
    Ip(IpAddr),
    /// A name. A dot at its end, which keeps resolvers from adding a domain, is part of it.
    Name(String),
}

/// Why a text is neither an address nor a name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HostError {
    /// Nothing is there.
    #[error("it is empty")]
    Empty,
    /// A variable stands where its value should.
    #[error("nothing has put an address in the place of {0}")]
    Variable(String),
    /// A URL.
    #[error("it is a URL")]
    Url,
    /// As in `10.0.0.1/24`.
    #[error("there is something behind a slash")]
    Slash,
    /// As in `10.0.0.1:22`.
    #[error("it has a port")]
    Port,
    /// As in `fe80::1%eth0`.
    #[error("%{0} names an interface of one host, and means nothing to others")]
    Zone(String),
    /// A blank, most often with a second address or a comment behind it.
    #[error("it has a blank in it")]
    Blank,
    /// As in `999.1.2.3`: no name ends in a number.
    #[error("it looks like an IPv4 address, but has to be four numbers from 0 to 255")]
    NotIpv4,
    /// As in `fd00::1::2`.
    #[error("it looks like an IPv6 address, but is none")]
    NotIpv6,
    /// An address that is no host's.
    #[error("no single host has this address")]
    NoHost,
    /// A character that names have not.
    #[error("a host's name cannot have {0:?} in it")]
    Character(char),
    /// An empty part, or one with a hyphen at an end.
    #[error("the parts of a host's name begin and end with a letter or a digit")]
    Part,
    /// Longer than names may be.
    #[error("a host's name has at most 253 characters, and 63 between dots")]
    Long,
}

impl HostAddress {
    /// Reads an address or a name. Brackets around an IPv6 address are taken away.
    ///
    /// # Errors
    /// When it can be neither.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        if let Ok(address) = bare.filter(|bare| bare.contains(':')).unwrap_or(text).parse::<IpAddr>() {
            let address = address.to_canonical();
            let is_one = !address.is_unspecified() && !address.is_multicast() && !is_broadcast(address);
            return if is_one { Ok(Self::Ip(address)) } else { Err(HostError::NoHost) };
        }
        check(bare.unwrap_or(text)).map(|()| Self::Name(text.to_owned()))
    }

    /// What was meant by a text that cannot be read: that without what surrounds an address elsewhere.
    #[must_use]
    pub fn guess(text: &str) -> Option<Self> {
        let text = text.split_once("://").map_or(text, |(_, rest)| rest);
        let text = text.split_whitespace().next()?.split('/').next()?.split('%').next()?;
        let inner = text.strip_prefix('[').and_then(|text| Some(text.split_once(']')?.0));
        let bare = match text.matches(':').count() {
            1 => text.split(':').next()?,
            _ => inner.unwrap_or(text),
        };
        Self::parse(bare).ok()
    }

    /// As it stands in a URL: an IPv6 address in brackets.
    #[must_use]
    pub fn in_url(&self) -> String {
        match self {
            Self::Ip(IpAddr::V6(address)) => format!("[{address}]"),
            other => other.to_string(),
        }
    }

    /// Whether others will not reach the host by it: it is one that every host has, or that counts on one link only.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Ip(address) => address.is_loopback() || is_link_local(*address),
            Self::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case("localhost"),
        }
    }
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl FromStr for HostAddress {
    type Err = HostError;

    fn from_str(text: &str) -> Result<Self, HostError> {
        Self::parse(text)
    }
}

/// Whether an address counts on one link only.
pub(super) fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn is_broadcast(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_broadcast())
}

/// Whether a text that is no address is a name. What is not has the reason that helps most.
fn check(text: &str) -> Result<(), HostError> {
    if text.is_empty() {
        return Err(HostError::Empty);
    }
    if let Some((_, from)) = text.split_once('$') {
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || "_{}".contains(c));
        return Err(HostError::Variable(format!("${}", &from[..from.find(is_end).unwrap_or(from.len())])));
    }
    if text.contains("://") {
        return Err(HostError::Url);
    }
    if text.contains(char::is_whitespace) {
        return Err(HostError::Blank);
    }
    if text.contains('/') {
        return Err(HostError::Slash);
    }
    if let Some((_, zone)) = text.split_once('%') {
        return Err(HostError::Zone(zone.to_owned()));
    }
    match text.matches(':').count() {
        0 => {}
        _ if text.contains("]:") => return Err(HostError::Port),
        1 => return Err(HostError::Port),
        _ => return Err(HostError::NotIpv6),
    }
    if let Some(strange) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c))) {
        return Err(HostError::Character(strange));
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() > LONGEST.0 || name.split('.').any(|part| part.len() > LONGEST.1) {
        return Err(HostError::Long);
    }
    if name.split('.').any(|part| part.is_empty() || part.starts_with('-') || part.ends_with('-')) {
        return Err(HostError::Part);
    }
    // Resolvers read a last part that is a number as the end of an address, however short.
    let last = name.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    let hexadecimal = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if last.bytes().all(|byte| byte.is_ascii_digit()) || last.strip_prefix("0x").is_some_and(hexadecimal) {
        return Err(HostError::NotIpv4);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_taken_in_their_shortest_form() {
        for (text, shown) in [
            ("10.0.0.1", "10.0.0.1"),
            ("fd00::1", "fd00::1"),
            ("FD00:0:0::0001", "fd00::1"),
            ("[fd00::1]", "fd00::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("::1", "::1"),
            ("h1", "h1"),
            ("h1.example.com", "h1.example.com"),
            ("h1.example.com.", "h1.example.com."),
            ("3com.example", "3com.example"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(HostAddress::parse(text).map(|host| host.to_string()).as_deref(), Ok(shown), "{text}");
        }
        assert_eq!(HostAddress::parse("fd00::1").unwrap().in_url(), "[fd00::1]");
        assert_eq!(HostAddress::parse("h1").unwrap().in_url(), "h1");
    }

    #[test]
    fn what_can_be_neither_is_refused_with_the_reason_and_what_was_meant() {
        use HostError::*;
        let variable = |name: &str| Variable(name.into());
        let zone = |name: &str| Zone(name.into());
        for (text, error, meant) in [
            ("", Empty, None),
            ("$private_ipv4", variable("$private_ipv4"), None),
            ("${COREOS_PUBLIC_IPV4}", variable("${COREOS_PUBLIC_IPV4}"), None),
            ("10.0.0.1/24", Slash, Some("10.0.0.1")),
            ("10.0.0.1:22", Port, Some("10.0.0.1")),
            ("[fd00::1]:22", Port, Some("fd00::1")),
            ("h1:22", Port, Some("h1")),
            ("10.0.0.1 10.0.0.2", Blank, Some("10.0.0.1")),
            ("10.0.0.1 # eth0", Blank, Some("10.0.0.1")),
            ("999.1.2.3", NotIpv4, None),
            ("10.0.0.01", NotIpv4, None),
            ("10.1", NotIpv4, None),
            ("10.0.0.1.", NotIpv4, None),
            ("h1.0x7f", NotIpv4, None),
            ("fd00::1::2", NotIpv6, None),
            ("fe80::1%eth0", zone("eth0"), Some("fe80::1")),
            ("unix:///run/fleet.sock", Url, None),
            ("http://10.0.0.1:2379/", Url, Some("10.0.0.1")),
            ("0.0.0.0", NoHost, None),
            ("::", NoHost, None),
            ("255.255.255.255", NoHost, None),
            ("ff02::1", NoHost, None),
            ("[10.0.0.1]", NotIpv4, Some("10.0.0.1")),
            ("host,other", Character(','), None),
            ("hôte", Character('ô'), None),
            ("h1..example", Part, None),
            ("-h1", Part, None),
            (".", Part, None),
        ] {
            assert_eq!(HostAddress::parse(text), Err(error), "{text}");
            assert_eq!(HostAddress::guess(text).map(|host| host.to_string()).as_deref(), meant, "{text}");
        }
        assert_eq!(HostAddress::parse(&"a".repeat(64)), Err(Long));
        assert_eq!(HostAddress::parse(&"a.".repeat(150)), Err(Long));
    }

    #[test]
    fn addresses_that_every_host_has_are_told_apart() {
        for local in ["127.0.0.1", "::1", "fe80::1", "169.254.7.7", "localhost", "LOCALHOST."] {
            assert!(HostAddress::parse(local).unwrap().is_local(), "{local}");
        }
        for other in ["10.0.0.1", "fd00::1", "h1"] {
            assert!(!HostAddress::parse(other).unwrap().is_local(), "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_taken_is_taken_again_as_it_is_shown(text in "[a-f0-9:.%/\\[\\]$ x-]{0,20}|\\PC{0,12}") {
            for host in HostAddress::parse(&text).ok().into_iter().chain(HostAddress::guess(&text)) {
                proptest::prop_assert_eq!(HostAddress::parse(&host.to_string()), Ok(host.clone()));
                proptest::prop_assert_eq!(HostAddress::parse(&host.in_url()), Ok(host));
            }
        }
    }
}
