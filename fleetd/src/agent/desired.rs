//! What the cluster wants of this host: what the engine scheduled to it. While the cluster does not use placements of
//! global units, these are left alone, and of what is under `global/` comes what fits. Of what has just changed there the
//! engine may not have written the placements yet when the agent begins to go by them: it gives them a moment.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    host::{Cells, DesiredSet, Recall, Wanted},
    model::{Desired, Key, MachineId, Placement, Snapshot, Target, Task, UnitRecord, features::GLOBAL_PLACEMENTS},
    unit::{OnPartition, Requirements, UnitFile, UnitHash, UnitName},
};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::globals;
use crate::{
    clock::monotonic,
    registry::{Revision, Store, StoreError, files::Files},
};

/// How long placements of global units may be behind what the agent has done by itself.
const CATCH_UP: Duration = Duration::from_secs(5);

/// Works out what is wanted here whenever the snapshot of this host's keys has changed. Keeps the requirements that it has
/// read.
pub(super) struct DesiredReader<S> {
    machine: MachineId,
    /// The metadata that the machine is configured with.
    configured: BTreeMap<String, String>,
    files: Files<S>,
    cluster: watch::Receiver<Snapshot>,
    /// Whether the engine has placed here what is decided here about global units.
    agreed: watch::Sender<bool>,
    /// The snapshot that was read last.
    read: Snapshot,
    /// What it was found to ask for.
    last: BTreeMap<UnitName, Wanted>,
    /// Since when placements of global units have been waited for.
    behind_since: Option<Duration>,
    /// There is another one since, or what is wanted could not be worked out.
    stale: bool,
    requirements: BTreeMap<UnitName, (UnitHash, Arc<Requirements>)>,
}

impl<S: Store> DesiredReader<S> {
    /// Of this machine, with the metadata that it is configured with.
    pub fn new(
        machine: MachineId,
        configured: BTreeMap<String, String>,
        files: Files<S>,
        cluster: watch::Receiver<Snapshot>,
        agreed: watch::Sender<bool>,
    ) -> Self {
        Self {
            machine,
            configured,
            files,
            cluster,
            agreed,
            read: Snapshot::default(),
            last: BTreeMap::new(),
            behind_since: None,
            stale: true,
            requirements: BTreeMap::new(),
        }
    }

    /// Whether [`refresh`](Self::refresh) has something to do.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// From now on it has nothing to do.
    pub fn rest(&mut self) {
        self.stale = false;
    }

    /// Waits for another snapshot. Returns whether there will be more. Nothing is lost when the wait is given up.
    pub async fn changed(&mut self) -> bool {
        let changed = self.cluster.changed().await.is_ok();
        self.stale |= changed;
        changed
    }

    /// The revision at which was listed what the last set rests on, see [`Snapshot::listed`].
    pub fn listed(&self) -> Revision {
        self.read.listed
    }

    /// What is wanted here; `None` when that cannot be known now, and nothing must be concluded. A unit of which this fleet
    /// cannot read what is wanted stays as it is installed; so do all that are installed as long as what is known comes from
    /// the disk, which may be behind them. When the wait is given up, it is stale still.
    pub async fn refresh(&mut self, cells: &Cells) -> Option<DesiredSet> {
        let cluster = self.cluster.borrow_and_update().clone();
        if !cluster.complete {
            // The mirror says when it is.
            self.stale = false;
            return None;
        }
        let mut desired = match self.readable(&cluster).await {
            Ok(desired) => desired,
            Err(error) => {
                debug!(error = %crate::chain(&error), "what is wanted cannot be worked out now");
                return None;
            }
        };
        if self.is_ahead_of(&cluster, &desired) && self.is_worth_waiting() {
            debug!("placements of global units are behind what was read before");
            return None;
        }
        self.behind_since = None;
        self.stale = false;
        self.agreed.send_replace(self.agrees(&cluster, &desired));
        let from_disk = cluster.listed == 0;
        if from_disk {
            desired.units.retain(|unit, _| !desired.strict.contains(unit));
            let installed = cells.all_installed().map(|(unit, entry)| (unit.clone(), entry.as_wanted()));
            desired.units.extend(installed);
        }
        for key in &cluster.unreadable {
            let unit = match key {
                Key::Sched(machine, unit) if *machine == self.machine => unit,
                Key::Global(unit) => unit,
                _ => continue,
            };
            if let Some(entry) = cells.installed(unit) {
                desired.units.entry(unit.clone()).or_insert(entry.as_wanted());
            }
        }
        self.read = cluster;
        self.last.clone_from(&desired.units);
        Some(desired)
    }

