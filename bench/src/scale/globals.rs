//! What global units cost as entries of the schedule, one for each machine, on a real etcd.
//!
//! [`run`] does the same three times: entries as data with nobody who watches, which is plain etcd; with a watch for each
//! machine on its own range; and with an engine that leads and writes the entries itself. How long it takes until each
//! machine has heard of its entries is held against how long plain etcd takes to write them. What a leader needs is
//! measured in processes of their own, see [`leader`].

mod cluster;
mod ears;
mod engine;
pub mod leader;
mod table;

use std::{ops::Range, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use fleet_core::model::MachineId;
use fleet_tests::EtcdProcess;
use fleetd::registry::{Etcd, Revision, etcd::Endpoints};
use tokio::time::{Instant, sleep};

use self::{cluster::Cluster, ears::Ears, engine::Engine, leader::Leader};
use super::{
    counted::{Tally, Topic},
    figures::{Figures, memory},
};

pub use self::table::section;

/// The prefix of all keys.
const PREFIX: &str = "fleet";
/// Writes of a transaction: what etcd takes is 128, and the engine adds guards.
const BATCH: usize = 100;
/// Connections that the machines share here; in a real cluster each has its own.
const CONNECTIONS: usize = 100;
/// Machines that do something at a time.
const AT_ONCE: usize = 200;

/// How large the cluster is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Machines.
    pub machines: usize,
    /// Global units.
    pub globals: usize,
    /// Machines of these that join at once, vanish, and come back.
    pub joining: usize,
    /// `agent_ttl` of the engine's machine: so long others may be silent.
    pub ttl: Duration,
    /// The longest that anything may take.
    pub patience: Duration,
    /// `fleet-scale`, which is run once more for each leader.
    pub program: PathBuf,
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

/// Machines lose their leases, and come back.
#[derive(Clone, Copy, Debug, Default)]
pub struct Vanish {
    /// Until all their keys were gone.
    pub gone: Duration,
    /// Until all were back, had said again what they run, and had read their entries.
    pub back: Duration,
    /// Transactions of these machines.
    pub own: u64,
    /// Transactions of anybody, as etcd has counted them.
    pub transactions: u64,
    /// Leases that ended, each of which takes a revision.
    pub leases: u64,
    /// By how much etcd's revision grew.
    pub revisions: u64,
    /// Changes of entries of which machines have heard.
    pub heard: u64,
    /// Entries that the engine has written, if there is one.
    pub scheduled: u64,
    /// Its transactions about other things.
    pub others: u64,
}

/// What one of the runs took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Side {
    /// All entries of all machines but those that join.
    pub place: Step,
    /// Machines join at once.
    pub join: Step,
    /// One unit is changed on all machines.
    pub change: Step,
    /// Those that have joined vanish and come back.
    pub vanish: Vanish,
    /// Size of etcd's database, in MiB.
    pub database: u64,
    /// Memory of etcd, in MiB.
    pub etcd: u64,
}

/// What leaders need, by what there is to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct Leaders {
    /// Machines, and nothing else.
    pub machines: Leader,
    /// Machines, global units and their entries.
    pub entries: Leader,
    /// The same, and what the machines report.
    pub all: Leader,
    /// Machines, global units and what the machines report: what there is to know where each machine decides for itself.
    pub states: Leader,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done.
    pub options: Options,
    /// With nobody who watches.
    pub plain: Side,
    /// With a watch for each machine.
    pub watched: Side,
    /// With a watch for each machine, and an engine that writes the entries.
    pub led: Side,
    /// What leaders need.
    pub leaders: Leaders,
}

/// Does it all.
///
/// # Errors
/// Etcd does not do as it is told, or it takes too long.
pub async fn run(options: &Options, tell: impl Fn(&str)) -> Result<Outcome> {
    tell("plain etcd");
    let (plain, leaders) = {
        let etcd = EtcdProcess::start();
        let cluster = Cluster::new(options, connect(etcd.url()))?;
        let plain = play(&cluster, &etcd, None, None, &tell).await?;
        (plain, lead(&cluster, &etcd, &tell).await?)
    };
    tell("the same with a watch for each machine");
    let watched = {
        let etcd = EtcdProcess::start();
        let cluster = Cluster::new(options, connect(etcd.url()))?;
        let ears = Ears::open(&cluster, etcd.url()).await?;
        play(&cluster, &etcd, Some(&ears), None, &tell).await?
    };
    tell("the same with an engine that leads");
    let etcd = EtcdProcess::start();
    let cluster = Cluster::new(options, connect(etcd.url()))?;
    let ears = Ears::open(&cluster, etcd.url()).await?;
    let engine = Engine::start(options, etcd.url()).await?;
    let led = play(&cluster, &etcd, Some(&ears), Some(&engine), &tell).await?;
    Ok(Outcome { options: options.clone(), plain, watched, led, leaders })
}

