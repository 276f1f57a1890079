//! Which units this host should have: what the engine scheduled to it, and the global units that fit.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use fleet_core::{
    agent::{Installed, Wanted},
    model::{Desired, Key, MachineId, Target, UnitRecord},
    sched,
    unit::{Requirements, UnitHash, UnitName},
};
use tracing::warn;

use crate::registry::{Cluster, Store, StoreError, files::Files};

/// Works out the wanted units. Keeps the requirements it has read.
pub struct Wishes<S> {
    machine: MachineId,
    configured: BTreeMap<String, String>,
    files: Files<S>,
    read: BTreeMap<UnitName, (UnitHash, Arc<Requirements>)>,
}

impl<S: Store> Wishes<S> {
    /// For this machine, with the metadata that it is configured with.
    pub fn new(machine: MachineId, configured: BTreeMap<String, String>, files: Files<S>) -> Self {
        Self { machine, configured, files, read: BTreeMap::new() }
    }

    /// The units wanted here. One of which this fleet cannot read what is wanted stays as it is installed.
    ///
    /// # Errors
    /// When a file that decides about a global unit cannot be fetched now. Nothing must be concluded then.
    pub async fn of(
        &mut self,
        cluster: &Cluster,
        installed: &BTreeMap<UnitName, Installed>,
    ) -> Result<BTreeMap<UnitName, Wanted>, StoreError> {
        let mut here = self.readable(cluster).await?;
        for key in &cluster.unreadable {
            let unit = match key {
                Key::Sched(machine, unit) if *machine == self.machine => unit,
                Key::Global(unit) => unit,
                _ => continue,
            };
            if let Some(entry) = installed.get(unit) {
                let generation = entry.generation.unwrap_or_default();
                here.entry(unit.clone()).or_insert(Wanted { hash: entry.hash, target: entry.applied, generation });
            }
        }
        Ok(here)
    }

    async fn readable(&mut self, cluster: &Cluster) -> Result<BTreeMap<UnitName, Wanted>, StoreError> {
        let scheduled = cluster.scheduled.iter().filter(|((machine, _), _)| *machine == self.machine);
        let scheduled: Vec<(&UnitName, Wanted)> =
            scheduled.filter_map(|((_, unit), value)| Some((unit, wanted(&value.record)?))).collect();
        let globals = cluster.globals.iter();
        let globals: Vec<(&UnitName, Wanted)> = globals
            .filter(|(unit, _)| !unit.is_template())
            .filter_map(|(unit, value)| Some((unit, wanted(&value.record)?)))
            .collect();
        let mut here: BTreeMap<UnitName, Wanted> =
            scheduled.iter().map(|(unit, want)| ((*unit).clone(), *want)).collect();
        if globals.is_empty() {
            self.read.clear();
            return Ok(here);
        }
        self.read_requirements(scheduled.iter().chain(&globals)).await?;
        let with_requirements = |units: &[(&'_ UnitName, Wanted)]| -> Vec<(UnitName, Arc<Requirements>)> {
            let read =
                units.iter().filter_map(|(unit, _)| Some(((*unit).clone(), Arc::clone(&self.read.get(*unit)?.1))));
            read.collect()
        };
        let (candidates, scheduled) = (with_requirements(&globals), with_requirements(&scheduled));
        let fitting = sched::globals_for(
            &self.machine,
            &self.metadata(cluster),
            candidates.iter().map(|(unit, requirements)| (unit, &**requirements)),
            scheduled.iter().map(|(unit, requirements)| (unit, &**requirements)),
        );
        for (unit, want) in globals {
            if fitting.get(unit).is_some_and(|verdict| verdict.fits) {
                here.entry(unit.clone()).or_insert(want);
            }
        }
        Ok(here)
    }

    /// The metadata that counts for this machine now.
    fn metadata(&self, cluster: &Cluster) -> BTreeMap<String, String> {
        let edits = cluster.metadata.get(&self.machine).map(|edits| &*edits.record);
        fleet_core::model::apply_edits(self.configured.clone(), edits)
    }

    async fn read_requirements<'a>(
        &mut self,
        units: impl Iterator<Item = &'a (&'a UnitName, Wanted)>,
    ) -> Result<(), StoreError> {
        let units: Vec<(&UnitName, UnitHash)> = units.map(|(unit, want)| (*unit, want.hash)).collect();
        let present: HashSet<&UnitName> = units.iter().map(|(unit, _)| *unit).collect();
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

/// What a record asks of the machine that it is for; `None` when that is nothing.
fn wanted(record: &UnitRecord) -> Option<Wanted> {
    let target = match record.desired {
        Desired::Inactive => return None,
        Desired::Loaded => Target::Loaded,
        Desired::Launched => Target::Launched,
    };
    Some(Wanted { hash: record.hash, target, generation: record.generation })
}
