//! A simulated PID 1: units, their jobs, and what becomes of them over time. No IO; time is an argument.
//!
//! What is to happen later stands in an agenda, which [`Pid1::advance`] works off. All that a client would hear as
//! signals is collected until it is taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fleet_core::host::{Job, Runtime};
use tokio::time::Instant;

use super::{
    definition::{Command, Definition, Kind, Restart},
    log::{Entry, Refusal, What},
    unit::{Phase, Queued, Unit},
};
use crate::{filesystem::Filesystem, systemd::Ended};

/// Where units are searched, most important first.
pub(super) const SEARCH: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system"];
/// What PID 1 does in this time per job (measured with a thousand units).
const JOB: Duration = Duration::from_millis(2);
/// What a reload takes, and what each loaded unit adds.
const RELOAD: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(1));

/// Files of a host, as systemd sees them.
pub trait ReadFile: Send + Sync + 'static {
    /// The text of a file, or of what a link leads to.
    fn read(&self, path: &Path) -> Option<String>;
}

impl<F: Filesystem> ReadFile for F {
    fn read(&self, path: &Path) -> Option<String> {
        String::from_utf8(Filesystem::read(self, path).ok()??).ok()
    }
}

/// The unit that something happened to, and the job that ended, if that was it.
type Signal = (String, Option<Ended>);

enum Event {
    RunJob(String, u32),
    Turn(String, u64),
}

pub(super) struct Pid1 {
    host: String,
    files: Arc<dyn ReadFile>,
    rng: fastrand::Rng,
    /// Links in the runtime directory.
    links: BTreeMap<String, PathBuf>,
    /// Units that `[Install]` hung onto a target, and those of them that PID 1 has read about.
    wanted: (BTreeSet<String>, BTreeSet<String>),
    units: BTreeMap<String, Unit>,
    agenda: BTreeMap<(Instant, u64), Event>,
    counter: u64,
    /// Until when it answers nobody.
    busy: Instant,
    /// Until when it has jobs to begin. It answers in between.
    work: Instant,
    signals: Vec<Signal>,
    log: Vec<Entry>,
    /// How likely a target leaves one of its units out.
    pub leaves_out: f64,
}

impl Pid1 {
    pub fn new(host: &str, files: Arc<dyn ReadFile>, rng: fastrand::Rng, now: Instant) -> Self {
        Self {
            host: host.into(),
            files,
            rng,
            links: BTreeMap::new(),
            wanted: Default::default(),
            units: BTreeMap::new(),
            agenda: BTreeMap::new(),
            counter: 0,
            busy: now,
            work: now,
            signals: Vec::new(),
            log: Vec::new(),
            leaves_out: 0.0,
        }
    }

