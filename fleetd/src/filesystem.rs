//! The host's files, as far as fleetd reads and writes them.
//!
//! [`Filesystem`] is all that it asks for; [`Real`] is the host's own. Every write replaces a whole file at once, so
//! a crash leaves the old contents or the new, never half of them.

#[cfg(any(test, feature = "twins"))]
pub mod memory;

use std::{
    fs,
    future::Future,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps, UTIME_NOW, utimensat};
use thiserror::Error;
use tracing::{debug, warn};

/// A file could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {what} {}", path.display())]
pub struct FileError {
    what: &'static str,
    path: PathBuf,
    /// What the system says of it.
    #[source]
    pub source: io::Error,
}

/// What fleetd asks of a file system. Handles are cheap to clone.
pub trait Filesystem: Clone + Send + Sync + 'static {
    /// The contents of a file; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError>;

    /// Gives a file new contents, or makes it; its directory is made when missing.
    ///
    /// # Errors
    /// When it cannot be written. The old contents then stay.
    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FileError>;

    /// As `replace`, and returns once that would outlive a loss of power.
    fn replace_durably(&self, path: &Path, contents: Vec<u8>) -> impl Future<Output = Result<(), FileError>> + Send;

    /// As `replace_durably` for several files of one directory, and far cheaper: the disk is waited for once.
    ///
    /// # Errors
    /// When one cannot be written. Others may have been by then.
    fn replace_all_durably(
        &self,
        directory: &Path,
        files: Vec<(String, Vec<u8>)>,
    ) -> impl Future<Output = Result<(), FileError>> + Send;

    /// Deletes a file, if there is one.
    ///
    /// # Errors
    /// When it is there and cannot be deleted.
    fn remove(&self, path: &Path) -> Result<(), FileError>;

    /// The names of the files in a directory, those that are text; none when there is no directory.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn names(&self, directory: &Path) -> Result<Vec<String>, FileError>;

    /// Makes a directory and those above it, where they are missing.
    ///
    /// # Errors
    /// When it cannot be made.
    fn make_directory(&self, directory: &Path) -> Result<(), FileError>;

    /// When a directory was changed last; `None` when that does not matter or cannot be told.
    fn modified(&self, directory: &Path) -> Option<SystemTime>;

    /// Dates the last change of a directory to now.
    ///
    /// # Errors
    /// When that is not possible.
    fn touch(&self, directory: &Path) -> Result<(), FileError>;

    /// What is at a path.
    fn look(&self, path: &Path) -> Entry;
}

/// Most bytes that a file can have to be read: a manifest of a hundred thousand units.
const LARGEST: u64 = 16 << 20;

/// `O_NONBLOCK`, as `open(2)` takes it.
const NON_BLOCKING: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Nothing.
    Missing,
    /// A symbolic link to this.
    Link(PathBuf),
    /// Something else.
    Other,
}

/// Together longer than a tick of any kernel's clock.
const STEP: Duration = Duration::from_millis(1);
const STEPS: u32 = 20;

/// Dates a directory anew until its time of modification differs from `before`, which it was before a change; with `None`
/// there is nothing to do. That time has the ticks of the kernel's clock: a second change in one tick leaves it the same,
/// and systemd, which goes by it, would not look again.
pub async fn show_change(filesystem: &impl Filesystem, directory: &Path, before: Option<SystemTime>) {
    for _ in 0..STEPS {
        if before.is_none() || filesystem.modified(directory) != before {
            return;
        }
        tokio::time::sleep(STEP).await;
        if let Err(error) = filesystem.touch(directory) {
            debug!(error = %crate::chain(&error), "directory not dated anew");
        }
    }
    warn!(directory = %directory.display(), "systemd may not see a new unit before the next change");
}

/// The host's own file system.
#[derive(Clone, Copy, Debug)]
pub struct Real;

/// Turns an IO error into one that names its file.
fn at<'p>(what: &'static str, path: &'p Path) -> impl FnOnce(io::Error) -> FileError + 'p {
    move |source| FileError { what, path: path.into(), source }
}

