//! `fleetctl verify`: what is wrong with unit files, before they are submitted. Needs no cluster.

use std::{
    io,
    path::Path,
    process::{Command, Stdio},
};

use clap::Args;
use clap_complete::{ArgValueCompleter, PathCompleter, engine::ValueCompleter};
use fleet_client::os_message;
use fleet_core::unit::{
    UnitFile, UnitName,
    verify::{self, Finding, Rule, Severity},
};
use serde::Serialize;

use super::Outcome;
use crate::{
    error::{FAILED, USAGE},
    format::{self, FormatArgs},
    output,
    units::{self, Argument, Misnamed},
};

/// Say what is wrong with unit files, before they are submitted
///
/// Checks what the cluster would refuse, what bites units that run docker, and, where there is a systemd, what
/// `systemd-analyze verify` says. Needs no cluster. A file is named as for `submit`: `a@1` is read from `a@.service` if
/// it has no file of its own. Of several files, also says which would claim one name.
///
/// Exits with 0 when there is nothing worse than a warning, with 1 when there are errors; with --strict, also for
/// warnings.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl verify units/*.service
    fleetctl verify --strict -o json web@.service

RULES:
    unreadable          the file cannot be read
    name                the file's name is no name of a unit
    syntax              the file does not follow the syntax of unit files
    size                the cluster takes no file that is empty or larger than 64 kB
    x-fleet             options of [X-Fleet] contradict each other
    x-fleet-ignored     something in [X-Fleet] does not do what it seems to
    doubt               something else does not do what it seems to
    install             a name in [Install] that systemd refuses, or that another unit has
    stop-bound          OnPartition=stop wants a stop that ends
    no-command          a service has nothing to run
    systemd             systemd-analyze verify objects
    docker-detached     the client does not stay, so systemd takes the service for ended
    docker-tty          docker run wants a terminal, and a service has none
    docker-restart      docker starts the container again behind systemd's back
    docker-name         a container without --name cannot be stopped or removed by the unit
    docker-rm           a container without --rm stays behind when it ends
    docker-leftover     a container left by a crash is in the way of the next start
    docker-first-start  a clean-up that must succeed fails when there is nothing to clean up
    docker-stop         nothing stops the container when the client is killed
    docker-stop-name    the unit stops or removes another container than it runs
    docker-pull         pulling an image may take longer than a start may
    docker-limits       limits of the unit bind the docker client, not the container
    docker-order        the unit may start before docker does

JSON:
    An array of objects, one for each finding.
    file        string: as it was named
    line        number, from 1, or null: about the file as a whole
    rule        string: one of RULES
    severity    string: `error` or `warning`
    message     string: what is wrong
    mend        string: what to do about it")]
pub struct VerifyArgs {
    /// Unit files
    #[arg(value_name = "FILE", add = ArgValueCompleter::new(unit_files))]
    files: Vec<String>,
    /// Fail for warnings, too
    #[arg(long)]
    strict: bool,
    /// Leave out what systemd-analyze says, which depends on the version that is here
    #[arg(long)]
    no_systemd: bool,
    #[command(flatten)]
    format: FormatArgs,
}

/// A finding with every member in its place.
#[derive(Serialize)]
struct Plain<'a> {
    file: &'a str,
    line: Option<u32>,
    rule: &'static str,
    severity: &'static str,
    message: &'a str,
    mend: &'a str,
}

/// What was found in a file.
struct Verified {
    /// As it was named.
    file: String,
    findings: Vec<Finding>,
    /// The unit that it makes.
    unit: Option<(UnitFile, UnitName)>,
    /// The line of a syntax error, with a caret below.
    excerpt: Vec<String>,
}

/// Files that could be units.
fn unit_files(current: &std::ffi::OsStr) -> Vec<clap_complete::CompletionCandidate> {
    PathCompleter::any().filter(|path| path.is_file() && units::has_suffix(&path.to_string_lossy())).complete(current)
}

pub fn run(args: &VerifyArgs) -> Outcome {
    if args.files.is_empty() {
        output::note("error: no files given");
        output::note("hint: fleetctl verify units/*.service");
        return Ok(USAGE);
    }
    let mut systemd = !args.no_systemd;
    let mut verified: Vec<Verified> = args.files.iter().map(|text| Verified::of(text, &mut systemd)).collect();
    compare(&mut verified);
    let count = |severity| {
        let findings = verified.iter().flat_map(|verified| &verified.findings);
        findings.filter(|finding| finding.severity == severity).count()
    };
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    if args.format.is_json() {
        let plain: Vec<Plain<'_>> = verified.iter().flat_map(Verified::plain).collect();
        output::verbatim(&format::pretty(&plain))?;
    } else {
        for line in verified.iter().flat_map(Verified::lines) {
            output::result(&line)?;
        }
        let files = counted(verified.len(), "file");
        output::note(&match (errors, warnings) {
            (0, 0) => format!("nothing found in {files}"),
            _ => format!("{}, {} in {files}", counted(errors, "error"), counted(warnings, "warning")),
        });
        if !systemd && !args.no_systemd {
            output::note("systemd-analyze is not here: only fleet's own rules were checked");
        }
    }
    Ok(if errors > 0 || args.strict && warnings > 0 { FAILED } else { 0 })
}

