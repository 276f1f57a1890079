//! What the three lists have in common: flags, fields, and how their cells are written.

use clap::Args;
use fleet_core::model::short;

use crate::{error::Failure, table::Table};

/// The flags of every list but `--fields`, whose default differs.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Show whole machine IDs and hashes
    #[arg(short = 'l', long, alias = "l")]
    pub full: bool,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_legend: bool,
}

/// A column of a list of `T`: its name, and what stands in it.
pub struct Column<T> {
    /// Its name in `--fields`.
    pub name: &'static str,
    /// The cell of a row; the flag says whether IDs are written in full.
    pub cell: fn(&T, bool) -> String,
}

/// Writes `rows` as the columns that `fields` names.
///
/// # Errors
/// Nobody reads on.
pub fn print<T>(rows: &[T], columns: &[&Column<T>], args: &ListArgs) -> Result<(), Failure> {
    let mut table = Table::new(columns.iter().map(|column| column.name), !args.no_legend);
    for row in rows {
        table.row(columns.iter().map(|column| (column.cell)(row, args.full)).collect());
    }
    table.print()
}

/// The columns that `fields`, names with commas between, asks for.
///
/// # Errors
/// None is asked for, or one that does not exist.
pub fn choose<'c, T>(fields: &str, columns: &'c [Column<T>]) -> Result<Vec<&'c Column<T>>, Failure> {
    if fields.is_empty() {
        return Err(Failure::said("Must define output format"));
    }
    let find = |name: &str| columns.iter().find(|column| column.name == name);
    fields
        .split(',')
        .map(|name| find(name).ok_or_else(|| Failure::said(format!("Invalid key in output format: {name:?}"))))
        .collect()
}

/// A value, or `-` for none.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

/// A hash: all of it, or the 7 digits by which people tell versions apart.
pub fn hash_cell(hash: &str, full: bool) -> String {
    or_dash(if full { hash } else { hash.get(..7).unwrap_or(short(hash)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column<()>; 2] =
        [Column { name: "unit", cell: |(), _| "a".into() }, Column { name: "hash", cell: |(), _| "b".into() }];

    #[test]
    fn fields_choose_columns_in_their_order() {
        let names: Vec<_> = choose("hash,unit", &COLUMNS).unwrap().iter().map(|column| column.name).collect();
        assert_eq!(names, ["hash", "unit"]);
    }

    #[test]
    fn bad_fields_get_the_messages_people_know() {
        for (fields, message) in [
            ("", "Must define output format"),
            ("foo", "Invalid key in output format: \"foo\""),
            ("unit,,hash", "Invalid key in output format: \"\""),
        ] {
            assert_eq!(choose(fields, &COLUMNS).err().unwrap().lines(), [message]);
        }
    }
}
