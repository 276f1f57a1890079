//! How help pages look: the sections that CoreOS fleet's had, in capitals, and ours after them.
//!
//! A command's `after_help` consists of sections, too: a heading with a colon, then lines indented by four spaces.
//! Help pages show it as it is, manual pages take it apart ([`sections`]).

use clap::{Command, builder::StyledStr};

/// `fleetctl help`
const ROOT: &str = concat!(
    "NAME:\n    {name} - {about}\n\nUSAGE:\n    {usage}\n\nVERSION:\n    ",
    env!("CARGO_PKG_VERSION"),
    "\n\nCOMMANDS:\n{subcommands}\n\nOPTIONS:\n{options}{after-help}"
);

/// `fleetctl` alone.
const SHORT: &str = "NAME:\n    {name} - {about}\n\nUSAGE:\n    {usage}\n\nCOMMANDS:\n{subcommands}\n\n\
                     `fleetctl help` tells of options, `fleetctl help COMMAND` more about a command.\n";

/// Beyond this, lines are hard to read.
const WIDTH: usize = 96;

/// What stands below the options of `fleetctl help`.
pub const ROOT_SECTIONS: &str = "\
ENVIRONMENT:
    Every global option can be set by a variable: --ssh-timeout by FLEETCTL_SSH_TIMEOUT. One that is set to
    nothing counts as not set.

EXIT CODES:
    0   done
    1   the operation failed, a unit is unknown or not in the right state, or `verify` finds errors
    2   the command line makes no sense
    3   of `why`: no machine can take the unit
    4   no connection to fleetd (of lists: 1)
    ssh, status and journal pass on the exit code of what they run.

`fleetctl help COMMAND` tells more about a command.";

/// A heading, and the lines below it.
#[derive(Debug, PartialEq, Eq)]
pub struct Section {
    /// Without its colon.
    pub heading: String,
    /// Without their indentation.
    pub lines: Vec<String>,
}

/// Gives all commands their help pages.
pub fn styled(definition: Command) -> Command {
    definition
        .help_template(ROOT)
        // One line of the help tells of all variables.
        .mut_args(|arg| arg.hide_env(true))
        .mut_subcommands(|command| {
            let page = page(&command);
            let mut place = 0;
            let command = command.help_template(page).long_about(None::<&str>).disable_help_flag(true);
            command.mut_args(|arg| {
                if arg.is_positional() {
                    // Otherwise they stand in the order of their names.
                    place += 1;
                    return arg.help_heading("ARGUMENTS").display_order(place);
                }
                arg.help_heading("OPTIONS")
            })
        })
}

/// The page for those who say nothing.
pub fn shortened(command: Command) -> Command {
    command.help_template(SHORT)
}

fn page(command: &Command) -> String {
    format!(
        "NAME:\n    {} - {}\n\nUSAGE:\n    {{usage}}\n\nDESCRIPTION:\n{}\n{{all-args}}{{after-help}}",
        command.get_name(),
        text(command.get_about()),
        wrapped(&description(command), "    ", WIDTH)
    )
}

/// What a command does, in whole sentences. Its first line in the source is the section NAME.
pub fn description(command: &Command) -> String {
    let long = text(command.get_long_about());
    long.split_once("\n\n").map_or_else(|| format!("{}.", text(command.get_about())), |(_, rest)| rest.to_owned())
}

/// The sections of `after_help`. Lines that belong to none are left out.
pub fn sections(after_help: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in after_help.lines() {
        match (line.strip_prefix("    "), line.strip_suffix(':'), sections.last_mut()) {
            (Some(line), _, Some(section)) => section.lines.push(line.into()),
            (None, Some(heading), _) => sections.push(Section { heading: heading.into(), lines: Vec::new() }),
            _ => {}
        }
    }
    sections
}

/// A text without its looks.
pub fn text(styled: Option<&StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// Breaks paragraphs into lines of at most `width` characters, `indent` included.
fn wrapped(text: &str, indent: &str, width: usize) -> String {
    let mut lines = String::new();
    for (i, paragraph) in text.split("\n\n").enumerate() {
        if i > 0 {
            lines.push('\n');
        }
        let mut line = indent.to_owned();
        for word in paragraph.split_whitespace() {
            if line.trim().is_empty() {
                line.push_str(word);
            } else if line.chars().count() + 1 + word.chars().count() > width {
                lines.push_str(&line);
                lines.push('\n');
                line = format!("{indent}{word}");
            } else {
                line.push(' ');
                line.push_str(word);
            }
        }
        lines.push_str(&line);
        lines.push('\n');
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_broken_into_lines() {
        assert_eq!(wrapped("one two three\nfour\n\nfive", "  ", 10), "  one two\n  three\n  four\n\n  five\n");
    }

    #[test]
    fn sections_come_apart() {
        let section = |heading: &str, lines: &[&str]| Section {
            heading: heading.into(),
            lines: lines.iter().map(|line| (*line).into()).collect(),
        };
        assert_eq!(
            sections("A:\n    one\n      two\n\nB C:\n    three\n\nSee also."),
            [section("A", &["one", "  two"]), section("B C", &["three"])]
        );
    }
}
