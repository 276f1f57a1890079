//! The commands, one file each.

mod cat;
mod completion;
mod destroy;
mod drain;
mod evict;
mod fd_forward;
mod import_v2;
mod journal;
mod list;
mod list_machines;
mod list_unit_files;
mod list_units;
mod load;
mod man;
mod restart;
mod ssh;
mod start;
mod status;
mod stop;
mod submit;
mod undrain;
mod unload;
mod verify;
mod version;
mod why;

use std::{collections::BTreeSet, sync::Arc};

use clap::Subcommand;
use fleet_api::{Again, Change, Unit};

use crate::{
    cli::Cli,
    client::Client,
    error::{ClientError, Failure},
    output,
    remote::Ssh,
};

pub use restart::restarting;

/// What a command returns: its exit code.
pub type Outcome = Result<u8, Failure>;

/// What commands work with.
pub struct Context {
    /// The way to fleetd.
    pub client: Arc<Client>,
    /// The way to the machines.
    pub ssh: Ssh,
}

#[derive(Subcommand, Debug)]
pub enum Command {
    Cat(cat::Cat),
    Completion(completion::Completion),
    Destroy(destroy::Destroy),
    Drain(drain::Drain),
    Evict(evict::Evict),
    FdForward(fd_forward::FdForward),
    ImportV2(import_v2::ImportV2),
    Journal(journal::Journal),
    ListMachines(list_machines::ListMachines),
    ListUnitFiles(list_unit_files::ListUnitFiles),
    ListUnits(list_units::ListUnits),
    Load(load::Load),
    #[command(hide = true)]
    Man(man::Man),
    Restart(restart::Restart),
    Ssh(ssh::SshArgs),
    Start(start::Start),
    Status(status::Status),
    Stop(stop::Stop),
    Submit(submit::Submit),
    Undrain(undrain::Undrain),
    Unload(unload::Unload),
    Verify(verify::Verify),
    Version(version::Version),
    Why(why::Why),
}

/// Runs the command of a command line.
///
/// # Errors
/// Whatever keeps it from doing what it was asked.
pub async fn run(cli: Cli) -> Outcome {
    let Cli { global, command, .. } = cli;
    let context = || Ok::<_, Failure>(Context { client: Arc::new(global.client()?), ssh: global.ssh()? });
    match command {
        // These need no cluster.
        None => Ok(0),
        Some(Command::Completion(args)) => completion::run(&args),
        Some(Command::FdForward(args)) => fd_forward::run(args).await,
        Some(Command::Man(args)) => man::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Version(args)) => version::run(&args),
        Some(Command::Cat(args)) => cat::run(&context()?, &args).await,
        Some(Command::Destroy(args)) => destroy::run(&context()?, &args).await,
        Some(Command::Drain(args)) => drain::run(&context()?, &args).await,
        Some(Command::Evict(args)) => evict::run(&context()?, &args).await,
        Some(Command::ImportV2(args)) => import_v2::run(&context()?, &args).await,
        Some(Command::Journal(args)) => journal::run(&context()?, &args).await,
        Some(Command::ListMachines(args)) => list_machines::run(&context()?, &args).await,
        Some(Command::ListUnitFiles(args)) => list_unit_files::run(&context()?, &args).await,
        Some(Command::ListUnits(args)) => list_units::run(&context()?, &args).await,
        Some(Command::Load(args)) => load::run(&context()?, &args).await,
        Some(Command::Restart(args)) => restart::run(&context()?, &args).await,
        Some(Command::Ssh(args)) => ssh::run(&context()?, &args).await,
        Some(Command::Start(args)) => start::run(&context()?, &args).await,
        Some(Command::Status(args)) => status::run(&context()?, &args).await,
        Some(Command::Stop(args)) => stop::run(&context()?, &args).await,
        Some(Command::Submit(args)) => submit::run(&context()?, &args).await,
        Some(Command::Undrain(args)) => undrain::run(&context()?, &args).await,
        Some(Command::Unload(args)) => unload::run(&context()?, &args).await,
        Some(Command::Why(args)) => why::run(&context()?, &args).await,
    }
}

impl Context {
    /// The units among `names` that the cluster knows, in that order, for a command that is `doing` something.
    ///
    /// # Errors
    /// The first request that fails. An answer that is not of this moment, because etcd is away, is no ground for
    /// changing something, nor for finding that nothing is to be changed.
    async fn known(&self, names: &[String], doing: &str) -> Result<Vec<Unit>, Failure> {
        let found = self.client.units_named(names).await.map_err(|(name, error): (String, ClientError)| {
            error.during(&format!("{doing}: error retrieving Unit({name}) from Registry"))
        })?;
        if self.client.was_aged() {
            return Err(Failure::said(format!("{doing}: fleet server unable to communicate with etcd")));
        }
        Ok(found)
    }

    /// Says what is wanted of several units, and what is asked of those of which it was wanted before.
    ///
    /// # Errors
    /// The first request that fails.
    async fn set_desired(&self, names: &[String], desired: &'static str, again: Again) -> Result<(), ClientError> {
        let change =
            |name: &String| Change { name: name.clone(), desired_state: desired.into(), again, ..Change::default() };
        self.client.change(names.iter().map(change).collect()).await.map(drop).map_err(|(_, error)| error)
    }
}

/// CoreOS fleet's answer to a verb without units, which scripts with empty lists rely on.
fn no_units_given() -> Outcome {
    output::note("No units given");
    Ok(0)
}

/// Says which names the cluster does not know. CoreOS fleet passes over them, and exits with 0.
fn tell_unknown<'n>(names: &[String], known: impl IntoIterator<Item = &'n str>) {
    let known: BTreeSet<&str> = known.into_iter().collect();
    for name in names.iter().filter(|name| !known.contains(&***name)) {
        output::note(&format!("warning: unit {name} does not exist"));
    }
}

/// Says what became of units: `stopped a.service b.service`.
fn tell(done: &str, names: &[String]) {
    if !names.is_empty() {
        output::note(&format!("{done} {}", names.join(" ")));
    }
}
