//! `fleet-sim`: plays scripts that seeds draw. `fleet-sim 1000` plays a thousand, and a quarter as many of elections
//! alone; `SEED=7 fleet-sim` shows one and what happens in it, `ELECTIONS= SEED=7 fleet-sim` one of elections, and
//! `SCRIPT=FILE fleet-sim` one that was kept.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use fleet_sim::{Outcome, Scenario, Script, play, world};
use tracing_subscriber::EnvFilter;

/// Scenarios when nothing is said.
const SCENARIOS: u64 = 1000;
/// Seeds that are told of when they broke a promise.
const TOLD: u64 = 20;
/// Lines of a story before a violation.
const BEFORE: usize = 60;

fn main() -> ExitCode {
    world::catch_panics();
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = variable("SCRIPT").map(PathBuf::from) {
        let script = std::fs::read_to_string(&path).map_err(anyhow::Error::from).and_then(|text| text.parse());
        return Ok(show(&script.with_context(|| format!("cannot play {}", path.display()))?));
    }
    if let Some(seed) = variable("SEED") {
        let seed = seed.to_str().and_then(|seed| seed.parse().ok()).context("SEED is no number")?;
        let elections = std::env::var_os("ELECTIONS").is_some();
        return Ok(show(&Script::draw(if elections { Scenario::Elections } else { Scenario::Faults }, seed)));
    }
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u64>());
    let mut number = |default| numbers.next().unwrap_or(Ok(default)).context("`fleet-sim SCENARIOS FIRST` are numbers");
    let (count, first) = (number(SCENARIOS)?, number(1)?);
    Ok(run_many(first, count))
}

/// Plays one and prints it and its story.
fn show(script: &Script) -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_target(false).without_time().init();
    println!("{script}");
    let outcome = play(script);
    outcome.record.story().iter().for_each(|line| println!("{line}"));
    verdict(&outcome)
}

fn verdict(outcome: &Outcome) -> ExitCode {
    let record = &outcome.record;
    for violation in &outcome.violations {
        let at = violation.at.map(|at| format!(" at {:.3}", record.seconds(at))).unwrap_or_default();
        let kind = if record.scenario == Scenario::Elections { "ELECTIONS= " } else { "" };
        eprintln!("{kind}SEED={}{at}: {violation}", record.seed);
    }
    if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Plays many on all processors; those that broke a promise are told of, the first with its script and what led to it.
fn run_many(first: u64, count: u64) -> ExitCode {
    let start = Instant::now();
    let next = AtomicU64::new(first);
    let failed = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let elections = seed.is_multiple_of(4).then_some(Scenario::Elections);
                    for scenario in [Scenario::Faults].into_iter().chain(elections) {
                        let script = Script::draw(scenario, seed);
                        let outcome = play(&script);
                        if outcome.violations.is_empty() {
                            continue;
                        }
                        let before = failed.fetch_add(1, Ordering::Relaxed);
                        if before == 0 {
                            eprintln!("{script}");
                            lead_up(&outcome);
                        }
                        if before < TOLD {
                            verdict(&outcome);
                        }
                    }
                }
            });
        }
    });
    let failed = failed.into_inner();
    println!("{count} scenarios in {:.0} s, {failed} broke a promise", start.elapsed().as_secs_f64());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The last events before the first violation.
fn lead_up(outcome: &Outcome) {
    let first = outcome.violations.iter().filter_map(|violation| violation.at).min();
    let record = &outcome.record;
    let story = record.story();
    let end = first.map(|at| format!("{:9.3}", record.seconds(at)));
    let until =
        end.map_or(story.len(), |end| story.iter().take_while(|line| **line <= end || line.starts_with(&end)).count());
    story[until.saturating_sub(BEFORE)..until].iter().for_each(|line| eprintln!("{line}"));
}
