//! What things cost: etcd's own counters, processor time and memory.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::param::clock_ticks_per_second;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

/// The kinds of requests that are told apart, and etcd's names of them.
pub const REQUESTS: [(&str, &str); 5] = [
    ("transactions", "Txn"),
    ("ranges", "Range"),
    ("leases granted", "LeaseGrant"),
    ("leases revoked", "LeaseRevoke"),
    ("leases asked for", "LeaseTimeToLive"),
];

/// Sums since the beginning.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// Requests, by etcd's name of the method.
    pub requests: BTreeMap<String, u64>,
    /// Keepalives of leases.
    pub keepalives: u64,
    /// Messages of watches.
    pub watch_messages: u64,
    /// Bytes that etcd has got from clients.
    pub bytes_in: u64,
    /// Bytes that etcd has sent to clients.
    pub bytes_out: u64,
    /// Processor time of etcd.
    pub etcd_cpu: Duration,
    /// Processor time of this process: machines, engine, API and operator.
    pub own_cpu: Duration,
}

impl Figures {
    /// As of now. `etcd` is its URL, and the ID of its process.
    ///
    /// # Errors
    /// Etcd does not answer, or is gone.
    pub async fn read((url, pid): (&str, u32)) -> Result<Self> {
        let address = url.strip_prefix("http://").context("etcd is reached without TLS")?;
        let text = get(address, "/metrics").await?;
        let mut figures = Self { etcd_cpu: cpu(Some(pid))?, own_cpu: cpu(None)?, ..Self::default() };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>().map(|value| value as u64) else { continue };
            let (name, labels) = name.split_once('{').unwrap_or((name, ""));
            let method = labels.split("grpc_method=\"").nth(1).and_then(|rest| rest.split('"').next());
            match (name, method) {
                ("grpc_server_started_total", Some(method)) => {
                    *figures.requests.entry(method.to_owned()).or_default() += value;
                }
                ("grpc_server_msg_received_total", Some("LeaseKeepAlive")) => figures.keepalives += value,
                ("grpc_server_msg_sent_total", Some("Watch")) => figures.watch_messages += value,
                ("etcd_network_client_grpc_received_bytes_total", _) => figures.bytes_in += value,
                ("etcd_network_client_grpc_sent_bytes_total", _) => figures.bytes_out += value,
                _ => {}
            }
        }
        Ok(figures)
    }

    /// What came to pass since another moment.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let requests = self
            .requests
            .iter()
            .map(|(method, count)| (method.clone(), count - before.requests.get(method).copied().unwrap_or_default()));
        Self {
            requests: requests.collect(),
            keepalives: self.keepalives - before.keepalives,
            watch_messages: self.watch_messages - before.watch_messages,
            bytes_in: self.bytes_in - before.bytes_in,
            bytes_out: self.bytes_out - before.bytes_out,
            etcd_cpu: self.etcd_cpu.saturating_sub(before.etcd_cpu),
            own_cpu: self.own_cpu.saturating_sub(before.own_cpu),
        }
    }

    /// How many requests of a method were made.
    #[must_use]
    pub fn count(&self, method: &str) -> u64 {
        self.requests.get(method).copied().unwrap_or_default()
    }
}

fn path(pid: Option<u32>, file: &str) -> String {
    format!("/proc/{}/{file}", pid.map_or("self".to_owned(), |pid| pid.to_string()))
}

/// The processor time of a process, of this one if none is named.
fn cpu(pid: Option<u32>) -> Result<Duration> {
    let path = path(pid, "stat");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    // The name, which comes second, may have spaces in it.
    let fields: Vec<&str> = text.rsplit_once(") ").context("a state after the name")?.1.split(' ').collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
    Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / clock_ticks_per_second() as f64))
}

/// The memory that a process has in RAM, in MiB; of this one if none is named.
///
/// # Errors
/// There is no such process.
pub fn memory(pid: Option<u32>) -> Result<u64> {
    status(pid, "VmRSS:")
}

/// The most memory that it ever had.
///
/// # Errors
/// There is no such process.
pub fn most_memory(pid: Option<u32>) -> Result<u64> {
    status(pid, "VmHWM:")
}

/// A line of what Linux says of a process, in MiB.
fn status(pid: Option<u32>, name: &str) -> Result<u64> {
    let path = path(pid, "status");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in {path}"))?;
    Ok(line.trim_end_matches("kB").trim().parse::<u64>()? / 1024)
}

/// Reads a page over TCP.
async fn get(address: &str, path: &str) -> Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What goes wrong there shows in the request.
    let _driving = AbortOnDropHandle::new(tokio::spawn(async { drop(connection.await) }));
    let request = Request::get(path).header("Host", address).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(response.status().is_success(), "{path} at {address}: {}", response.status());
    Ok(String::from_utf8(response.into_body().collect().await?.to_bytes().to_vec())?)
}
