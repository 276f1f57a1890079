//! A host is lost with its units: until they run elsewhere.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use fleet_lab::Host;

use super::{
    Sizes, gate,
    gate::monotonic,
    row::{Measure, Row},
    series::Series,
    slice::{self, Slice},
    stage::{PATIENCE, Stage, UNITS, between, wait},
    units::{Set, dealt, systemctl},
};

/// Three hosts that are lost within a minute are many, and fleet waits: each loss here is to be one of its own.
const APART: Duration = Duration::from_secs(31);

/// Cuts the power of one of three hosts, each with `sizes.loss` units, and starts as many by hand on the others.
///
/// # Errors
/// When a round does not end as it should.
pub fn measure(stage: &mut Stage, sizes: &Sizes) -> Result<Vec<Row>> {
    let set = Set { name: UNITS, count: sizes.loss * stage.hosts().len() };
    let raw = Set { name: "hand", count: sizes.loss };
    let [mut floor, mut ours, mut known] = [const { Series::new() }; 3];
    let mut last: Option<Instant> = None;
    for _ in 0..sizes.rounds {
        stage.populate(set.count)?;
        let lost = stage.bystander()?;
        let others: Vec<Host> = stage.hosts().iter().filter(|host| host.name() != lost.name()).cloned().collect();

        let hands = dealt(&others, raw.files(""));
        stage.lay_out(&hands)?;
        stage.rest()?;
        let finish = gate::run(&systemctl("start", &hands))?;
        floor.push_time(between(finish.begun, stage.last_active(&stage.each_runs_once(raw)?)?)?);
        gate::run(&systemctl("stop", &hands))?;
        stage.clear_away(&hands)?;
        stage.gone(raw)?;

        stage.rest()?;
        let placed = stage.each_runs_once(set)?;
        let here = placed.iter().find(|(host, _)| host.name() == lost.name()).context("it is no host")?;
        ensure!(here.1.len() == sizes.loss, "{} has {} units, not {}", lost.name(), here.1.len(), sizes.loss);
        if let Some(last) = last {
            wait(APART.saturating_sub(last.elapsed()));
        }
        last = Some(Instant::now());
        let slices = others.iter().map(|host| Slice::of(host, &set.prefix())).collect::<Result<Vec<_>>>()?;
        let lease = Lease::watch(stage, &lost)?;
        let begun = monotonic();
        lost.kill()?;
        let ended = lease.ended()?;
        slice::begun(&slices, set.count, PATIENCE)?;
        let after = stage.each_runs_once(set)?;
        let moved: Vec<(Host, Vec<String>)> = after
            .iter()
            .map(|(host, units)| {
                let of_lost = |unit: &&String| here.1.contains(unit);
                (host.clone(), units.iter().filter(of_lost).cloned().collect())
            })
            .collect();
        let active = stage.last_active(&moved)?;
        ours.push_time(between(begun, active)?);
        known.push_time(between(ended, active)?);
        lost.boot()?;
        stage.joined()?;
        stage.disperse()?;
    }
    let grace = stage.ttl.as_secs_f64();
    let what = format!("A host is lost with {} units, until all are active elsewhere", sizes.loss);
    let from_lease = format!("{what}, from the end of its lease in etcd");
    let measure = Measure::Against { floor: floor.clone(), ours, most: Some(1.5), grace };
    Ok(vec![Row { what, measure }, Row::against(from_lease, floor, known, None)])
}

/// Tells when a host's lease has ended: its entry goes.
struct Lease {
    watch: Child,
    told: Receiver<Duration>,
}

impl Lease {
    fn watch(stage: &Stage, host: &Host) -> Result<Self> {
        let mut watch = Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &stage.cluster.lab.etcd(1).endpoint(), "watch"])
            .arg(format!("/fleet/machine/{}", host.machine_id()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run etcdctl")?;
        let stdout = watch.stdout.take().context("no way to hear etcdctl")?;
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if line == "DELETE" && tell.send(monotonic()).is_err() {
                    return;
                }
            }
        });
        Ok(Self { watch, told })
    }

    fn ended(&self) -> Result<Duration> {
        self.told.recv_timeout(PATIENCE).context("the lease of a host that was lost does not end")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let _ = self.watch.kill();
        let _ = self.watch.wait();
    }
}