/// Lets the cluster do what clusters do. Without an engine its entries are written as if there were one.
async fn play(
    cluster: &Cluster,
    etcd: &EtcdProcess,
    ears: Option<&Ears>,
    engine: Option<&Engine>,
    tell: &impl Fn(&str),
) -> Result<Side> {
    let Options { globals, patience, .. } = cluster.options;
    let (old, new) = cluster.parts();
    let place = async |machines: &[MachineId], units: Range<usize>, version: u64| match engine {
        Some(_) => Ok(machines.len() * units.len()),
        None => cluster.place(machines, units, version).await,
    };
    // The engine's machine says itself that it is there.
    cluster.boot(&old[usize::from(engine.is_some())..]).await?;
    tell("machines get all units");
    let step = Clock::start(ears);
    for unit in 0..globals {
        cluster.submit(unit, 1).await?;
    }
    let first = step.end(place(old, 0..globals, 1).await?, patience).await?;
    tell("machines join");
    let step = Clock::start(ears);
    let leases = cluster.join(new).await?;
    let join = step.end(place(new, 0..globals, 1).await?, patience).await?;
    cluster.report(new, Some(&leases)).await?;
    tell("a unit is changed");
    let step = Clock::start(ears);
    cluster.submit(0, 2).await?;
    let change = step.end(place(&cluster.machines, 0..1, 2).await?, patience).await?;
    tell("machines vanish and come back");
    rest(cluster, engine).await?;
    let before = Moment::now(cluster, etcd, ears, engine).await?;
    let start = Instant::now();
    cluster.vanish(&leases).await?;
    let gone = start.elapsed();
    rest(cluster, engine).await?;
    let start = Instant::now();
    let own = cluster.come_back(new).await?;
    let back = start.elapsed();
    rest(cluster, engine).await?;
    let spent = Moment::now(cluster, etcd, ears, engine).await?.since(&before);
    let (database, etcd) = (database(etcd)?, memory(Some(etcd.pid()))?);
    Ok(Side { place: first, join, change, vanish: Vanish { gone, back, own, ..spent }, database, etcd })
}

/// Waits until an engine has had time for all that it wants to write: for longer than a machine may be silent, and until
/// nothing is written any more.
async fn rest(cluster: &Cluster, engine: Option<&Engine>) -> Result<()> {
    if engine.is_none() {
        return Ok(());
    }
    let deadline = Instant::now() + cluster.options.patience;
    let mut last = cluster.revision().await?;
    loop {
        sleep(cluster.options.ttl + Duration::from_secs(1)).await;
        let now = cluster.revision().await?;
        if now == last {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "not within {:?}: nothing is written", cluster.options.patience);
        last = now;
    }
}

/// Has leaders learn what there is to know of a cluster that has placed all. Leaves nothing there but machines.
async fn lead(cluster: &Cluster, etcd: &EtcdProcess, tell: &impl Fn(&str)) -> Result<Leaders> {
    let Options { machines, globals, .. } = cluster.options;
    let all = machines * globals;
    let leader = async |what: &str, entries: usize, states: usize| {
        tell(what);
        let leader = Leader::ask(&cluster.options, etcd.url()).await?;
        let learned = (leader.machines, leader.entries, leader.states);
        ensure!(learned == (machines, entries, states), "a leader has learned of {learned:?}");
        anyhow::Ok(leader)
    };
    cluster.forget("state/").await?;
    let entries = leader("a leader learns of machines and entries", all, 0).await?;
    cluster.report(&cluster.machines, None).await?;
    let everything = leader("a leader learns of states as well", all, all).await?;
    cluster.forget("sched/").await?;
    let states = leader("a leader learns of machines and states", 0, all).await?;
    cluster.forget("state/").await?;
    cluster.forget("global/").await?;
    let machines = leader("a leader learns of machines", 0, 0).await?;
    Ok(Leaders { machines, entries, all: everything, states })
}

/// When something began, and what had been heard until then.
struct Clock<'e> {
    start: Instant,
    ears: Option<(&'e Ears, u64)>,
}

impl<'e> Clock<'e> {
    fn start(ears: Option<&'e Ears>) -> Self {
        Self { start: Instant::now(), ears: ears.map(|ears| (ears, ears.heard())) }
    }

    /// So many entries are written, or will be: waits until all who watch have heard of them.
    async fn end(self, entries: usize, patience: Duration) -> Result<Step> {
        let written = self.start.elapsed();
        if let Some((ears, before)) = self.ears {
            ears.until(before + entries as u64, patience).await?;
        }
        Ok(Step { entries, written, heard: self.start.elapsed() })
    }
}

/// What has been counted until some moment.
struct Moment {
    figures: Figures,
    revision: Revision,
    heard: u64,
    engine: Tally,
}

impl Moment {
    async fn now(cluster: &Cluster, etcd: &EtcdProcess, ears: Option<&Ears>, engine: Option<&Engine>) -> Result<Self> {
        Ok(Self {
            figures: Figures::read((etcd.url(), etcd.pid())).await?,
            revision: cluster.revision().await?,
            heard: ears.map_or(0, Ears::heard),
            engine: engine.map(Engine::tally).unwrap_or_default(),
        })
    }

    fn since(&self, before: &Self) -> Vanish {
        let figures = self.figures.since(&before.figures);
        let engine = self.engine.since(&before.engine);
        Vanish {
            transactions: figures.count("Txn"),
            leases: figures.count("LeaseRevoke"),
            revisions: (self.revision - before.revision) as u64,
            heard: self.heard - before.heard,
            scheduled: engine.written(Topic::Scheduled).1,
            others: engine.written(Topic::Other).0,
            ..Vanish::default()
        }
    }
}

/// The size of etcd's database in MiB.
fn database(etcd: &EtcdProcess) -> Result<u64> {
    let status = etcd.etcdctl(&["endpoint", "status", "--write-out", "json"])?;
    let status: serde_json::Value = serde_json::from_str(&status)?;
    Ok(status[0]["Status"]["dbSize"].as_u64().context("etcd tells how large it is")? >> 20)
}

fn connect(url: &str) -> Etcd {
    let request_timeout = Duration::from_secs(30);
    Etcd::new(Endpoints { urls: vec![url.to_owned()], request_timeout, ..Endpoints::default() })
}
