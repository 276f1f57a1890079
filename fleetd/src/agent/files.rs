//! Putting unit files in place and taking them away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use fleet_core::{
    host::{Active, Installed, Wanted},
    unit::{Behaviour, UnitFile, UnitHash, UnitName},
};
use tracing::{info, warn};

use super::{
    Disk,
    aliases::{Aliases, aliases_of},
    units::Units,
};
use crate::{
    clock::monotonic,
    filesystem::Filesystem,
    registry::{Store, files::Files},
    systemd::{Systemd, SystemdError},
};

/// What systemd is told about unit files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileVerb {
    /// They are there.
    Link,
    /// They are there, and their `[Install]` sections count.
    Enable,
    /// They are not there any more.
    Disable,
}

/// Puts unit files in place, and takes them away.
pub(super) struct UnitFiles<S, D, F> {
    systemd: D,
    files: Files<S>,
    disk: Disk<F>,
    aliases: Aliases<D, F>,
}

impl<S: Store, D: Systemd, F: Filesystem> UnitFiles<S, D, F> {
    pub fn new(systemd: D, files: Files<S>, disk: Disk<F>) -> Self {
        let aliases = Aliases::new(systemd.clone(), disk.clone());
        Self { systemd, files, disk, aliases }
    }

    /// Takes note of files that an earlier run has put in place.
    pub fn adopt(&self, units: &mut Units, files: impl IntoIterator<Item = UnitFile>) {
        for file in files {
            self.files.insert(file);
        }
        self.aliases.find_disputes(units);
    }

