//! What the agent keeps on the host's disk: unit files, and a manifest of what it has done with them.
//!
//! Both lie under `/run`, so a boot begins empty. Every write goes to a new file first and is renamed, so a crash
//! leaves the old one or the new one, never half of one.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use fleet_core::{agent::Installed, unit::UnitFile, unit::UnitName};
use thiserror::Error;

/// The directory of unit files, and the manifest beside it.
#[derive(Clone, Debug)]
pub struct Disk {
    units: PathBuf,
    manifest: PathBuf,
}

/// What an earlier run of the agent left on the disk.
#[derive(Debug, Default)]
pub struct Left {
    /// The units of the manifest whose files are there.
    pub installed: BTreeMap<UnitName, Installed>,
    /// Files that the manifest does not know of: written just before a crash, or the manifest was lost. How far
    /// those units were brought is unknown.
    pub unknown: BTreeMap<UnitName, UnitFile>,
}

/// A file could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {what} {}", path.display())]
pub struct DiskError {
    what: &'static str,
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Turns an IO error into one that names its file.
fn at<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> DiskError + 'p {
    move |source| DiskError { what, path: path.into(), source }
}

impl Disk {
    /// Uses `units` for unit files and its parent for the manifest; makes the directory when it is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(units: &Path) -> Result<Self, DiskError> {
        fs::create_dir_all(units).map_err(at("create", units))?;
        let manifest = units.parent().unwrap_or(units).join("manifest.json");
        Ok(Self { units: units.into(), manifest })
    }

    /// Where the file of a unit lies.
    #[must_use]
    pub fn path(&self, unit: &UnitName) -> PathBuf {
        self.units.join(unit.as_str())
    }

    /// Whether a file of a unit search path is only a link to one in here.
    #[must_use]
    pub fn owns(&self, path: &Path) -> bool {
        fs::read_link(path).is_ok_and(|target| target.starts_with(&self.units))
    }

    /// Writes the file of a unit.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, unit: &UnitName, text: &str) -> Result<(), DiskError> {
        replace(&self.path(unit), text.as_bytes())
    }

    /// Deletes the file of a unit, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be deleted.
    pub fn remove(&self, unit: &UnitName) -> Result<(), DiskError> {
        let path = self.path(unit);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at("delete", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Writes the manifest.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, installed: &BTreeMap<UnitName, Installed>) -> Result<(), DiskError> {
        replace(&self.manifest, &serde_json::to_vec(installed).expect("a map with string keys"))
    }

    /// Reads what an earlier run left.
    ///
    /// # Errors
    /// When the directory cannot be read. A manifest that cannot be read counts as lost.
    pub fn load(&self) -> Result<Left, DiskError> {
        let manifest = fs::read(&self.manifest).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut installed: BTreeMap<UnitName, Installed> = manifest.unwrap_or_default();
        let mut unknown = BTreeMap::new();
        for entry in fs::read_dir(&self.units).map_err(at("read", &self.units))? {
            let path = entry.map_err(at("read", &self.units))?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Ok(name) = UnitName::new(name) else { continue };
            if installed.contains_key(&name) {
                continue;
            }
            if let Some(file) = fs::read(&path).ok().and_then(|bytes| UnitFile::parse_bytes(&bytes).ok()) {
                unknown.insert(name, file);
            }
        }
        installed.retain(|unit, _| self.path(unit).exists());
        Ok(Left { installed, unknown })
    }
}

fn replace(path: &Path, contents: &[u8]) -> Result<(), DiskError> {
    // No unit's name ends in `.new`: what a crash leaves is not taken for a unit.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    fs::write(&new, contents).map_err(at("write", &new))?;
    fs::rename(&new, path).map_err(at("replace", path))
}

#[cfg(test)]
mod tests {
    use fleet_core::{model::Target, unit::UnitHash};

    use super::*;

    fn name(name: &str) -> UnitName {
        UnitName::new(name).unwrap()
    }

    #[test]
    fn what_was_saved_is_loaded_and_stray_files_are_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(&directory.path().join("units")).unwrap();
        assert!(disk.load().unwrap().installed.is_empty());
        let entry = Installed { hash: UnitHash::of("x"), applied: Target::Launched, generation: Some(3) };
        let installed: BTreeMap<_, _> = [(name("a.service"), entry), (name("gone.service"), entry)].into();
        disk.save(&installed).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        disk.write(&name("stray@1.service"), "[Unit]\nDescription=s\n").unwrap();
        let left = disk.load().unwrap();
        assert_eq!(left.installed, [(name("a.service"), entry)].into(), "an entry without its file is forgotten");
        assert_eq!(left.unknown.keys().collect::<Vec<_>>(), [&name("stray@1.service")]);
    }

    #[test]
    fn damaged_manifest_counts_as_lost() {
        let directory = tempfile::tempdir().unwrap();
        let disk = Disk::open(&directory.path().join("units")).unwrap();
        disk.write(&name("a.service"), "[Unit]\n").unwrap();
        fs::write(directory.path().join("manifest.json"), b"{\"a.serv").unwrap();
        let left = disk.load().unwrap();
        assert!(left.installed.is_empty());
        assert_eq!(left.unknown.len(), 1);
    }
}
