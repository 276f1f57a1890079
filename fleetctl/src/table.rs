//! Tables, tab for tab as CoreOS fleet prints them, because scripts cut them with `awk` and `cut`.
//!
//! Cells are padded with tabs to the next multiple of 8 beyond the widest cell of their column. The last cell of a
//! line is not padded.

use crate::{error::Failure, output};

/// Between tab stops.
const TAB: usize = 8;

/// A legend and rows of as many cells.
pub struct Table {
    legend: Option<Vec<String>>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table whose legend is the names of its columns in capitals, or that has none.
    pub fn new<'a>(columns: impl IntoIterator<Item = &'a str>, with_legend: bool) -> Self {
        let legend = with_legend.then(|| columns.into_iter().map(str::to_uppercase).collect());
        Self { legend, rows: Vec::new() }
    }

    /// Adds a line. Whatever stands in a cell, it stays one cell of one line.
    pub fn row(&mut self, cells: Vec<String>) {
        let cells = cells.into_iter().map(|cell| output::harmless(&cell).replace(['\n', '\t'], " "));
        self.rows.push(cells.collect());
    }

    /// Writes it to stdout.
    ///
    /// # Errors
    /// As [`output::verbatim`].
    pub fn print(&self) -> Result<(), Failure> {
        output::verbatim(&self.render())
    }

    /// The table as text, every line with its line end.
    pub fn render(&self) -> String {
        let lines: Vec<&Vec<String>> = self.legend.iter().chain(&self.rows).collect();
        let mut widths = vec![0; lines.iter().map(|line| line.len()).max().unwrap_or(0)];
        for line in &lines {
            for (width, cell) in widths.iter_mut().zip(*line) {
                *width = usize::max(*width, cell.chars().count());
            }
        }
        let mut text = String::new();
        for line in lines {
            for (i, cell) in line.iter().enumerate() {
                text.push_str(cell);
                if i + 1 < line.len() {
                    let stop = (widths[i] + 1).next_multiple_of(TAB);
                    let tabs = (stop - cell.chars().count()).div_ceil(TAB);
                    text.extend(std::iter::repeat_n('\t', tabs));
                }
            }
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(lines: &[&str]) -> String {
        let mut lines = lines.iter().map(|line| line.split(' '));
        let mut table = Table::new(lines.next().unwrap(), true);
        lines.for_each(|line| table.row(line.map(Into::into).collect()));
        table.render()
    }

    #[test]
    fn tables_look_as_they_did_in_coreos_fleet() {
        assert_eq!(
            render(&[
                "machine ip metadata",
                "d097a72e... 10.82.0.13 -",
                "d58165df... 10.82.0.11 disk=ssd,region=east",
                "e515483f... 10.82.0.12 region=west",
            ]),
            "MACHINE\t\tIP\t\tMETADATA\n\
             d097a72e...\t10.82.0.13\t-\n\
             d58165df...\t10.82.0.11\tdisk=ssd,region=east\n\
             e515483f...\t10.82.0.12\tregion=west\n"
        );
        assert_eq!(
            render(&[
                "unit load active sub machine hash",
                "hello.service loaded inactive dead d097a72e.../10.82.0.13 f021b9d",
            ]),
            "UNIT\t\tLOAD\tACTIVE\t\tSUB\tMACHINE\t\t\tHASH\n\
             hello.service\tloaded\tinactive\tdead\td097a72e.../10.82.0.13\tf021b9d\n"
        );
        assert_eq!(
            render(&[
                "unit hash dstate state target",
                "glob.service b5d4e5a launched - global",
                "hello.service b57129c inactive inactive -",
            ]),
            "UNIT\t\tHASH\tDSTATE\t\tSTATE\t\tTARGET\n\
             glob.service\tb5d4e5a\tlaunched\t-\t\tglobal\n\
             hello.service\tb57129c\tinactive\tinactive\t-\n"
        );
        assert_eq!(
            render(&[
                "unit hash dstate state target",
                "hello.service f021b9db79ec8617dc90c2f6578fad486139dd16 loaded loaded d097a72e4aef45bf815b90988acdbf13/10.82.0.13",
            ]),
            "UNIT\t\tHASH\t\t\t\t\t\tDSTATE\tSTATE\tTARGET\n\
             hello.service\tf021b9db79ec8617dc90c2f6578fad486139dd16\tloaded\tloaded\td097a72e4aef45bf815b90988acdbf13/10.82.0.13\n"
        );
    }

    #[test]
    fn cells_cannot_make_lines_nor_command_a_terminal() {
        let mut table = Table::new(["a", "b"], false);
        table.row(vec!["x\n\ty".into(), "\u{1b}[2J\u{9b}1mz".into()]);
        assert_eq!(table.render(), "x  y\t\u{fffd}[2J\u{fffd}1mz\n");
    }

    #[test]
    fn without_rows_the_legend_stands_alone_or_nothing() {
        assert_eq!(render(&["unit machine active sub"]), "UNIT\tMACHINE\tACTIVE\tSUB\n");
        assert_eq!(Table::new(["unit", "sub"], false).render(), "");
    }
}
