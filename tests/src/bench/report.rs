//! The table at the end, and the document that it goes into.

use anyhow::{Context, Result, ensure};

use super::row::{Row, Verdict};

/// Between these lines of a file the table is replaced.
const MARKS: [&str; 2] = ["<!-- table -->", "<!-- end of table -->"];

const HEAD: [&str; 6] = ["What", "By hand", "fleet", "Ratio", "At most", ""];

/// The result as Markdown: what made it, the table, and below it what was not aimed at.
#[must_use]
pub fn text(made_by: &str, rows: &[Row]) -> String {
    let (told, judged): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.verdict() == Verdict::Told);
    let mut text = format!("{made_by}\n\n{}", table(&judged));
    if !told.is_empty() {
        text += &format!("\nBeside that, in the same rounds:\n\n{}", table(&told));
    }
    text
}

/// Rows as a Markdown table.
#[must_use]
pub fn table(rows: &[&Row]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let head = line(&HEAD.map(str::to_owned));
    let rule = format!("|{}\n", "---|".repeat(HEAD.len()));
    let rows: String = rows.iter().map(|row| line(&row.cells())).collect();
    format!("{head}{rule}{rows}")
}

/// A document with its table replaced by `table`.
///
/// # Errors
/// When it has no place for one.
pub fn replaced(document: &str, table: &str) -> Result<String> {
    let [begin, end] = MARKS;
    let (before, rest) = document.split_once(begin).with_context(|| format!("it has no line {begin}"))?;
    let (old, after) = rest.split_once(end).with_context(|| format!("it has no line {end} behind {begin}"))?;
    ensure!(!old.contains(begin), "it has two lines {begin} before {end}");
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_replaced() {
        let document = "# Title\n\n<!-- table -->\nold\n<!-- end of table -->\n\nprose\n";
        let new = replaced(document, "| new |\n").unwrap();
        assert_eq!(new, "# Title\n\n<!-- table -->\n\n| new |\n\n<!-- end of table -->\n\nprose\n");
        assert_eq!(replaced(&new, "| new |\n").unwrap(), new);
    }

    #[test]
    fn document_without_a_place_for_the_table_is_refused() {
        for document in ["", "<!-- table -->", "<!-- end of table --> <!-- table -->"] {
            assert!(replaced(document, "new").is_err(), "{document}");
        }
        assert!(replaced("<!-- table --><!-- table --><!-- end of table -->", "new").is_err());
    }

    #[test]
    fn what_was_not_aimed_at_is_told_apart() {
        let row = |most| Row::against("a", [1.0].into_iter().collect(), [2.0].into_iter().collect(), most);
        let text = text("made", &[row(None), row(Some(1.0))]);
        let (judged, told) = text.split_once("Beside that").unwrap();
        assert!(judged.contains("**missed**") && !told.contains("**missed**") && told.contains("| a |"), "{text}");
    }

    #[test]
    fn every_row_has_as_many_cells_as_the_head() {
        let row = Row::against("a", [1.0].into_iter().collect(), [2.0].into_iter().collect(), Some(3.0));
        assert_eq!(
            table(&[&row]),
            "| What | By hand | fleet | Ratio | At most |  |\n\
             |---|---|---|---|---|---|\n\
             | a | 1.00 s | 2.00 s | 2.00 | 3.0 | met |\n"
        );
    }
}
