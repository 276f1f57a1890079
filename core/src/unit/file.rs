//! The syntax of unit files.
//!
//! A file has two readings. Fleet's own is CoreOS fleet's: its options go over the API, and what is written of them is
//! the [canonical](UnitFile::canonical) text, whose hash names the contents. Systemd is given that text and reads it
//! its own way, which [`UnitFile::settings`] and [`UnitFile::values`] tell.

mod carried;
mod lines;
mod meant;

use std::{collections::HashMap, fmt, ops::Range};

use thiserror::Error;

use self::lines::{Line, Lines};
use super::{UnitHash, Warning};

/// The section that is read by fleet, and passed over by systemd.
pub const X_FLEET: &str = "X-Fleet";

/// Longest line accepted, in bytes without its line end (CoreOS fleet's limit).
const MAX_LINE: usize = 2048;

/// How often a text is written and read again until it stays the same. Two suffice for what is known; see the tests.
const PASSES: usize = 4;

/// A unit file: its options in order, and the text that is written of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    canonical: String,
    options: Vec<UnitOption>,
    warnings: Vec<Warning>,
}

/// One `Name=Value` of a unit file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitOption {
    /// The section it stands in, without brackets.
    pub section: String,
    /// The key.
    pub name: String,
    /// The value as written; continuation lines keep their backslash and newline.
    pub value: String,
    /// The line of the file that it begins on, from 1; 0 when it did not come from a file.
    pub line: u32,
}

/// What is wrong with a unit file, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct ParseError {
    /// What is wrong.
    pub kind: ParseErrorKind,
    /// The line, from 1.
    pub line: u32,
    /// The part of the line that is wrong, in bytes.
    pub span: Range<usize>,
    /// The line's text.
    pub text: String,
}

/// What is wrong with a unit file. Messages that CoreOS fleet had are kept word for word.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// `[Unit` without its bracket.
    #[error("unable to find end of section")]
    UnclosedSection,
    /// Text before the `[` of the first section, which systemd would pass over with all that is in it.
    #[error("found garbage before section name {0}")]
    BeforeSection(String),
    /// A section whose name belongs to a comment that ends in a backslash.
    #[error("section {0} is part of the comment above it")]
    SectionInComment(String),
    /// Text behind the `]` of a section.
    #[error("found garbage after section name {0}")]
    AfterSection(String),
    /// A line that is no comment, no section and has no `=`.
    #[error("unexpected newline encountered while parsing option name")]
    MissingEquals,
    /// The same, where the line above has a blank behind the backslash at its end.
    #[error("unexpected newline encountered while parsing option name")]
    Severed,
    /// `=value`.
    #[error("missing option name before \"=\"")]
    MissingName,
    /// More than 2048 bytes.
    #[error("line too long (max {MAX_LINE} bytes)")]
    LineTooLong,
    /// A NUL byte, which systemd refuses.
    #[error("NUL byte in unit file")]
    Nul,
    /// Bytes that are not UTF-8.
    #[error("unit file is not valid UTF-8")]
    NotUtf8,
    /// Options that came as a list and would read differently once written to a file.
    #[error("option {0} cannot be written to a unit file as it stands")]
    Unwritable(String),
}

impl ParseErrorKind {
    /// What to do about it.
    #[must_use]
    pub fn mend(&self) -> &'static str {
        match self {
            Self::UnclosedSection => "close the section's name with `]`",
            Self::AfterSection(_) => "begin a new line after `]`",
            Self::BeforeSection(_) => "begin a new line before `[`",
            Self::SectionInComment(_) => "remove the `\\` at the end of the comment",
            Self::Severed => "remove the blank behind the `\\` of the line above",
            Self::MissingEquals => "write `Name=Value`, or `#` before a comment",
            Self::MissingName => "name the option before `=`",
            Self::LineTooLong => "break the line with `\\` at its end",
            Self::Nul | Self::NotUtf8 => "save the file as plain UTF-8 text",
            Self::Unwritable(_) => "end each line of the value but the last with `\\`",
        }
    }
}

