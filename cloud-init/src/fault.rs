//! What is wrong with a document, and where: rendered with the line, a caret and the mend.

use std::fmt::Write;

/// A place in the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 0.
    pub column: usize,
    /// How many characters it has on that line.
    pub width: usize,
}

/// A reason not to take a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub mark: Mark,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub mend: String,
}

/// Something that is taken, and that a reader should know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The line, from 1.
    pub line: usize,
    /// What there is to know.
    pub text: String,
}

/// The lines of a text as YAML has them: a carriage return alone ends one, too.
pub(crate) fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive('\n').flat_map(|line| {
        let line = line.strip_suffix('\n').unwrap_or(line);
        line.strip_suffix('\r').unwrap_or(line).split('\r')
    })
}

/// Most characters of a line that are shown.
const SHOWN: usize = 160;

impl Fault {
    /// A fault at a place.
    pub fn new(mark: Mark, message: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { mark, message: message.into(), mend: mend.into() }
    }

    /// The fault with its line of `text` and a caret under it, over several lines. `file` is what the reader knows
    /// the document as.
    #[must_use]
    pub fn render(&self, file: &str, text: &str) -> String {
        let Mark { line, column, width } = self.mark;
        let source = lines(text).nth(line.saturating_sub(1)).unwrap_or_default();
        let shown: String = source.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
        let length = shown.chars().count();
        let before = column.min(length);
        let carets = width.clamp(1, (length - before).max(1));
        let gutter = line.to_string().len();
        let mut rendered = format!("{file}:{line}: {}", self.message);
        let _ = write!(
            rendered,
            "\n{empty:gutter$} |\n{line} | {shown}\n{empty:gutter$} | {empty:before$}{carets} {mend}",
            empty = "",
            carets = "^".repeat(carets),
            mend = self.mend,
        );
        rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_shows_its_line_with_a_caret_and_the_mend() {
        let mark = Mark { line: 2, column: 2, width: 4 };
        let fault = Fault::new(mark, "unknown key `nmae`", "did you mean `name`?");
        assert_eq!(
            fault.render("x.yaml", "a:\n- nmae: b\n"),
            "x.yaml:2: unknown key `nmae`\n  |\n2 | - nmae: b\n  |   ^^^^ did you mean `name`?"
        );
    }

    #[test]
    fn a_carriage_return_alone_ends_a_line_too() {
        assert_eq!(lines("a\r\nb\rc\n\nd").collect::<Vec<_>>(), ["a", "b", "c", "", "d"]);
        let fault = crate::yaml::parse("a: b\r\rc: \u{b}\n").unwrap_err();
        assert_eq!((fault.mark.line, fault.render("f", "a: b\r\rc: \u{b}\n").lines().nth(2)), (3, Some("3 | c:  ")));
    }

    proptest::proptest! {
        #[test]
        fn any_place_in_any_text_can_be_shown(
            text in ".{0,40}(\n.{0,300}){0,3}",
            line in 0_usize..6,
            column in 0_usize..400,
            width in 0_usize..400,
        ) {
            let rendered = Fault::new(Mark { line, column, width }, "m", "mend").render("f", &text);
            proptest::prop_assert!(rendered.contains('^'));
        }
    }
}
