//! Places in documents that a program fills with what it has measured.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};

/// What is between two marks in a document.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    begin: &'static str,
    end: &'static str,
}

/// Where the table of a document goes.
pub const TABLE: Place = Place { begin: "<!-- table -->", end: "<!-- end of table -->" };
/// Where the section on simulated machines goes.
pub const SCALE: Place = Place { begin: "<!-- scale:begin -->", end: "<!-- scale:end -->" };

/// Where the section on global units goes.
pub const GLOBALS: Place = Place { begin: "<!-- globals:begin -->", end: "<!-- globals:end -->" };

impl Place {
    /// Says whether a file has such a place, better before a long measurement than after it.
    ///
    /// # Errors
    /// The file cannot be read, or has no such place.
    pub fn look(self, path: &Path) -> Result<()> {
        self.filled_in(path, "").map(drop)
    }

    /// Puts a text there.
    ///
    /// # Errors
    /// The file cannot be read or written, or has no such place.
    pub fn fill(self, path: &Path, text: &str) -> Result<()> {
        fs::write(path, self.filled_in(path, text)?).with_context(|| format!("cannot write {}", path.display()))
    }

    fn filled_in(self, path: &Path, text: &str) -> Result<String> {
        let document = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        self.filled(&document, text).with_context(|| format!("{} has no place for the result", path.display()))
    }

    fn filled(self, document: &str, text: &str) -> Result<String> {
        let Self { begin, end } = self;
        let (before, rest) = document.split_once(begin).with_context(|| format!("it has no line {begin}"))?;
        let (old, after) = rest.split_once(end).with_context(|| format!("it has no line {end} behind {begin}"))?;
        ensure!(!old.contains(begin), "it has two lines {begin} before {end}");
        Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", text.trim()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "# Title\n\n<!-- table -->\nold\n<!-- end of table -->\n\nprose\n";
        let new = TABLE.filled(document, "| new |\n").unwrap();
        assert_eq!(new, "# Title\n\n<!-- table -->\n\n| new |\n\n<!-- end of table -->\n\nprose\n");
        assert_eq!(TABLE.filled(&new, "| new |\n").unwrap(), new);
    }

    #[test]
    fn document_without_the_place_is_refused() {
        for document in ["", "<!-- table -->", "<!-- end of table --> <!-- table -->"] {
            assert!(TABLE.filled(document, "new").is_err(), "{document}");
        }
        assert!(TABLE.filled("<!-- table --><!-- table --><!-- end of table -->", "new").is_err());
        assert!(SCALE.filled("<!-- table --><!-- end of table -->", "new").is_err());
    }
}