/// Turns "there is none" into a value.
fn unless_missing<T>(outcome: io::Result<T>) -> io::Result<Option<T>> {
    match outcome {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

impl Filesystem for Real {
    fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
        let read = || {
            // A pipe would keep who opens it waiting, unless told not to.
            let mut file = fs::File::options().read(true).custom_flags(NON_BLOCKING).open(path)?;
            let metadata = file.metadata()?;
            if !metadata.is_file() || metadata.len() > LARGEST {
                return Err(io::Error::other(format!("it is not a file of at most {LARGEST} bytes")));
            }
            // As it is replaced whole, it does not grow.
            let mut contents = vec![0; metadata.len() as usize];
            file.read_exact(&mut contents)?;
            Ok(contents)
        };
        unless_missing(read()).map_err(at("read", path))
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> Result<(), FileError> {
        write_new(path, contents)?.put_in_place()
    }

    async fn replace_durably(&self, path: &Path, contents: Vec<u8>) -> Result<(), FileError> {
        let (directory, name) = (path.parent().unwrap_or(Path::new("/")), path.file_name().unwrap_or_default());
        self.replace_all_durably(directory, vec![(name.to_string_lossy().into_owned(), contents)]).await
    }

    async fn replace_all_durably(&self, directory: &Path, files: Vec<(String, Vec<u8>)>) -> Result<(), FileError> {
        let owned = directory.to_owned();
        // A disk may take seconds to say that it has written.
        let written = tokio::task::spawn_blocking(move || replace_all_durably(&owned, &files));
        written.await.unwrap_or_else(|broken| Err(at("write", directory)(io::Error::other(broken))))
    }

    fn remove(&self, path: &Path) -> Result<(), FileError> {
        unless_missing(fs::remove_file(path)).map(drop).map_err(at("delete", path))
    }

    fn names(&self, directory: &Path) -> Result<Vec<String>, FileError> {
        let Some(entries) = unless_missing(fs::read_dir(directory)).map_err(at("read", directory))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(at("read", directory))?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn make_directory(&self, directory: &Path) -> Result<(), FileError> {
        fs::create_dir_all(directory).map_err(at("create", directory))
    }

    fn modified(&self, directory: &Path) -> Option<SystemTime> {
        fs::metadata(directory).and_then(|metadata| metadata.modified()).ok()
    }

    fn touch(&self, directory: &Path) -> Result<(), FileError> {
        let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
        let times = Timestamps { last_access: now, last_modification: now };
        utimensat(CWD, directory, &times, AtFlags::empty()).map_err(io::Error::from).map_err(at("touch", directory))
    }

    fn look(&self, path: &Path) -> Entry {
        match fs::read_link(path) {
            Ok(target) => Entry::Link(target),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Entry::Missing,
            Err(_) if path.symlink_metadata().is_err() => Entry::Missing,
            Err(_) => Entry::Other,
        }
    }
}

/// A file that is written and lies beside the one that it is to replace.
struct New {
    file: fs::File,
    at: PathBuf,
    path: PathBuf,
}

impl New {
    fn put_in_place(&self) -> Result<(), FileError> {
        fs::rename(&self.at, &self.path).map_err(at("replace", &self.path))
    }

    /// What cannot be used takes no room: on a full disk half a file would take what is missing.
    fn give_up(&self) {
        let _ = fs::remove_file(&self.at);
    }
}

fn write_new(path: &Path, contents: &[u8]) -> Result<New, FileError> {
    // No unit's name ends in `.new`: what a crash leaves is not taken for a unit. A name may be as long as a file's can.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name:.200}.new"));
    let create = || fs::File::create(&new);
    let file = match create() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            fs::create_dir_all(directory).map_err(at("create", directory))?;
            create()
        }
        created => created,
    }
    .map_err(at("write", &new))?;
    let mut new = New { file, at: new, path: path.into() };
    let written = new.file.write_all(contents).map_err(at("write", &new.at));
    if written.is_err() {
        new.give_up();
    }
    written.map(|()| new)
}

fn replace_all_durably(directory: &Path, files: &[(String, Vec<u8>)]) -> Result<(), FileError> {
    let mut written: Vec<New> = Vec::new();
    let write = |written: &mut Vec<New>| {
        for (name, contents) in files {
            written.push(write_new(&directory.join(name), contents)?);
        }
        // All are written by now, so the first takes the others to the disk with it.
        written.iter().try_for_each(|new| new.file.sync_all().map_err(at("write", &new.at)))
    };
    let outcome = write(&mut written);
    if outcome.is_err() {
        written.iter().for_each(New::give_up);
    }
    outcome?;
    written.iter().try_for_each(New::put_in_place)?;
    // New names are durable once their directory is.
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(at("write", directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_are_replaced_whole_and_what_is_missing_is_no_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/file");
        assert_eq!(Real.read(&path).unwrap(), None);
        assert_eq!(Real.names(&directory.path().join("deep")).unwrap(), [""; 0]);
        Real.replace(&path, b"one").unwrap();
        Real.replace_durably(&path, b"two".into()).await.unwrap();
        assert_eq!(Real.read(&path).unwrap().unwrap(), b"two");
        assert_eq!(Real.names(path.parent().unwrap()).unwrap(), ["file"], "nothing else is left");
        let blocked = Real.replace(&path.join("below"), b"").unwrap_err();
        assert!(blocked.to_string().contains("below"), "{blocked}");
        assert_eq!(Real.look(&path), Entry::Other);
        Real.remove(&path).unwrap();
        Real.remove(&path).unwrap();
        assert_eq!(Real.look(&path), Entry::Missing);
    }

    #[tokio::test]
    async fn every_change_is_seen() {
        // As /run is: of such a directory kernels tell changes of one tick least apart.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        for number in 0..200 {
            let unit = directory.path().join(format!("{number}.service"));
            let before = Real.modified(directory.path());
            Real.replace(&unit, b"").unwrap();
            Real.remove(&unit).unwrap();
            show_change(&Real, directory.path(), before).await;
            assert_ne!(Real.modified(directory.path()), before, "change {number}");
        }
        let before = Real.modified(directory.path());
        show_change(&Real, directory.path(), before).await;
        assert_ne!(Real.modified(directory.path()), before, "as if there had been one that left the time the same");
    }
}
