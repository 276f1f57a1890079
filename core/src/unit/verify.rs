//! What is wrong with a unit file before anybody has submitted it: what the cluster would refuse, and what it would
//! take and the unit would suffer from.
//!
//! [`verify`] is what `fleetctl verify` says of a file by itself; [`systemd::read`] makes findings of what
//! `systemd-analyze verify` says of it. Nothing here looks at the machine.

mod docker;
mod exec;
mod systemd;

use std::fmt;

use super::{Requirements, RequirementsError, UnitFile, UnitName, UnitOption, UnitType, aliases, doubts};

pub use systemd::read as read_systemd;

/// Largest unit file that the cluster takes, in bytes of its canonical text.
pub const MAX_FILE: usize = 64 << 10;

/// Something that is wrong with a unit file, or will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was broken.
    pub rule: Rule,
    /// Whether the unit cannot work.
    pub severity: Severity,
    /// The line of the file, from 1; 0 when it is about the file as a whole.
    pub line: u32,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The unit works, until something happens.
    Warning,
    /// The cluster refuses the unit, or the unit does not do what it is for.
    Error,
}

macro_rules! rules {
    ($($variant:ident $name:literal $about:literal),* $(,)?) => {
        /// The rules. Their names are part of what `fleetctl verify` prints, and stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $(
                #[doc = concat!("`", $name, "`: ", $about)]
                $variant,
            )*
        }

        impl Rule {
            /// All of them, each with its name and what it is about.
            pub const ALL: &[(Self, &'static str, &'static str)] = &[$((Self::$variant, $name, $about),)*];

            /// Its name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

rules! {
    Unreadable "unreadable" "the file cannot be read",
    Name "name" "the file's name is no name of a unit",
    Syntax "syntax" "the file does not follow the syntax of unit files",
    Size "size" "the cluster takes no file that is empty or larger than 64 kB",
    XFleet "x-fleet" "options of [X-Fleet] contradict each other",
    XFleetIgnored "x-fleet-ignored" "something in [X-Fleet] does not do what it seems to",
    Doubt "doubt" "something else does not do what it seems to",
    Install "install" "a name in [Install] that systemd refuses, or that another unit has",
    StopBound "stop-bound" "OnPartition=stop wants a stop that ends",
    NoCommand "no-command" "a service has nothing to run",
    Systemd "systemd" "systemd-analyze verify objects",
    DockerDetached "docker-detached" "the client does not stay, so systemd takes the service for ended",
    DockerTty "docker-tty" "docker run wants a terminal, and a service has none",
    DockerRestart "docker-restart" "docker starts the container again behind systemd's back",
    DockerName "docker-name" "a container without --name cannot be stopped or removed by the unit",
    DockerRm "docker-rm" "a container without --rm stays behind when it ends",
    DockerLeftover "docker-leftover" "a container left by a crash is in the way of the next start",
    DockerFirstStart "docker-first-start" "a clean-up that must succeed fails when there is nothing to clean up",
    DockerStop "docker-stop" "nothing stops the container when the client is killed",
    DockerStopName "docker-stop-name" "the unit stops or removes another container than it runs",
    DockerPull "docker-pull" "pulling an image may take longer than a start may",
    DockerLimits "docker-limits" "limits of the unit bind the docker client, not the container",
    DockerOrder "docker-order" "the unit may start before docker does",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Severity {
    /// `error` or `warning`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Finding {
    pub(super) fn error(rule: Rule, line: u32, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { rule, severity: Severity::Error, line, message: message.into(), mend: mend.into() }
    }

    pub(super) fn warning(rule: Rule, line: u32, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(rule, line, message, mend) }
    }
}

/// Everything that is wrong with `file` as the contents of the unit `name`, in the order of its lines.
#[must_use]
pub fn verify(file: &UnitFile, name: &UnitName) -> Vec<Finding> {
    let mut findings = Vec::new();
    size(file, &mut findings);
    requirements(file, name, &mut findings);
    if name.kind() == UnitType::Service {
        no_command(file, &mut findings);
        docker::check(file, name, &mut findings);
    }
    findings.sort_by_key(|finding| (finding.line, finding.rule));
    findings
}

/// What is wrong between files that are verified together: names that two units would have on a machine that has both.
/// Each finding comes with the place of its file in `files`.
#[must_use]
pub fn verify_together(files: &[(&UnitFile, &UnitName)]) -> Vec<(usize, Finding)> {
    let mut findings = Vec::new();
    let names = files.iter().map(|(file, name)| aliases(file, name));
    let units: Vec<Named<'_>> =
        files.iter().zip(names).map(|((file, name), aliases)| Named { file, name, aliases }).collect();
    for (place, unit) in units.iter().enumerate() {
        for alias in &unit.aliases {
            let whose = |other: &Named<'_>| {
                if other.name == alias {
                    Some("another unit's name".to_owned())
                } else {
                    other.aliases.contains(alias).then(|| format!("an alias of {}", other.name))
                }
            };
            let mut others = units.iter().filter(|other| other.name != unit.name && !unit.keeps_off(other));
            let Some(whose) = others.find_map(whose) else { continue };
            let line = super::install::line_of(unit.file, unit.name, alias);
            let message = format!("the alias {alias} is also {whose}: a machine that has both gives it to one of them");
            let mend = "take another alias, or keep the units apart with Conflicts=";
            findings.push((place, Finding::warning(Rule::Install, line, message, mend)));
        }
    }
    findings
}

