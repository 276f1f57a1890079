//! From arguments to units: names, files, templates, and what is to be done about each.

mod misnamed;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read},
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
};

use fleet_api::Unit;
use fleet_client::os_message;
use fleet_core::unit::{
    ParseError, Requirements, RequirementsError, UnitFile, UnitName, UnitOption, doubts, verify::MAX_FILE,
};

use crate::{error::Failure, output};
pub use misnamed::Misnamed;

/// Suffixes that an argument may have. To any other, `.service` is appended.
const SUFFIXES: [&str; 7] = ["service", "socket", "timer", "path", "device", "mount", "automount"];

/// A unit as the user names it: by name, or by the path of its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The unit's name.
    pub name: String,
    /// Where its file would be.
    pub path: PathBuf,
    /// As it was given.
    pub text: String,
}

/// Contents for a unit, and where they come from.
#[derive(Clone, Debug)]
pub struct Source {
    /// The contents.
    pub file: UnitFile,
    /// Whether this is the file of the unit's template.
    pub of_template: bool,
    /// What people know it as: its path, or its name in the cluster.
    pub place: String,
}

impl Argument {
    /// Reads `hello`, `hello.service` or `units/hello.service`.
    pub fn new(given: &str) -> Self {
        let text = given.trim_end_matches('/');
        let path = if has_suffix(text) { text.to_owned() } else { format!("{text}.service") };
        let name = path.rsplit_once('/').map_or(&*path, |(_, name)| name).to_owned();
        Self { name, path: path.into(), text: given.into() }
    }

    /// All arguments, each unit once.
    pub fn all(texts: &[String]) -> Vec<Self> {
        let mut arguments: Vec<Self> = Vec::new();
        for argument in texts.iter().map(|text| Self::new(text)) {
            if arguments.iter().all(|known| known.name != argument.name) {
                arguments.push(argument);
            }
        }
        arguments
    }

    /// The names of all arguments, each once.
    pub fn names(texts: &[String]) -> Vec<String> {
        Self::all(texts).into_iter().map(|argument| argument.name).collect()
    }

    /// The name, checked.
    ///
    /// # Errors
    /// The rule that the name breaks, as CoreOS fleet says it.
    pub fn unit_name(&self) -> Result<UnitName, Failure> {
        UnitName::new(&self.name).map_err(|error| creating(&error.to_string()))
    }

    /// The file at the given path, or else, for an instance, the file of its template beside it.
    ///
    /// # Errors
    /// A file is there but cannot be read.
    pub fn local(&self) -> Result<Option<Source>, Failure> {
        if let Some(file) =
            self.read(&self.path, |message| format!("failed getting Unit({}) from file: {message}", self.name))?
        {
            let place = self.path.display().to_string();
            return Ok(Some(Source { file, of_template: false, place }));
        }
        self.local_template()
    }

    /// The file of the template beside the given path; `None` when there is none, or this is no instance.
    ///
    /// # Errors
    /// It is there but cannot be read.
    pub fn local_template(&self) -> Result<Option<Source>, Failure> {
        let Some(template) = UnitName::new(&self.name).ok().and_then(|name| name.template()) else { return Ok(None) };
        let path = self.path.with_file_name(template.as_str());
        let file = self.read(&path, |message| {
            format!(
                "failed getting Unit({}) from template: unable to load template Unit({template}) from file: {message}",
                self.name
            )
        })?;
        Ok(file.map(|file| Source { file, of_template: true, place: path.display().to_string() }))
    }

    /// No file, no template, nothing in the cluster.
    pub fn not_found(&self) -> Failure {
        if let Some(Misnamed { message, mend }) = Misnamed::of(self) {
            return creating(&message).hint(mend);
        }
        let name = &self.name;
        match UnitName::new(name).ok().and_then(|name| name.template()) {
            None => creating(&format!("unable to find Unit({name}) in Registry or on filesystem")),
            Some(template) => creating(&format!(
                "failed getting Unit({name}) from template: \
                 unable to find template Unit({template}) in Registry or on filesystem"
            )),
        }
    }

