//! What the agent keeps on the host's disk: unit files, and a manifest of what it has done with them.
//!
//! Both lie under `/run`, so a boot begins empty.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use fleet_core::{host::Installed, model::json, unit::UnitFile, unit::UnitName};
use tracing::warn;

use crate::filesystem::{Entry, FileError, Filesystem};

/// The directory of unit files, and the manifest beside it.
#[derive(Clone, Debug)]
pub struct Disk<F> {
    filesystem: F,
    units: PathBuf,
    manifest: PathBuf,
}

/// What an earlier run of the agent left on the disk.
#[derive(Debug, Default)]
pub struct Left {
    /// The units of the manifest whose files are there.
    pub installed: BTreeMap<UnitName, Installed>,
    /// The units whose files are there. Those that the manifest does not know of were written just before a crash, or
    /// the manifest was lost: how far their units were brought is unknown.
    pub units: BTreeSet<UnitName>,
}

impl<F: Filesystem> Disk<F> {
    /// Uses `units` for unit files and its parent for the manifest; makes the directory when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(filesystem: F, units: &Path) -> Result<Self, FileError> {
        filesystem.make_directory(units)?;
        let manifest = units.parent().unwrap_or(units).join("manifest.json");
        Ok(Self { filesystem, units: units.into(), manifest })
    }

    /// Where the file of a unit lies.
    #[must_use]
    pub fn path(&self, unit: &UnitName) -> PathBuf {
        self.units.join(unit.as_str())
    }

    /// Whether something is at a path that is not a link to a file in here.
    #[must_use]
    pub fn is_foreign(&self, path: &Path) -> bool {
        match self.filesystem.look(path) {
            Entry::Missing => false,
            Entry::Link(target) => !target.starts_with(&self.units),
            Entry::Other => true,
        }
    }

    /// The unit whose file in here a path is a link to.
    #[must_use]
    pub fn linked(&self, path: &Path) -> Option<UnitName> {
        let Entry::Link(target) = self.filesystem.look(path) else { return None };
        let name = target.strip_prefix(&self.units).ok()?.to_str()?;
        UnitName::new(name).ok()
    }

    /// Writes the file of a unit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, unit: &UnitName, text: &str) -> Result<(), FileError> {
        self.filesystem.replace(&self.path(unit), text.as_bytes())
    }

    /// Deletes the file of a unit, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be deleted.
    pub fn remove(&self, unit: &UnitName) -> Result<(), FileError> {
        self.filesystem.remove(&self.path(unit))
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save<'i>(
        &self,
        installed: impl IntoIterator<Item = (&'i UnitName, &'i Installed)>,
    ) -> Result<(), FileError> {
        let installed: BTreeMap<&UnitName, &Installed> = installed.into_iter().collect();
        let text = serde_json::to_vec(&installed).expect("a map with string keys");
        self.filesystem.replace(&self.manifest, &text)
    }

    /// Writes down which units may run once in the cluster at most, for whoever has to stop them while no fleetd runs.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn save_strict(&self, units: &BTreeSet<UnitName>) -> Result<(), FileError> {
        self.filesystem.replace(&self.beside("strict"), lines(units).as_bytes())
    }

    /// The units that were stopped because no fleetd ran.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn fenced(&self) -> Result<BTreeSet<UnitName>, FileError> {
        let bytes = self.filesystem.read(&self.beside("fenced"))?.unwrap_or_default();
        Ok(String::from_utf8_lossy(&bytes).lines().filter_map(|line| UnitName::new(line).ok()).collect())
    }

    /// Writes down which units are stopped because no fleetd runs.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn save_fenced(&self, units: &BTreeSet<UnitName>) -> Result<(), FileError> {
        self.filesystem.replace(&self.beside("fenced"), lines(units).as_bytes())
    }

    /// Forgets which units were.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn forget_fenced(&self) -> Result<(), FileError> {
        self.filesystem.remove(&self.beside("fenced"))
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.units.parent().unwrap_or(&self.units).join(name)
    }

    /// Finds what an earlier run left.
    ///
    /// # Errors
    /// When the directory cannot be read. Each entry of the manifest that cannot be read is passed over, and all of one
    /// that is no JSON.
    pub fn left(&self) -> Result<Left, FileError> {
        let names = self.filesystem.names(&self.units)?;
        let units: BTreeSet<UnitName> = names.iter().filter_map(|name| UnitName::new(name).ok()).collect();
        let mut installed = self.manifest();
        installed.retain(|unit, _| units.contains(unit));
        Ok(Left { installed, units })
    }

    /// Reads the file of a unit; `None` when there is none that can be read.
    #[must_use]
    pub fn file(&self, unit: &UnitName) -> Option<UnitFile> {
        let path = self.path(unit);
        let bytes = self.filesystem.read(&path);
        let bytes = bytes.inspect_err(|error| {
            warn!(error = %crate::chain(error), "unit file cannot be read, it is passed over");
        });
        let file = UnitFile::parse_bytes(&bytes.ok()??);
        let file = file.inspect_err(|error| {
            warn!(path = %path.display(), line = error.line, %error, "this is no unit file, it is passed over");
        });
        file.ok()
    }

    fn manifest(&self) -> BTreeMap<UnitName, Installed> {
        let path = self.manifest.display();
        let entries: BTreeMap<String, serde_json::Value> = match self.filesystem.read(&self.manifest) {
            Ok(None) => return BTreeMap::new(),
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(%path, %error, "the manifest cannot be read, it counts as lost");
                BTreeMap::new()
            }),
            Err(error) => {
                warn!(error = %crate::chain(&error), "the manifest counts as lost");
                return BTreeMap::new();
            }
        };
        let mut installed = BTreeMap::new();
        for (name, entry) in entries {
            match (UnitName::new(&name), json::from_value(entry)) {
                (Ok(unit), Ok(entry)) => drop(installed.insert(unit, entry)),
                _ => warn!(%path, name, "an entry of the manifest cannot be read"),
            }
        }
        installed
    }
}

fn lines(units: &BTreeSet<UnitName>) -> String {
    units.iter().map(|unit| format!("{unit}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fleet_core::{model::Target, unit::UnitHash};

    use super::*;
    use crate::filesystem::Real;

    fn name(name: &str) -> UnitName {
        UnitName::new(name).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_and_stray_files_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(Real, &directory.path().join("units")).unwrap();
        assert!(disk.left().unwrap().installed.is_empty());
        let entry = Installed { applied: Target::Launched, ..Installed::loaded(UnitHash::of("x"), Some(3)) };
        let installed: BTreeMap<_, _> = [(name("a.service"), entry), (name("gone.service"), entry)].into();
        disk.save(&installed).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        disk.write(&name("stray@1.service"), "[Unit]\nDescription=s\n").unwrap();
        let left = disk.left().unwrap();
        assert_eq!(left.installed, [(name("a.service"), entry)].into(), "an entry without its file is forgotten");
        assert_eq!(left.units, [name("a.service"), name("stray@1.service")].into());
        assert!(disk.file(&name("a.service")).is_some() && disk.file(&name("gone.service")).is_none());
    }

    #[test]
    fn damaged_manifest_counts_as_lost() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(Real, &directory.path().join("units")).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        fs::write(directory.path().join("manifest.json"), b"{\"a.serv").unwrap();
        let left = disk.left().unwrap();
        assert!(left.installed.is_empty());
        assert_eq!(left.units.len(), 1);
    }
}
