//! What the agent keeps on the host's disk: unit files, and a manifest of what it has done with them.
//!
//! Both lie under `/run`, so a boot begins empty.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use fleet_core::{agent::Installed, unit::UnitFile, unit::UnitName};
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
    /// The files that are there. Those that the manifest does not know of were written just before a crash, or the
    /// manifest was lost: how far their units were brought is unknown.
    pub files: BTreeMap<UnitName, UnitFile>,
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
    pub fn save(&self, installed: &BTreeMap<UnitName, Installed>) -> Result<(), FileError> {
        let text = serde_json::to_vec(installed).expect("a map with string keys");
        self.filesystem.replace(&self.manifest, &text)
    }

    /// Reads what an earlier run left.
    ///
    /// # Errors
    /// When the directory cannot be read. A manifest that cannot be read counts as lost.
    pub fn load(&self) -> Result<Left, FileError> {
        let manifest = match self.filesystem.read(&self.manifest) {
            Ok(Some(bytes)) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                warn!(path = %self.manifest.display(), %error, "manifest is damaged, taking up the unit files there are");
                BTreeMap::new()
            }),
            _ => BTreeMap::new(),
        };
        let mut left = Left { installed: manifest, files: BTreeMap::new() };
        for name in self.filesystem.names(&self.units)? {
            let Ok(name) = UnitName::new(&name) else { continue };
            let Ok(Some(bytes)) = self.filesystem.read(&self.path(&name)) else { continue };
            if let Ok(file) = UnitFile::parse_bytes(&bytes) {
                left.files.insert(name, file);
            }
        }
        left.installed.retain(|unit, _| self.filesystem.look(&self.path(unit)) != Entry::Missing);
        Ok(left)
    }
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
        assert!(disk.load().unwrap().installed.is_empty());
        let entry = Installed { hash: UnitHash::of("x"), applied: Target::Launched, generation: Some(3) };
        let installed: BTreeMap<_, _> = [(name("a.service"), entry), (name("gone.service"), entry)].into();
        disk.save(&installed).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        disk.write(&name("stray@1.service"), "[Unit]\nDescription=s\n").unwrap();
        let left = disk.load().unwrap();
        assert_eq!(left.installed, [(name("a.service"), entry)].into(), "an entry without its file is forgotten");
        assert_eq!(left.files.keys().collect::<Vec<_>>(), [&name("a.service"), &name("stray@1.service")]);
    }

    #[test]
    fn damaged_manifest_counts_as_lost() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(Real, &directory.path().join("units")).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        fs::write(directory.path().join("manifest.json"), b"{\"a.serv").unwrap();
        let left = disk.load().unwrap();
        assert!(left.installed.is_empty());
        assert_eq!(left.files.len(), 1);
    }
}