    /// Whether the placements of global units here ask for just what is decided here about them.
    fn agrees(&self, cluster: &Snapshot, desired: &DesiredSet) -> bool {
        let own = cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine);
        let placed = own.filter(|(_, value)| value.record.global);
        let placed: BTreeMap<&UnitName, Wanted> =
            placed.filter_map(|((_, unit), value)| Some((unit, self::placed(&value.record)?))).collect();
        let asks_for = |unit: &UnitName, wanted: &Wanted| placed.get(unit).is_some_and(|placed| is_as(wanted, placed));
        cluster.listed > 0
            && placed.keys().all(|unit| desired.units.contains_key(*unit))
            && cluster
                .globals
                .keys()
                .filter_map(|unit| desired.units.get_key_value(unit))
                .all(|(unit, wanted)| asks_for(unit, wanted))
    }

    /// Whether what was wanted before is ahead of this snapshot, the first by which the engine decides about global units.
    /// Until then the store was followed, and what changed just now may not be placed yet.
    fn is_ahead_of(&self, cluster: &Snapshot, desired: &DesiredSet) -> bool {
        let decided = self.read.listed > 0 && !self.read.uses(GLOBAL_PLACEMENTS);
        if !decided || !cluster.uses(GLOBAL_PLACEMENTS) {
            return false;
        }
        let own = cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine);
        let placed = own.filter(|(_, value)| value.record.global).map(|((_, unit), _)| unit);
        self.read.globals.keys().chain(placed).any(|unit| match (self.last.get(unit), desired.units.get(unit)) {
            (None, None) => false,
            (Some(before), Some(now)) => !is_as(before, now),
            _ => true,
        })
    }

    /// Whether placements that are behind may still come.
    fn is_worth_waiting(&mut self) -> bool {
        monotonic() < *self.behind_since.get_or_insert_with(monotonic) + CATCH_UP
    }

    /// The revision that asks for a unit here, and when it has come by the process's clock; `None` when that is not known.
    pub fn asked_by(&self, unit: &UnitName) -> Option<(Revision, Duration)> {
        let scheduled = self.read.scheduled.get(&(self.machine.clone(), unit.clone()));
        let placed = scheduled.filter(|value| counts(&self.read, &value.record) && !value.record.is_recall());
        let placed = placed.map(|value| (value.revision, value.seen));
        let asked = placed.or_else(|| self.read.globals.get(unit).map(|value| (value.revision, value.seen)));
        asked.filter(|_| self.read.listed > 0)
    }

    /// Forgets unit files that are of no use any more.
    pub fn forget_files(&self, cells: &Cells) {
        // As long as it is looked at, it does not change; so no file comes with what it tells, or from the disk, that is
        // not known to be of use.
        let cluster = self.cluster.borrow();
        let scheduled = cluster.scheduled.values().map(|value| value.record.hash);
        let named = scheduled.chain(cluster.globals.values().map(|value| value.record.hash));
        let here = cells.iter().flat_map(|(_, cell)| {
            let wanted = cell.wanted().map(|wanted| wanted.hash);
            wanted.into_iter().chain(cell.installed().map(|entry| entry.hash))
        });
        let used: HashSet<UnitHash> = named.chain(here).collect();
        self.files.retain(|hash| used.contains(hash));
    }

    async fn readable(&mut self, cluster: &Snapshot) -> Result<DesiredSet, StoreError> {
        let mut desired = DesiredSet::default();
        let mut scheduled: Vec<(&UnitName, Wanted)> = Vec::new();
        let own = cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine);
        for ((_, unit), value) in own.filter(|(_, value)| counts(cluster, &value.record)) {
            match placed(&value.record) {
                Some(wanted) => scheduled.push((unit, wanted)),
                None => {
                    let recall = Recall { hash: value.record.hash, revision: value.revision };
                    desired.recalled.insert(unit.clone(), recall);
                }
            }
        }
        let decides = !cluster.uses(GLOBAL_PLACEMENTS);
        let globals = cluster.globals.iter().filter(|(unit, _)| decides && !unit.is_template());
        let globals: Vec<(&UnitName, Wanted)> =
            globals.filter_map(|(unit, value)| Some((unit, wanted(&value.record, &self.machine)?))).collect();
        self.read_requirements(scheduled.iter().chain(&globals)).await?;
        desired.units = scheduled.iter().map(|(unit, wanted)| ((*unit).clone(), *wanted)).collect();
        if !globals.is_empty() {
            let (candidates, scheduled) = (self.with_requirements(&globals), self.with_requirements(&scheduled));
            let fitting = globals::fitting(&self.machine, &self.metadata(cluster), &candidates, &scheduled);
            for (unit, wanted) in globals.into_iter().filter(|(unit, _)| fitting.contains(*unit)) {
                desired.units.entry(unit.clone()).or_insert(wanted);
            }
        }
        let is_strict = |unit: &UnitName| self.requirements.get(unit).is_some_and(|(_, read)| is_strict(read));
        desired.strict = desired.units.keys().filter(|unit| is_strict(unit)).cloned().collect();
        Ok(desired)
    }

    fn with_requirements(&self, units: &[(&UnitName, Wanted)]) -> Vec<(UnitName, Arc<Requirements>)> {
        let read =
            units.iter().filter_map(|(unit, _)| Some(((*unit).clone(), Arc::clone(&self.requirements.get(*unit)?.1))));
        read.collect()
    }

    /// The metadata that counts for this machine now.
    fn metadata(&self, cluster: &Snapshot) -> BTreeMap<String, String> {
        let edits = cluster.metadata.get(&self.machine).map(|edits| &*edits.record);
        fleet_core::model::apply_edits(self.configured.clone(), edits)
    }

    async fn read_requirements<'a>(
        &mut self,
        units: impl Iterator<Item = &'a (&'a UnitName, Wanted)>,
    ) -> Result<(), StoreError> {
        let units: Vec<(&UnitName, UnitHash)> = units.map(|(unit, wanted)| (*unit, wanted.hash)).collect();
        let present: BTreeSet<&UnitName> = units.iter().map(|(unit, _)| *unit).collect();
        self.requirements.retain(|unit, _| present.contains(unit));
        let stale: Vec<_> = units
            .into_iter()
            .filter(|(unit, hash)| self.requirements.get(*unit).is_none_or(|read| read.0 != *hash))
            .collect();
        let files = self.files.get(stale.iter().map(|(_, hash)| *hash)).await?;
        for (unit, hash) in stale {
            // A file that the store lost asks nothing: better a unit without constraints than one that vanishes.
            let read = files.get(&hash).map(|file| Requirements::read(file, unit));
            let requirements = match read {
                Some(Ok((requirements, _))) => requirements,
                Some(Err(error)) => {
                    warn!(%unit, %error, "requirements contradict each other, they count as none");
                    Requirements::default()
                }
                None => Requirements::default(),
            };
            self.requirements.insert(unit.clone(), (hash, Arc::new(requirements)));
        }
        Ok(())
    }
}

