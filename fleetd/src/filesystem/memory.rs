//! Files of a simulated host.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Entry, FileError, Filesystem, at};

/// The files of one simulated host. Clones are of the same host.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Files>>);

#[derive(Debug, Default)]
struct Files {
    contents: BTreeMap<PathBuf, Vec<u8>>,
    full: bool,
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether writes fail for want of space.
    pub fn set_full(&self, full: bool) {
        self.lock().full = full;
    }

    /// Loses what a boot does not find again: all below `/run`.
    pub fn boot(&self) {
        self.lock().contents.retain(|path, _| !path.starts_with("/run"));
    }
}

impl Filesystem for Memory {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        Ok(self.lock().contents.get(path).cloned())
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FileError> {
        let mut files = self.lock();
        if files.full {
            return Err(at("write", path)(io::ErrorKind::StorageFull.into()));
        }
        files.contents.insert(path.into(), contents.into());
        Ok(())
    }

    async fn replace_durably(&self, path: &Path, contents: Vec<u8>) -> Result<(), FileError> {
        tokio::task::yield_now().await;
        self.replace(path, &contents)
    }

    async fn replace_all_durably(&self, directory: &Path, files: Vec<(String, Vec<u8>)>) -> Result<(), FileError> {
        for (name, contents) in files {
            self.replace_durably(&directory.join(name), contents).await?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        self.lock().contents.remove(path);
        Ok(())
    }

    fn names(&self, directory: &Path) -> Result<Vec<String>, FileError> {
        let files = self.lock();
        let inside = files.contents.keys().filter(|path| path.parent() == Some(directory));
        Ok(inside.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn make_directory(&self, _directory: &Path) -> Result<(), FileError> {
        Ok(())
    }

    /// Its systemd sees every change anyway.
    fn modified(&self, _directory: &Path) -> Option<SystemTime> {
        None
    }

    fn touch(&self, _directory: &Path) -> Result<(), FileError> {
        Ok(())
    }

    fn look(&self, path: &Path) -> Entry {
        if self.lock().contents.contains_key(path) { Entry::Other } else { Entry::Missing }
    }
}
