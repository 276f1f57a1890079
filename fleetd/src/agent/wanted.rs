//! Which units this host should have: what the engine scheduled to it, and the global units that fit.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet_core::{
    agent::{Installed, Wanted},
    model::{Desired, Key, MachineId, Snapshot, Target, UnitRecord},
    sched,
    unit::{OnPartition, Requirements, UnitFile, UnitHash, UnitName},
};
use tracing::warn;

use crate::registry::{Revision, Store, StoreError, files::Files};

/// What is wanted of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The units wanted here.
    pub units: BTreeMap<UnitName, Wanted>,
    /// Those of them that may run once in the cluster at most.
    pub strict: BTreeSet<UnitName>,
    /// Units that may run elsewhere once this host says that it has them no more, and the revision that asks for it.
    pub recalled: BTreeMap<UnitName, (UnitHash, Revision)>,
    /// The revision at which was listed what this rests on, see [`Snapshot::listed`].
    pub listed: Revision,
}

/// Works out the wanted units. Keeps the requirements it has read.
pub struct Wisher<S> {
    machine: MachineId,
    configured: BTreeMap<String, String>,
    files: Files<S>,
    read: BTreeMap<UnitName, (UnitHash, Arc<Requirements>)>,
}

impl<S: Store> Wisher<S> {
    /// For this machine, with the metadata that it is configured with.
    pub fn new(machine: MachineId, configured: BTreeMap<String, String>, files: Files<S>) -> Self {
        Self { machine, configured, files, read: BTreeMap::new() }
    }

    /// What is wanted here. A unit of which this fleet cannot read what is wanted stays as it is installed; so do all
    /// that are installed as long as what is known comes from the disk, which may be behind them.
    ///
    /// # Errors
    /// When a file that this takes cannot be fetched now. Nothing must be concluded then.
    pub async fn of(
        &mut self,
        cluster: &Snapshot,
        installed: &BTreeMap<UnitName, Installed>,
    ) -> Result<Wishes, StoreError> {
        let mut wishes = self.readable(cluster).await?;
        let from_disk = cluster.listed == 0;
        if from_disk {
            wishes.units.retain(|unit, _| !wishes.strict.contains(unit));
            wishes.units.extend(installed.iter().map(|(unit, entry)| (unit.clone(), entry.as_wanted())));
        }
        for key in &cluster.unreadable {
            let unit = match key {
                Key::Sched(machine, unit) if *machine == self.machine => unit,
                Key::Global(unit) => unit,
                _ => continue,
            };
            if let Some(entry) = installed.get(unit) {
                wishes.units.entry(unit.clone()).or_insert(entry.as_wanted());
            }
        }
        Ok(wishes)
    }

    /// The revision that asks for a unit here, and when it has come by the process's clock.
    pub fn asked_by(&self, cluster: &Snapshot, unit: &UnitName) -> Option<(Revision, Duration)> {
        let scheduled = cluster.scheduled.get(&(self.machine.clone(), unit.clone()));
        let asked = scheduled
            .filter(|value| wanted(&value.record, &self.machine).is_some())
            .or_else(|| cluster.globals.get(unit));
        asked.map(|value| (value.revision, value.seen))
    }

    async fn readable(&mut self, cluster: &Snapshot) -> Result<Wishes, StoreError> {
        let mut wishes = Wishes { listed: cluster.listed, ..Wishes::default() };
        let mut scheduled: Vec<(&UnitName, Wanted)> = Vec::new();
        for ((_, unit), value) in cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine) {
            match wanted(&value.record, &self.machine) {
                Some(want) => scheduled.push((unit, want)),
                None => drop(wishes.recalled.insert(unit.clone(), (value.record.hash, value.revision))),
            }
        }
        let globals = cluster.globals.iter().filter(|(unit, _)| !unit.is_template());
        let globals: Vec<(&UnitName, Wanted)> =
            globals.filter_map(|(unit, value)| Some((unit, wanted(&value.record, &self.machine)?))).collect();
        self.read_requirements(scheduled.iter().chain(&globals)).await?;
        wishes.units = scheduled.iter().map(|(unit, want)| ((*unit).clone(), *want)).collect();
        if !globals.is_empty() {
            let (candidates, scheduled) = (self.with_requirements(&globals), self.with_requirements(&scheduled));
            let fitting = sched::globals_for(
                &self.machine,
                &self.metadata(cluster),
                candidates.iter().map(|(unit, requirements)| (unit, &**requirements)),
                scheduled.iter().map(|(unit, requirements)| (unit, &**requirements)),
            );
            for (unit, want) in globals {
                if fitting.get(unit).is_some_and(|verdict| verdict.fits) {
                    wishes.units.entry(unit.clone()).or_insert(want);
                }
            }
        }
        let is_strict = |unit: &UnitName| self.read.get(unit).is_some_and(|(_, read)| is_strict(read));
        wishes.strict = wishes.units.keys().filter(|unit| is_strict(unit)).cloned().collect();
        Ok(wishes)
    }

    fn with_requirements(&self, units: &[(&UnitName, Wanted)]) -> Vec<(UnitName, Arc<Requirements>)> {
        let read = units.iter().filter_map(|(unit, _)| Some(((*unit).clone(), Arc::clone(&self.read.get(*unit)?.1))));
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
        let units: Vec<(&UnitName, UnitHash)> = units.map(|(unit, want)| (*unit, want.hash)).collect();
        let present: BTreeSet<&UnitName> = units.iter().map(|(unit, _)| *unit).collect();
        self.read.retain(|unit, _| present.contains(unit));
        let stale: Vec<_> =
            units.into_iter().filter(|(unit, hash)| self.read.get(*unit).is_none_or(|read| read.0 != *hash)).collect();
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
            self.read.insert(unit.clone(), (hash, Arc::new(requirements)));
        }
        Ok(())
    }
}

/// What a record asks of a machine that it is for; `None` when that is nothing.
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
