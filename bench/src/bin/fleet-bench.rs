//! The bench: boots a lab, measures fleet against systemd and etcd alone, and says what is as good as it should be.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Result, bail, ensure};
use clap::{Parser, ValueEnum, builder::RangedU64ValueParser};
use fleet_bench::{
    compare::{
        self, Options, Sizes, Subject, report,
        row::{Row, Verdict},
    },
    place::TABLE,
};

/// Measure fleet against a person with systemctl on every host, and against plain etcd.
///
/// Exits with 0 when every row is as good as it should be, 1 when one is not, 2 when something could not be measured
/// or did not end as it should.
#[derive(Parser)]
#[command(name = "fleet-bench", after_help = "Example: fleet-bench --only one,batch --rounds 3")]
struct Args {
    /// Rounds of each side, in turn.
    #[arg(long, default_value_t = FEWEST, value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    rounds: usize,
    /// Only these.
    #[arg(long, value_name = "SUBJECT", value_delimiter = ',', num_args = 1..)]
    only: Vec<Subject>,
    /// Few units, short times: to see that it works.
    #[arg(long)]
    small: bool,
    /// Where fleetd and fleetctl are, if not beside this program.
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    /// Put the table into this file, between its two marks.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["only", "small"])]
    write: Option<PathBuf>,
}

/// Rounds without which no median is written down.
const FEWEST: usize = 5;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    if args.write.is_some() && args.rounds < FEWEST {
        bail!("what is written down comes from at least {FEWEST} rounds, not {}", args.rounds);
    }
    if let Some(path) = &args.write {
        // Known now, not in a quarter of an hour.
        TABLE.look(path)?;
    }
    let sizes = if args.small { Sizes::small(args.rounds) } else { Sizes::full(args.rounds) };
    let all = || Subject::value_variants().to_vec();
    let subjects = if args.only.is_empty() { all() } else { args.only.clone() };
    let options = Options { sizes, subjects, bin: args.bin.clone() };
    let tell = |row: &Row| eprintln!("{}", row.cells().join("  |  "));
    let rows = compare::run(&options, &tell)?;
    let text = report::text(&made_by(args), &rows);
    println!("{text}");
    if let Some(path) = &args.write {
        TABLE.fill(path, &text)?;
    }
    Ok(rows.iter().all(|row| row.verdict() != Verdict::Missed))
}

/// What the figures come from.
fn made_by(args: &Args) -> String {
    let rounds = if args.rounds == FEWEST { String::new() } else { format!(" ROUNDS={}", args.rounds) };
    let part = !args.only.is_empty() || args.small;
    let command = if part { "Part of `make bench`".into() } else { format!("`make bench{rounds}`") };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let versions = [("uname", "-r"), ("systemctl", "--version"), ("etcd", "--version")];
    let [kernel, systemd, etcd] = versions.map(|(program, option)| version(program, option).unwrap_or_default());
    format!(
        "{command}: 3 hosts and one etcd member on one machine with {cores} cores; Linux {kernel}, {systemd}, {etcd}."
    )
}

/// The first words of what a program says of itself.
fn version(program: &str, option: &str) -> Result<String> {
    let output = Command::new(program).arg(option).output()?;
    ensure!(output.status.success(), "{program} does not tell");
    let text = String::from_utf8(output.stdout)?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.split(" (").next().unwrap_or(line).replace("etcd Version:", "etcd"))
}
