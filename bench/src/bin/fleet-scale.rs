//! What `fleet-lab sim` runs: simulated machines on a real etcd, and what they cost.

use std::{
    env,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use fleet_bench::{
    place::{GLOBALS, SCALE},
    scale::{
        campaign::{self, Options},
        globals, report,
    },
};
use tracing_subscriber::EnvFilter;

/// Run simulated machines on a real etcd, and tell what they cost.
///
/// Each machine is a real fleetd but for its systemd and its disk, which are in memory. Units are submitted through
/// the HTTP API; then some are changed, the engine's leader is restarted, and some machines lose their power. After
/// each step every unit must be reported active by exactly one machine. Needs etcd and etcdctl, but not root.
#[derive(Parser)]
#[command(
    name = "fleet-lab sim",
    bin_name = "fleet-lab sim",
    after_help = "Example: fleet-lab sim --machines 1000 --units 20000"
)]
struct Args {
    /// Number of machines.
    #[arg(long, value_name = "N", default_value_t = 100)]
    machines: usize,
    /// Number of units.
    #[arg(long, value_name = "M", default_value_t = 2000)]
    units: usize,
    /// Measure so many global units on light machines instead, which only listen for what they are to run.
    #[arg(long, value_name = "UNITS", conflicts_with_all = ["units", "change", "kill", "idle", "floors"])]
    globals: Option<usize>,
    /// Only be a leader that learns of the cluster in this etcd, and say as JSON what that took.
    #[arg(long, value_name = "URL", hide = true)]
    leader: Option<String>,
    /// Units that get new contents; otherwise a twentieth.
    #[arg(long, value_name = "UNITS")]
    change: Option<usize>,
    /// Machines that lose their power; otherwise a twentieth.
    #[arg(long, value_name = "MACHINES")]
    kill: Option<usize>,
    /// agent_ttl in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    ttl: u64,
    /// How long to watch the cluster while nothing is done.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    idle: u64,
    /// How often to measure plain etcd.
    #[arg(long, value_name = "TIMES", default_value_t = 5)]
    floors: usize,
    /// The longest that a step may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    patience: u64,
    /// Put the tables into this file, between its two marks.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match scale(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn scale(args: &Args) -> Result<()> {
    ensure!(args.ttl >= 2, "--ttl {}: etcd makes no lease shorter than 2 s", args.ttl);
    if let Some(url) = &args.leader {
        let leader = leaders_runtime()?.block_on(globals::leader::learn(url))?;
        println!("{}", serde_json::to_string(&leader)?);
        return Ok(());
    }
    if let Some(count) = args.globals {
        return measure_globals(args, count);
    }
    let options = Options {
        machines: args.machines,
        units: args.units,
        changed: args.change.unwrap_or(args.units.div_ceil(20)),
        killed: args.kill.unwrap_or(args.machines.div_ceil(20)),
        ttl: Duration::from_secs(args.ttl),
        idle: Duration::from_secs(args.idle),
        floors: args.floors.max(1),
        patience: Duration::from_secs(args.patience),
    };
    ensure!(
        options.machines >= 3,
        "--machines {}: at least 3 are needed, as one is restarted and one lost",
        options.machines
    );
    ensure!(options.changed <= options.units, "--change {}: there are only {} units", options.changed, options.units);
    ensure!(
        options.killed <= 2.max(options.machines / 5),
        "--kill {}: more than a fifth of {} machines are held as a trouble of the network",
        options.killed,
        options.machines
    );
    if let Some(path) = &args.write {
        SCALE.look(path)?;
    }
    let outcome = runtime()?.block_on(campaign::run(&options, teller()))?;
    let section = report::section(&outcome);
    println!("{section}");
    args.write.as_deref().map_or(Ok(()), |path| SCALE.fill(path, &section))
}

fn measure_globals(args: &Args, globals: usize) -> Result<()> {
    ensure!(globals > 0 && args.machines > 0, "at least one machine and one global unit are needed");
    if let Some(path) = &args.write {
        GLOBALS.look(path)?;
    }
    let options = globals::Options {
        machines: args.machines,
        globals,
        joining: args.machines.div_ceil(10),
        ttl: Duration::from_secs(args.ttl),
        patience: Duration::from_secs(args.patience),
        program: env::current_exe().context("cannot find this program")?,
    };
    let outcome = runtime()?.block_on(globals::run(&options, teller()))?;
    let section = globals::section(&outcome);
    println!("{section}");
    args.write.as_deref().map_or(Ok(()), |path| GLOBALS.fill(path, &section))
}

/// Says what comes next, and how long it has taken until then.
fn teller() -> impl Fn(&str) {
    let start = Instant::now();
    move |next| eprintln!("{:7.1} s  {next}", start.elapsed().as_secs_f64())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start")
}

/// One with as many threads as fleetd has: each has memory of its own from which it allocates.
fn leaders_runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start")
}
