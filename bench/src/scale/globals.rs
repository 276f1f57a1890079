//! What global units cost as entries of the schedule, one for each machine: the entries as data, on a real etcd.
//!
//! [`run`] does the same twice: with nobody who watches, which is plain etcd, and with a watch for each machine on its
//! own range. How long it takes until each machine has heard of its entries is held against how long plain etcd takes
//! to write them. The leader's memory is that of a [`View`], which is what the engine of fleetd has.

mod table;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fleet_core::{
    model::{Key, Keys, MachineId, Snapshot},
    unit::UnitName,
};
use fleet_tests::EtcdProcess;
use fleetd::registry::{Etcd, Store, Transaction, Watch, WatchEvent, Write, etcd::Endpoints, view::View};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::figures::memory;

pub use self::table::section;

/// Writes of a transaction: what etcd takes is 128, and the engine adds guards.
const BATCH: usize = 100;
/// Connections that the machines share here; in a real cluster each has its own.
const CONNECTIONS: usize = 100;
/// Machines that open their watches at a time.
const OPENING: usize = 200;

/// How large the cluster is.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Machines.
    pub machines: usize,
    /// Global units.
    pub globals: usize,
    /// Machines of these that join at once, vanish, and come back.
    pub joining: usize,
    /// The longest that anything may take.
    pub patience: Duration,
}

/// Something that was done: until it was written, and until all who watch had heard of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Step {
    /// Entries.
    pub entries: usize,
    /// Until etcd had them.
    pub written: Duration,
    /// Until each machine had heard of its own.
    pub heard: Duration,
}

/// What one of the two runs took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    /// All entries of all machines but those that join.
    pub place: Step,
    /// One unit is changed on all machines.
    pub change: Step,
    /// Machines join at once.
    pub join: Step,
    /// They vanish, and come back: each reads its entries.
    pub back: Duration,
    /// Size of etcd's database, in MiB.
    pub database: u64,
    /// Memory of etcd, in MiB.
    pub etcd: u64,
}

/// What a leader needs to know all of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leader {
    /// Until it has read everything.
    pub reads: Duration,
    /// Memory that it took, in MiB.
    pub memory: u64,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// What was done.
    pub options: Options,
    /// With nobody who watches.
    pub plain: Side,
    /// With a watch for each machine.
    pub watched: Side,
    /// With the entries of the schedule alone, and with what the machines report of them as well, as today.
    pub leader: [Leader; 2],
}

/// Does it all.
///
/// # Errors
/// Etcd does not do as it is told, or it takes too long.
pub async fn run(options: Options, tell: impl Fn(&str)) -> Result<Outcome> {
    tell("plain etcd");
    let cluster = Cluster::start(options).await?;
    let plain = cluster.play(false, &tell).await?;
    tell("a leader reads the schedule");
    let scheduled = cluster.leader(|snapshot| snapshot.scheduled.len()).await?;
    cluster.report().await?;
    tell("a leader reads schedule and states");
    let reported = cluster.leader(|snapshot| snapshot.scheduled.len().min(snapshot.states.len())).await?;
    drop(cluster);
    tell("the same with a watch for each machine");
    let watched = Cluster::start(options).await?.play(true, &tell).await?;
    Ok(Outcome { options, plain, watched, leader: [scheduled, reported] })
}

struct Cluster {
    options: Options,
    etcd: EtcdProcess,
    store: Etcd,
    keys: Keys,
    machines: Vec<MachineId>,
    units: Vec<UnitName>,
}

impl Cluster {
    async fn start(options: Options) -> Result<Self> {
        let etcd = EtcdProcess::start();
        let keys = Keys::new("fleet");
        let all = options.machines + options.joining;
        // Spread like real IDs, which share no prefix.
        let id = |number: usize| format!("{:08x}{number:024x}", (number as u32).wrapping_mul(2_654_435_761));
        let machines = (0..all).map(|number| Ok(MachineId::new(&id(number))?)).collect::<Result<Vec<_>>>()?;
        let units = (0..options.globals).map(|number| Ok(UnitName::new(&format!("global-{number}.service"))?));
        let units = units.collect::<Result<Vec<_>>>()?;
        let cluster = Self { options, store: connect(&etcd), etcd, keys, machines, units };
        let machine = |(number, id): (usize, &MachineId)| {
            let value = format!(
                r#"{{"v":1,"address":"10.{}.{}.{}","hostname":"m{number}","metadata":{{"disk":"ssd","rack":"r{}"}},"version":"0.1.0","boot_id":"00000000-0000-4000-8000-{number:012x}","cpus":8,"memory":34359738368}}"#,
                number / 65_536,
                number / 256 % 256,
                number % 256,
                number / 20
            );
            Write::put(cluster.keys.format(&Key::Machine(id.clone())), value.into_bytes())
        };
        cluster.write(cluster.machines.iter().enumerate().map(machine).collect()).await?;
        Ok(cluster)
    }

