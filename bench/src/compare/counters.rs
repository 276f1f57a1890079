//! What etcd counts of what clients ask of it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    ops::Sub,
    time::Duration,
};

use anyhow::{Context, Result};
use fleet_lab::Member;

/// How long etcd may take to tell.
const PATIENCE: Duration = Duration::from_secs(10);

/// etcd's counters, since it was started or between two looks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Puts and deletes, alone or in transactions.
    pub writes: u64,
    /// Range requests, alone or in transactions.
    pub ranges: u64,
    /// Keepalives of leases.
    pub keepalives: u64,
    /// Seconds of processor time.
    pub processor: f64,
}

impl Counters {
    /// Of a member.
    ///
    /// # Errors
    /// When it does not tell.
    pub fn of(member: &Member) -> Result<Self> {
        let endpoint = member.endpoint();
        Self::fetch(endpoint.trim_start_matches("http://"))
            .with_context(|| format!("{endpoint} does not tell its counters"))
    }

    fn fetch(address: &str) -> Result<Self> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let known: BTreeMap<&str, f64> =
            lines.filter_map(|(name, value)| Some((name, value.trim().parse().ok()?))).collect();
        // etcd 3.4 has the old names beside the new ones, 3.5 only the new ones.
        let counter = |names: &[&str]| {
            let value = names.iter().find_map(|name| known.get(name));
            value.map(|value| *value as u64).with_context(|| format!("there is no {}", names[0]))
        };
        let stream = "grpc_server_msg_received_total{grpc_method=\"LeaseKeepAlive\",\
                      grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"}";
        let puts = counter(&["etcd_mvcc_put_total", "etcd_debugging_mvcc_put_total"])?;
        let deletes = counter(&["etcd_mvcc_delete_total", "etcd_debugging_mvcc_delete_total"])?;
        Ok(Self {
            writes: puts + deletes,
            ranges: counter(&["etcd_mvcc_range_total", "etcd_debugging_mvcc_range_total"])?,
            // Not there before the first keepalive.
            keepalives: counter(&[stream]).unwrap_or(0),
            processor: *known.get("process_cpu_seconds_total").context("there is no process_cpu_seconds_total")?,
        })
    }
}

impl Sub for Counters {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            writes: self.writes.saturating_sub(before.writes),
            ranges: self.ranges.saturating_sub(before.ranges),
            keepalives: self.keepalives.saturating_sub(before.keepalives),
            processor: self.processor - before.processor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METRICS: &str = "\
# HELP etcd_mvcc_put_total Total number of puts seen by this member.
etcd_debugging_mvcc_put_total 7
etcd_mvcc_put_total 7
etcd_mvcc_delete_total 2
etcd_mvcc_range_total 1.5e+06
process_cpu_seconds_total 1.5
grpc_server_msg_received_total{grpc_method=\"LeaseKeepAlive\",grpc_service=\"etcdserverpb.Lease\",grpc_type=\"bidi_stream\"} 40
";

    #[test]
    fn counters_are_read_from_etcds_text() {
        let counters = Counters::parse(METRICS).unwrap();
        assert_eq!(counters, Counters { writes: 9, ranges: 1_500_000, keepalives: 40, processor: 1.5 });
        let between = counters - Counters { writes: 4, ..Counters::default() };
        assert_eq!(between.writes, 5);
    }

    #[test]
    fn etcd_without_a_counter_is_no_etcd_that_is_idle() {
        assert!(Counters::parse("etcd_mvcc_put_total 7\n").is_err());
    }
}
