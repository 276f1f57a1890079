//! What is done to a simulated cluster, one thing after the other, and what each costs.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, REST},
    counted::{Tally, Topic},
    figures::{Figures, memory},
    floor,
    units::Unit,
};

/// Units that are started one after the other.
const SINGLE: usize = 10;
/// Questions of each kind.
const QUESTIONS: usize = 21;

/// What to do.
#[derive(Clone, Debug)]
pub struct Options {
    /// Machines.
    pub machines: usize,
    /// Units that are submitted at once.
    pub units: usize,
    /// Units of these that get new contents.
    pub changed: usize,
    /// Machines that lose their power at once.
    pub killed: usize,
    /// The TTL of machines and of the engine.
    pub ttl: Duration,
    /// How long the cluster is watched while nothing is done.
    pub idle: Duration,
    /// How often plain etcd is measured.
    pub floors: usize,
    /// The longest that anything may take.
    pub patience: Duration,
}

/// One thing that was done.
#[derive(Clone, Debug)]
pub struct Phase {
    /// What.
    pub name: String,
    /// How long until the cluster was as it should be.
    pub took: Duration,
    /// What it cost until the cluster was at rest.
    pub figures: Figures,
    /// Entries of the schedule that had to be written for it.
    pub placements: u64,
    /// What all machines did.
    pub tally: Tally,
    /// How many agents were woken.
    pub woken: usize,
}

/// How it went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was done.
    pub options: Options,
    /// The parts, in order.
    pub phases: Vec<Phase>,
    /// Of units that were submitted while nothing else was done: how long each took until it was reported.
    pub single: Vec<Duration>,
    /// What plain etcd took to write what the submission of all units has written.
    pub floor: Vec<Duration>,
    /// Keys and transactions of that, by kind: wanted, scheduled, reported.
    pub written: [(u64, u64); 3],
    /// How long questions took that were asked one after the other when all units ran: why units are where they are, and
    /// which of those of machines could leave them. The first of all has files to read.
    pub asked: [Vec<Duration>; 2],
    /// Memory of this process and of etcd when all units ran, in MiB.
    pub memory: (u64, u64),
}

impl Outcome {
    /// How long the submission of all units took.
    #[must_use]
    pub fn submission(&self) -> Duration {
        self.phases.iter().find(|phase| phase.name == SUBMIT).map(|phase| phase.took).unwrap_or_default()
    }

    /// The median of what plain etcd took.
    #[must_use]
    pub fn floor_median(&self) -> Duration {
        median(&self.floor)
    }
}

/// The middle one.
pub(super) fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The phase that is held against plain etcd.
const SUBMIT: &str = "submit all units";

/// Boots a cluster and does it all. `tell` hears of what comes next.
///
/// # Errors
/// The cluster does not do what is wanted of it.
pub async fn run(options: &Options, tell: impl Fn(&str)) -> Result<Outcome> {
    tell(&format!("booting {} machines", options.machines));
    let start = Instant::now();
    let cluster = Cluster::boot(options.machines, options.ttl, options.patience).await?;
    let took = start.elapsed();
    let figures = cluster.rest(REST).await?;
    let tallies = cluster.tallies();
    let mut campaign = Campaign { cluster, phases: Vec::new(), figures, tallies, tell: &tell };
    campaign.phases.push(Phase {
        name: "boot all machines".into(),
        took,
        figures: campaign.figures.clone(),
        placements: 0,
        tally: campaign.tallies.iter().copied().sum(),
        woken: 0,
    });
    campaign.play(options).await
}

struct Campaign<'t> {
    cluster: Cluster,
    phases: Vec<Phase>,
    /// What everything before the next phase has cost.
    figures: Figures,
    tallies: Vec<Tally>,
    tell: &'t dyn Fn(&str),
}

