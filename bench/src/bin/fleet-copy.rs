//! What units of the fault tests run: a program that writes down when it runs, where no fault of a host reaches.
//!
//! Each run has a file of its own: what it is, the time of its last heartbeat, and the time of its end when it was
//! asked to end. All times are CLOCK_BOOTTIME, which hosts of one machine share.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use fleet_bench::soak::copies::{Birth, HEARTBEAT, boottime, format_time};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

/// Write down when this program runs.
#[derive(Parser)]
#[command(name = "fleet-copy", after_help = "Example: ExecStart=/usr/lib/fleet-lab/fleet-copy web@1.service")]
struct Args {
    /// The unit that runs it.
    unit: String,
    /// Fail at once.
    #[arg(long)]
    fail: bool,
    /// Seconds from being asked to end to the end.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    linger: f64,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(&Args::parse())));
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<ExitCode> {
    let mut asked = signal(SignalKind::terminate())?;
    let born = boottime();
    let host = fs::read_to_string("/etc/hostname")?.trim().to_owned();
    let invocation = std::env::var("INVOCATION_ID").context("not started by systemd")?;
    let birth = Birth { unit: args.unit.clone(), host, invocation, start: born };
    let (path, head) = (birth.path(fleet_lab::OUTSIDE.as_ref()), birth.line()?);
    fs::create_dir_all(path.parent().context("no directory")?)?;
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all_at(format!("{head}\n{}\n", format_time(born)).as_bytes(), 0)?;
    let beat = |now: Duration| file.write_all_at(format_time(now).as_bytes(), head.len() as u64 + 1);
    let end = |now: Duration| {
        let line = format!("\n{}\n", format_time(now));
        file.write_all_at(line.as_bytes(), (head.len() + 1 + format_time(now).len()) as u64)
    };
    if args.fail {
        end(boottime())?;
        return Ok(ExitCode::FAILURE);
    }
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut last = None;
    loop {
        tokio::select! {
            _ = beats.tick() => beat(boottime())?,
            _ = asked.recv(), if last.is_none() => {
                last = Some(Instant::now() + Duration::from_secs_f64(args.linger));
            }
            () = async { match last { Some(at) => sleep_until(at).await, None => std::future::pending().await } } => break,
        }
    }
    end(boottime())?;
    Ok(ExitCode::SUCCESS)
}
