//! `fleetd`: the daemon of fleet. Reads its configuration, sets up the log, and runs.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use fleetd::{config::Config, daemon};
use tracing::warn;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// The daemon of fleet: runs the units of a cluster on this host.
#[derive(Parser)]
#[command(version, after_help = "Options in the file and their FLEET_* variables: see /etc/fleet/fleet.conf.")]
struct Args {
    /// Read this file instead of /etc/fleet/fleet.conf
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let load = || Config::load(args.config.as_deref(), std::env::vars());
    let (config, warnings) = load()?;
    let level = set_up_log(&config);
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let reload = || {
        let (config, warnings) = load()?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        level(&config)?;
        Ok(config)
    };
    // Two threads: the work is waiting, and a host's processors belong to its units.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(daemon::run(config, reload))
}

/// Logs to stderr: plain lines with fields, or JSON. The journal adds the time. Returns what changes the level.
fn set_up_log(config: &Config) -> impl Fn(&Config) -> anyhow::Result<()> + use<> {
    let (filter, handle) = reload::Layer::new(filter(config));
    let log = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = if config.log_json { log.json().boxed() } else { log.with_ansi(false).without_time().boxed() };
    tracing_subscriber::registry().with(filter).with(log).init();
    move |config| Ok(handle.reload(self::filter(config))?)
}

fn filter(config: &Config) -> EnvFilter {
    let level = match config.verbosity {
        0 => "info",
        1 => "fleetd=debug,info",
        _ => "fleetd=trace,debug",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}
