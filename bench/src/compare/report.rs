//! The table at the end.

use super::row::{Row, Verdict};

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

#[cfg(test)]
mod tests {
    use super::*;

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