    /// Puts the files of a batch in place: all files are written, then made known in one call, then systemd reads
    /// its files anew if it holds an old version of one of them. Returns the units that are to stay as they are then.
    pub async fn install(&self, units: &mut Units, batch: &[UnitName]) -> Vec<UnitName> {
        let search = match self.systemd.unit_path().await {
            Ok(search) => search,
            Err(error) => {
                units.all_failed(batch, &crate::chain(&error));
                return Vec::new();
            }
        };
        let files = match self.fetch(units, batch).await {
            Ok(files) => files,
            Err(problem) => {
                units.all_failed(batch, &problem);
                return Vec::new();
            }
        };
        let (mut link, mut enable, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        for unit in batch {
            let Some(wanted) = wanted(units, unit) else { continue };
            let Some(file) = files.get(&wanted.hash) else {
                units.failed(unit, &format!("the store has no file {}: submit the unit again", wanted.hash));
                continue;
            };
            match self.write(units, unit, file, &search).await {
                Ok(may_be_held) => {
                    if may_be_held {
                        replaced.push(unit.clone());
                    }
                    let batch = if file.has_section("Install") { &mut enable } else { &mut link };
                    batch.push(unit.clone());
                }
                Err(problem) => units.failed(unit, &problem),
            }
        }
        for unit in link.iter().chain(&enable) {
            if let Some(file) = wanted(units, unit).and_then(|wanted| files.get(&wanted.hash)) {
                units.edit(unit, |cell, _| cell.placed(Behaviour::of(file, unit)));
            }
        }
        let contested = self.aliases.contested(units, &enable);
        let mut placed = self.tell(units, FileVerb::Link, &link).await;
        let enabled = self.tell(units, FileVerb::Enable, &enable).await;
        self.aliases.give_back(units, contested).await;
        placed.extend(enabled);
        if let Err(error) = self.reload_for(&replaced).await {
            // Systemd would start what it had before.
            placed.retain(|unit| !replaced.contains(unit));
            units.all_failed(&replaced, &format!("systemd did not read its files anew: {}", crate::chain(&error)));
        }
        let mut resting = Vec::new();
        for unit in &placed {
            if units.edit(unit, |cell, now| cell.linked(now)) == Some(true) {
                resting.push(unit.clone());
            }
        }
        if !placed.is_empty() {
            let now = monotonic();
            units.cells.lack_no_more(now);
        }
        log_done("installed", &placed);
        resting
    }

    /// The files of these units, or why they cannot be had now.
    async fn fetch(&self, units: &Units, batch: &[UnitName]) -> Result<BTreeMap<UnitHash, Arc<UnitFile>>, String> {
        let hashes = batch.iter().filter_map(|unit| wanted(units, unit)).map(|wanted| wanted.hash);
        self.files.get(hashes).await.map_err(|error| crate::chain(&error))
    }

    /// Writes the file of one unit. Returns whether systemd may still hold an older one.
    async fn write(
        &self,
        units: &mut Units,
        unit: &UnitName,
        file: &UnitFile,
        search: &[PathBuf],
    ) -> Result<bool, String> {
        let was_there = units.cells.installed(unit).is_some();
        let foreign = if was_there { None } else { self.foreign(units, unit, search) };
        if let Some(foreign) = foreign.or_else(|| self.aliases.foreign(unit, file, search)) {
            return Err(foreign);
        }
        if was_there && self.disk.file(unit).is_some_and(|before| before.has_section("Install")) {
            // What its old file asked for is not asked for any more.
            let names = BTreeSet::from_iter(aliases_of(units, unit).iter().cloned());
            self.systemd.disable(std::slice::from_ref(unit)).await.map_err(|error| crate::chain(&error))?;
            self.aliases.pass_on(units, names).await;
        }
        // A failed unit stays loaded, and would start again from its old file.
        self.reset_failed(units, unit).await;
        self.disk.write(unit, &file.canonical()).map_err(|error| crate::chain(&error))?;
        // One that another unit refers to stays loaded after it was removed.
        let is_loaded = units.get(unit).and_then(|cell| cell.runtime()).is_some_and(|it| it.load != "not-found");
        Ok(was_there || is_loaded)
    }

    async fn reset_failed(&self, units: &Units, unit: &UnitName) {
        if units.get(unit).is_some_and(|cell| cell.has_active(Active::Failed))
            && let Err(error) = self.systemd.reset_failed(unit).await
        {
            warn!(%unit, error = %crate::chain(&error), "failure not reset");
        }
    }

    /// Tells systemd one thing of a batch of files; when the batch is refused, unit by unit. Returns the units that it
    /// worked for.
    async fn tell(&self, units: &mut Units, verb: FileVerb, batch: &[UnitName]) -> Vec<UnitName> {
        if batch.is_empty() {
            return Vec::new();
        }
        match self.ask(verb, batch).await {
            Ok(()) => return batch.to_vec(),
            Err(error @ SystemdError::Unavailable(_)) => {
                units.all_failed(batch, &crate::chain(&error));
                return Vec::new();
            }
            Err(SystemdError::Refused { .. }) => {}
        }
        let mut done = Vec::new();
        for unit in batch {
            match self.ask(verb, std::slice::from_ref(unit)).await {
                Ok(()) => done.push(unit.clone()),
                // Out already: an earlier try came so far.
                Err(error) if verb == FileVerb::Disable && error.is_no_such_unit() => done.push(unit.clone()),
                Err(error) => units.failed(unit, &crate::chain(&error)),
            }
        }
        done
    }

    async fn ask(&self, verb: FileVerb, units: &[UnitName]) -> Result<(), SystemdError> {
        let paths = || -> Vec<PathBuf> { units.iter().map(|unit| self.disk.path(unit)).collect() };
        match verb {
            FileVerb::Link => self.systemd.link(&paths()).await,
            FileVerb::Enable => self.systemd.enable(&paths()).await,
            FileVerb::Disable => self.systemd.disable(units).await,
        }
    }

    /// Whether the host has a unit of this name that is not fleet's; then says which.
    fn foreign(&self, units: &Units, unit: &UnitName, search: &[PathBuf]) -> Option<String> {
        let found =
            search.iter().map(|directory| directory.join(unit.as_str())).find(|path| self.disk.is_foreign(path));
        if let Some(path) = found {
            return Some(format!(
                "this host has a unit of that name that is not fleet's: {}; it is left alone",
                path.display()
            ));
        }
        let runs = units.get(unit).and_then(|cell| cell.runtime()).is_some_and(|runtime| !runtime.is_down());
        runs.then(|| "this host runs a unit of that name that is not fleet's; it is left alone".into())
    }

    /// Makes systemd read its files anew if it holds an old version of one of these; once for all of them.
    async fn reload_for(&self, units: &[UnitName]) -> Result<(), SystemdError> {
        for unit in units {
            match self.systemd.needs_reload(unit).await {
                Ok(false) => continue,
                Ok(true) => info!(%unit, "systemd holds an old version of a file, reloading"),
                Err(error) => warn!(%unit, error = %crate::chain(&error), "cannot tell whether to reload, reloading"),
            }
            return self.systemd.reload().await;
        }
        Ok(())
    }

    /// Takes units that are down away from the host. Returns those that are gone.
    pub async fn remove(&self, units: &mut Units, batch: &[UnitName]) -> Vec<UnitName> {
        let (mut removed, mut gone, mut names) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        for unit in &self.tell(units, FileVerb::Disable, batch).await {
            if let Err(error) = self.disk.remove(unit) {
                units.failed(unit, &crate::chain(&error));
                continue;
            }
            self.reset_failed(units, unit).await;
            names.extend(aliases_of(units, unit).iter().cloned());
            gone.push(unit.clone());
            let entry = units.edit(unit, |cell, _| cell.removed()).flatten();
            removed.extend(entry.map(|entry| (unit.clone(), entry)));
        }
        log_done("removed", &gone);
        self.aliases.pass_on(units, names).await;
        self.look_after(units, removed).await;
        gone
    }

    /// Looks once more at units that were removed. Systemd remembers one that another unit refers to, and whatever asks
    /// for that one may have started it meanwhile: then it is the agent's still, and is stopped.
    async fn look_after(&self, units: &mut Units, mut removed: BTreeMap<UnitName, Installed>) {
        let names: Vec<UnitName> = removed.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let Ok(listed) = self.systemd.loaded(&names).await else { return };
        for (unit, runtime) in listed.into_iter().filter(|(_, runtime)| !runtime.is_down()) {
            let Some(entry) = removed.remove(&unit) else { continue };
            warn!(%unit, "unit was started while it was removed, stopping it");
            units.edit(&unit, |cell, _| cell.came_back(entry, runtime));
        }
    }
}

/// What is to be carried out of a unit.
fn wanted(units: &Units, unit: &UnitName) -> Option<Wanted> {
    units.get(unit)?.wanted()
}

/// Says what was done with units: each in a line of its own, or a batch in one, as a thousand lines cost more than what
/// they tell of.
fn log_done(what: &str, units: &[UnitName]) {
    match units {
        [] => {}
        [unit] => info!(%unit, "unit {what}"),
        units => {
            let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
            info!(units = units.len(), names = names.join(" "), "units {what}");
        }
    }
}