    /// Entries of the schedule for a part of the machines: these units, in this generation.
    fn entries(&self, machines: &[MachineId], units: &[UnitName], generation: u32) -> Vec<Write> {
        let entry = |machine: &MachineId, unit: &UnitName| {
            let key = self.keys.format(&Key::Sched(machine.clone(), unit.clone()));
            Write::put(key, value(&format!(r#""desired":"launched","generation":{generation}"#)))
        };
        machines.iter().flat_map(|machine| units.iter().map(move |unit| entry(machine, unit))).collect()
    }

    /// Writes in transactions, one after the other as the engine does. Returns how long that took.
    async fn write(&self, writes: Vec<Write>) -> Result<Duration> {
        let start = Instant::now();
        for batch in writes.chunks(BATCH) {
            let transaction = Transaction { guards: Vec::new(), writes: batch.to_vec() };
            self.store.commit(transaction).await?.context("nothing guards it")?;
        }
        Ok(start.elapsed())
    }

    async fn play(&self, watched: bool, tell: &impl Fn(&str)) -> Result<Side> {
        let (old, new) = self.machines.split_at(self.options.machines);
        let ears = if watched { Some(Ears::open(self).await?) } else { None };
        let step = async |name: &str, writes: Vec<Write>| {
            tell(name);
            let (entries, start) = (writes.len(), Instant::now());
            let before = ears.as_ref().map(Ears::heard);
            let written = self.write(writes).await?;
            if let (Some(ears), Some(before)) = (&ears, before) {
                ears.until(before + entries as u64, self.options.patience).await?;
            }
            anyhow::Ok(Step { entries, written, heard: start.elapsed() })
        };
        let place = step("all machines get all units", self.entries(old, &self.units, 1)).await?;
        let change = step("one unit is changed", self.entries(old, &self.units[..1], 2)).await?;
        let join = step("machines join", self.entries(new, &self.units, 1)).await?;
        tell("they come back");
        let back = self.come_back(new).await?;
        let (database, etcd) = (self.database()?, memory(Some(self.etcd.pid()))?);
        Ok(Side { place, change, join, back, database, etcd })
    }

    /// Has machines read their own entries, as an agent does when it has been away.
    async fn come_back(&self, machines: &[MachineId]) -> Result<Duration> {
        let start = Instant::now();
        let reads = stream::iter(machines).map(|machine| async move {
            let page = self.store.list(&self.range(machine), None, self.units.len() + 1).await?;
            ensure!(page.entries.len() == self.units.len(), "{machine} has {} entries", page.entries.len());
            Ok(())
        });
        reads.buffer_unordered(OPENING).try_for_each(|()| async { Ok(()) }).await?;
        Ok(start.elapsed())
    }

    /// Has all machines report all units, as they do today.
    async fn report(&self) -> Result<Duration> {
        let state = r#""load":"loaded","active":"active","sub":"running","current":"launched","generation":1,"since":1795251043"#;
        let report = |machine: &MachineId, unit: &UnitName| {
            Write::put(self.keys.format(&Key::State(machine.clone(), unit.clone())), value(state))
        };
        let all = self.machines.iter().flat_map(|machine| self.units.iter().map(move |unit| report(machine, unit)));
        self.write(all.collect()).await
    }

    /// Has a leader read the cluster until it knows so many entries of each machine.
    async fn leader(&self, known: impl Fn(&Snapshot) -> usize) -> Result<Leader> {
        let wanted = self.machines.len() * self.units.len();
        let before = memory(None)?;
        let start = Instant::now();
        let view = View::new(self.store.clone(), self.keys.clone());
        let (_running, mut snapshot) = view.open();
        let reading = snapshot.wait_for(|snapshot| known(snapshot) == wanted);
        drop(timeout(self.options.patience, reading).await.context("the leader reads for too long")??);
        Ok(Leader { reads: start.elapsed(), memory: memory(None)?.saturating_sub(before) })
    }

    fn range(&self, machine: &MachineId) -> (String, String) {
        self.keys.under(&format!("sched/{machine}/"))
    }

    /// The size of etcd's database in MiB.
    fn database(&self) -> Result<u64> {
        let status = self.etcd.etcdctl(&["endpoint", "status", "--write-out", "json"])?;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        Ok(status[0]["Status"]["dbSize"].as_u64().context("etcd tells how large it is")? >> 20)
    }
}

/// The watches of all machines.
struct Ears {
    heard: Arc<AtomicU64>,
    _listening: Vec<AbortOnDropHandle<()>>,
}

impl Ears {
    async fn open(cluster: &Cluster) -> Result<Self> {
        let stores: Vec<Etcd> = (0..CONNECTIONS).map(|_| connect(&cluster.etcd)).collect();
        let from = cluster.store.list(&cluster.keys.under("none/"), None, 1).await?.revision + 1;
        let heard = Arc::new(AtomicU64::new(0));
        let opening = stream::iter(cluster.machines.iter().enumerate()).map(|(number, machine)| {
            let (store, heard) = (&stores[number % CONNECTIONS], Arc::clone(&heard));
            async move {
                let mut watch = store.watch(&cluster.range(machine), from).await?;
                let listening = async move {
                    while let Ok(WatchEvent::Changed { changes, .. }) = watch.next().await {
                        heard.fetch_add(changes.len() as u64, Ordering::Relaxed);
                    }
                };
                anyhow::Ok(AbortOnDropHandle::new(tokio::spawn(listening)))
            }
        });
        let _listening = opening.buffer_unordered(OPENING).try_collect().await?;
        Ok(Self { heard, _listening })
    }

    fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    async fn until(&self, wanted: u64, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while self.heard() < wanted {
            if Instant::now() > deadline {
                bail!("not within {patience:?}: {wanted} changes are heard of; last seen: {}", self.heard());
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }
}

fn connect(etcd: &EtcdProcess) -> Etcd {
    let request_timeout = Duration::from_secs(30);
    Etcd::new(Endpoints { urls: vec![etcd.url().to_owned()], request_timeout, ..Endpoints::default() })
}

/// The value of an entry or a state, as `docs/etcd-schema.md` has it.
fn value(members: &str) -> Vec<u8> {
    format!(r#"{{"v":1,"hash":"2cb66043c40d80344f80bb836d2f17f4be670b3e",{members}}}"#).into_bytes()
}
