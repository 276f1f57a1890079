//! Other names of units (`Alias=` in `[Install]`): one unit of a host has a name, the first that asked for it.
//!
//! Systemd gives a name to whoever asks last. So the one that had it is enabled once more, the other one is told of, and
//! gets the name when the first goes.

use std::{collections::BTreeSet, path::PathBuf};

use fleet_core::unit::{UnitFile, UnitName, aliases};
use tracing::warn;

use super::Agent;
use crate::{filesystem::Filesystem, registry::Store, systemd::Systemd};

impl<S: Store, D: Systemd, F: Filesystem> Agent<S, D, F> {
    /// A unit of the host's own that has one of the names that a unit asks for; then says which.
    pub(super) fn foreign_alias(&self, unit: &UnitName, file: &UnitFile, search: &[PathBuf]) -> Option<String> {
        let names = aliases(file, unit);
        let taken = names.iter().find_map(|alias| {
            let paths = search.iter().map(|directory| directory.join(alias.as_str()));
            Some((alias, paths.into_iter().find(|path| self.disk.is_foreign(path))?))
        });
        taken.map(|(alias, path)| {
            format!("Alias={alias} is a unit of this host that is not fleet's: {}; it is left alone", path.display())
        })
    }

    /// The units that have names which these ask for: each with the one that asks, and the name.
    pub(super) fn holders(&self, units: &[UnitName]) -> Vec<(UnitName, UnitName, UnitName)> {
        let mut held = Vec::new();
        for (number, unit) in units.iter().enumerate() {
            for alias in self.aliases_of(unit) {
                // Of two that come together, the first.
                let earlier = units[..number].iter().find(|other| self.aliases_of(other).contains(alias));
                let link = self.systemd.runtime_units().join(alias.as_str());
                let linked = self.disk.linked(&link).filter(|other| self.aliases_of(other).contains(alias));
                let holder = linked.or_else(|| earlier.cloned()).filter(|holder| holder != unit);
                held.extend(holder.map(|holder| (holder, unit.clone(), alias.clone())));
            }
        }
        held
    }

    /// Gives names back to the units that had them, after others were enabled that ask for the same.
    pub(super) async fn give_back(&mut self, held: Vec<(UnitName, UnitName, UnitName)>) {
        let holders: BTreeSet<&UnitName> = held.iter().map(|(holder, ..)| holder).collect();
        let paths: Vec<PathBuf> = holders.iter().map(|holder| self.disk.path(holder)).collect();
        if paths.is_empty() {
            return;
        }
        if let Err(error) = self.systemd.enable(&paths).await {
            warn!(error = %crate::chain(&error), "names of units were not given back to those that had them");
        }
        for (holder, unit, alias) in held {
            self.tell_dispute(&unit, &alias, &holder);
        }
    }

    fn tell_dispute(&mut self, unit: &UnitName, alias: &UnitName, holder: &UnitName) {
        let dispute = format!("Alias={alias} is {holder}'s on this host; it gets the name when that goes");
        if self.disputes.get(unit) != Some(&dispute) {
            warn!(%unit, dispute, "two units ask for one name");
            self.disputes.insert(unit.clone(), dispute);
            self.touch(unit);
        }
    }

    /// After a start of fleetd: which units lack a name because another one has it.
    pub(super) fn find_disputes(&mut self) {
        let units: Vec<UnitName> = self.behaviour.keys().cloned().collect();
        for unit in units {
            for alias in self.aliases_of(&unit).to_vec() {
                let link = self.systemd.runtime_units().join(alias.as_str());
                if let Some(holder) = self.disk.linked(&link).filter(|holder| *holder != unit) {
                    self.tell_dispute(&unit, &alias, &holder);
                }
            }
        }
    }

    /// Units with these names have gone: the next ones that ask for them get them.
    pub(super) async fn pass_on(&mut self, names: BTreeSet<UnitName>) {
        let next = |alias: &UnitName| {
            let mut waiting = self.disputes.keys().filter(|unit| self.installed.contains_key(*unit));
            waiting.find(|unit| self.aliases_of(unit).contains(alias)).cloned()
        };
        let heirs: BTreeSet<UnitName> = names.iter().filter_map(next).collect();
        let paths: Vec<PathBuf> = heirs.iter().map(|heir| self.disk.path(heir)).collect();
        if paths.is_empty() {
            return;
        }
        if let Err(error) = self.systemd.enable(&paths).await {
            return warn!(error = %crate::chain(&error), "names of units that have gone were not passed on");
        }
        for heir in heirs {
            self.disputes.remove(&heir);
            self.touch(&heir);
        }
        self.find_disputes();
    }

    pub(super) fn aliases_of(&self, unit: &UnitName) -> &[UnitName] {
        self.behaviour.get(unit).map_or(&[], |behaviour| &behaviour.aliases)
    }
}
