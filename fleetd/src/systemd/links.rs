//! The links that make unit files known until the next boot.
//!
//! A link in systemd's runtime directory is all that `LinkUnitFiles` makes of a file, and all that `DisableUnitFiles`
//! takes away of a unit without `[Install]`. Made here it costs PID 1 nothing, where the calls cost it half a millisecond
//! a unit, in which nothing else is started. Whatever is not as simple as that is left to the calls.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::SystemTime,
};

use fleet_core::unit::UnitName;

use crate::filesystem::{Filesystem, Real};

/// What was done about links.
#[derive(Debug)]
pub(super) struct Made<'f> {
    /// When the directory was changed last before the last of the new links; `None` when there are none.
    pub before: Option<SystemTime>,
    /// The files that PID 1 is to be asked about: it says what is wrong with them.
    pub left: Vec<&'f PathBuf>,
}

/// Links unit files. When one is not there all are left, as PID 1 then links none.
pub(super) fn make<'f>(directory: &Path, files: &'f [PathBuf]) -> Made<'f> {
    if !files.iter().all(|file| file.is_file()) {
        return Made { before: None, left: files.iter().collect() };
    }
    let mut before = None;
    let mut is_linked = |file: &PathBuf| {
        let Some(name) = file.file_name() else { return false };
        let link = directory.join(name);
        let modified = Real.modified(directory);
        let made = symlink(file, &link).is_ok();
        if made {
            before = modified;
        }
        // One that is there already is as good.
        made || fs::read_link(&link).is_ok_and(|target| target == *file)
    };
    let left = files.iter().filter(|file| !is_linked(file)).collect();
    Made { before, left }
}

/// Takes the links of units away. Returns the units that there may be more of, or nothing.
pub(super) fn take_away<'u>(directory: &Path, units: &'u [UnitName]) -> Vec<&'u UnitName> {
    // Without knowing them all, any unit may have more.
    let Ok(tied) = tied(directory) else { return units.iter().collect() };
    let is_gone = |unit: &&UnitName| {
        let link = directory.join(unit.as_str());
        !tied.contains(std::ffi::OsStr::new(unit.as_str())) && link.is_symlink() && fs::remove_file(&link).is_ok()
    };
    units.iter().filter(|unit| !is_gone(unit)).collect()
}

/// The units that `[Install]` has put somewhere: under another name, or into the directory of another unit.
fn tied(directory: &Path) -> io::Result<BTreeSet<OsString>> {
    let mut tied = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_symlink() {
            tied.extend(other_name(&entry));
        } else if kind.is_dir() {
            for inside in fs::read_dir(entry.path())? {
                let inside = inside?;
                tied.extend(other_name(&inside));
                tied.insert(inside.file_name());
            }
        }
    }
    Ok(tied)
}

/// What a link leads to, when that has another name.
fn other_name(entry: &fs::DirEntry) -> Option<OsString> {
    let target = fs::read_link(entry.path()).ok()?;
    target.file_name().filter(|name| **name != entry.file_name()).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_simple_is_done_here() {
        let root = tempfile::tempdir().unwrap();
        let (runtime, files) = (root.path().join("system"), root.path().join("files"));
        fs::create_dir_all(runtime.join("multi-user.target.wants")).unwrap();
        fs::create_dir(&files).unwrap();
        let file = |name: &str| {
            fs::write(files.join(name), "").unwrap();
            files.join(name)
        };
        let plain = [file("a.service"), file("b.service")];
        let made = make(&runtime, &plain);
        assert!(made.before.is_some() && made.left.is_empty());
        let made = make(&runtime, &plain);
        assert!(made.before.is_none() && made.left.is_empty(), "again");
        assert_eq!(fs::read_link(runtime.join("a.service")).unwrap(), plain[0]);
        let missing = [file("c.service"), files.join("missing.service")];
        assert_eq!(make(&runtime, &missing).left, [&missing[0], &missing[1]]);
        fs::write(runtime.join("foreign.service"), "").unwrap();
        let foreign = [file("foreign.service"), file("d.service")];
        assert_eq!(make(&runtime, &foreign).left, [&foreign[0]]);

        symlink(&plain[1], runtime.join("multi-user.target.wants/b.service")).unwrap();
        symlink(files.join("d.service"), runtime.join("alias.service")).unwrap();
        let units = ["a.service", "b.service", "d.service", "foreign.service", "gone.service"];
        let units = units.map(|unit| UnitName::new(unit).unwrap());
        let left: Vec<&str> = take_away(&runtime, &units).into_iter().map(UnitName::as_str).collect();
        assert_eq!(left, ["b.service", "d.service", "foreign.service", "gone.service"]);
        assert!(!runtime.join("a.service").is_symlink() && runtime.join("b.service").is_symlink());
        assert_eq!(take_away(&root.path().join("nowhere"), &units[..1]), [&units[0]]);
    }
}
