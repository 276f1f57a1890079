//! Carries out actions, one after the other. Nothing is decided here: what fails is told, and the next one is done, so
//! that a wrong entry of a document does not keep anybody's keys from the host.

use std::{
    fs,
    io::{self, Write},
    os::unix::{
        self,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use thiserror::Error;

use crate::{
    action::{Action, keys_file},
    document::Owner,
    survey::DONE,
};

/// What became of an action.
pub type Applied = Result<(), ApplyError>;

/// Why an action could not be carried out.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    File {
        /// It.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no such user or group.
    #[error("this host has no {kind} {name}")]
    Nobody {
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Program {
        /// It.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A program did not do it.
    #[error("{command}: {said}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// What it said.
        said: String,
    },
}

/// Carries out an action. With `no_block`, commands are given to systemd and not waited for: at boot, units may wait for
/// what gives them.
///
/// # Errors
/// When it could not be carried out.
pub fn apply(action: &Action, no_block: bool) -> Applied {
    match action {
        Action::SetHostname(name) => rustix::system::sethostname(name.as_bytes())
            .map_err(|error| ApplyError::File { path: "/proc/sys/kernel/hostname".into(), source: error.into() }),
        Action::AddUser { name, options } => {
            let options: Vec<&str> = options.iter().map(String::as_str).chain(["--", name]).collect();
            run("useradd", &options, None)
        }
        // Not as an argument, which every process could read.
        Action::SetPassword { user, hash } => run("chpasswd", &["--encrypted"], Some(&format!("{user}:{hash}\n"))),
        Action::Authorize { user, home, content, .. } => authorize(user, home, content),
        Action::Write { path, content, mode, owner } => {
            let owner = numbers(owner)?;
            write(Path::new(path), content, *mode, owner).map_err(at(path))
        }
        Action::SetAttributes { path, mode, owner } => {
            let (uid, gid) = numbers(owner)?;
            unix::fs::lchown(path, Some(uid), Some(gid))
                .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(*mode)))
                .map_err(at(path))
        }
        Action::Mask { path } => mask(Path::new(path)).map_err(at(path)),
        Action::Unmask { path } => fs::remove_file(path).map_err(at(path)),
        Action::Reload => run("systemctl", &["daemon-reload"], None),
        Action::Enable { unit, runtime } => {
            let mut arguments = vec!["--quiet", "reenable"];
            arguments.extend(runtime.then_some("--runtime"));
            arguments.extend(["--", unit]);
            run("systemctl", &arguments, None)
        }
        Action::Command { unit, verb, mark } => {
            let mut arguments = vec![verb.as_str()];
            arguments.extend(no_block.then_some("--no-block"));
            arguments.extend(["--", unit]);
            run("systemctl", &arguments, None)?;
            remember(mark.as_slice())
        }
    }
}

fn at(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> ApplyError {
    move |source| ApplyError::File { path: path.as_ref().into(), source }
}

/// The keys are written into a directory of the user's own, which others must not be able to change: sshd asks for that.
fn authorize(user: &str, home: &str, content: &str) -> Applied {
    let (uid, gid) = entry("passwd", "user", user).map(|fields| (number(&fields, 2), number(&fields, 3)))?;
    let file = keys_file(home);
    let path = Path::new(&file);
    let prepare = || {
        let directory = path.parent().unwrap_or(Path::new("/"));
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            // By a link the owner of the home directory would have root write elsewhere.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !fs::symlink_metadata(directory)?.is_dir() {
                    return Err(io::Error::other(format!("{} is not a directory", directory.display())));
                }
            }
            made => {
                made?;
                unix::fs::lchown(directory, Some(uid), Some(gid))?;
            }
        }
        write(path, content.as_bytes(), 0o600, (uid, gid))
    };
    prepare().map_err(at(path))
}

/// Numbers of a user and a group.
fn numbers(owner: &Owner) -> Result<(u32, u32), ApplyError> {
    let number_of = |name: &str, database: &str, kind| match name.parse() {
        Ok(number) => Ok(number),
        Err(_) => entry(database, kind, name).map(|fields| number(&fields, 2)),
    };
    Ok((number_of(&owner.user, "passwd", "user")?, number_of(&owner.group, "group", "group")?))
}

