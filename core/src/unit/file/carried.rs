//! How fleet reads a unit file: into the options that its API carries and its hash is made of.
//!
//! CoreOS fleet's reading, which is not quite systemd's. A value goes on as long as its lines end in a backslash: one
//! that is escaped counts, too, and one with a blank behind it does not. A comment between such lines is part of the
//! value, and its last. A comment that ends in a backslash takes the next line with it. Where an author cannot have
//! meant what comes of that, there is a warning, and where a whole section would be lost, an error.
//!
//! Systemd is given what is written of these options, and puts most of them together again: see `meant`.

use super::{Line, Lines, ParseError, ParseErrorKind, UnitOption, X_FLEET, is_comment, lines::is_continued};
use crate::unit::{Warning, suggest};

/// The sections that systemd knows, and fleet's.
const SECTIONS: [&str; 12] = [
    "X-Fleet",
    "Unit",
    "Service",
    "Install",
    "Socket",
    "Timer",
    "Path",
    "Mount",
    "Automount",
    "Swap",
    "Slice",
    "Scope",
];

/// So many unknown sections are compared with the known ones: more than in any file that a person wrote, and soon done.
const STRANGE: u32 = 64;

/// How strictly a text is taken.
#[derive(Clone, Copy, PartialEq)]
enum Manner {
    /// As CoreOS fleet.
    Strict,
    /// With comments between lines that continue a value, and carriage returns at their ends, as systemd has them.
    Lenient,
}

/// The options of a text, and what in it can hardly be meant.
///
/// A text that CoreOS fleet would refuse is read as systemd does, if that makes sense of it.
pub(super) fn read(text: &str) -> Result<(Vec<UnitOption>, Vec<Warning>), ParseError> {
    let strict = Reader::new(text, Manner::Strict).read();
    match strict {
        Err(error) if matches!(error.kind, ParseErrorKind::MissingEquals | ParseErrorKind::Severed) => {
            Reader::new(text, Manner::Lenient).read().map_err(|_| error)
        }
        read => read,
    }
}

struct Reader<'t> {
    lines: Lines<'t>,
    manner: Manner,
    options: Vec<UnitOption>,
    warnings: Vec<Warning>,
    /// How many sections were none of those that are known.
    strange: u32,
}

impl<'t> Reader<'t> {
    fn new(text: &'t str, manner: Manner) -> Self {
        Self { lines: Lines::new(text), manner, options: Vec::new(), warnings: Vec::new(), strange: 0 }
    }

    fn read(mut self) -> Result<(Vec<UnitOption>, Vec<Warning>), ParseError> {
        let mut section = self.first_section()?;
        let mut before: Option<Line<'_>> = None;
        while let Some(line) = self.lines.next().transpose()? {
            let trimmed = line.text.trim();
            if trimmed.is_empty() {
                continue;
            }
            if trimmed.starts_with('[') {
                section = Some(self.section(&line)?);
            } else if is_comment(trimmed) {
                self.comment(&line)?;
            } else if let Some(section) = &section {
                self.option(section.clone(), &line, before)?;
            }
            before = Some(line);
        }
        Ok((self.options, self.warnings))
    }

    /// Passes over what stands before the first section, as systemd does.
    fn first_section(&mut self) -> Result<Option<String>, ParseError> {
        let mut lost = None;
        let mut section = None;
        while let Some(line) = self.lines.next().transpose()? {
            let at = line.text.find(['[', '#', ';']).unwrap_or(line.text.len());
            let (before, rest) = (line.text[..at].trim(), &line.text[at..]);
            if !before.is_empty() {
                lost.get_or_insert(line.number);
            }
            match rest.chars().next() {
                Some('[') if before.is_empty() => {
                    section = Some(self.section(&line)?);
                    break;
                }
                // CoreOS fleet begins the section here, and systemd does not.
                Some('[') => {
                    let name = rest[1..].split(']').next().unwrap_or_default().trim();
                    return Err(line.error(ParseErrorKind::BeforeSection(name.into()), before));
                }
                Some(_) => self.comment(&line)?,
                None => {}
            }
        }
        if let Some(number) = lost {
            let hint = Some("write it below the name of a section".into());
            self.warn(number, "what stands before the first section is dropped", hint);
        }
        Ok(section)
    }

    fn section(&mut self, line: &Line<'_>) -> Result<String, ParseError> {
        let inner = line.text.trim_start().strip_prefix('[').expect("checked by the caller");
        let (name, after) =
            inner.split_once(']').ok_or_else(|| line.error(ParseErrorKind::UnclosedSection, line.text.trim()))?;
        if !after.trim().is_empty() {
            return Err(line.error(ParseErrorKind::AfterSection(name.into()), after.trim()));
        }
        if SECTIONS.contains(&name) {
            return Ok(name.into());
        }
        self.strange += 1;
        if self.strange <= STRANGE
            && let Some(known) = suggest(name, SECTIONS)
        {
            let whom = if known == "X-Fleet" { "fleet" } else { "systemd" };
            let hint = Some(format!("did you mean [{known}]?"));
            self.warn(line.number, format!("{whom} does not know the section [{name}], and passes over it"), hint);
        }
        Ok(name.into())
    }

