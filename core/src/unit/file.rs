//! The syntax of unit files.
//!
//! What is read here is what systemd reads (`systemd.syntax(7)`): comments, continuation lines with comments
//! between them, repeated keys and sections, CRLF line ends, a byte order mark. Values are kept as they were
//! written, continuation and all, so that the [canonical](UnitFile::canonical) text and its hash are those that
//! CoreOS fleet computes; [`UnitFile::values`] gives what the values mean.

use std::{collections::HashMap, fmt, ops::Range};

use thiserror::Error;

use super::UnitHash;

/// Longest line accepted, in bytes without its line end (CoreOS fleet's limit).
const MAX_LINE: usize = 2048;

/// A unit file: its options in order, and the text they were read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitFile {
    text: String,
    options: Vec<UnitOption>,
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
    /// Text behind the `]` of a section.
    #[error("found garbage after section name {0}")]
    AfterSection(String),
    /// A line that is no comment, no section and has no `=`.
    #[error("unexpected newline encountered while parsing option name")]
    MissingEquals,
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
        let mut options: Vec<UnitOption> = Vec::new();
        let mut section: Option<String> = None;
        let mut lines = Lines { rest: text.strip_prefix('\u{feff}').unwrap_or(text), number: 0 };
        while let Some(line) = lines.next() {
            let line = line?;
            let trimmed = line.text.trim();
            if trimmed.is_empty() || is_comment(trimmed) {
                continue;
            }
            if trimmed.starts_with('[') {
                section = Some(section_name(&line)?);
                continue;
            }
            // Systemd, too, passes over what stands before the first section.
            let Some(section) = &section else { continue };
            let (name, first) =
                line.text.split_once('=').ok_or_else(|| line.error(ParseErrorKind::MissingEquals, trimmed))?;
            if name.trim().is_empty() {
                return Err(line.error(ParseErrorKind::MissingName, "="));
            }
            options.push(UnitOption {
                section: section.clone(),
                name: name.trim().into(),
                value: read_value(first, &mut lines)?,
                line: line.number,
            });
        }
        Ok(Self { text: text.into(), options })
    }

    /// Makes a unit file of options that came as a list, as the HTTP API has them.
    ///
    /// # Errors
    /// An option that would not read back as itself from a file, such as a value with a bare newline.
    pub fn from_options(options: &[UnitOption]) -> Result<Self, ParseError> {
        let text = canonical(options);
        let unwritable = |option: &UnitOption| ParseError {
            kind: ParseErrorKind::Unwritable(format!("{}.{}", option.section, option.name)),
            line: 0,
            span: 0..0,
            text: option.value.clone(),
        };
        let read = Self::parse(&text)?;
        let mut written = in_section_order(options);
        written.reverse();
        for got in &read.options {
            match written.pop() {
                Some(meant) if (&meant.section, &meant.name, &meant.value) == (&got.section, &got.name, &got.value) => {
                }
                Some(meant) => return Err(unwritable(meant)),
                None => return Err(unwritable(got)),
            }
        }
        written.pop().map_or(Ok(read), |lost| Err(unwritable(lost)))
    }

    /// The text that the file was read from, byte for byte.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
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
        canonical(&self.options)
    }

    /// The hash over the canonical text.
    #[must_use]
    pub fn hash(&self) -> UnitHash {
        UnitHash::of(&self.canonical())
    }

    /// What the values of a key mean, in order: continuation lines joined, comments between them left out,
    /// everything before an empty assignment dropped, as systemd does for lists.
    #[must_use]
    pub fn values(&self, section: &str, name: &str) -> Vec<String> {
        let mut values = Vec::new();
        for option in self.options.iter().filter(|option| option.section == section && option.name == name) {
            let value = option.unfolded();
            if value.is_empty() {
                values.clear();
            } else {
                values.push(value);
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
            match line.strip_suffix('\\').filter(|_| ends_in_continuation(line)) {
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
        f.write_str(&self.canonical())
    }
}

fn is_comment(trimmed: &str) -> bool {
    trimmed.starts_with(['#', ';'])
}

/// Whether a line ends in a backslash that is not itself escaped.
fn ends_in_continuation(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

fn section_name(line: &Line<'_>) -> Result<String, ParseError> {
    let inner = line.text.trim_start().strip_prefix('[').expect("checked by the caller");
    let (name, after) =
        inner.split_once(']').ok_or_else(|| line.error(ParseErrorKind::UnclosedSection, line.text.trim()))?;
    match after.trim() {
        "" => Ok(name.into()),
        garbage => Err(line.error(ParseErrorKind::AfterSection(name.into()), garbage)),
    }
}

/// Reads a value from what stands behind `=` and the lines that continue it.
fn read_value(first: &str, lines: &mut Lines<'_>) -> Result<String, ParseError> {
    let mut value = first.to_owned();
    let mut continued = ends_in_continuation(first);
    while continued {
        value.push('\n');
        let Some(line) = lines.next() else { break };
        let text = line?.text;
        if text.trim().is_empty() {
            break;
        }
        value.push_str(text);
        // A comment between continuation lines does not end the value.
        continued = is_comment(text.trim_start()) || ends_in_continuation(text);
    }
    let ends_in_newline = value.ends_with('\n');
    let mut value = value.trim().to_owned();
    if !value.is_empty() && (ends_in_newline || ends_in_continuation(&value)) {
        // The last line asks for one more (or does now that it is trimmed): without an empty one, it would
        // swallow the next option.
        value.push('\n');
    }
    Ok(value)
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

/// One line, without its line end.
struct Line<'t> {
    text: &'t str,
    number: u32,
}

impl Line<'_> {
    /// An error about `part`, which is a slice of this line.
    fn error(&self, kind: ParseErrorKind, part: &str) -> ParseError {
        let start = self.text.find(part).unwrap_or(0);
        ParseError { kind, line: self.number, span: start..start + part.len(), text: self.text.into() }
    }
}

struct Lines<'t> {
    rest: &'t str,
    number: u32,
}

impl<'t> Iterator for Lines<'t> {
    type Item = Result<Line<'t>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let (text, rest) = self.rest.split_once('\n').unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        // All of them: one left at the end of a continuation line would be the line end of the canonical text.
        let line = Line { text: text.trim_end_matches('\r'), number: self.number };
        if line.text.len() > MAX_LINE {
            return Some(Err(line.error(ParseErrorKind::LineTooLong, line.text)));
        }
        if line.text.contains('\0') {
            return Some(Err(line.error(ParseErrorKind::Nul, "\0")));
        }
        Some(Ok(line))
    }
}

#[cfg(test)]
mod tests;
