//! Does the faults, one round after the other, and writes down what happened.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fleet_lab::{Lab, Look, Seen, eventually};
use fleet_tests::{Cluster, DEADLINE};

use super::{
    copies::{self, boottime},
    fault::{self, Fault, KINDS, Kind},
    judge::{Breach, Record, Struck, judge, missing},
    operator::{Command, Operator},
    picture, units,
};

/// How long everything must be as it should be to count: what comes right after the end of a fault, like the end of
/// leases that ran out while etcd was frozen, is not over yet when the first look is taken.
const CALM: Duration = Duration::from_secs(2);

/// What a campaign is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of hosts.
    pub hosts: u8,
    /// Number of etcd members.
    pub members: u8,
    /// What the faults are drawn with.
    pub seed: u64,
    /// How long new rounds begin.
    pub duration: Duration,
    /// The TTL of machines and leaders.
    pub ttl: Duration,
    /// Kinds of faults to draw from.
    pub kinds: Vec<Kind>,
    /// With strict units.
    pub strict: bool,
    /// Faults that overlap.
    pub overlapping: bool,
}

/// A campaign under way.
pub struct Campaign {
    options: Options,
    cluster: Cluster,
    operator: Operator,
    rng: fastrand::Rng,
    record: Record,
    /// Breaches that were told of.
    told: Vec<Breach>,
    begun: Instant,
}

/// A fault under way: when it began, when it was undone, and how long units of a dead host took to run elsewhere.
type Outcome = Result<(Duration, Duration, Option<Duration>)>;

