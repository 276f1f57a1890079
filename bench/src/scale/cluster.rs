//! A simulated cluster as a whole, and whether it is as it should be.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use fleet_core::{
    model::{ActiveState, Key, Keys, MachineId, Snapshot},
    unit::UnitName,
};
use fleet_tests::EtcdProcess;
use fleetd::registry::{Detail, Store, view::Running};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{counted::Tally, figures::Figures, floor::Batches, machine::Machine, operator::Operator, units::Unit};

/// Between two looks at whether the cluster is as it should be.
const LOOK: Duration = Duration::from_millis(50);
/// So long nobody must have written or read for the cluster to be at rest.
pub const REST: Duration = Duration::from_millis(1500);
/// Connections of a machine: requests, and leases.
const CONNECTIONS: u64 = 2;
/// Files and connections of all else.
const OTHERS: u64 = 200;

/// A cluster of simulated machines with their etcd. All of it ends when it is dropped.
pub struct Cluster {
    /// The machines by number. The API is that of the first, which does not stand for election.
    pub machines: Vec<Machine>,
    /// The machines that have no power, by number.
    pub dead: BTreeSet<usize>,
    operator: Operator,
    wanted: BTreeMap<UnitName, Unit>,
    numbers: BTreeMap<MachineId, usize>,
    keys: Keys,
    patience: Duration,
    picture: watch::Receiver<Snapshot>,
    _running: std::sync::Arc<Running>,
    _directory: TempDir,
    // The last to go: until then nobody misses it.
    etcd: EtcdProcess,
}

impl Cluster {
    /// Boots machines all at once, and waits until each is a member and one leads. Whatever is waited for later, it is
    /// waited for as long as `patience`.
    ///
    /// # Errors
    /// The machine that this runs on has not what it takes, or it takes too long.
    pub async fn boot(machines: usize, ttl: Duration, patience: Duration) -> Result<Self> {
        raise_limit(machines)?;
        let etcd = EtcdProcess::start();
        let keys = Keys::new("fleet");
        let mut all = Vec::new();
        for number in 0..machines {
            let mut machine = Machine::new(number, etcd.url(), &keys, ttl)?;
            machine.start(number > 0)?;
            all.push(machine);
        }
        let first = all.first().context("a cluster has machines")?;
        let directory = tempfile::tempdir()?;
        let operator = Operator::open(first, &keys, directory.path())?;
        let (running, picture) = first.view.open();
        let numbers = all.iter().enumerate().map(|(number, machine)| (machine.id.clone(), number)).collect();
        let cluster = Self {
            machines: all,
            dead: BTreeSet::new(),
            operator,
            wanted: BTreeMap::new(),
            numbers,
            keys,
            patience,
            picture,
            _running: running,
            _directory: directory,
            etcd,
        };
        cluster.wait("all machines are members", Cluster::lacks_members).await?;
        Ok(cluster)
    }

    /// Has units launched, new or with new contents.
    ///
    /// # Errors
    /// The first that is refused.
    pub async fn launch(&mut self, units: Vec<Unit>) -> Result<()> {
        self.wanted.extend(units.iter().map(|unit| (unit.name.clone(), unit.clone())));
        self.operator.launch(units).await
    }

    /// Asks why units are where they are, and which of those of machines could leave them; so many of each.
    ///
    /// # Errors
    /// The first question without an answer.
    pub async fn ask(&self, count: usize) -> Result<[Vec<Duration>; 2]> {
        let step = (self.wanted.len() / count).max(1);
        let units = self.wanted.keys().step_by(step).take(count).map(UnitName::as_str);
        let why = self.operator.why(units).await?;
        let machines = self.machines.iter().rev().take(count).map(|machine| machine.id.as_str());
        Ok([why, self.operator.drain(machines).await?])
    }

