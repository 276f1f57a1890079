//! Words that a shell offers for an argument: units and machines of the cluster, and files.
//!
//! Runs while somebody waits with a finger on the tab key: what does not come within [`TIME`] is not offered, and
//! nothing is ever said about failures.

use std::{
    ffi::{OsStr, OsString},
    sync::OnceLock,
    time::Duration,
};

use clap::{Arg, Command};
use clap_complete::{CompletionCandidate, PathCompleter, engine::ValueCompleter};
use fleet_api::{HeldMachine, Machine, Unit};
use fleet_client::{Client, ClientError};
use fleet_core::model::short;
use tokio::{runtime, time::timeout};

use crate::{global::Global, units};

/// The variable by which a shell's script asks for words instead of a run.
pub const VARIABLE: &str = "FLEETCTL_COMPLETE";

/// How long the shell may stand still.
const TIME: Duration = Duration::from_millis(300);

/// How the line that is being typed is read.
static READ: OnceLock<Read> = OnceLock::new();

/// The global flags in the words of a line that is not finished.
type Read = fn(&mut dyn Iterator<Item = OsString>) -> Option<Global>;

/// Answers the shell and ends the process, if it is the shell that asks: what `definition` takes, and the names of the
/// cluster that the flags mean which `read` finds in the line so far.
pub fn answer(definition: fn() -> Command, read: Read) {
    READ.get_or_init(|| read);
    clap_complete::CompleteEnv::with_factory(|| offered(definition())).var(VARIABLE).complete();
}

/// What may be offered: options only to those who have typed the `-`, lest they drown the units.
fn offered(definition: Command) -> Command {
    if std::env::args_os().last().is_some_and(|word| word.as_encoded_bytes().starts_with(b"-")) {
        return definition;
    }
    let quiet = |arg: Arg| if arg.is_positional() { arg } else { arg.hide(true) };
    definition.mut_args(quiet).mut_subcommands(|command| command.mut_args(quiet))
}

/// Names of units.
pub fn units(current: &OsStr) -> Vec<CompletionCandidate> {
    let units = ask(async |client| client.units().await);
    let candidate = |unit: Unit| CompletionCandidate::new(unit.name).help(Some(unit.desired_state.into()));
    beginning_with(current, units.into_iter().map(candidate))
}

/// Names of units, and files that could be units.
pub fn units_and_files(current: &OsStr) -> Vec<CompletionCandidate> {
    let files = PathCompleter::any().filter(|path| path.is_file() && units::has_suffix(&path.to_string_lossy()));
    let mut offered = units(current);
    let files = files.complete(current).into_iter();
    let files: Vec<_> = files.filter(|file| offered.iter().all(|unit| unit.get_value() != file.get_value())).collect();
    offered.extend(files);
    offered
}

/// Host names of machines; their IDs and addresses once something has been typed.
pub fn machines(current: &OsStr) -> Vec<CompletionCandidate> {
    let words =
        |machine: &Machine| vec![machine.hostname.clone(), short(&machine.id).into(), machine.primary_ip.clone()];
    machines_by(words, current)
}

/// IDs of machines; their addresses once something has been typed.
pub fn machine_ids(current: &OsStr) -> Vec<CompletionCandidate> {
    machines_by(|machine| vec![short(&machine.id).into(), machine.primary_ip.clone()], current)
}

/// IDs of machines that are gone and held.
pub fn gone_machines(current: &OsStr) -> Vec<CompletionCandidate> {
    let held = ask(async |client| client.held().await.map(|held| held.machines));
    let candidate = |machine: HeldMachine| CompletionCandidate::new(short(&machine.id).to_owned());
    beginning_with(current, held.into_iter().map(candidate))
}

/// What `ssh` takes.
pub fn machines_and_units(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut offered = machines(current);
    offered.extend(units(current));
    offered
}

fn machines_by(words: impl Fn(&Machine) -> Vec<String>, current: &OsStr) -> Vec<CompletionCandidate> {
    let candidates = ask(async |client| client.machines().await).into_iter().flat_map(|machine| {
        let help = format!("{} {}", machine.hostname, machine.primary_ip).trim().to_owned();
        let words = words(&machine).into_iter().filter(|word| !word.is_empty());
        // One word for each machine is enough until there is something to choose by.
        let words: Vec<_> = if current.is_empty() { words.take(1).collect() } else { words.collect() };
        words.into_iter().map(move |word| CompletionCandidate::new(word).help(Some(help.clone().into())))
    });
    beginning_with(current, candidates)
}

fn beginning_with(current: &OsStr, candidates: impl Iterator<Item = CompletionCandidate>) -> Vec<CompletionCandidate> {
    let begins = |candidate: &CompletionCandidate| {
        candidate.get_value().as_encoded_bytes().starts_with(current.as_encoded_bytes())
    };
    candidates.filter(begins).collect()
}

/// Asks the cluster that the command line so far means.
fn ask<T>(question: impl AsyncFnOnce(&Client) -> Result<Vec<T>, ClientError>) -> Vec<T> {
    let answer = || {
        let client = client()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async { timeout(TIME, question(&client)).await }).ok()?.ok()
    };
    answer().unwrap_or_default()
}

/// The client of the command line that is being typed, which stands after `--`.
fn client() -> Option<Client> {
    let mut words = std::env::args_os().skip_while(|word| word != "--").skip(1);
    let global = READ.get()?(&mut words)?;
    // A login takes longer than anybody waits for, and may ask for a password.
    let ssh = global.ssh().ok()?;
    if ssh.tunnel.is_some() { None } else { global.client().ok() }
}