impl Campaign {
    /// Boots the hosts and starts the units. `program` is `fleet-copy`.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn prepare(options: Options, program: &Path) -> Result<Self> {
        let clocks = options.kinds.contains(&Kind::ClockTurned);
        let lab = Lab::builder().hosts(options.hosts).etcd(options.members).turnable_clocks(clocks);
        let ttl = format!("agent_ttl=\"{}s\"", options.ttl.as_secs());
        let cluster = Cluster::with(lab.config(&ttl));
        copies::install(&cluster.lab, program)?;
        let (files, units) = units::units(options.strict);
        for (name, text) in &files {
            cluster.host("h1").write(&format!("/root/{name}"), text)?;
        }
        for unit in units.iter().filter(|unit| unit.kind != units::Kind::Scratch) {
            let started = cluster.fleetctl(&["start", "--no-block", &unit.name])?;
            anyhow::ensure!(started.code == 0, "cannot start {}: {started:?}", unit.name);
        }
        let hosts = cluster.names();
        let record = Record { seed: options.seed, ttl: options.ttl, hosts, units, ..Record::default() };
        let rng = fastrand::Rng::with_seed(options.seed);
        let operator = Operator::new(&record.units);
        let submitted = cluster.fleetctl(&["submit", "scratch@.service"])?;
        anyhow::ensure!(submitted.code == 0, "cannot submit: {submitted:?}");
        let mut campaign = Self { options, cluster, operator, rng, record, told: Vec::new(), begun: Instant::now() };
        campaign.settle(DEADLINE).map_err(|last| anyhow::anyhow!("the units do not start: {}", last.join("; ")))?;
        campaign.record.raw_start = campaign.raw_start()?;
        Ok(campaign)
    }

    /// Rounds of faults until the time is over, or until `stop` says so, which is told whether a promise was broken.
    ///
    /// # Errors
    /// When the lab itself fails.
    pub fn run(&mut self, stop: &dyn Fn(bool) -> bool) -> Result<()> {
        self.begun = Instant::now();
        while self.begun.elapsed() < self.options.duration && !stop(!self.told.is_empty()) {
            self.round()?;
        }
        Ok(())
    }

    /// The cluster that it is done to.
    #[must_use]
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What happened so far.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Keeps what tells of the run in a directory: the record, and the journals of fleetd and etcd.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn keep(&self, dir: &Path) -> Result<()> {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        std::fs::write(dir.join("record.json"), serde_json::to_vec_pretty(&self.record)?)?;
        for host in self.cluster.lab.hosts() {
            let journal =
                host.sh("journalctl -u fleet -u 'plain@*' -u 'single@*' -u init.scope -o short-precise --no-pager");
            std::fs::write(
                dir.join(format!("{}.log", host.name())),
                journal.unwrap_or_else(|error| error.to_string()),
            )?;
        }
        for member in self.cluster.lab.members() {
            let log = self.cluster.lab.dir().join(format!("etcd/e{}.log", member.number()));
            std::fs::copy(log, dir.join(format!("etcd{}.log", member.number())))?;
        }
        Ok(())
    }

    fn round(&mut self) -> Result<()> {
        let faults = self.draw();
        let offset = Duration::from_millis(self.rng.u64(0..self.options.ttl.as_millis() as u64));
        let commands = self.operator.draw(self.options.ttl, &mut self.rng);
        self.operator.commanded(&commands);
        self.meanwhile(faults, offset, &commands)?;
        self.tell();
        let pause = self.rng.u64(200..4000);
        wait(Duration::from_millis(pause));
        Ok(())
    }

    /// Does faults that overlap, each so much later than the one before, and waits until all has recovered.
    ///
    /// # Errors
    /// When the lab itself fails.
    pub fn inflict(&mut self, faults: Vec<Fault>, offset: Duration) -> Result<()> {
        self.meanwhile(faults, offset, &[])
    }

    fn meanwhile(&mut self, faults: Vec<Fault>, offset: Duration, commands: &[Command]) -> Result<()> {
        let names: Vec<String> = faults.iter().map(ToString::to_string).collect();
        let asked: Vec<String> = commands.iter().map(|command| format!("; {command}")).collect();
        eprint!("{:>4} s  {}{}", self.begun.elapsed().as_secs(), names.join(", and "), asked.concat());
        let (cluster, record) = (&self.cluster, &self.record);
        let lab = &cluster.lab;
        let (outcomes, mut unsettled): (Vec<Outcome>, Vec<String>) = std::thread::scope(|scope| {
            let carry_out = move |command: &Command| {
                wait(command.after);
                (!command.carry_out(cluster)).then(|| format!("no host takes the command for {command}"))
            };
            let commands: Vec<_> = commands.iter().map(|command| scope.spawn(move || carry_out(command))).collect();
            let acts: Vec<_> = faults
                .iter()
                .enumerate()
                .map(|(number, fault)| scope.spawn(move || act(lab, record, fault, offset * number as u32)))
                .collect();
            let outcomes = acts
                .into_iter()
                .map(|act| act.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
                .collect();
            let refused = commands.into_iter().filter_map(|command| command.join().unwrap_or_default());
            (outcomes, refused.collect())
        });
        fault::restore(lab)?;
        let settled = self.settle(self.options.ttl * 4 + Duration::from_secs(30));
        let recovered = *settled.as_ref().unwrap_or(&boottime());
        let now = boottime();
        // A command that comes late is not what fleet takes to recover.
        let alone = faults.len() == 1 && commands.is_empty();
        unsettled.extend(settled.err().unwrap_or_default());
        let mut first = now;
        for (fault, outcome) in faults.into_iter().zip(outcomes) {
            let unsettled = std::mem::take(&mut unsettled);
            let struck = match outcome {
                Ok((start, end, moved)) => {
                    Struck { fault, start, end, recovered, settled: now, unsettled, moved, alone }
                }
                // Another fault was in the way. What it did, it did at some time in this round.
                Err(error) => {
                    eprint!(" (in part: {error:#})");
                    let start = self.record.faults.last().map_or(first, |last| last.settled);
                    Struck { fault, start, end: now, recovered, settled: now, unsettled, moved: None, alone: false }
                }
            };
            first = first.min(struck.start);
            self.record.faults.push(struck);
        }
        self.record.copies = copies::read(&self.cluster.lab)?;
        eprintln!(": recovered after {:.1?}", recovered.saturating_sub(self.last_end()));
        Ok(())
    }

    fn last_end(&self) -> Duration {
        let settled = self.record.faults.last().map(|last| last.settled);
        let of_round = self.record.faults.iter().filter(|struck| Some(struck.settled) == settled);
        of_round.map(|struck| struck.end).max().unwrap_or_default()
    }

    /// Tells of promises that were broken since it did last.
    fn tell(&mut self) {
        for breach in judge(&self.record) {
            if !self.told.contains(&breach) {
                let at = breach.at().map_or(String::new(), |at| format!(" at {:.3}", at.as_secs_f64()));
                eprintln!("        BROKEN: {breach}{at} (seed {})", self.record.seed);
                self.told.push(breach);
            }
        }
    }

    /// One fault, or two that are at work at the same time and do not prevent each other.
    fn draw(&mut self) -> Vec<Fault> {
        let one = self.draw_one();
        let wanted = if self.options.overlapping && self.rng.u8(0..3) == 0 { 2 } else { 1 };
        let mut faults = vec![one];
        for _ in 0..20 {
            if faults.len() == wanted {
                break;
            }
            let mut other = self.draw_one();
            let stores = faults[0].kind.is_of_store() && other.kind.is_of_store();
            let many = faults[0].kind.is_of_many() || other.kind.is_of_many();
            if faults[0].kind.goes_with(other.kind) && self.rng.bool() {
                // Two on one host, as a daemon that is killed while its host is cut off.
                other.hosts.clone_from(&faults[0].hosts);
                faults.push(other);
                continue;
            }
            let shared = other.hosts.iter().any(|host| faults[0].hosts.contains(host));
            if !stores && !many && !shared {
                faults.push(other);
            }
        }
        faults
    }

    fn draw_one(&mut self) -> Fault {
        let lots: Vec<Kind> = KINDS
            .iter()
            .filter(|(kind, _)| self.options.kinds.contains(kind))
            .flat_map(|(kind, lots)| std::iter::repeat_n(*kind, *lots as usize))
            .collect();
        let kind = lots[self.rng.usize(0..lots.len())];
        Fault::draw(kind, &self.record.hosts, self.options.members, self.options.ttl, &mut self.rng)
    }

    /// Waits until everything is as it should be and stays so; returns since when, otherwise what is not.
    fn settle(&self, deadline: Duration) -> Result<Duration, Vec<String>> {
        let (mut last, mut since) = (Vec::new(), None);
        let look = || {
            last = self.unsettled().unwrap_or_else(|error| vec![format!("{error:#}")]);
            if !last.is_empty() {
                since = None;
                return Ok(None);
            }
            let since = *since.get_or_insert_with(boottime);
            Ok((boottime() - since >= CALM).then_some(since))
        };
        eventually(deadline, "everything is as it should be", look).map_err(|_| last)
    }

    fn unsettled(&self) -> Result<Vec<String>> {
        let copies = copies::read(&self.cluster.lab)?;
        let now = boottime();
        let missing = missing(&self.record.units, &self.record.hosts, &copies, now);
        let missing = [missing, self.operator.missing(&copies, now)].concat();
        if !missing.is_empty() {
            return Ok(missing);
        }
        picture::contradictions(&self.cluster.lab, &self.record.units, &copies, now)
    }

    /// How long systemd alone takes to start as many units as a host has of the soak.
    fn raw_start(&self) -> Result<Duration> {
        let hosts = self.record.hosts.len();
        let each = (self.record.units.len() / hosts).max(1);
        let host = self.cluster.host("h1");
        let names: Vec<String> = (1..=each).map(|number| format!("raw{number}.service")).collect();
        for name in &names {
            host.write(&format!("/run/systemd/system/{name}"), "[Service]\nExecStart=/bin/sleep 10000\n")?;
        }
        let begun = Instant::now();
        host.sh(&format!("systemctl start {}", names.join(" ")))?;
        let took = begun.elapsed();
        let remove = format!("systemctl stop {0}; cd /run/systemd/system && rm {0}", names.join(" "));
        host.sh(&remove)?;
        Ok(took)
    }
}