/// A unit with the other names that it asks for.
struct Named<'f> {
    file: &'f UnitFile,
    name: &'f UnitName,
    aliases: Vec<UnitName>,
}

impl Named<'_> {
    /// Whether the two are never on one machine.
    fn keeps_off(&self, other: &Self) -> bool {
        let declares = |one: &Self, other: &Self| {
            let conflicts = Requirements::read(one.file, one.name).map(|(read, _)| read.conflicts).unwrap_or_default();
            conflicts.iter().any(|pattern| pattern.matches(other.name.as_str()))
        };
        declares(self, other) || declares(other, self)
    }
}

fn size(file: &UnitFile, findings: &mut Vec<Finding>) {
    let length = file.canonical().len();
    if file.options().is_empty() {
        findings.push(Finding::error(Rule::Size, 0, "there are no options in this file", "write a unit into it"));
    } else if length > MAX_FILE {
        let message = format!("the file has {length} bytes, at most {MAX_FILE} are taken");
        findings.push(Finding::error(Rule::Size, 0, message, "put scripts and data into an image, or on the hosts"));
    }
}

fn requirements(file: &UnitFile, name: &UnitName, findings: &mut Vec<Finding>) {
    let line_of = |names: &[&str]| {
        let mut options = file.options().iter().filter(|option| option.section == super::X_FLEET);
        options.find(|option| names.iter().any(|name| option.name.ends_with(name))).map_or(0, |option| option.line)
    };
    findings.extend(doubts(file, name).into_iter().map(|warning| {
        let mend = warning.hint.unwrap_or_else(|| "correct the line, or remove it".into());
        let in_x_fleet = |option: &UnitOption| option.line == warning.line && option.section == super::X_FLEET;
        let rule = if file.options().iter().any(in_x_fleet) { Rule::XFleetIgnored } else { Rule::Doubt };
        Finding::warning(rule, warning.line, warning.message, mend)
    }));
    match Requirements::read_new(file, name) {
        Ok(_) => {}
        Err(error) => {
            let (rule, line, mend) = match &error {
                RequirementsError::Install(error) => (Rule::Install, error.line, error.mend()),
                RequirementsError::Unbounded(_) => {
                    (Rule::StopBound, line_of(&["OnPartition"]), "or leave out OnPartition=stop".to_owned())
                }
                RequirementsError::Exclusive(one, other) => {
                    // `Peers` is how CoreOS fleet's message calls `MachineOf`.
                    let [one, other] = [one, other].map(|name| if *name == "Peers" { "MachineOf" } else { *name });
                    let line = line_of(&[one]).max(line_of(&[other]));
                    (Rule::XFleet, line, format!("keep {one}= or {other}=, not both"))
                }
                RequirementsError::Unresolvable { peer, glob, .. } => {
                    let mend = format!("take {peer} out of MachineOf=, or narrow the pattern {glob}");
                    (Rule::XFleet, line_of(&["MachineOf"]), mend)
                }
            };
            findings.push(Finding::error(rule, line, error.to_string(), mend));
        }
    }
}

fn no_command(file: &UnitFile, findings: &mut Vec<Finding>) {
    let has = |name: &str| !file.values("Service", name).is_empty();
    if !file.options().is_empty() && !["ExecStart", "ExecStop", "SuccessAction"].into_iter().any(has) {
        let line = file.options().iter().find(|option| option.section == "Service").map_or(0, |option| option.line);
        let mend = "say in [Service] what to run: ExecStart=/usr/bin/program";
        findings.push(Finding::error(Rule::NoCommand, line, "the service has no ExecStart=", mend));
    }
}

#[cfg(test)]
mod tests;
