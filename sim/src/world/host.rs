//! One simulated host: its disk, its systemd, and its fleetd.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::ready,
    path::Path,
    sync::Arc,
    time::Duration,
};

use fleet_core::model::{Features, Keys, MachineId, MachineRecord, Unknown};
use fleetd::{
    clock::Clock,
    filesystem::{Filesystem, memory::Memory},
    metrics::Metrics,
    node::{End, Host, Node, dead_man},
    registry::{
        files::Files,
        memory::{Link, MemoryClient, MemoryStore},
        view::View,
    },
    systemd::{
        Verb,
        memory::{MemoryHost, MemorySystemd},
    },
};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::AbortOnDropHandle;

/// Where fleetd keeps unit files.
const UNITS: &str = "/run/fleet/units";
/// Where it keeps what lasts.
const STATE: &str = "/var/lib/fleet";
/// A unit of the host's own.
pub const FOREIGN: &str = "foreign.service";

enum Daemon {
    Runs(Box<Node<MemoryClient, MemorySystemd, Memory>>),
    Ends(AbortOnDropHandle<()>),
    Down,
    /// The host is off.
    Off,
}

pub struct SimHost {
    pub name: String,
    pub id: MachineId,
    pub metadata: BTreeMap<String, String>,
    pub pid1: MemoryHost,
    pub files: Memory,
    /// Faults of its link that are under way, the newest last.
    pub links: Vec<Link>,
    /// What its fleetd says that it understands.
    pub features: Features,
    address: String,
    boots: u32,
    daemon: Daemon,
    dead_man: Option<AbortOnDropHandle<()>>,
    start: Instant,
    ttl: Duration,
}

impl SimHost {
    pub fn new(
        number: usize,
        metadata: BTreeMap<String, String>,
        rng: fastrand::Rng,
        start: Instant,
        ttl: Duration,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let name = format!("h{}", number + 1);
        let files = Memory::default();
        let (pid1, clock) = MemoryHost::new(&name, Arc::new(files.clone()), rng);
        let host = Self {
            id: MachineId::new(&format!("{:032x}", 0xf1ee_7000 + number)).expect("32 digits"),
            address: format!("10.0.0.{}", number + 1),
            name,
            metadata,
            pid1,
            files,
            links: Vec::new(),
            features: Features::of_this_daemon(),
            boots: 0,
            daemon: Daemon::Down,
            dead_man: None,
            start,
            ttl,
        };
        let path = Path::new("/etc/systemd/system").join(FOREIGN);
        host.files.replace(&path, b"[Service]\nExecStart=/bin/sleep infinity\n").expect("the disk is empty");
        host.start_foreign();
        (host, clock)
    }

    /// The units of which there is a file or a link.
    pub fn installed(&self) -> BTreeSet<String> {
        let files = self.files.names(Path::new(UNITS)).unwrap_or_default();
        files.into_iter().chain(self.pid1.links()).collect()
    }

    fn start_foreign(&self) {
        self.pid1.operate(Verb::Start, FOREIGN).expect("the host's own unit starts");
    }

    /// Starts fleetd, unless it runs or the host is off.
    pub fn start(&mut self, store: &MemoryStore, keys: &Keys) {
        if !matches!(self.daemon, Daemon::Down) {
            return;
        }
        self.dead_man = None;
        let client = store.client(&self.name);
        let record = MachineRecord {
            address: self.address.clone(),
            hostname: self.name.clone(),
            metadata: self.metadata.clone(),
            version: "simulated".into(),
            boot_id: format!("{}-{}", self.name, self.boots),
            cpus: 4,
            memory: 1 << 32,
            leaving: false,
            features: self.features.clone(),
            unknown: Unknown::default(),
        };
        let host = Host {
            id: self.id.clone(),
            metadata: self.metadata.clone(),
            features: record.features.clone(),
            describe: Box::new(move |_| Box::pin(ready(Ok(record.clone())))),
            changed: watch::channel(()).1,
            ttl: self.ttl,
            candidate: true,
            view: View::new(client.clone(), keys.clone()),
            files: Files::new(client.clone(), keys.clone()),
            store: client,
            keys: keys.clone(),
            systemd: self.pid1.connect(),
            filesystem: self.files.clone(),
            clock: Clock::Simulated(self.start),
            units: UNITS.into(),
            state: STATE.into(),
            metrics: Metrics::default(),
        };
        self.daemon = match Node::start(host) {
            Ok(node) => Daemon::Runs(Box::new(node)),
            // Systemd would start it again.
            Err(_) => Daemon::Down,
        };
    }

    /// Whether fleetd is on its way out.
    pub fn is_ending(&mut self) -> bool {
        if matches!(&self.daemon, Daemon::Ends(task) if task.is_finished()) {
            self.daemon = Daemon::Down;
            self.fence();
        }
        matches!(self.daemon, Daemon::Ends(_))
    }

    /// Kills fleetd where it stands. Returns whether there was one to kill.
    pub fn kill(&mut self) -> bool {
        let runs = matches!(self.daemon, Daemon::Runs(_));
        if runs {
            self.daemon = Daemon::Down;
            self.fence();
        }
        runs
    }

    /// Ends fleetd in order; with `leave` the host leaves the cluster. Returns whether there was one to end.
    pub fn end(&mut self, leave: bool) -> bool {
        match std::mem::replace(&mut self.daemon, Daemon::Down) {
            Daemon::Runs(node) => {
                let end = if leave { End::Leave } else { End::Keep };
                let ending = async move {
                    let ended = node.end(end).await;
                    assert!(ended.is_ok(), "a part broke: {ended:?}");
                };
                self.daemon = Daemon::Ends(AbortOnDropHandle::new(tokio::spawn(ending)));
                true
            }
            other => {
                self.daemon = other;
                false
            }
        }
    }

    /// What runs from the end of one fleetd to the start of the next.
    fn fence(&mut self) {
        let (files, pid1, clock) = (self.files.clone(), self.pid1.clone(), Clock::Simulated(self.start));
        let fence = async move {
            let mut running = dead_man::wait(files.clone(), Path::new(UNITS), clock).await.unwrap_or_default();
            let alive = pid1.alive();
            running.retain(|unit| alive.contains(unit.as_str()));
            // On a full disk it is not written, and they stay down.
            let _ = dead_man::mark(files, Path::new(UNITS), &running);
            for unit in running {
                // One that is gone by now needs no stopping.
                let _ = pid1.operate(Verb::Stop, unit.as_str());
            }
        };
        self.dead_man = Some(AbortOnDropHandle::new(tokio::spawn(fence)));
    }

    /// Takes the power away. Returns whether it was on.
    pub fn lose_power(&mut self, store: &MemoryStore) -> bool {
        if matches!(self.daemon, Daemon::Off) {
            return false;
        }
        self.dead_man = None;
        self.daemon = Daemon::Off;
        self.pid1.lose_power();
        self.files.boot();
        store.disconnect(&self.name);
        true
    }

    /// Boots it again.
    pub fn boot(&mut self, store: &MemoryStore, keys: &Keys) {
        self.boots += 1;
        self.daemon = Daemon::Down;
        self.pid1.boot();
        self.start_foreign();
        self.start(store, keys);
    }
}
