//! The lab's bridge: addresses, the links of the hosts, partitions.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use anyhow::Result;

use crate::docker::REGISTRY_PORT;
use crate::tool::{find, run};

/// `10.82.K.0/24`, or `fd82:f1ee:0:K::/64` for a lab with IPv6 alone, bridged over `fleet-labK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    pub(crate) subnet: u8,
    pub(crate) ipv6: bool,
}

impl Network {
    pub(crate) fn bridge(self) -> String {
        format!("fleet-lab{}", self.subnet)
    }

    pub(crate) fn range(self) -> String {
        self.in_range(self.address(0))
    }

    fn address(self, last: u8) -> IpAddr {
        if self.ipv6 {
            Ipv6Addr::new(0xfd82, 0xf1ee, 0, self.subnet.into(), 0, 0, 0, last.into()).into()
        } else {
            Ipv4Addr::new(10, 82, self.subnet, last).into()
        }
    }

    /// An address with the length of the network's prefix.
    pub(crate) fn in_range(self, address: IpAddr) -> String {
        format!("{address}/{}", if self.ipv6 { 64 } else { 24 })
    }

    /// The machine's own address is member 1's; further members have .2 and .3.
    pub(crate) fn member(self, member: u8) -> IpAddr {
        self.address(member)
    }

    /// Where the hosts look for a registry of images.
    pub(crate) fn registry(self) -> String {
        SocketAddr::from((self.member(1), REGISTRY_PORT)).to_string()
    }

    /// Host 1 is .11.
    pub(crate) fn host(self, number: u8) -> IpAddr {
        self.address(10 + number)
    }

    /// The machine name of a host for nspawn, which names the link after it: `vb-flK-hN` stays
    /// below the kernel's 15 bytes for the largest numbers (nspawn would hash a longer one).
    pub(crate) fn machine(self, host: &str) -> String {
        format!("fl{}-{host}", self.subnet)
    }

    /// The host's port on the bridge.
    pub(crate) fn link(self, host: &str) -> String {
        format!("vb-{}", self.machine(host))
    }

    /// Makes the bridge with the addresses of `members` etcd members.
    pub(crate) fn create(self, members: u8) -> Result<()> {
        let bridge = self.bridge();
        // An address of its own: otherwise the bridge has the lowest of its ports', another one when that host dies,
        // and for ten seconds no other host finds etcd.
        let address = format!("02:f1:ee:70:00:{:02x}", self.subnet);
        // No forward delay: a port would swallow traffic for 15 s after it comes up.
        let delay = ["type", "bridge", "forward_delay", "0", "stp_state", "0"];
        run("ip", &[&["link", "add", &bridge, "address", &address][..], &delay].concat())?;
        for member in 1..=members.max(1) {
            let address = self.in_range(self.member(member));
            // Nobody else can have it, and what is still in doubt cannot be listened on.
            let certain: &[&str] = if self.ipv6 { &["nodad"] } else { &[] };
            run("ip", &[&["address", "add", &address, "dev", &bridge], certain].concat())?;
        }
        run("ip", &["link", "set", &bridge, "up"])?;
        if bridged_traffic_is_dropped() {
            self.forward_rule("-I")?;
        }
        Ok(())
    }

    /// Removes what [`create`](Self::create) made, whatever of it exists.
    pub(crate) fn remove(self) -> Result<()> {
        if !link_exists(&self.bridge()) {
            return Ok(());
        }
        run("ip", &["link", "delete", &self.bridge()])?;
        if bridged_traffic_is_dropped() {
            // There is none if the policy was set after the lab came up.
            self.forward_rule("-D").ok();
        }
        Ok(())
    }

    fn forward_rule(self, action: &str) -> Result<()> {
        let bridge = self.bridge();
        let rule = ["-w", action, "FORWARD", "-i", &bridge, "-o", &bridge, "-j", "ACCEPT"];
        run("iptables", &rule).map(drop)
    }

    /// Cuts a host off, or lets it in again.
    pub(crate) fn set_link(self, host: &str, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        run("ip", &["link", "set", &self.link(host), state]).map(drop)
    }

    /// Whether the host is cut off; `None` without a link, that is, while it is down.
    pub(crate) fn is_cut_off(self, host: &str) -> Option<bool> {
        let flags = fs::read_to_string(format!("/sys/class/net/{}/flags", self.link(host))).ok()?;
        let flags = u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok()?;
        // IFF_UP
        Some(flags & 1 == 0)
    }
}

fn link_exists(name: &str) -> bool {
    Path::new("/sys/class/net").join(name).exists()
}

/// A docker on the machine sets the policy of FORWARD to DROP and sends bridged traffic through it;
/// the hosts then could not see each other.
fn bridged_traffic_is_dropped() -> bool {
    let filtered = fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    filtered.is_ok_and(|value| value.trim() == "1")
        && find("iptables").is_some()
        && run("iptables", &["-w", "-S", "FORWARD"]).is_ok_and(|rules| rules.contains("-P FORWARD DROP"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_follow_from_the_numbers() {
        let network = Network { subnet: 7, ipv6: false };
        assert_eq!(network.member(1).to_string(), "10.82.7.1");
        assert_eq!(network.host(1).to_string(), "10.82.7.11");
        assert_eq!(network.host(244).to_string(), "10.82.7.254");
        assert_eq!(network.link("h3"), "vb-fl7-h3");
        let network = Network { ipv6: true, ..network };
        assert_eq!(network.range(), "fd82:f1ee:0:7::/64");
        assert_eq!(network.in_range(network.host(1)), "fd82:f1ee:0:7::b/64");
    }

    #[test]
    fn names_of_links_fit_the_kernel() {
        let network = Network { subnet: 99, ipv6: false };
        assert!(network.link("h244").len() <= 15);
        assert!(network.bridge().len() <= 15);
    }
}
