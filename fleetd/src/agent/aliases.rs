//! Other names of units (`Alias=` in `[Install]`): one unit of a host has a name, the first that asked for it.
//!
//! Systemd gives a name to whoever asks last. So the one that had it is enabled once more, the other one is said to lack
//! it, and gets the name when the first goes.

use std::{collections::BTreeSet, path::PathBuf};

use fleet_core::unit::{UnitFile, UnitName, aliases};
use tracing::warn;

use super::{Disk, units::Units};
use crate::{filesystem::Filesystem, systemd::Systemd};

/// Gives each name to one unit.
pub(super) struct Aliases<D, F> {
    systemd: D,
    disk: Disk<F>,
}

/// A unit that has a name which another one asks for.
pub(super) struct Contested {
    alias: UnitName,
    holder: UnitName,
    /// The one that asks.
    unit: UnitName,
}

impl<D: Systemd, F: Filesystem> Aliases<D, F> {
    pub fn new(systemd: D, disk: Disk<F>) -> Self {
        Self { systemd, disk }
    }

    /// A unit of the host's own that has one of the names that a unit asks for; then says which.
    pub fn foreign(&self, unit: &UnitName, file: &UnitFile, search: &[PathBuf]) -> Option<String> {
        let names = aliases(file, unit);
        let taken = names.iter().find_map(|alias| {
            let paths = search.iter().map(|directory| directory.join(alias.as_str()));
            Some((alias, paths.into_iter().find(|path| self.disk.is_foreign(path))?))
        });
        taken.map(|(alias, path)| {
            format!("Alias={alias} is a unit of this host that is not fleet's: {}; it is left alone", path.display())
        })
    }

    /// Which units have names that these ask for.
    pub fn contested(&self, units: &Units, asking: &[UnitName]) -> Vec<Contested> {
        let mut contested = Vec::new();
        for (number, unit) in asking.iter().enumerate() {
            for alias in aliases_of(units, unit) {
                // Of two that come together, the first.
                let earlier = asking[..number].iter().find(|other| aliases_of(units, other).contains(alias));
                let linked = self.linked(alias).filter(|other| aliases_of(units, other).contains(alias));
                let holder = linked.or_else(|| earlier.cloned()).filter(|holder| holder != unit);
                contested.extend(holder.map(|holder| Contested { alias: alias.clone(), holder, unit: unit.clone() }));
            }
        }
        contested
    }

    /// Gives names back to the units that had them, after others were enabled that ask for the same.
    pub async fn give_back(&self, units: &mut Units, contested: Vec<Contested>) {
        let holders: BTreeSet<&UnitName> = contested.iter().map(|name| &name.holder).collect();
        let paths: Vec<PathBuf> = holders.iter().map(|holder| self.disk.path(holder)).collect();
        if paths.is_empty() {
            return;
        }
        if let Err(error) = self.systemd.enable(&paths).await {
            warn!(error = %crate::chain(&error), "names of units were not given back to those that had them");
        }
        for name in contested {
            tell_dispute(units, &name);
        }
    }

    /// After a start of fleetd: which units lack a name because another one has it.
    pub fn find_disputes(&self, units: &mut Units) {
        let asking = units.cells.iter().flat_map(|(unit, cell)| {
            let aliases = cell.behaviour().aliases.iter();
            aliases.map(move |alias| (unit.clone(), alias.clone()))
        });
        for (unit, alias) in asking.collect::<Vec<_>>() {
            if let Some(holder) = self.linked(&alias).filter(|holder| *holder != unit) {
                tell_dispute(units, &Contested { alias, holder, unit });
            }
        }
    }

    /// Units with these names have gone: the next ones that ask for them get them.
    pub async fn pass_on(&self, units: &mut Units, names: BTreeSet<UnitName>) {
        let next = |alias: &UnitName| {
            let mut waiting = units.cells.iter().filter(|(_, cell)| cell.is_disputed() && cell.installed().is_some());
            waiting.find(|(_, cell)| cell.behaviour().aliases.contains(alias)).map(|(unit, _)| unit.clone())
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
            units.edit(&heir, |cell, _| cell.has_its_names());
        }
        self.find_disputes(units);
    }

    /// The unit that has a name now.
    fn linked(&self, alias: &UnitName) -> Option<UnitName> {
        self.disk.linked(&self.systemd.runtime_units().join(alias.as_str()))
    }
}

fn tell_dispute(units: &mut Units, name: &Contested) {
    let Contested { alias, holder, unit } = name;
    let dispute = format!("Alias={alias} is {holder}'s on this host; it gets the name when that goes");
    if units.edit(unit, |cell, _| cell.is_in_dispute(&dispute)) == Some(true) {
        warn!(%unit, dispute, "two units ask for one name");
    }
}

/// The names that the contents in place of a unit ask for.
pub(super) fn aliases_of<'u>(units: &'u Units, unit: &UnitName) -> &'u [UnitName] {
    units.get(unit).map_or(&[], |cell| &cell.behaviour().aliases)
}
