//! The lines of a unit file.

use super::{MAX_LINE, ParseError, ParseErrorKind};

/// One line, without the newline that ends it.
#[derive(Clone, Copy)]
pub(super) struct Line<'t> {
    /// Its text; a carriage return before the newline is still there.
    pub text: &'t str,
    /// Its number, from 1.
    pub number: u32,
    /// Whether a newline ends it, rather than the file.
    pub ended: bool,
}

impl<'t> Line<'t> {
    /// An error about `part`, which is a slice of this line.
    pub fn error(&self, kind: ParseErrorKind, part: &str) -> ParseError {
        let start = self.text.find(part).unwrap_or(0);
        ParseError { kind, line: self.number, span: start..start + part.len(), text: self.shown().into() }
    }

    /// The text without carriage returns at its end.
    pub fn shown(&self) -> &'t str {
        self.text.trim_end_matches('\r')
    }
}

pub(super) struct Lines<'t> {
    rest: &'t str,
    number: u32,
}

impl<'t> Lines<'t> {
    /// The lines of a text, without the byte order mark that it may begin with.
    pub fn new(text: &'t str) -> Self {
        Self { rest: text.strip_prefix('\u{feff}').unwrap_or(text), number: 0 }
    }

    /// The text of the line that comes next; empty at the end.
    pub fn peek(&self) -> &'t str {
        self.rest.split('\n').next().unwrap_or_default()
    }
}

impl<'t> Iterator for Lines<'t> {
    type Item = Result<Line<'t>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let split = self.rest.split_once('\n');
        let (text, rest) = split.unwrap_or((self.rest, ""));
        self.rest = rest;
        self.number += 1;
        let line = Line { text, number: self.number, ended: split.is_some() };
        if line.shown().len() > MAX_LINE {
            return Some(Err(line.error(ParseErrorKind::LineTooLong, line.shown())));
        }
        if line.text.contains('\0') {
            return Some(Err(line.error(ParseErrorKind::Nul, "\0")));
        }
        Some(Ok(line))
    }
}

/// Whether a line ends in a backslash that is not itself escaped: to systemd, the next one continues it.
pub(super) fn is_continued(line: &str) -> bool {
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}
