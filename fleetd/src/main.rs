//! `fleetd`: the daemon of fleet. Reads its configuration, sets up the log, and runs.

mod man;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};
use fleetd::{
    cloud_config::{self, CloudConfig},
    config::{Config, Faults, Read},
    daemon::{self, Role},
    dev::{self, Places},
    node::dead_man,
};
use tracing::warn;
use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt};

/// The daemon of fleet: runs the units of a cluster on this host.
#[derive(Parser)]
#[command(version, after_help = "Options in the file and their FLEET_* variables: see /etc/fleet/fleet.conf.")]
struct Args {
    /// Read this file instead of /etc/fleet/fleet.conf
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run a cluster of one: this machine, with an etcd of its own
    ///
    /// For a laptop. Units run in your own systemd (`systemctl --user`), or in the machine's when you are root. State is
    /// kept between runs. Ctrl-C ends fleetd and etcd; units that run go on, and the next run takes them up.
    Dev {
        /// Stop the units that an earlier run left, and end
        #[arg(long)]
        stop_units: bool,
    },
    /// Wait until this host's lease may run out, then stop units with OnPartition=stop
    ///
    /// For fleet-fence.service, which runs while fleetd does not.
    Fence,
    CloudConfig(CloudConfig),

    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man {
        /// Where to
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    // A part that breaks must not leave the others keeping up appearances: systemd starts all of them again.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    match run(&args) {
        Ok(code) => code,
        Err(error) => {
            match error.downcast_ref::<Faults>() {
                Some(Faults(faults)) => faults.iter().for_each(|fault| eprintln!("error: {fault}")),
                None => eprintln!("error: {error:#}"),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(Command::Man { directory }) = &args.command {
        return man::write(Args::command(), directory).map(|()| ExitCode::SUCCESS);
    }
    let places = matches!(args.command, Some(Command::Dev { .. })).then(Places::of_this_process).transpose()?;
    let load = || match &places {
        Some(places) => dev::configuration(args.config.as_deref(), places, std::env::vars()),
        None => Config::load(args.config.as_deref(), std::env::vars()),
    };
    let loaded = load();
    let (config, warnings) = match (&args.command, loaded) {
        // A configuration that cannot be used may be the very reason why fleetd is down. What can be used of it counts:
        // it may say where the units are.
        (Some(Command::Fence | Command::CloudConfig(_)), Err(_)) => {
            let Read { config, warnings, faults } = Config::load_usable(args.config.as_deref(), std::env::vars());
            (config, [warnings, faults].concat())
        }
        (_, loaded) => loaded?,
    };
    let level = set_up_log(&config);
    warnings.iter().for_each(|warning| warn!("{warning}"));
    let reload = || {
        let (config, warnings) = load()?;
        warnings.iter().for_each(|warning| warn!("{warning}"));
        Ok(config)
    };
    // Two threads: the work is waiting, and a host's processors belong to its units.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let ended = match (&args.command, &places) {
        (Some(Command::CloudConfig(args)), _) => return runtime.block_on(cloud_config::run(args, load)),
        (Some(Command::Dev { stop_units: true }), Some(places)) => runtime.block_on(dev::stop_units(config, places)),
        (Some(Command::Dev { .. }), Some(places)) => runtime.block_on(dev::run(config, places)),
        (Some(Command::Fence), _) => runtime.block_on(dead_man::run(&config)),
        _ => runtime.block_on(daemon::run(config, Role::Service, reload, level)),
    };
    ended.map(|()| ExitCode::SUCCESS)
}

/// Logs to stderr: plain lines with fields, or JSON. The journal adds the time. Returns what changes the level.
fn set_up_log(config: &Config) -> impl Fn(&Config) + use<> {
    let (filter, handle) = reload::Layer::new(filter(config));
    let log = fmt::layer().with_writer(std::io::stderr).with_target(false);
    let log = if config.log_json { log.json().boxed() } else { log.with_ansi(false).without_time().boxed() };
    tracing_subscriber::registry().with(filter).with(log).init();
    // It fails when there is no log any more.
    move |config| drop(handle.reload(self::filter(config)))
}

fn filter(config: &Config) -> EnvFilter {
    let level = match config.verbosity {
        0 => "info",
        1 => "fleetd=debug,info",
        _ => "fleetd=trace,debug",
    };
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level))
}
