//! What the three lists have in common: flags, fields, how they are written, and how they are watched.

use std::{
    collections::BTreeSet,
    io::{IsTerminal, stdout},
};

use clap::Args;
use fleet_client::ClientError;
use fleet_core::model::short;
use serde::Serialize;

use super::{Context, Outcome};
use crate::{
    error::Failure,
    follow::ListFollower,
    format::{self, FormatArgs},
    machines::legend,
    output,
    table::Table,
};

/// Clears a terminal and begins at its top.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// The flags of every list but `--fields`, whose default differs.
#[derive(Args, Debug)]
pub struct ListArgs {
    /// Show whole machine IDs and hashes
    #[arg(short = 'l', long, alias = "l")]
    pub full: bool,
    /// Leave out the line of column names
    #[arg(long)]
    pub no_legend: bool,
    /// Print the list again whenever it changes, until interrupted
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub format: FormatArgs,
}

/// A line of a list. Its serialization is what `--output json` prints.
pub trait Row: Serialize {
    /// The unit that it is about.
    fn unit(&self) -> Option<&str> {
        None
    }
}

/// A column of a list of `T`: its name, and what stands in it.
pub struct Column<T> {
    /// Its name in `--fields`.
    pub name: &'static str,
    /// The cell of a row; the flag says whether IDs are written in full.
    pub cell: fn(&T, bool) -> String,
}

/// Prints a list: once, or with `--watch` whenever it changes.
///
/// # Errors
/// The list cannot be read; while it is watched, only what waiting cannot mend. Nobody reads on.
pub async fn show<T: Row>(
    context: &Context,
    args: &ListArgs,
    columns: &[&Column<T>],
    read: impl AsyncFn() -> Result<Vec<T>, ClientError>,
    failure: impl Fn(&ClientError) -> Failure,
) -> Outcome {
    let rows = read().await.map_err(|error| failure(&error))?;
    let mut shown = render(&rows, columns, args);
    if !args.watch {
        output::verbatim(&shown)?;
        return Ok(0);
    }
    let separator = separator(args);
    // Before the first list, an empty line would separate nothing.
    output::verbatim(&format!("{}{shown}", separator.trim()))?;
    let mut troubled = false;
    let mut changes = ListFollower::default();
    changes.follow(&context.client, units(&rows));
    loop {
        changes.next().await;
        match read().await {
            Ok(rows) => {
                troubled = false;
                let text = render(&rows, columns, args);
                if text != shown {
                    output::verbatim(&format!("{separator}{text}"))?;
                    shown = text;
                }
                changes.follow(&context.client, units(&rows));
            }
            Err(error) if !error.is_passing() => return Err(failure(&error)),
            Err(error) => {
                if !std::mem::replace(&mut troubled, true) {
                    output::note(&format!("WARNING: {error}; trying again"));
                }
            }
        }
    }
}

fn units<T: Row>(rows: &[T]) -> BTreeSet<String> {
    rows.iter().filter_map(Row::unit).map(Into::into).collect()
}

/// What sets a list apart from the one before: a terminal shows only the last, JSON has a line for each.
fn separator(args: &ListArgs) -> &'static str {
    match (args.format.is_json(), stdout().is_terminal()) {
        (true, _) => "",
        (false, true) => CLEAR,
        (false, false) => "\n",
    }
}

/// Writes `rows` as the columns that `--fields` names, or as JSON, which has them all.
fn render<T: Row>(rows: &[T], columns: &[&Column<T>], args: &ListArgs) -> String {
    if args.format.is_json() {
        return if args.watch { format::line(&rows) } else { format::pretty(&rows) };
    }
    let mut table = Table::new(columns.iter().map(|column| column.name), !args.no_legend);
    for row in rows {
        table.row(columns.iter().map(|column| (column.cell)(row, args.full)).collect());
    }
    table.render()
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
pub fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").into()
}

/// A hash: all of it, or the 7 digits by which people tell versions apart.
pub fn hash_cell(hash: Option<&str>, full: bool) -> String {
    or_dash(hash.map(|hash| if full { hash } else { hash.get(..7).unwrap_or(short(hash)) }))
}

/// A machine, by its ID and its address: `d097a72e.../10.82.0.13`, or `-` for none.
pub fn machine_cell(id: Option<&str>, address: Option<&str>, full: bool) -> String {
    legend(id.unwrap_or_default(), address.unwrap_or_default(), full)
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
