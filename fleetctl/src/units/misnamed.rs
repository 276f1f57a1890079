//! What an argument is that was meant as a unit file and cannot be one by its name: `web.service.in`, a directory, `-`.

use std::{fs, path::Path};

use fleet_core::unit::UnitName;

use super::{Argument, SUFFIXES, special};

/// Why an argument is no unit file, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misnamed {
    /// What is wrong, beginning with the argument.
    pub message: String,
    /// The next step.
    pub mend: String,
}

impl Misnamed {
    /// Looks at what is at the place that the argument names as it stands, rather than as fleetctl completes it.
    pub fn of(argument: &Argument) -> Option<Self> {
        // Without a path it may well be a unit that is meant, and the directory no more than beside it.
        Self::of_file(argument).filter(|_| argument.text.contains('/') || !Path::new(&argument.text).is_dir())
    }

    /// The same where nothing but a file can be meant.
    pub fn of_file(argument: &Argument) -> Option<Self> {
        let text = &*argument.text;
        let misnamed = |message: String, mend: String| Some(Self { message, mend });
        match text {
            "" => return misnamed("an argument is empty".into(), "name a unit, or its file".into()),
            "-" => {
                let message = "- stands for no file: a unit is called as its file is, and standard input has no name";
                return misnamed(message.into(), "write it to a file first, such as hello.service".into());
            }
            _ => {}
        }
        let path = Path::new(text);
        let Ok(found) = fs::metadata(path) else { return dangling(path) };
        match special(&found) {
            Some("a directory") => misnamed(
                format!("{text} is a directory, not a unit file"),
                format!("name the files in it: {}/*.service", text.trim_end_matches('/')),
            ),
            Some(kind) => misnamed(
                format!("{text} is {kind}, not a unit file: a unit is called as its file is"),
                "write it to a file first, such as hello.service".into(),
            ),
            None if path == argument.path => None,
            None => misnamed(
                format!("{text} is not named like a unit file, so it would make a unit {}", argument.name),
                mend(path),
            ),
        }
    }
}

/// How to name a file so that it is taken for a unit.
fn mend(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    if UnitName::new(&name).is_ok() {
        return "fleetctl makes no units of this type: PUT it to the HTTP API, /fleet/v1/units/NAME".into();
    }
    let ends = SUFFIXES.iter().filter_map(|suffix| Some(name.find(&format!(".{suffix}"))? + suffix.len() + 1));
    match ends.min() {
        None => "rename it: unit files end in .service, .socket, .timer, .path, .device, .mount or .automount".into(),
        Some(end) => {
            let meant = path.with_file_name(&name[..end]);
            let verb = if meant.is_file() { "did you mean" } else { "rename it, or copy it to" };
            let mark = if meant.is_file() { "?" } else { "" };
            format!("{verb} {}{mark}", meant.display())
        }
    }
}

fn dangling(path: &Path) -> Option<Misnamed> {
    let target = fs::read_link(path).ok()?;
    Some(Misnamed {
        message: format!("{} is a link to {}, which is not there", path.display(), target.display()),
        mend: "name a file that can be read".into(),
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, process::Command};

    use super::*;

    #[test]
    fn what_was_meant_as_a_file_and_is_none_is_told_with_its_mend() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        for name in ["web.service", "web.service~", "api.service.in", "a.target", "run.sh"] {
            fs::write(at(name), "[Unit]\nDescription=a\n").unwrap();
        }
        fs::create_dir(at("units")).unwrap();
        symlink("/nowhere", at("gone.service")).unwrap();
        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let said = |text: &str| Misnamed::of(&Argument::new(text)).map(|misnamed| (misnamed.message, misnamed.mend));
        let suffixes = "rename it: unit files end in .service, .socket, .timer, .path, .device, .mount or .automount";
        for (name, message, mend) in [
            (
                "web.service~",
                "is not named like a unit file, so it would make a unit web.service~.service",
                format!("did you mean {}?", at("web.service")),
            ),
            (
                "api.service.in",
                "is not named like a unit file, so it would make a unit api.service.in.service",
                format!("rename it, or copy it to {}", at("api.service")),
            ),
            (
                "a.target",
                "is not named like a unit file, so it would make a unit a.target.service",
                "fleetctl makes no units of this type: PUT it to the HTTP API, /fleet/v1/units/NAME".to_owned(),
            ),
            ("run.sh", "is not named like a unit file, so it would make a unit run.sh.service", suffixes.to_owned()),
            ("units/", "is a directory, not a unit file", format!("name the files in it: {}/*.service", at("units"))),
            (
                "pipe",
                "is a pipe, not a unit file: a unit is called as its file is",
                "write it to a file first, such as hello.service".to_owned(),
            ),
            ("gone.service", "is a link to /nowhere, which is not there", "name a file that can be read".to_owned()),
        ] {
            let text = at(name);
            assert_eq!(said(&text), Some((format!("{text} {message}"), mend)), "{name}");
        }
        for text in ["-", "", "/dev/null"] {
            assert!(said(text).is_some(), "{text:?}");
        }
        for text in [&*at("web.service"), &at("web"), &at("nosuch"), "web@1"] {
            assert_eq!(said(text), None, "{text}");
        }
    }
}