    /// Passes over a comment, and what it takes with it.
    fn comment(&mut self, line: &Line<'_>) -> Result<(), ParseError> {
        let mut goes_on = comment_goes_on(line);
        let comment = line.number;
        let mut first = true;
        while goes_on {
            let Some(line) = self.lines.next().transpose()? else { break };
            let trimmed = line.text.trim();
            if trimmed.starts_with('[') && trimmed.ends_with(']') {
                return Err(line.error(ParseErrorKind::SectionInComment(trimmed.into()), trimmed));
            }
            if first && looks_like_option(trimmed) {
                let message = format!("this line belongs to the comment of line {comment}, which ends in \"\\\"");
                self.warn(line.number, message, Some("remove the \"\\\" at the end of the comment".into()));
            }
            first = first && is_comment(trimmed);
            goes_on = comment_goes_on(&line);
        }
        Ok(())
    }

    fn option(&mut self, section: String, line: &Line<'_>, before: Option<Line<'_>>) -> Result<(), ParseError> {
        let trimmed = line.text.trim();
        let split = line.text.split_once('=').filter(|(name, _)| !name.trim_start().contains('\r'));
        let Some((name, first)) = split else {
            let severed =
                before.is_some_and(|line| line.shown().ends_with([' ', '\t']) && ends_in_backslash(line.text));
            let kind = if severed { ParseErrorKind::Severed } else { ParseErrorKind::MissingEquals };
            return Err(line.error(kind, trimmed));
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(line.error(ParseErrorKind::MissingName, "="));
        }
        let value = self.value(&section, line, first)?;
        self.options.push(UnitOption { section, name: name.into(), value, line: line.number });
        Ok(())
    }

    /// Reads a value from what stands behind `=` and the lines that continue it.
    fn value(&mut self, section: &str, line: &Line<'_>, first: &str) -> Result<String, ParseError> {
        let mut value = String::new();
        let (mut part, mut line) = (first, *line);
        let mut is_first = true;
        while !part.trim().is_empty() {
            let lenient = self.manner == Manner::Lenient;
            let text = if lenient { part.trim_end_matches('\r') } else { part };
            value.push_str(text);
            let passed_over = lenient && !is_first && is_comment(part.trim_start());
            if !passed_over && !text.ends_with('\\') {
                self.look_behind(&line);
                break;
            }
            if text.ends_with('\\') {
                self.look_at_end(section, &line);
            }
            if line.ended {
                value.push('\n');
            }
            let Some(next) = self.lines.next().transpose()? else { break };
            (part, line, is_first) = (next.text, next, false);
        }
        // Without an empty line, one that asks for the next would swallow the next option.
        let newline = if value.ends_with('\n') && !value.trim().is_empty() { "\n" } else { "" };
        Ok(value.trim().to_owned() + newline)
    }

    /// Warns of the last line of a value when there is a blank behind its backslash.
    fn look_behind(&mut self, line: &Line<'_>) {
        let text = line.shown();
        if text.ends_with([' ', '\t']) && ends_in_backslash(text) && !self.lines.peek().trim().is_empty() {
            let message = "there is a blank behind the \"\\\": systemd by itself would not take the next line for a part \
                           of this value, fleet makes it one";
            self.warn(line.number, message, Some("remove the blank".into()));
        }
    }

    /// Warns of a line that ends in backslashes, when systemd does not join it with the next.
    fn look_at_end(&mut self, section: &str, line: &Line<'_>) {
        let next = self.lines.peek().trim();
        let is_lost = section == X_FLEET || !looks_like_option(next) && !next.starts_with('[');
        if !is_continued(line.shown()) && !next.is_empty() && is_lost {
            let message = "systemd does not join this line with the next: \"\\\\\" at its end stands for a backslash of \
                           the value";
            self.warn(line.number, message, Some("write one \"\\\" to continue the line".into()));
        }
    }

    fn warn(&mut self, line: u32, message: impl Into<String>, hint: Option<String>) {
        self.warnings.push(Warning { line, message: message.into(), hint });
    }
}

fn comment_goes_on(line: &Line<'_>) -> bool {
    line.text.strip_suffix(' ').unwrap_or(line.text).ends_with('\\')
}

fn ends_in_backslash(text: &str) -> bool {
    text.trim_end().ends_with('\\')
}

/// Whether a line is like `Name=Value`, rather than part of a command that has a `=` in it.
fn looks_like_option(trimmed: &str) -> bool {
    let name = trimmed.split_once('=').map(|(name, _)| name.trim_end());
    name.is_some_and(|name| {
        name.starts_with(|c: char| c.is_ascii_uppercase())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && name.contains(|c: char| c.is_ascii_lowercase())
    })
}