impl Verified {
    /// Looks at a file. `systemd` tells whether systemd-analyze is to be asked, and then whether it is there.
    fn of(text: &str, systemd: &mut bool) -> Self {
        let argument = Argument::new(text);
        let file = |path: &Path| path.display().to_string();
        let mut verified = Self { file: file(&argument.path), findings: Vec::new(), unit: None, excerpt: Vec::new() };
        if let Some(Misnamed { message, mend }) = Misnamed::of_file(&argument) {
            verified.file = text.to_owned();
            return verified.failed(Rule::Name, 0, message, &mend);
        }
        let name = match UnitName::new(&argument.name) {
            Ok(name) => name,
            Err(error) => {
                let mend = "rename the file: letters, digits and :-_.\\@, then .service, .timer or another type";
                return verified.failed(Rule::Name, 0, error.to_string(), mend);
            }
        };
        let mut path = argument.path.clone();
        if let Some(template) = name.template().filter(|_| !path.exists()) {
            path = path.with_file_name(template.as_str());
        }
        let bytes = match units::read_unit(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                let mend = "name a file that can be read, of a unit or of its template";
                return verified.failed(Rule::Unreadable, 0, os_message(&error), mend);
            }
        };
        verified.file = file(&path);
        match UnitFile::parse_bytes(&bytes) {
            Ok(unit) => {
                verified.findings = verify::verify(&unit, &name);
                verified.unit = Some((unit, name.clone()));
            }
            Err(error) => {
                verified.excerpt = error.render(&verified.file).lines().skip(1).map(str::to_owned).collect();
                return verified.failed(Rule::Syntax, error.line, error.to_string(), error.kind.mend());
            }
        }
        if *systemd {
            match ask_systemd(&path) {
                Some((said, asked)) => {
                    let mut said = verify::read_systemd(&said, &asked, &name);
                    // What we have said of a section already, and with the name that was meant.
                    said.retain(|finding| {
                        let is_known = |known: &Finding| known.rule == Rule::Doubt && known.line == finding.line;
                        !(finding.message.contains("nknown section") && verified.findings.iter().any(is_known))
                    });
                    verified.findings.extend(said);
                }
                None => *systemd = false,
            }
        }
        verified
    }

    fn failed(mut self, rule: Rule, line: u32, message: String, mend: &str) -> Self {
        self.findings.push(Finding { rule, severity: Severity::Error, line, message, mend: mend.into() });
        self
    }

    fn plain(&self) -> impl Iterator<Item = Plain<'_>> {
        self.findings.iter().map(|finding| Plain {
            file: &self.file,
            line: Some(finding.line).filter(|line| *line > 0),
            rule: finding.rule.as_str(),
            severity: finding.severity.as_str(),
            message: &finding.message,
            mend: &finding.mend,
        })
    }

    /// As compilers write it, so that editors find the place.
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for finding in &self.findings {
            let Finding { rule, severity, line, message, mend } = finding;
            let place = if *line > 0 { format!("{}:{line}", self.file) } else { self.file.clone() };
            lines.push(format!("{place}: {}: {rule}: {message}", severity.as_str()));
            if *rule == Rule::Syntax {
                lines.extend(self.excerpt.iter().cloned());
            } else {
                lines.push(format!("    mend: {mend}"));
            }
        }
        lines
    }
}

/// Adds to each file what is wrong between it and the others.
fn compare(verified: &mut [Verified]) {
    let places = (0..verified.len()).filter(|place| verified[*place].unit.is_some());
    let places: Vec<usize> = places.collect();
    let units: Vec<_> = verified.iter().filter_map(|verified| verified.unit.as_ref()).collect();
    let units: Vec<_> = units.into_iter().map(|(file, name)| (file, name)).collect();
    for (place, finding) in verify::verify_together(&units) {
        verified[places[place]].findings.push(finding);
    }
}

/// What `systemd-analyze verify` says of a file, and by which path it calls it; `None` where there is none.
fn ask_systemd(path: &Path) -> Option<(String, String)> {
    let path = std::path::absolute(path).ok()?;
    let ask = |options: &[&str]| -> io::Result<String> {
        let mut command = Command::new("systemd-analyze");
        command.args(["verify", "--man=no"]).args(options).arg(&path);
        command.env("LC_ALL", "C").env("SYSTEMD_COLORS", "0").env_remove("SYSTEMD_LOG_LEVEL");
        // What it finds is on stderr, and its exit code says no more than that it found something.
        let output = command.stdin(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // Of other units it need not speak, but before systemd 250 it cannot be told so.
    let mut said = ask(&["--recursive-errors=no"]).ok()?;
    if said.contains("unrecognized option") {
        said = ask(&[]).ok()?;
    }
    Some((said, path.display().to_string()))
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use fleet_core::unit::verify::Rule;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        _verify: super::VerifyArgs,
    }

    #[test]
    fn the_help_names_every_rule() {
        let help = Program::command().get_after_help().map(ToString::to_string).unwrap_or_default();
        for (_, name, about) in Rule::ALL {
            assert!(help.contains(&format!("    {name:<18}  {about}\n")), "{name}\n{help}");
        }
    }
}
