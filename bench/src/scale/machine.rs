//! One simulated machine: its systemd, its disk, and its fleetd.

use std::{collections::BTreeMap, future::ready, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use fleet_core::model::{Features, Keys, MachineId, MachineRecord, Unknown};
use fleetd::{
    clock::Clock,
    filesystem::memory::Memory,
    membership::Refusal,
    metrics::Metrics,
    node::{End, Host, Node},
    registry::{Etcd, etcd::Endpoints, files::Files, view::View},
    systemd::memory::{MemoryHost, MemorySystemd, What},
};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::counted::{Counted, Tally};

/// How long a request to etcd may take: the default of `etcd_request_timeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A machine. When it is dropped, all of it stops where it is.
pub struct Machine {
    /// Its ID.
    pub id: MachineId,
    /// What its fleetd counts.
    pub metrics: Metrics,
    /// Its handle on etcd.
    pub store: Counted,
    /// Its picture of the cluster.
    pub view: View<Counted>,
    /// Its cache of unit files.
    pub files: Files<Counted>,
    keys: Keys,
    number: usize,
    ttl: Duration,
    pid1: MemoryHost,
    disk: Memory,
    fleetd: Option<Node<Counted, MemorySystemd, Memory>>,
    _clock: AbortOnDropHandle<()>,
}

impl Machine {
    /// A machine that is up, without fleetd.
    ///
    /// # Errors
    /// Never: what is made here is a machine ID.
    pub fn new(number: usize, etcd: &str, keys: &Keys, ttl: Duration) -> Result<Self> {
        // Spread like real IDs, which share no prefix.
        let id = format!("{:08x}{number:024x}", (number as u32).wrapping_mul(2_654_435_761));
        let disk = Memory::default();
        let rng = fastrand::Rng::with_seed(number as u64);
        let (pid1, clock) = MemoryHost::new(&format!("m{number}"), Arc::new(disk.clone()), rng);
        let endpoints =
            Endpoints { urls: vec![etcd.to_owned()], request_timeout: REQUEST_TIMEOUT, ..Endpoints::default() };
        let store = Counted::new(Etcd::new(endpoints));
        Ok(Self {
            id: MachineId::new(&id)?,
            metrics: Metrics::default(),
            view: View::new(store.clone(), keys.clone()),
            files: Files::new(store.clone(), keys.clone()),
            store,
            keys: keys.clone(),
            number,
            ttl,
            pid1,
            disk,
            fleetd: None,
            _clock: AbortOnDropHandle::new(tokio::spawn(clock)),
        })
    }

    /// Starts fleetd. `candidate`: whether it stands for election.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(&mut self, candidate: bool) -> Result<()> {
        let number = self.number;
        let record = MachineRecord {
            address: format!("10.{}.{}.{}", number / 65_536, number / 256 % 256, number % 256),
            hostname: format!("m{number}"),
            metadata: self.metadata(),
            version: env!("CARGO_PKG_VERSION").into(),
            boot_id: format!("00000000-0000-4000-8000-{number:012x}"),
            cpus: 8,
            memory: 32 << 30,
            leaving: false,
            features: Features::of_this_daemon(),
            unknown: Unknown::default(),
        };
        let host = Host {
            id: self.id.clone(),
            metadata: self.metadata(),
            features: record.features.clone(),
            describe: Box::new(move |_| Box::pin(ready(Ok(record.clone())))),
            changed: watch::channel(()).1,
            ttl: self.ttl,
            candidate,
            store: self.store.clone(),
            keys: self.keys.clone(),
            view: self.view.clone(),
            files: self.files.separate_cache(),
            systemd: self.pid1.connect(),
            filesystem: self.disk.clone(),
            clock: Clock::Boottime,
            units: "/run/fleet/units".into(),
            state: "/var/lib/fleet".into(),
            metrics: self.metrics.clone(),
        };
        self.fleetd = Some(Node::start(host).with_context(|| format!("machine {number} does not start"))?);
        Ok(())
    }

    fn metadata(&self) -> BTreeMap<String, String> {
        let disk = if self.has_ssd() { "ssd" } else { "hdd" };
        [("disk", disk.to_owned()), ("rack", format!("r{}", self.number / 20))].map(|(k, v)| (k.to_owned(), v)).into()
    }

    /// Whether it has an SSD.
    pub fn has_ssd(&self) -> bool {
        self.number.is_multiple_of(3)
    }

    /// Ends fleetd as a restart does: its units stay, and so does its entry.
    ///
    /// # Errors
    /// A part of it broke.
    pub async fn stop(&mut self) -> Result<()> {
        match self.fleetd.take() {
            Some(fleetd) => fleetd.end(End::Keep).await,
            None => Ok(()),
        }
    }

    /// Takes the power away.
    pub fn lose_power(&mut self) {
        self.fleetd = None;
        self.pid1.lose_power();
    }

    /// Whether its engine leads.
    pub fn leads(&self) -> bool {
        self.fleetd.is_some() && self.metrics.leader.get() == 1
    }

    /// Why its API may not serve, if that is so.
    pub fn refusal(&self) -> Option<watch::Receiver<Refusal>> {
        self.fleetd.as_ref().map(Node::refused)
    }

    /// The units that run on it.
    pub fn alive(&self) -> std::collections::BTreeSet<String> {
        self.pid1.alive()
    }

    /// How many units were started on it, ever.
    pub fn starts(&self) -> usize {
        self.pid1.log().iter().filter(|entry| matches!(entry.what, What::Started(_))).count()
    }

    /// What it asked of etcd, and heard.
    pub fn tally(&self) -> Tally {
        self.store.counts().tally()
    }
}