fn entry(database: &str, kind: &'static str, name: &str) -> Result<Vec<String>, ApplyError> {
    let mut command = Command::new("getent");
    let output = command.args(["--", database, name]).stdin(Stdio::null()).output();
    let output = output.map_err(|source| ApplyError::Program { program: "getent".into(), source })?;
    let line = String::from_utf8_lossy(&output.stdout).lines().next().map(str::to_owned);
    let nobody = || ApplyError::Nobody { kind, name: name.into() };
    let fields: Vec<String> = line.ok_or_else(nobody)?.split(':').map(str::to_owned).collect();
    if fields.get(2).is_none_or(|number| number.parse::<u32>().is_err()) { Err(nobody()) } else { Ok(fields) }
}

/// A number of an entry, which [`entry`] has seen to be there; the last of all where it is not.
fn number(fields: &[String], index: usize) -> u32 {
    fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(65_534)
}

/// Replaces a file whole, or makes it: contents, permissions and owner change at one moment.
fn write(path: &Path, content: &[u8], mode: u32, (uid, gid): (u32, u32)) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name:.200}.new"));
    // Left by a run that was killed, or put there by somebody else.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let put = || {
        let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(content)?;
        unix::fs::fchown(&file, Some(uid), Some(gid))?;
        // After the owner: a change of that takes the bits away by which a program runs as its owner.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    put().inspect_err(|_| {
        // On a full disk half a file would take the room that is missing.
        let _ = fs::remove_file(&new);
    })
}

fn mask(path: &Path) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    unix::fs::symlink("/dev/null", path)
}

/// Remembers commands until the next boot.
///
/// # Errors
/// When that cannot be written.
pub fn remember(marks: &[String]) -> Applied {
    let write = || {
        if let Some(directory) = Path::new(DONE).parent() {
            fs::create_dir_all(directory)?;
        }
        let mut file = fs::File::options().create(true).append(true).open(DONE)?;
        marks.iter().try_for_each(|mark| writeln!(file, "{mark}"))
    };
    if marks.is_empty() { Ok(()) } else { write().map_err(at(DONE)) }
}

fn run(program: &str, arguments: &[&str], input: Option<&str>) -> Applied {
    let failed = |source| ApplyError::Program { program: program.into(), source };
    let mut command = Command::new(program);
    command.args(arguments).stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // A program that ends early says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let said = if said.is_empty() { output.status.to_string() } else { said.join(" ") };
    Err(ApplyError::Failed { command: [&[program], arguments].concat().join(" "), said })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> (u32, u32) {
        (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw())
    }

    #[test]
    fn files_are_replaced_whole_with_their_permissions() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/er/file");
        write(&path, b"one", 0o600, own()).unwrap();
        std::os::unix::fs::symlink("/nowhere", path.with_file_name(".file.new")).unwrap();
        write(&path, b"two", 0o4755, own()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o4755);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        assert!(write(&path.join("below"), b"", 0o644, own()).is_err());
    }

    #[test]
    fn a_link_is_replaced_and_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        write(&link, b"new", 0o644, own()).unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"kept");
        assert_eq!(fs::read(&link).unwrap(), b"new");
        mask(&link).unwrap();
        mask(&link).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), Path::new("/dev/null"));
    }

    #[test]
    fn a_program_that_fails_is_told_with_its_words() {
        let error = run("sh", &["-c", "echo no >&2; echo way >&2; exit 3"], None).unwrap_err();
        assert_eq!(error.to_string(), "sh -c echo no >&2; echo way >&2; exit 3: no way");
        assert!(run("cat", &[], Some("x")).is_ok());
        assert!(run("/nowhere/at/all", &[], None).is_err());
    }

    #[test]
    fn names_become_numbers_and_strangers_are_named() {
        let owner = |user: &str, group: &str| Owner { user: user.into(), group: group.into() };
        assert_eq!(numbers(&Owner::root()).unwrap(), (0, 0));
        assert_eq!(numbers(&owner("12", "34")).unwrap(), (12, 34));
        let error = numbers(&owner("nobody-has-that", "root")).unwrap_err();
        assert_eq!(error.to_string(), "this host has no user nobody-has-that");
    }
}
