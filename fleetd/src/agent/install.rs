//! Putting unit files in place and taking them away.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use fleet_core::{
    agent::{Active, Installed},
    model::Target,
    unit::{Behaviour, UnitFile, UnitName},
};
use tracing::{info, warn};

use super::Agent;
use crate::{
    filesystem::Filesystem,
    registry::Store,
    systemd::{Systemd, SystemdError},
};

/// Says what was done with units: each in a line of its own, or a batch in one, as a thousand lines cost more than what
/// they tell of.
fn told(what: &str, units: &[UnitName]) {
    match units {
        [] => {}
        [unit] => info!(%unit, "unit {what}"),
        units => {
            let names: Vec<&str> = units.iter().map(UnitName::as_str).collect();
            info!(units = units.len(), names = names.join(" "), "units {what}");
        }
    }
}

/// What systemd is told about unit files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// They are there.
    Link,
    /// They are there, and their `[Install]` sections count.
    Enable,
    /// They are not there any more.
    Disable,
}

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// Puts the files of a batch in place: all files are written, then made known in one call, then systemd reads
    /// its files anew if it holds an old version of one of them. Returns whether anything was done.
    pub(super) async fn install(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return false;
        }
        let search = match self.systemd.unit_path().await {
            Ok(search) => search,
            Err(error) => {
                units.iter().for_each(|unit| self.failed(unit, crate::chain(&error)));
                return true;
            }
        };
        let wanted = |agent: &Self, unit: &UnitName| agent.wanted.as_ref().and_then(|all| all.get(unit)).copied();
        let hashes = units.iter().filter_map(|unit| wanted(self, unit)).map(|want| want.hash);
        let files = match self.files.get(hashes).await {
            Ok(files) => files,
            Err(error) => {
                units.iter().for_each(|unit| self.failed(unit, crate::chain(&error)));
                return true;
            }
        };
        let (mut link, mut enable, mut replaced) = (Vec::new(), Vec::new(), Vec::new());
        for unit in units {
            let Some(want) = wanted(self, unit) else { continue };
            let Some(file) = files.get(&want.hash) else {
                self.failed(unit, format!("the store has no file {}: submit the unit again", want.hash));
                continue;
            };
            match self.place(unit, file, &search).await {
                Ok(may_be_held) => {
                    if may_be_held {
                        replaced.push(unit.clone());
                    }
                    let batch = if file.has_section("Install") { &mut enable } else { &mut link };
                    batch.push(unit.clone());
                }
                Err(problem) => self.failed(unit, problem),
            }
        }
        for unit in link.iter().chain(&enable) {
            if let Some(file) = wanted(self, unit).and_then(|want| files.get(&want.hash)) {
                self.behaviour.insert(unit.clone(), Behaviour::of(file, unit));
                // It was about the names that its old file asked for.
                self.disputes.remove(unit);
            }
        }
        let held = self.holders(&enable);
        let mut placed = self.change(Change::Link, &link).await;
        let enabled = self.change(Change::Enable, &enable).await;
        self.give_back(held).await;
        placed.extend(enabled);
        if let Err(error) = self.reload_for(&replaced).await {
            // Systemd would start what it had before.
            let held: BTreeSet<&UnitName> = replaced.iter().collect();
            placed.retain(|unit| !held.contains(unit));
            let problem = format!("systemd did not read its files anew: {}", crate::chain(&error));
            replaced.iter().for_each(|unit| self.failed(unit, problem.clone()));
        }
        let mut resting = Vec::new();
        for unit in &placed {
            let Some(want) = wanted(self, unit) else { continue };
            let entry = Installed::loaded(want.hash, want.generation);
            self.installed.insert(unit.clone(), Installed { request: want.request, ..entry });
            self.has_run.remove(unit);
            if let Some(trail) = self.trails.get_mut(unit) {
                trail.installed();
            }
            if want.target == Target::Loaded {
                resting.push(unit.clone());
                self.succeeded(unit);
            } else {
                // Whether it is as it should be shows when it is started.
                self.retry_now(unit);
            }
        }
        if !placed.is_empty() {
            self.retry_lacking();
        }
        told("installed", &placed);
        self.save();
        self.watch_units();
        // Those that are started right away are looked at after that. To look at one that is not makes systemd load it,
        // and forget it again.
        self.refresh(&resting).await;
        true
    }

    /// Writes the file of one unit. Returns whether systemd may still hold an older one.
    async fn place(&mut self, unit: &UnitName, file: &UnitFile, search: &[PathBuf]) -> Result<bool, String> {
        let was_there = self.installed.contains_key(unit);
        let foreign = if was_there { None } else { self.foreign(unit, search) };
        if let Some(foreign) = foreign.or_else(|| self.foreign_alias(unit, file, search)) {
            return Err(foreign);
        }
        if was_there && self.disk.file(unit).is_some_and(|before| before.has_section("Install")) {
            // What its old file asked for is not asked for any more.
            let names = BTreeSet::from_iter(self.aliases_of(unit).iter().cloned());
            self.systemd.disable(std::slice::from_ref(unit)).await.map_err(|error| crate::chain(&error))?;
            self.pass_on(names).await;
        }
        if self.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Failed) {
            // A failed unit stays loaded, and would start again from its old file.
            if let Err(error) = self.systemd.reset_failed(unit).await {
                warn!(%unit, error = %crate::chain(&error), "failure not reset");
            }
        }
        self.disk.write(unit, &file.canonical()).map_err(|error| crate::chain(&error))?;
        // One that another unit refers to stays loaded after it was removed.
        Ok(was_there || self.runtime.get(unit).is_some_and(|runtime| runtime.load != "not-found"))
    }

    /// Makes one change to systemd's view of a batch of files; when the batch is refused, unit by unit. Returns the
    /// units that it worked for.
    async fn change(&mut self, change: Change, units: &[UnitName]) -> Vec<UnitName> {
        if units.is_empty() {
            return Vec::new();
        }
        match self.ask(change, units).await {
            Ok(()) => return units.to_vec(),
            Err(error @ SystemdError::Unavailable(_)) => {
                units.iter().for_each(|unit| self.failed(unit, crate::chain(&error)));
                return Vec::new();
            }
            Err(SystemdError::Refused { .. }) => {}
        }
        let mut changed = Vec::new();
        for unit in units {
            match self.ask(change, std::slice::from_ref(unit)).await {
                Ok(()) => changed.push(unit.clone()),
                // Out already: an earlier try came so far.
                Err(error) if change == Change::Disable && error.is_no_such_unit() => changed.push(unit.clone()),
                Err(error) => self.failed(unit, crate::chain(&error)),
            }
        }
        changed
    }

    async fn ask(&self, change: Change, units: &[UnitName]) -> Result<(), SystemdError> {
        let paths = || -> Vec<PathBuf> { units.iter().map(|unit| self.disk.path(unit)).collect() };
        match change {
            Change::Link => self.systemd.link(&paths()).await,
            Change::Enable => self.systemd.enable(&paths()).await,
            Change::Disable => self.systemd.disable(units).await,
        }
    }

    /// Whether the host has a unit of this name that is not fleet's; then says which.
    fn foreign(&self, unit: &UnitName, search: &[PathBuf]) -> Option<String> {
        let found =
            search.iter().map(|directory| directory.join(unit.as_str())).find(|path| self.disk.is_foreign(path));
        if let Some(path) = found {
            return Some(format!(
                "this host has a unit of that name that is not fleet's: {}; it is left alone",
                path.display()
            ));
        }
        let running = self.runtime.get(unit).is_some_and(|runtime| !runtime.is_down());
        running.then(|| "this host runs a unit of that name that is not fleet's; it is left alone".into())
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

    /// Looks once more at units that were removed. Systemd remembers one that another unit refers to, and whatever asks
    /// for that one may have started it meanwhile: then it is the agent's still, and is stopped.
    async fn look_after(&mut self, mut removed: BTreeMap<UnitName, Installed>) {
        let names: Vec<UnitName> = removed.keys().cloned().collect();
        if names.is_empty() {
            return;
        }
        let Ok(listed) = self.systemd.loaded(&names).await else { return };
        let running = |unit: &UnitName| listed.get(unit).is_some_and(|runtime| !runtime.is_down());
        removed.retain(|unit, _| running(unit));
        for (unit, entry) in removed {
            warn!(%unit, "unit was started while it was removed, stopping it");
            self.runtime.extend(listed.get(&unit).map(|runtime| (unit.clone(), runtime.clone())));
            self.touch(&unit);
            self.installed.insert(unit, entry);
        }
    }

    /// Takes units that are down away from the host. Returns whether anything was done.
    pub(super) async fn remove(&mut self, units: &[UnitName]) -> bool {
        if units.is_empty() {
            return false;
        }
        let mut removed = BTreeMap::new();
        let mut gone = Vec::new();
        let mut names = BTreeSet::new();
        for unit in &self.change(Change::Disable, units).await {
            if let Err(error) = self.disk.remove(unit) {
                self.failed(unit, crate::chain(&error));
                continue;
            }
            if self.runtime.get(unit).is_some_and(|runtime| runtime.active == Active::Failed)
                && let Err(error) = self.systemd.reset_failed(unit).await
            {
                warn!(%unit, error = %crate::chain(&error), "failure not reset");
            }
            self.let_go(unit).await;
            names.extend(self.aliases_of(unit).iter().cloned());
            gone.push(unit.clone());
            removed.extend(self.installed.remove_entry(unit));
            self.runtime.remove(unit);
            self.succeeded(unit);
        }
        told("removed", &gone);
        self.pass_on(names).await;
        self.look_after(removed).await;
        self.save();
        self.watch_units();
        true
    }
}