    fn read(&self, path: &Path, about: impl Fn(&str) -> String) -> Result<Option<UnitFile>, Failure> {
        match read_unit(path) {
            Ok(bytes) => UnitFile::parse_bytes(&bytes).map(Some).map_err(|error| {
                let failure = creating(&about(&error.to_string()));
                error.render(&path.display().to_string()).lines().fold(failure, Failure::line)
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(creating(&about(&format!("{}: {}", path.display(), os_message(&error))))),
        }
    }
}

/// Reads a file that is no larger than the cluster takes; a device or a pipe may never end.
///
/// # Errors
/// It is none, cannot be read, or is larger.
pub fn read_unit(path: &Path) -> io::Result<Vec<u8>> {
    if let Some(kind) = special(&fs::metadata(path)?) {
        return Err(io::Error::other(format!("it is {kind}, not a regular file")));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FILE {
        return Err(io::Error::other(format!(
            "larger than {MAX_FILE} bytes, which is the most that the cluster takes"
        )));
    }
    Ok(bytes)
}

/// What something is that has a place among files and is none.
fn special(found: &fs::Metadata) -> Option<&'static str> {
    let kind = found.file_type();
    if kind.is_file() {
        None
    } else if kind.is_dir() {
        Some("a directory")
    } else if kind.is_fifo() {
        Some("a pipe")
    } else if kind.is_socket() {
        Some("a socket")
    } else {
        Some("a device")
    }
}

/// Whether a name or path ends as those of units do.
pub fn has_suffix(text: &str) -> bool {
    text.rsplit_once('.').is_some_and(|(_, suffix)| SUFFIXES.contains(&suffix))
}

/// Whether what is about to be created is global.
///
/// # Errors
/// Requirements that contradict each other, and what no host could carry out.
pub fn check_requirements(source: &Source, name: &UnitName) -> Result<bool, Failure> {
    let read = Requirements::read_new(&source.file, name);
    read.map(|(requirements, _)| requirements.global).map_err(|error| {
        let failure = creating(&error.to_string());
        match error {
            RequirementsError::Install(error) => {
                failure.hint(format!("{}:{}: {}", source.place, error.line, error.mend()))
            }
            _ => failure,
        }
    })
}

/// What is said of files that can hardly mean what they say: once of each line, however many instances it has.
#[derive(Debug, Default)]
pub struct Doubts(BTreeSet<(String, u32, String)>);

impl Doubts {
    /// Says on stderr what is to be doubted of the contents of the unit `name`.
    pub fn tell(&mut self, source: &Source, name: &UnitName) {
        for doubt in doubts(&source.file, name) {
            let place = if doubt.line > 0 { format!("{}:{}", source.place, doubt.line) } else { source.place.clone() };
            let hint = doubt.hint.unwrap_or_default();
            // Of a template, what the instances have in common: the mend.
            if self.0.insert((source.place.clone(), doubt.line, hint.clone())) {
                output::note(&format!("warning: {place}: {}", doubt.message));
                if !hint.is_empty() {
                    output::note(&format!("hint: {hint}"));
                }
            }
        }
    }
}

/// Whether a unit of the cluster runs on every machine that fits.
pub fn is_global(unit: &Unit) -> bool {
    let name = UnitName::new(&unit.name).ok();
    let file = file_of(unit).ok();
    name.zip(file).and_then(|(name, file)| Requirements::read(&file, &name).ok()).is_some_and(|(read, _)| read.global)
}

/// The contents of a unit of the cluster.
///
/// # Errors
/// They cannot be written as a file. A client of the API, rather than fleetctl, made them.
pub fn file_of(unit: &Unit) -> Result<UnitFile, ParseError> {
    let options: Vec<UnitOption> = unit.options.iter().cloned().map(Into::into).collect();
    UnitFile::from_options(&options)
}

/// Whether a unit of the cluster has other contents than `file`.
pub fn differs(unit: &Unit, file: &UnitFile) -> bool {
    file_of(unit).map_or(true, |known| known.hash() != file.hash())
}

/// A failure to create a unit.
pub fn creating(message: &str) -> Failure {
    Failure::said(format!("Error creating units: {message}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_names_and_paths() {
        for (text, name, path) in [
            ("hello", "hello.service", "hello.service"),
            ("hello.service", "hello.service", "hello.service"),
            ("units/hello", "hello.service", "units/hello.service"),
            ("/a/web@1.timer", "web@1.timer", "/a/web@1.timer"),
            ("x.target", "x.target.service", "x.target.service"),
            ("web@1.2", "web@1.2.service", "web@1.2.service"),
        ] {
            let expected = Argument { name: name.into(), path: path.into(), text: text.into() };
            assert_eq!(Argument::new(text), expected);
        }
        assert_eq!(Argument::names(&["a".into(), "b".into(), "x/a.service".into()]), ["a.service", "b.service"]);
    }

    #[test]
    fn the_file_of_an_instance_is_its_own_or_else_its_templates() {
        let directory = tempfile::tempdir().unwrap();
        let argument = Argument::new(directory.path().join("web@1").to_str().unwrap());
        assert!(argument.local().unwrap().is_none());
        assert_eq!(
            argument.not_found().lines(),
            ["Error creating units: failed getting Unit(web@1.service) from template: \
              unable to find template Unit(web@.service) in Registry or on filesystem"]
        );
        fs::write(directory.path().join("web@.service"), "[Unit]\nDescription=template\n").unwrap();
        assert!(argument.local().unwrap().unwrap().of_template);
        fs::write(directory.path().join("web@1.service"), "[Unit]\nDescription=own\n").unwrap();
        assert!(!argument.local().unwrap().unwrap().of_template);
    }

    #[test]
    fn a_broken_file_is_shown_with_its_line_below_the_known_message() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("e1.service"), "[Unit\n").unwrap();
        let argument = Argument::new(directory.path().join("e1").to_str().unwrap());
        let failure = argument.local().unwrap_err();
        assert_eq!(
            failure.lines()[0],
            "Error creating units: failed getting Unit(e1.service) from file: unable to find end of section"
        );
        assert!(failure.lines()[1].ends_with("e1.service:1: unable to find end of section"), "{failure:?}");
        assert!(failure.lines().last().unwrap().contains("^^^^^"));
    }
}
