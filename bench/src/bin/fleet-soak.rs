//! The soak: boots a lab, draws faults by seed, and says which promises were broken.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use fleet_bench::{
    place::TABLE,
    soak::{
        campaign::{Campaign, Options},
        fault::{KINDS, Kind},
        judge::{Record, judge},
        report,
    },
};

/// Do faults to a cluster of real hosts and say which promises were broken.
///
/// Exits with 0 when none was, 1 when some were, 2 when the soak itself could not be done.
#[derive(Parser)]
#[command(name = "fleet-soak", after_help = "Example: fleet-soak --minutes 15 --seed 7")]
struct Args {
    /// How long new faults begin.
    #[arg(long, default_value_t = 15.0)]
    minutes: f64,
    /// What the faults are drawn with; a random one unless given.
    #[arg(long)]
    seed: Option<u64>,
    /// Number of hosts.
    #[arg(long, default_value_t = 5)]
    hosts: u8,
    /// Number of etcd members, 1, 3 or 5.
    #[arg(long, default_value_t = 3)]
    etcd: u8,
    /// agent_ttl in seconds.
    #[arg(long, default_value_t = 10)]
    ttl: u64,
    /// Only these kinds of faults, like `Cut,PowerLost`.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    only: Vec<Kind>,
    /// Not these kinds of faults.
    #[arg(long, value_delimiter = ',', value_parser = kind)]
    without: Vec<Kind>,
    /// Without strict units.
    #[arg(long)]
    no_strict: bool,
    /// One fault at a time.
    #[arg(long)]
    single: bool,
    /// End with the first broken promise.
    #[arg(long)]
    fail_fast: bool,
    /// Where to keep the record and the journals of the run.
    #[arg(long, value_name = "DIR", default_value = "target/faults")]
    keep: PathBuf,
    /// Put the table into this file, between its two marks.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Judge a record that was kept, instead of a run.
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
}

fn main() -> ExitCode {
    match soak(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn soak(args: &Args) -> Result<bool> {
    if let Some(path) = &args.write {
        TABLE.look(path)?;
    }
    if let Some(path) = &args.judge {
        let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        return finish(args, &serde_json::from_slice(&text)?);
    }
    let kinds = KINDS.iter().map(|(kind, _)| *kind);
    let kinds = kinds.filter(|kind| args.only.is_empty() || args.only.contains(kind));
    let options = Options {
        hosts: args.hosts,
        members: args.etcd,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(1..100_000)),
        duration: Duration::from_secs_f64(args.minutes * 60.0),
        ttl: Duration::from_secs(args.ttl),
        kinds: kinds.filter(|kind| !args.without.contains(kind)).collect(),
        strict: !args.no_strict,
        overlapping: !args.single,
    };
    if options.kinds.is_empty() {
        bail!("no kind of fault is left to draw");
    }
    eprintln!("seed {}", options.seed);
    let program = std::env::current_exe()?.with_file_name("fleet-copy");
    if !program.is_file() {
        bail!("no {}: build it first (`cargo build -p fleet-bench`)", program.display());
    }
    let dir = args.keep.join(options.seed.to_string());
    let mut campaign = Campaign::prepare(options, &program)?;
    let stop = interrupted()?;
    let done = campaign.run(&|broken| stop.load(Ordering::Relaxed) || (args.fail_fast && broken));
    campaign.keep(&dir)?;
    done?;
    eprintln!("record and journals: {}", dir.display());
    finish(args, campaign.record())
}

/// Prints the table; says whether all promises were kept.
fn finish(args: &Args, record: &Record) -> Result<bool> {
    let minutes = args.minutes;
    let table = report::table(record, &format!("make faults MINUTES={minutes} SEED={}", record.seed));
    println!("{table}");
    let breaches = judge(record);
    for breach in &breaches {
        let at = breach.at().map_or(String::new(), |at| format!(" at {:.3} s", at.as_secs_f64()));
        println!("BROKEN: {breach}{at} (seed {})", record.seed);
        for struck in breach.faults(record) {
            let (start, end) = (struck.start.as_secs_f64(), struck.end.as_secs_f64());
            println!("  during: {}, {start:.3} s to {end:.3} s", struck.fault);
        }
    }
    if let Some(path) = &args.write {
        TABLE.fill(path, &table)?;
    }
    Ok(breaches.is_empty())
}

/// Set by the first Ctrl-C: the round that is under way is done, and the table made.
fn interrupted() -> Result<&'static AtomicBool> {
    static STOP: AtomicBool = AtomicBool::new(false);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            eprintln!("\nending after this round");
            STOP.store(true, Ordering::Relaxed);
        }
    });
    Ok(&STOP)
}

fn kind(text: &str) -> Result<Kind, String> {
    let quoted = format!("\"{text}\"");
    serde_json::from_str(&quoted).map_err(|_| {
        let known: Vec<String> = KINDS.iter().map(|(kind, _)| format!("{kind:?}")).collect();
        format!("kinds of faults are {}", known.join(", "))
    })
}
