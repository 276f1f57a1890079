//! What `systemd-analyze verify` says, as findings.
//!
//! It loads the unit as systemd would, on this machine, and so also speaks of this machine: of programs and units that
//! are not here, but may well be where the unit will run. That is left out, and so is what it says of other units.

use super::{Finding, Rule};
use crate::unit::UnitName;

/// What is true of this machine only, or said twice.
const LOCAL: [&str; 7] = [
    "is not executable",
    "not found.",
    "No such file or directory",
    "Failed to create",
    "Failed to connect",
    "Failed to initialize",
    "has a bad unit file setting",
];

/// Messages of our own rules: said by those also where there is no systemd.
const OURS: [&str; 3] =
    ["has no ExecStart=, ExecStop=", "lacks both ExecStart= and ExecStop=", "Assignment outside of section"];

/// Reads what was said about the file `path`, which holds the unit `name`.
#[must_use]
pub fn read(said: &str, path: &str, name: &UnitName) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for message in said.lines() {
        let Some((line, message)) = about(message.trim(), path, name) else { continue };
        if LOCAL.iter().chain(&OURS).any(|known| message.contains(known)) {
            continue;
        }
        // What systemd passes over, it says so of. Anything else keeps the unit from being loaded.
        let passed_over = message.to_lowercase().contains("ignoring");
        let mend =
            if passed_over { "correct the line, or remove it" } else { "correct it: systemd will not load the unit" };
        let make = if passed_over { Finding::warning } else { Finding::error };
        let finding = make(Rule::Systemd, line, message, mend);
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }
    let found = findings.iter().any(|finding| finding.line > 0 && finding.severity == super::Severity::Error);
    // What follows from an error that has a line.
    findings.retain(|finding| !(found && finding.message.contains("has fatal error")));
    findings
}

/// The line and the words of a message about this unit: `PATH:LINE: WORDS` or `NAME: WORDS`.
fn about<'m>(message: &'m str, path: &str, name: &UnitName) -> Option<(u32, &'m str)> {
    if let Some(rest) = message.strip_prefix(path).and_then(|rest| rest.strip_prefix(':')) {
        let (number, words) = rest.split_once(':')?;
        return Some((number.trim().parse().ok()?, words.trim()));
    }
    let (who, words) = message.split_once(": ")?;
    let of_template = who.strip_prefix(name.prefix()).is_some_and(|rest| rest.starts_with('@'));
    (who == name.as_str() || name.stem().contains('@') && of_template).then_some((0, words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::verify::Severity;

    fn found(name: &str, said: &str) -> Vec<(u32, Severity, String)> {
        let findings = read(said, &format!("/tmp/{name}"), &UnitName::new(name).unwrap());
        findings.into_iter().map(|finding| (finding.line, finding.severity, finding.message)).collect()
    }

    #[test]
    fn words_about_the_file_become_findings_and_words_about_the_machine_do_not() {
        let said = "\
/tmp/a.service:5: Unknown key 'Foo' in section [Unit], ignoring.
/tmp/a.service:1: Assignment outside of section. Ignoring.
/tmp/a.service:6: Unknown section 'Foo'. Ignoring.
/tmp/a.service:8: Neither a valid executable name nor an absolute path: relative/path
/usr/lib/systemd/system/other.service:3: Unknown key name 'Bar' in section 'Service', ignoring.
a.service: Command /usr/bin/docker is not executable: No such file or directory
a.service: Unit configuration has fatal error, unit will not be started.
Unit a.service has a bad unit file setting.
Failed to create a.service/start: Unit docker.service not found.
";
        assert_eq!(
            found("a.service", said),
            [
                (5, Severity::Warning, "Unknown key 'Foo' in section [Unit], ignoring.".to_owned()),
                (6, Severity::Warning, "Unknown section 'Foo'. Ignoring.".to_owned()),
                (8, Severity::Error, "Neither a valid executable name nor an absolute path: relative/path".to_owned()),
            ]
        );
    }

    #[test]
    fn words_without_a_line_count_too() {
        let two =
            "Service has more than one ExecStart= setting, which is only allowed for Type=oneshot services. Refusing.";
        for (name, who) in [("a.service", "a.service"), ("a@.service", "a@i.service"), ("a@1.service", "a@1.service")] {
            assert_eq!(found(name, &format!("{who}: {two}\n")), [(0, Severity::Error, two.to_owned())], "{who}");
        }
        assert_eq!(found("a.service", &format!("b.service: {two}\nab.service: {two}\n\nnonsense\n")), []);
        assert_eq!(
            found("a.service", "a.service: Service has no ExecStart=, ExecStop=, or SuccessAction=. Refusing."),
            []
        );
    }
}
