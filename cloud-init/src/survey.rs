//! Looks at the host: only at what the document speaks of. Nothing is decided here.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use thiserror::Error;

use crate::{
    action::keys_file,
    document::Document,
    plan::question,
    present::{Account, Entry, Present, UnitState},
};

/// Where is remembered, until the next boot, which commands were carried out.
pub(crate) const DONE: &str = "/run/fleet-cloud-config/done";

/// Most bytes of a file that are compared; a larger one differs from anything that a document can hold.
const LARGEST: u64 = 32 << 20;

/// The host could not be looked at.
#[derive(Debug, Error)]
pub enum SurveyError {
    /// A file or directory.
    #[error("cannot look at {path}")]
    Path {
        /// It.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program.
    #[error("cannot run {program}")]
    Program {
        /// It.
        program: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Looks at the host for a document.
///
/// # Errors
/// When something that the document speaks of can be there and cannot be looked at.
pub fn survey(document: &Document) -> Result<Present, SurveyError> {
    let mut question = question(document);
    let mut present = Present { hostname: kernel_name(), done: done()?, ..Present::default() };
    let shadow = read("/etc/shadow")?;
    for name in &question.users {
        let Some(line) = getent("passwd", name)? else { continue };
        let Some(mut account) = account(&line) else { continue };
        account.password = password(&shadow, name);
        if document.users.iter().any(|user| user.name == *name && !user.keys.is_empty()) {
            question.paths.insert(keys_file(&account.home));
        }
        present.users.insert(name.clone(), account);
    }
    for name in &question.groups {
        let number = getent("group", name)?.and_then(|line| line.split(':').nth(2)?.parse().ok());
        present.groups.extend(number.map(|number| (name.clone(), number)));
    }
    for path in &question.paths {
        present.paths.extend(look(path)?.map(|entry| (path.clone(), entry)));
    }
    for unit in &question.units {
        present.units.insert(unit.clone(), state(unit)?);
    }
    Ok(present)
}

fn kernel_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What is at a path; a link on the last part of its way is seen as such.
fn look(path: &str) -> Result<Option<Entry>, SurveyError> {
    let at = |source| SurveyError::Path { path: path.into(), source };
    // The owner of a home directory could let root write elsewhere by a link.
    if let Some(directory) = Path::new(path).parent().filter(|directory| directory.ends_with(".ssh"))
        && let Ok(target) = fs::read_link(directory)
    {
        return Ok(Some(Entry::Link(target.to_string_lossy().into_owned())));
    }
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory].contains(&error.kind()) => {
            return Ok(None);
        }
        metadata => metadata.map_err(at)?,
    };
    let kind = metadata.file_type();
    Ok(Some(if kind.is_symlink() {
        Entry::Link(fs::read_link(path).map_err(at)?.to_string_lossy().into_owned())
    } else if kind.is_dir() {
        Entry::Directory
    } else if kind.is_file() {
        let content = if metadata.len() > LARGEST { vec![0; LARGEST as usize] } else { fs::read(path).map_err(at)? };
        Entry::File { content, mode: metadata.mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid() }
    } else {
        Entry::Other
    }))
}

fn read(path: &str) -> Result<String, SurveyError> {
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(source) => Err(SurveyError::Path { path: path.into(), source }),
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn done() -> Result<BTreeSet<String>, SurveyError> {
    Ok(read(DONE)?.lines().map(str::to_owned).collect())
}

/// An entry of the host's databases, wherever it keeps them; `None` when there is none.
fn getent(database: &str, key: &str) -> Result<Option<String>, SurveyError> {
    let output = run("getent", &["--", database, key])?;
    Ok(output.lines().next().map(str::to_owned))
}

fn state(unit: &str) -> Result<UnitState, SurveyError> {
    let text = run("systemctl", &["show", "--property=LoadState,ActiveState,UnitFileState", "--", unit])?;
    Ok(unit_state(&text))
}

fn run(program: &'static str, arguments: &[&str]) -> Result<String, SurveyError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().map_err(|source| SurveyError::Program { program, source })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unit_state(text: &str) -> UnitState {
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_default().to_owned()
    };
    UnitState { load: value("LoadState"), active: value("ActiveState"), file: value("UnitFileState") }
}

/// A line of `/etc/passwd`.
fn account(line: &str) -> Option<Account> {
    let mut fields = line.split(':').skip(2);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let home = fields.nth(1)?.to_owned();
    Some(Account { uid, gid, home, password: None })
}

/// The hash of a user in the text of `/etc/shadow`.
fn password(shadow: &str, user: &str) -> Option<String> {
    let line = shadow.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'))?;
    line.split(':').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_and_files_tell_is_read() {
        let root = account("core:x:1001:1002:Core,,,:/home/core:/bin/bash").unwrap();
        assert_eq!((root.uid, root.gid, &*root.home), (1001, 1002, "/home/core"));
        assert_eq!(account("core:x:"), None);
        let shadow = "root:*:1:::::\ncore:$6$x$y:19000:0:99999:7:::\ncorel:$6$z:1::::\n";
        assert_eq!(password(shadow, "core").as_deref(), Some("$6$x$y"));
        assert_eq!(password(shadow, "cor"), None);
        let state = unit_state("LoadState=loaded\nActiveState=active\nUnitFileState=enabled\n");
        assert_eq!((&*state.load, &*state.active, &*state.file), ("loaded", "active", "enabled"));
        assert_eq!(unit_state(""), UnitState::default());
    }

    #[test]
    fn paths_are_seen_as_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        fs::write(path("file"), "text").unwrap();
        std::os::unix::fs::symlink("/dev/null", path("link")).unwrap();
        std::os::unix::fs::symlink("/root/.ssh", path(".ssh")).unwrap();
        assert!(matches!(look(&path("file")), Ok(Some(Entry::File { content, .. })) if content == b"text"));
        assert!(matches!(look(&path("link")), Ok(Some(Entry::Link(target))) if target == "/dev/null"));
        assert!(matches!(look(&path(".ssh/authorized_keys")), Ok(Some(Entry::Link(_)))));
        assert!(matches!(look(&path("file/below")), Ok(None)));
        assert!(matches!(look(&path("")), Ok(Some(Entry::Directory))));
    }
}