/// Whether the agent goes by a placement: by that of a global unit only if the cluster uses such.
fn counts(cluster: &Snapshot, placement: &Placement) -> bool {
    !placement.global || cluster.uses(GLOBAL_PLACEMENTS)
}

/// Whether what is decided here is what a placement asks for: a restart that has not come here yet is content with any
/// generation.
fn is_as(decided: &Wanted, placed: &Wanted) -> bool {
    *decided == Wanted { generation: decided.generation.and(placed.generation), ..*placed }
}

/// What a placement asks for; `None`: that the unit is given up.
fn placed(placement: &Placement) -> Option<Wanted> {
    let Task::Run(target) = placement.task else { return None };
    let (generation, request) = (Some(placement.generation), Some(placement.request));
    Some(Wanted { hash: placement.hash, target, generation, request })
}

/// What a global unit asks of this machine; `None` when that is nothing.
fn wanted(record: &UnitRecord, machine: &MachineId) -> Option<Wanted> {
    let target = match record.desired {
        Desired::Inactive => return None,
        Desired::Loaded => Target::Loaded,
        Desired::Launched => Target::Launched,
    };
    // A restart that goes from machine to machine has not come here yet.
    let is_due = record.restarted_to.as_deref().is_none_or(|last| machine <= last);
    let generation = is_due.then_some(record.generation);
    Some(Wanted { hash: record.hash, target, generation, request: Some(record.request) })
}

/// Whether a unit with these requirements may run once in the cluster at most.
fn is_strict(requirements: &Requirements) -> bool {
    requirements.on_partition == OnPartition::Stop
}

/// Those of the units in these files that may run once in the cluster at most.
pub fn strict_of(files: &BTreeMap<UnitName, UnitFile>) -> BTreeSet<UnitName> {
    let requirements = files.iter().filter_map(|(unit, file)| Some((unit, Requirements::read(file, unit).ok()?.0)));
    requirements.filter(|(_, requirements)| is_strict(requirements)).map(|(unit, _)| unit.clone()).collect()
}