impl ParseError {
    /// The error with the line it is about and a caret under the fault, over several lines.
    /// `file` is what the reader knows the file as.
    #[must_use]
    pub fn render(&self, file: &str) -> String {
        let shown: String = self.text.chars().take(160).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let before = self.text.get(..self.span.start).map_or(0, |text| text.chars().count());
        let width = self.text.get(self.span.clone()).map_or(1, |text| text.chars().count().max(1));
        let (line, gutter) = (self.line, self.line.to_string().len());
        format!(
            "{file}:{line}: {self}\n{empty:gutter$} |\n{line} | {shown}\n{empty:gutter$} | {empty:before$}{carets} {mend}",
            empty = "",
            carets = "^".repeat(width.min(160)),
            mend = self.kind.mend(),
        )
    }
}

impl UnitFile {
    /// Reads a unit file from bytes.
    ///
    /// # Errors
    /// Whatever is wrong first, with its line.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let good = std::str::from_utf8(&bytes[..error.valid_up_to()]).expect("valid up to here");
                let start = good.rfind('\n').map_or(0, |at| at + 1);
                Err(ParseError {
                    kind: ParseErrorKind::NotUtf8,
                    line: good.matches('\n').count() as u32 + 1,
                    span: good.len() - start..good.len() - start,
                    text: good[start..].into(),
                })
            }
        }
    }

    /// Reads a unit file.
    ///
    /// # Errors
    /// Whatever is wrong first, with its line.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let (options, warnings) = carried::read(text)?;
        Self { canonical: canonical(&options), options, warnings }.settled()
    }

    /// Reads what an earlier version may have written, and keeps it as it is: its hash is its name in the store.
    ///
    /// # Errors
    /// Whatever is wrong first, with its line.
    pub fn stored(text: &str) -> Result<Self, ParseError> {
        Ok(Self { canonical: text.into(), ..Self::parse(text)? })
    }

    /// Makes a unit file of options that came as a list, as the HTTP API has them.
    ///
    /// # Errors
    /// An option that would not read back as itself from a file, such as a value with a bare newline.
    pub fn from_options(options: &[UnitOption]) -> Result<Self, ParseError> {
        if let Some(option) = options.iter().find(|option| !is_writable(option)) {
            return Err(ParseError {
                kind: ParseErrorKind::Unwritable(format!("{}.{}", option.section, option.name)),
                line: 0,
                span: 0..0,
                text: option.value.clone(),
            });
        }
        Self::parse(&canonical(options))
    }

    /// The same once its text reads as what it was written of. A value that ends in a backslash takes the option behind
    /// it with it, which is how CoreOS fleet knew such a unit, too, after it had stored it.
    fn settled(mut self) -> Result<Self, ParseError> {
        let mut lines = line_numbers(&self.options);
        for _ in 0..PASSES {
            if self.options.iter().all(|option| !option.value.contains('\n') && !option.value.ends_with('\\')) {
                return Ok(self);
            }
            let (mut options, _) = carried::read(&self.canonical)?;
            let text = canonical(&options);
            for option in &mut options {
                let known = lines.get(option.line as usize - 1);
                option.line = known.copied().unwrap_or_default();
            }
            let is_same = text == self.canonical;
            lines = line_numbers(&options);
            (self.canonical, self.options) = (text, options);
            if is_same {
                return Ok(self);
            }
        }
        let last = self.options.last().expect("one of them does not settle");
        let kind = ParseErrorKind::Unwritable(format!("{}.{}", last.section, last.name));
        Err(ParseError { kind, line: last.line, span: 0..0, text: last.value.clone() })
    }

    /// All options in order.
    #[must_use]
    pub fn options(&self) -> &[UnitOption] {
        &self.options
    }

    /// The canonical text: each section once, in order of first appearance, an empty line between them,
    /// no comments. This is what `fleetctl cat` prints and what systemd is given.
    #[must_use]
    pub fn canonical(&self) -> String {
        self.canonical.clone()
    }

    /// The hash over the canonical text.
    #[must_use]
    pub fn hash(&self) -> UnitHash {
        UnitHash::of(&self.canonical)
    }

    /// What in the text can hardly be meant as it stands, in the order of its lines.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The options as systemd reads them, which is given the canonical text: continuation lines joined, comments between
    /// them left out. Their lines are those of the file.
    #[must_use]
    pub fn settings(&self) -> Vec<UnitOption> {
        let mut settings = meant::read(&self.canonical);
        let lines = line_numbers(&self.options);
        for setting in &mut settings {
            setting.line = lines.get(setting.line as usize - 1).copied().unwrap_or_default();
        }
        settings
    }

    /// What the values of a key mean to systemd, in order, everything before an empty assignment dropped as for lists.
    #[must_use]
    pub fn values(&self, section: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for setting in self.settings() {
            if setting.section != section || setting.name != name {
                continue;
            }
            if setting.value.is_empty() {
                values.clear();
            } else {
                values.push(setting.value);
            }
        }
        values
    }

    /// Whether the file has a section of this name with at least one option in it.
    #[must_use]
    pub fn has_section(&self, section: &str) -> bool {
        self.options.iter().any(|option| option.section == section)
    }

    /// The first `Description=` of `[Unit]`.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        let mut options = self.options.iter();
        options.find(|option| option.section == "Unit" && option.name == "Description").map(|option| &*option.value)
    }
}