impl Campaign<'_> {
    async fn play(mut self, options: &Options) -> Result<Outcome> {
        let units = |numbers: std::ops::Range<usize>, version| -> Result<Vec<Unit>> {
            numbers.map(|number| Unit::new(number, version)).collect()
        };
        let all = units(0..options.units, 1)?;
        self.phase(SUBMIT, options.units, async |cluster| cluster.launch(all).await).await?;
        let submitted = self.phases.last().context("it was just done")?.tally;
        let memory = (memory(None)?, memory(Some(self.cluster.etcd_pid()))?);
        (self.tell)("ask why");
        let asked = self.cluster.ask(QUESTIONS).await?;
        let topics = [Topic::Wanted, Topic::Scheduled, Topic::Reported];
        let written = topics.map(|topic| submitted.written(topic));
        let keys = self.cluster.keys(written).await?;

        let mut single = Vec::new();
        let ones = units(options.units..options.units + SINGLE, 1)?;
        let one_by_one = async |cluster: &mut Cluster| {
            for unit in ones {
                let start = Instant::now();
                cluster.launch(vec![unit]).await?;
                cluster.settle().await?;
                single.push(start.elapsed());
            }
            Ok(())
        };
        self.phase(&format!("submit {SINGLE} units one by one"), SINGLE, one_by_one).await?;

        let places = self.cluster.places();
        let starts = self.cluster.starts();
        let changed = units(0..options.changed, 2)?;
        let name = format!("change {} units", options.changed);
        self.phase(&name, options.changed, async |cluster| cluster.launch(changed).await).await?;
        ensure!(self.cluster.places() == places, "units that were changed stay where they are");
        ensure!(self.cluster.starts() == starts + options.changed, "each changed unit was restarted once, no other");

        let mut deposed = 0;
        let more = options.units + SINGLE;
        let another = units(more..more + 1, 1)?;
        let restart = async |cluster: &mut Cluster| {
            deposed = cluster.leader().context("nobody leads")?;
            cluster.machines[deposed].stop().await?;
            cluster.machines[deposed].start(true)?;
            cluster.launch(another).await
        };
        self.phase("restart the leader, submit one unit", 1, restart).await?;
        ensure!(self.cluster.starts() == starts + options.changed + 1, "no unit was restarted with the leader");
        ensure!(self.cluster.leader() != Some(deposed), "another one leads");

        let leader = self.cluster.leader().context("nobody leads")?;
        let apart = options.machines / options.killed.max(1);
        let victims = (1..options.machines).step_by(apart.max(1)).filter(|number| *number != leader);
        let victims: BTreeSet<usize> = victims.take(options.killed).collect();
        let moved = self.cluster.units_on(&victims);
        let name = format!("take the power of {} machines", victims.len());
        let kill = async |cluster: &mut Cluster| {
            for number in victims {
                cluster.machines[number].lose_power();
                cluster.dead.insert(number);
            }
            Ok(())
        };
        self.phase(&name, moved, kill).await?;

        // A candidate among the dead is missed up to a third of a TTL after its machine, another waits as long for its
        // turn, and the one too many leaves 2 s after it stood: quiet for a while, the election may not be over.
        self.figures = self.cluster.rest(options.ttl * 2 / 3 + REST).await?;
        self.tallies = self.cluster.tallies();
        let name = format!("do nothing for {} s", options.idle.as_secs());
        let idle = async |_: &mut Cluster| {
            sleep(options.idle).await;
            Ok(())
        };
        self.phase(&name, 0, idle).await?;

        // From here on etcd has the machine to itself.
        let Self { cluster, phases, tell, .. } = self;
        drop(cluster);
        let mut floor = Vec::new();
        for turn in 1..=options.floors {
            tell(&format!("plain etcd writes the same keys, {turn} of {}", options.floors));
            floor.push(floor::write(&keys, options.ttl).await?);
        }
        let counts = |kind: usize| (keys[kind].keys.len() as u64, keys[kind].transactions);
        let written = [counts(0), counts(1), counts(2)];
        Ok(Outcome { options: options.clone(), phases, single, floor, written, asked, memory })
    }

    /// Does something, and waits until all units are as they should be and the cluster is at rest.
    async fn phase(
        &mut self,
        name: &str,
        placements: usize,
        act: impl AsyncFnOnce(&mut Cluster) -> Result<()>,
    ) -> Result<()> {
        (self.tell)(name);
        let start = Instant::now();
        act(&mut self.cluster).await.with_context(|| name.to_owned())?;
        self.cluster.settle().await.with_context(|| name.to_owned())?;
        let took = start.elapsed();
        let figures = self.cluster.rest(REST).await.with_context(|| name.to_owned())?;
        let tallies = self.cluster.tallies();
        let changes: Vec<Tally> = tallies.iter().zip(&self.tallies).map(|(now, before)| now.since(before)).collect();
        self.phases.push(Phase {
            name: name.to_owned(),
            took,
            figures: figures.since(&self.figures),
            placements: placements as u64,
            tally: changes.iter().copied().sum(),
            woken: changes.iter().filter(|tally| tally.agent().0 > 0).count(),
        });
        self.figures = figures;
        self.tallies = tallies;
        Ok(())
    }
}
