//! What a network does to a host short of a clean cut: one direction gone, packets lost, a thin line.
//!
//! The rules live in the host's own network namespace, on its one interface: they end with the host, and nothing of
//! the machine's own rules is touched.

use anyhow::{Context, Result, bail};

use crate::Host;

/// One direction of a host's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What others send to the host.
    Inbound,
    /// What the host sends.
    Outbound,
}

impl Direction {
    fn hook(self) -> &'static str {
        match self {
            Self::Inbound => "ingress",
            Self::Outbound => "egress",
        }
    }
}

/// Begins anew: `add` makes it exist, so that `delete` cannot fail.
const FRESH: &str = "add table netdev fleet_lab; delete table netdev fleet_lab; add table netdev fleet_lab";

impl Host {
    /// Loses every packet of one direction, without a sign of it: links stay up, connections open.
    pub fn cut(&self, direction: Direction) -> Result<()> {
        self.rules(&format!("{FRESH}; {}", chain(direction, "drop")))
    }

    /// Loses packets of both directions at random.
    pub fn lose(&self, percent: u8) -> Result<()> {
        if percent > 99 {
            bail!("a line loses up to 99 % of its packets; all are what `cut` is for");
        }
        let rule = format!("numgen random mod 100 < {percent} drop");
        let both = [Direction::Inbound, Direction::Outbound].map(|direction| chain(direction, &rule));
        self.rules(&format!("{FRESH}; {}", both.join("; ")))
    }

    /// Lets the host send this many kilobits a second; more waits, up to 400 ms, and then is lost.
    pub fn throttle(&self, kilobits: u32) -> Result<()> {
        let rate = format!("tc qdisc replace dev host0 root tbf rate {kilobits}kbit burst 8kb latency 400ms");
        self.sh(&rate).map(drop)
    }

    /// Ends what [`cut`](Self::cut), [`lose`](Self::lose) and [`throttle`](Self::throttle) began.
    pub fn clear_traffic(&self) -> Result<()> {
        // Without rules there may be no nft.
        self.sh("! command -v nft >/dev/null || nft 'add table netdev fleet_lab; delete table netdev fleet_lab'")?;
        self.sh("tc qdisc delete dev host0 root 2>/dev/null || true").map(drop)
    }

    fn rules(&self, rules: &str) -> Result<()> {
        if self.sh("command -v nft").is_err() {
            bail!("nft is missing on this machine: apt-get install -y nftables");
        }
        let output = self.exec(&["nft", rules]).context("cannot run nft")?;
        if !output.status.success() {
            bail!("nft in {} refused: {}", self.name(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

fn chain(direction: Direction, rule: &str) -> String {
    let hook = direction.hook();
    let chain = format!("netdev fleet_lab {hook}");
    format!(
        "add chain {chain} {{ type filter hook {hook} device \"host0\" priority 0; policy accept; }}; \
         add rule {chain} {rule}"
    )
}