impl UnitOption {
    /// The value as systemd understands it: continuation lines joined by a space, comments between them left out.
    #[must_use]
    pub fn unfolded(&self) -> String {
        let mut joined = String::new();
        for (i, line) in self.value.split('\n').enumerate() {
            if i > 0 && is_comment(line.trim_start()) {
                continue;
            }
            let line = line.trim_end_matches('\r');
            match line.strip_suffix('\\').filter(|_| lines::is_continued(line)) {
                Some(continued) => {
                    joined.push_str(continued);
                    joined.push(' ');
                }
                None => joined.push_str(line),
            }
        }
        joined.trim().into()
    }
}

impl fmt::Display for UnitFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical)
    }
}

fn is_comment(trimmed: &str) -> bool {
    trimmed.starts_with(['#', ';'])
}

/// Whether an option can stand in a file: what is written of it is this option, or what CoreOS fleet made of it.
fn is_writable(option: &UnitOption) -> bool {
    let UnitOption { section, name, value, .. } = option;
    let name_is_one = !name.is_empty()
        && name.trim() == name
        && !name.starts_with(['[', '#', ';'])
        && !name.contains(['=', '\n', '\r']);
    let mut lines: Vec<&str> = value.trim().split('\n').collect();
    lines.pop();
    let mut lines = lines.into_iter().enumerate();
    let goes_on = |(i, line): (usize, &str)| line.ends_with('\\') || i > 0 && is_comment(line.trim_start());
    name_is_one && !section.contains([']', '\n']) && lines.all(goes_on)
}

/// The options with each section's together, sections in order of first appearance. A file may have as many sections
/// as lines, so they are looked up, not searched for.
fn in_section_order(options: &[UnitOption]) -> Vec<&UnitOption> {
    let mut sections: HashMap<&str, usize> = HashMap::new();
    let mut placed: Vec<(usize, &UnitOption)> = Vec::with_capacity(options.len());
    for option in options {
        let next = sections.len();
        placed.push((*sections.entry(&option.section).or_insert(next), option));
    }
    placed.sort_by_key(|(section, _)| *section);
    placed.into_iter().map(|(_, option)| option).collect()
}

fn canonical(options: &[UnitOption]) -> String {
    let mut text = String::new();
    let mut current = None;
    for option in in_section_order(options) {
        if current != Some(&option.section) {
            if current.is_some() {
                text.push('\n');
            }
            text.push_str(&format!("[{}]\n", option.section));
            current = Some(&option.section);
        }
        text.push_str(&format!("{}={}\n", option.name, option.value));
    }
    text
}

/// For each line of the canonical text, the line that it came from, or 0.
fn line_numbers(options: &[UnitOption]) -> Vec<u32> {
    let mut lines = Vec::new();
    let mut current = None;
    for option in in_section_order(options) {
        if current != Some(&option.section) {
            lines.extend(current.map(|_| 0));
            lines.push(0);
            current = Some(&option.section);
        }
        let count = option.value.matches('\n').count() as u32 + 1;
        lines.extend((0..count).map(|i| if option.line == 0 { 0 } else { option.line + i }));
    }
    lines
}

#[cfg(test)]
mod tests;