    /// Waits until each wanted unit is reported active by one machine, which lives and which it is scheduled to.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn settle(&self) -> Result<()> {
        self.wait("all units are active", Cluster::lacks_units).await?;
        // What is reported is also so.
        let mut running: BTreeMap<String, usize> = BTreeMap::new();
        for machine in self.alive() {
            machine.alive().into_iter().for_each(|unit| *running.entry(unit).or_default() += 1);
        }
        ensure!(running.len() == self.wanted.len(), "{} of {} units run", running.len(), self.wanted.len());
        if let Some((unit, copies)) = running.iter().find(|(_, copies)| **copies != 1) {
            bail!("{unit} runs {copies} times");
        }
        Ok(())
    }

    async fn wait(&self, what: &str, lacks: impl Fn(&Self) -> Option<String>) -> Result<()> {
        let waiting = async {
            while lacks(self).is_some() {
                sleep(LOOK).await;
            }
        };
        if timeout(self.patience, waiting).await.is_err()
            && let Some(lack) = lacks(self)
        {
            bail!("not within {:?}: {what}; last seen: {lack}", self.patience);
        }
        Ok(())
    }

    fn lacks_members(&self) -> Option<String> {
        let picture = self.picture.borrow().clone();
        let (there, wanted) = (picture.machines.len(), self.machines.len() - self.dead.len());
        if there != wanted {
            return Some(format!("{there} of {wanted} machines are members"));
        }
        (self.leader().is_none() || !picture.has_leader()).then(|| "nobody leads".into())
    }

    fn lacks_units(&self) -> Option<String> {
        let picture = self.picture.borrow().clone();
        let wanted = self.wanted.len();
        for (count, what) in [(picture.scheduled.len(), "scheduled"), (picture.states.len(), "reported")] {
            if count != wanted {
                return Some(format!("{count} of {wanted} units are {what}"));
            }
        }
        let mut seen = BTreeSet::new();
        for ((machine, name), state) in &picture.states {
            let number = self.numbers.get(machine).filter(|number| !self.dead.contains(number));
            let Some(number) = number else { return Some(format!("{name} is on {machine}, which is gone")) };
            let Some(unit) = self.wanted.get(name) else { return Some(format!("nobody wants {name}")) };
            let state = &state.record;
            if state.active != ActiveState::Active || state.job || state.hash != unit.hash() {
                return Some(format!("{name} is {} with contents {}", state.active, state.hash));
            }
            if !picture.scheduled.contains_key(&(machine.clone(), name.clone())) || !seen.insert(name) {
                return Some(format!("{name} runs on {machine}, which is not its only place"));
            }
            if !unit.fits(self.machines[*number].has_ssd()) {
                return Some(format!("{name} does not fit on {machine}"));
            }
        }
        None
    }

    /// Waits until nobody has written or read for so long, and returns what all has cost until then.
    ///
    /// # Errors
    /// It takes too long.
    pub async fn rest(&self, quiet: Duration) -> Result<Figures> {
        let deadline = Instant::now() + self.patience;
        let mut last = self.figures().await?;
        loop {
            sleep(quiet).await;
            let now = self.figures().await?;
            let asked = |figures: &Figures| (figures.count("Txn"), figures.count("Range"));
            if asked(&now) == asked(&last) {
                return Ok(now);
            }
            ensure!(Instant::now() < deadline, "not within {:?}: the cluster is at rest", self.patience);
            last = now;
        }
    }

    /// What all has cost until now.
    ///
    /// # Errors
    /// Etcd does not answer.
    pub async fn figures(&self) -> Result<Figures> {
        Figures::read((self.etcd.url(), self.etcd.pid())).await
    }

    /// The ID of etcd's process.
    pub fn etcd_pid(&self) -> u32 {
        self.etcd.pid()
    }

    /// What was counted of each machine, by number.
    pub fn tallies(&self) -> Vec<Tally> {
        self.machines.iter().map(Machine::tally).collect()
    }

    /// The number of the machine whose engine leads.
    pub fn leader(&self) -> Option<usize> {
        self.machines.iter().position(Machine::leads)
    }

    /// How many units are scheduled to some machines.
    pub fn units_on(&self, machines: &BTreeSet<usize>) -> usize {
        let picture = self.picture.borrow().clone();
        let on = picture.scheduled.keys().filter(|(machine, _)| machines.contains(&self.numbers[machine]));
        on.count()
    }

    /// Where units are, by name.
    pub fn places(&self) -> BTreeMap<UnitName, MachineId> {
        let picture = self.picture.borrow().clone();
        picture.scheduled.keys().map(|(machine, unit)| (unit.clone(), machine.clone())).collect()
    }

    /// How many units were started, ever.
    pub fn starts(&self) -> usize {
        self.machines.iter().map(Machine::starts).sum()
    }

    fn alive(&self) -> impl Iterator<Item = &Machine> {
        self.machines.iter().enumerate().filter(|(number, _)| !self.dead.contains(number)).map(|(_, machine)| machine)
    }

    /// The keys that are about units, as etcd has them: what is wanted, what is scheduled, what is reported. `written`
    /// are the transactions that have written such, and the operations in them: they are to be written in batches of
    /// the same size.
    ///
    /// # Errors
    /// Etcd does not answer.
    pub async fn keys(&self, written: [(u64, u64); 3]) -> Result<[Batches; 3]> {
        let store = &self.machines[0].store;
        let mut kinds = [(); 3].map(|()| Batches::default());
        for (kind, path) in ["unit/", "sched/", "state/"].into_iter().enumerate() {
            for stored in store.list_all(Detail::Values, &self.keys.under(path)).await?.entries {
                if let Some(Key::Unit(name)) = self.keys.parse(&stored.key)
                    && let Some(unit) = self.wanted.get(&name)
                {
                    let key = self.keys.format(&Key::File(unit.hash()));
                    kinds[kind].keys.push((key, unit.file.canonical().into_bytes(), None));
                }
                kinds[kind].keys.push((stored.key, stored.value, stored.lease.map(|lease| lease.0)));
            }
            let (transactions, operations) = written[kind];
            kinds[kind].transactions = (kinds[kind].keys.len() as u64 * transactions).div_ceil(operations.max(1));
        }
        Ok(kinds)
    }
}

/// Lets this process, and etcd after it, have as many connections as there will be.
fn raise_limit(machines: usize) -> Result<()> {
    let needed = machines as u64 * CONNECTIONS + OTHERS;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{machines} machines need {needed} open files and connections, which is more than is allowed here: raise the \
         limit with `ulimit -Hn {needed}` as root"
    );
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum: limit.maximum })
        .with_context(|| format!("cannot have {needed} open files"))
}