/// One fault from its beginning to its end.
fn act(lab: &Lab, record: &Record, fault: &Fault, after: Duration) -> Outcome {
    wait(after);
    let start = boottime();
    let struck = fault.strike(lab);
    let begun = Instant::now();
    let mut moved = None;
    if struck.is_ok() {
        if fault.until_moved {
            // Not in time is no error here: what is missing then is told when the host is back.
            let patience = record.ttl * 3 + Duration::from_secs(20);
            moved = eventually(patience, "units run elsewhere", || has_moved(lab, record, &fault.hosts[0], start)).ok();
        } else {
            wait(fault.hold.saturating_sub(begun.elapsed()));
        }
    }
    fault.mend(lab)?;
    struck?;
    Ok((start, boottime(), moved))
}

/// How long the units that ran on a host before `lost` took to run elsewhere, once they all do.
fn has_moved(lab: &Lab, record: &Record, host: &str, lost: Duration) -> Result<impl Look<Value = Duration>> {
    let copies = copies::read(lab)?;
    let mut latest = lost;
    for unit in record.units.iter().filter(|unit| unit.kind.moves_at_once()) {
        let of = |copy: &&copies::Copy| copy.birth.unit == unit.name;
        let before = copies.iter().filter(of).rfind(|copy| copy.birth.start < lost);
        if before.is_none_or(|copy| copy.birth.host != host) {
            continue;
        }
        match copies.iter().filter(of).find(|copy| copy.birth.start >= lost) {
            Some(copy) => latest = latest.max(copy.birth.start),
            None => return Ok(Seen::NotYet(unit.name.clone())),
        }
    }
    Ok(Seen::Done(latest - lost))
}

#[allow(clippy::disallowed_methods, reason = "the time that a fault lasts; there is no runtime here to block")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
