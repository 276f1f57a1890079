//! `fleetctl`, the client of fleet.

mod cli;
mod command;
mod completion;
mod context;
mod dump;
mod error;
mod follow;
mod format;
mod global;
mod help;
mod machines;
mod output;
mod remote;
mod table;
mod trace;
mod units;
mod wait;

use std::process::ExitCode;

use tokio::runtime;

fn main() -> ExitCode {
    completion::answer(cli::definition, |words| cli::unfinished(words));
    let cli = cli::parse();
    let runtime = match runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            output::note(&format!("error: cannot start: {error}"));
            return error::FAILED.into();
        }
    };
    let outcome = runtime.block_on(command::run(cli.command, &cli.global, cli::definition));
    // A thread that still reads standard input would hold up an orderly end.
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.lines().iter().for_each(|line| output::note(line));
            failure.exit_code()
        }
    }
}