    /// When something happens next by itself.
    pub fn next(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// Until when it answers nobody.
    pub fn busy_until(&self) -> Instant {
        self.busy
    }

    /// Lets everything happen that is due.
    pub fn advance(&mut self, now: Instant) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Event::RunJob(unit, id) => self.run_job(&unit, id, now),
                Event::Turn(unit, turn) => self.turn(&unit, turn, now),
            }
        }
        self.collect();
    }

    pub fn take_signals(&mut self) -> Vec<Signal> {
        std::mem::take(&mut self.signals)
    }

    pub fn log(&self) -> &[Entry] {
        &self.log
    }

    /// Units that are linked, or hung onto a target.
    pub fn links(&self) -> BTreeSet<String> {
        self.links.keys().chain(&self.wanted.0).cloned().collect()
    }

    /// Units whose main process runs.
    pub fn alive(&self) -> BTreeSet<String> {
        self.units.iter().filter(|(_, unit)| unit.alive).map(|(name, _)| name.clone()).collect()
    }

    /// Everything ends at once; what was under `/run` is gone.
    pub fn lose_power(&mut self, now: Instant) {
        let alive = self.alive();
        alive.iter().for_each(|unit| self.note(now, unit, What::Stopped));
        self.units.clear();
        self.agenda.clear();
        self.links.clear();
        self.wanted = Default::default();
        (self.busy, self.work) = (now, now);
        self.signals.clear();
    }

    pub fn note(&mut self, at: Instant, unit: &str, what: What) {
        self.log.push(Entry { at, host: self.host.clone(), unit: unit.into(), what });
    }

    // What clients ask for.

    pub fn list(&mut self, name: &str) -> Runtime {
        self.load(name);
        self.loaded(name).unwrap_or_default()
    }

    pub fn loaded(&self, name: &str) -> Option<Runtime> {
        let unit = self.units.get(name)?;
        let (active, sub) = unit.words();
        let job = unit.job.as_ref().map(|job| job.kind);
        Some(Runtime { load: unit.definition.load.into(), active, sub: sub.into(), job })
    }

    pub fn queue(&mut self, kind: Job, name: &str, now: Instant) -> Result<u32, Refusal> {
        self.load(name);
        let unit = &self.units[name];
        let idle = matches!(unit.phase, Phase::Dead | Phase::Failed);
        match (unit.definition.load, kind) {
            ("loaded", _) => {}
            (_, Job::Stop) if !idle => {}
            ("not-found", Job::Stop) | ("bad-setting", Job::Stop) => return Err(not_loaded(name)),
            ("not-found", _) => {
                return Err(Refusal("org.freedesktop.systemd1.NoSuchUnit", format!("Unit {name} not found.")));
            }
            _ => {
                let text = format!("Unit {name} has a bad unit file setting.");
                return Err(Refusal("org.freedesktop.systemd1.BadUnitSetting", text));
            }
        }
        let (mut wants, conflicts, requires) = match kind {
            Job::Stop => (Vec::new(), Vec::new(), Vec::new()),
            _ => {
                let Definition { wants, conflicts, requires, .. } = &unit.definition;
                (wants.clone(), conflicts.clone(), requires.clone())
            }
        };
        for required in &requires {
            self.load(required);
            if self.units[required].definition.load == "not-found" {
                self.collect();
                return Err(Refusal("org.freedesktop.systemd1.NoSuchUnit", format!("Unit {required} not found.")));
            }
        }
        wants.extend(requires);
        let id = self.enqueue(kind, name, now);
        for other in conflicts {
            let Some(unit) = self.units.get(&other) else { continue };
            let redundant = matches!(unit.phase, Phase::Dead | Phase::Failed) && unit.job.is_none();
            let left_out = self.leaves_out > 0.0 && self.rng.f64() < self.leaves_out;
            if !redundant && !left_out {
                self.enqueue(Job::Stop, &other, now);
            }
        }
        for wanted in wants {
            self.load(&wanted);
            let unit = &self.units[&wanted];
            let can = unit.definition.load == "loaded";
            let redundant = unit.is_active() && unit.job.as_ref().is_none_or(|job| job.kind != Job::Stop);
            let left_out = self.leaves_out > 0.0 && self.rng.f64() < self.leaves_out;
            if can && !redundant && !left_out {
                self.enqueue(Job::Start, &wanted, now);
            }
        }
        Ok(id)
    }

    /// The conditions and assertions that keep a unit from its start.
    pub fn unmet(&mut self, name: &str) -> Vec<String> {
        self.load(name);
        let (conditions, asserts) = &self.units[name].definition.unmet;
        conditions.iter().chain(asserts).cloned().collect()
    }

    pub fn reset_failed(&mut self, name: &str) -> Result<(), Refusal> {
        let Some(unit) = self.units.get_mut(name) else { return Err(not_loaded(name)) };
        unit.starts = (None, 0);
        if unit.phase == Phase::Failed {
            unit.phase = Phase::Dead;
            self.changed(name);
        }
        Ok(())
    }

    pub fn link(&mut self, files: &[PathBuf], enable: bool) -> Result<(), Refusal> {
        let missing = files.iter().find(|path| self.files.read(path).is_none());
        if let Some(path) = missing {
            let text = format!("File {}: No such file or directory", path.display());
            return Err(Refusal("org.freedesktop.systemd1.NoSuchUnit", text));
        }
        for path in files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if enable {
                let definition = Definition::read(&name, path.clone(), self.files.read(path).unwrap_or_default());
                if !definition.wanted_by.is_empty() {
                    self.wanted.0.insert(name.clone());
                }
            }
            self.links.insert(name, path.clone());
        }
        Ok(())
    }

    pub fn disable(&mut self, names: &[String]) -> Result<(), Refusal> {
        let (known, unknown): (Vec<&String>, Vec<&String>) = names.iter().partition(|name| self.find(name).is_some());
        let mut changed = false;
        for name in known {
            changed |= self.links.remove(name).is_some();
            self.wanted.0.remove(name);
        }
        // What could be done hides what could not.
        match unknown.first().filter(|_| !changed) {
            Some(missing) => {
                let text = format!("Unit file {missing} does not exist.");
                Err(Refusal("org.freedesktop.systemd1.NoSuchUnit", text))
            }
            None => Ok(()),
        }
    }

    pub fn needs_reload(&mut self, name: &str) -> bool {
        self.load(name);
        self.units[name].definition.source != self.find(name)
    }

    pub fn reload(&mut self, now: Instant) {
        self.wanted.1 = self.wanted.0.clone();
        self.wanted.0.clone().iter().for_each(|name| self.load(name));
        let names: Vec<String> = self.units.keys().cloned().collect();
        self.busy = self.busy.max(now) + RELOAD.0 + RELOAD.1 * names.len() as u32;
        for name in names {
            let definition = self.read(&name);
            if let Some(unit) = self.units.get_mut(&name) {
                unit.definition = definition;
            }
        }
    }

    // Loading.

    fn find(&self, name: &str) -> Option<(PathBuf, String)> {
        let template =
            name.split_once('@').and_then(|(stem, rest)| Some(format!("{stem}@.{}", rest.rsplit_once('.')?.1)));
        [Some(name.to_owned()), template].into_iter().flatten().find_map(|name| {
            SEARCH.iter().find_map(|directory| {
                let path = Path::new(directory).join(&name);
                let linked = self.links.get(&name).filter(|_| *directory == SEARCH[1]);
                let text = linked.map_or_else(|| self.files.read(&path), |target| self.files.read(target))?;
                Some((path, text))
            })
        })
    }

    fn read(&self, name: &str) -> Definition {
        match self.find(name) {
            Some((path, text)) => Definition::read(name, path, text),
            None => Definition::not_found(name),
        }
    }

    /// Makes sure that a unit is loaded. One that is keeps its definition, whatever its file says by now.
    fn load(&mut self, name: &str) {
        let known = self.units.get(name);
        if known.is_some_and(|unit| unit.definition.load != "not-found" || unit.phase != Phase::Dead) {
            return;
        }
        let definition = self.read(name);
        match self.units.get_mut(name) {
            Some(unit) => unit.definition = definition,
            None => drop(self.units.insert(name.into(), Unit::new(definition))),
        }
    }

    /// Unloads what nobody needs: it is down, did not fail, and nothing loaded refers to it.
    pub fn collect(&mut self) {
        loop {
            let definitions = self.units.values().map(|unit| &unit.definition);
            let referred: BTreeSet<&String> = definitions.flat_map(Definition::refers_to).collect();
            let idle = self.units.iter().filter(|(name, unit)| {
                unit.phase == Phase::Dead
                    && unit.job.is_none()
                    && !referred.contains(name)
                    && !self.wanted.1.contains(*name)
            });
            let idle: Vec<String> = idle.map(|(name, _)| name.clone()).collect();
            if idle.is_empty() {
                return;
            }
            for name in idle {
                self.units.remove(&name);
            }
        }
    }

    // Jobs.

    /// Returns the number of the job that does it: one that was there already may.
    fn enqueue(&mut self, kind: Job, name: &str, now: Instant) -> u32 {
        self.counter += 1;
        let id = self.counter as u32;
        let Some(unit) = self.units.get_mut(name) else { return id };
        if let Some(job) = &unit.job {
            match (job.kind, kind) {
                (old, new) if old == new => return job.id,
                (Job::Restart, Job::Start) => return job.id,
                _ => {
                    let ended = Ended { job: job.id, result: "canceled".into() };
                    unit.job = None;
                    self.signals.push((name.into(), Some(ended)));
                }
            }
        }
        let Some(unit) = self.units.get_mut(name) else { return id };
        unit.job = Some(Queued { id, kind, running: false });
        self.changed(name);
        self.schedule_job(name, id, now);
        id
    }

    fn schedule_job(&mut self, name: &str, id: u32, now: Instant) {
        let at = self.work.max(self.busy).max(now) + JOB;
        self.work = at;
        self.at(at, Event::RunJob(name.into(), id));
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.counter += 1;
        self.agenda.insert((at, self.counter), event);
    }

    fn run_job(&mut self, name: &str, id: u32, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let Some(job) = unit.job.as_mut().filter(|job| job.id == id) else { return };
        match (job.kind, unit.phase) {
            (Job::Start | Job::Restart, Phase::Dead | Phase::Failed) => {
                job.kind = Job::Start;
                job.running = true;
                self.start(name, now);
            }
            // Started by somebody or something else: its job ends with that start.
            (Job::Start, Phase::StartPre | Phase::Start) => job.running = true,
            (Job::Start, Phase::Running | Phase::Exited | Phase::On) => self.end_job(name, "done"),
            (Job::Stop, Phase::Dead | Phase::Failed) => self.end_job(name, "done"),
            (Job::Stop | Job::Restart, Phase::Stop | Phase::StopSigterm | Phase::StopPost) => job.running = true,
            (Job::Stop | Job::Restart, _) => {
                job.running = true;
                unit.stopping = true;
                self.stop(name, now);
            }
            // A stop that is under way ends first, and so does the wait for a restart.
            _ => {}
        }
    }

    fn end_job(&mut self, name: &str, result: &'static str) {
        if let Some(unit) = self.units.get_mut(name)
            && let Some(job) = unit.job.take()
        {
            self.signals.push((name.into(), Some(Ended { job: job.id, result: result.into() })));
            self.changed(name);
        }
    }

    // Phases.

    fn changed(&mut self, name: &str) {
        self.signals.push((name.into(), None));
    }

    /// Enters a phase; after `takes` comes what follows it.
    fn enter(&mut self, name: &str, phase: Phase, takes: Option<Duration>, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.phase = phase;
        unit.turn += 1;
        let turn = unit.turn;
        self.changed(name);
        if let Some(at) = takes.and_then(|takes| now.checked_add(takes)) {
            self.at(at, Event::Turn(name.into(), turn));
        }
    }

    fn turn(&mut self, name: &str, turn: u64, now: Instant) {
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.turn == turn) else { return };
        let definition = unit.definition.clone();
        match unit.phase {
            Phase::StartPre if Command::run(&definition.pre).1 => self.start_main(name, now),
            Phase::StartPre => {
                unit.failed = true;
                self.after_main(name, now);
            }
            Phase::Start | Phase::Running => {
                let succeeded = Command::run(&definition.main).1;
                unit.failed = !succeeded;
                self.main_ended(name, now);
                if succeeded && definition.remains {
                    self.enter(name, Phase::Exited, None, now);
                    self.end_job(name, "done");
                } else if succeeded && definition.kind == Kind::Simple {
                    self.stop(name, now);
                } else {
                    self.after_main(name, now);
                }
            }
            Phase::Stop => {
                let takes = Command::run(&definition.stop).0;
                unit.failed |= takes.is_none_or(|takes| definition.stop_timeout.is_some_and(|most| most < takes));
                self.terminate(name, now);
            }
            Phase::StopSigterm => {
                self.main_ended(name, now);
                self.after_main(name, now);
            }
            Phase::StopPost => self.end(name, now),
            Phase::AutoRestart => {
                unit.phase = Phase::Dead;
                self.enqueue(Job::Start, name, now);
            }
            Phase::Dead | Phase::Failed | Phase::Exited | Phase::On => {}
        }
    }

    fn start(&mut self, name: &str, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let (conditions, asserts) = &unit.definition.unmet;
        if !conditions.is_empty() || !asserts.is_empty() {
            let result = if conditions.is_empty() { "assert" } else { "done" };
            return self.end_job(name, result);
        }
        if let Kind::Other(_) = unit.definition.kind {
            self.enter(name, Phase::On, None, now);
            return self.end_job(name, "done");
        }
        if !unit.may_start(now) {
            self.enter(name, Phase::Failed, None, now);
            return self.end_job(name, "failed");
        }
        unit.runs += 1;
        (unit.failed, unit.stopping) = (false, false);
        if unit.definition.pre.is_empty() {
            self.start_main(name, now);
        } else {
            let takes = Command::run(&unit.definition.pre).0;
            self.enter(name, Phase::StartPre, takes, now);
        }
    }

    fn start_main(&mut self, name: &str, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        unit.alive = true;
        let runs = unit.runs;
        let (kind, takes) = (unit.definition.kind, Command::run(&unit.definition.main).0);
        self.note(now, name, What::Started(runs));
        if kind == Kind::Oneshot {
            self.enter(name, Phase::Start, takes, now);
        } else {
            self.enter(name, Phase::Running, takes, now);
            self.end_job(name, "done");
        }
    }

    fn main_ended(&mut self, name: &str, now: Instant) {
        if self.units.get_mut(name).is_some_and(|unit| std::mem::replace(&mut unit.alive, false)) {
            self.note(now, name, What::Stopped);
        }
    }

    fn stop(&mut self, name: &str, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        match unit.phase {
            Phase::On => self.end(name, now),
            Phase::AutoRestart => self.end(name, now),
            Phase::Running | Phase::Exited if !unit.definition.stop.is_empty() => {
                let takes = Command::run(&unit.definition.stop).0;
                let takes = takes.into_iter().chain(unit.definition.stop_timeout).min();
                self.enter(name, Phase::Stop, takes, now);
            }
            phase => {
                // One that is stopped before it has started has failed to.
                unit.failed |= matches!(phase, Phase::StartPre | Phase::Start);
                self.terminate(name, now);
            }
        }
    }

    fn terminate(&mut self, name: &str, now: Instant) {
        let takes = Duration::from_millis(if self.units[name].alive { self.rng.u64(1..=4) } else { 0 });
        self.enter(name, Phase::StopSigterm, Some(takes), now);
    }

    fn after_main(&mut self, name: &str, now: Instant) {
        let unit = &self.units[name];
        if unit.definition.stop_post.is_empty() {
            return self.end(name, now);
        }
        let takes = Command::run(&unit.definition.stop_post).0.into_iter().chain(unit.definition.stop_timeout).min();
        self.enter(name, Phase::StopPost, takes, now);
    }

    /// A run is over, whatever it was.
    fn end(&mut self, name: &str, now: Instant) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let restarts = match unit.definition.restart {
            Restart::Always => !unit.stopping,
            Restart::OnFailure => !unit.stopping && unit.failed,
            Restart::No => false,
        };
        let failed = unit.failed;
        let job = unit.job.as_ref().map(|job| (job.kind, job.id, job.running));
        match job {
            // Its own start: over, well or not.
            Some((Job::Start, _, true)) if failed => self.end_job(name, "failed"),
            Some((Job::Start, _, true) | (Job::Stop, ..)) => self.end_job(name, "done"),
            _ => {}
        }
        if restarts && !matches!(job, Some((Job::Stop | Job::Restart, ..))) {
            let after = self.units[name].definition.restart_after;
            return self.enter(name, Phase::AutoRestart, Some(after), now);
        }
        self.enter(name, if failed { Phase::Failed } else { Phase::Dead }, None, now);
        // One that waited for the end of this run.
        if let Some((Job::Start, id, false) | (Job::Restart, id, _)) = job {
            self.schedule_job(name, id, now);
        }
    }
}

fn not_loaded(name: &str) -> Refusal {
    Refusal("org.freedesktop.systemd1.NoSuchUnit", format!("Unit {name} not loaded."))
}
