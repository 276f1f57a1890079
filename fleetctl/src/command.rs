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
mod verb;
mod verify;
mod version;
mod why;

use std::sync::Arc;

use clap::Subcommand;

use crate::{context::Context, error::Failure, global::Global, output};

/// What a command returns: its exit code.
pub type Outcome = Result<u8, Failure>;

#[derive(Subcommand, Debug)]
pub enum Command {
    Cat(cat::CatArgs),
    Completion(completion::CompletionArgs),
    Destroy(destroy::DestroyArgs),
    Drain(drain::DrainArgs),
    Evict(evict::EvictArgs),
    FdForward(fd_forward::FdForwardArgs),
    ImportV2(import_v2::ImportV2Args),
    Journal(journal::JournalArgs),
    ListMachines(list_machines::ListMachinesArgs),
    ListUnitFiles(list_unit_files::ListUnitFilesArgs),
    ListUnits(list_units::ListUnitsArgs),
    Load(load::LoadArgs),
    #[command(hide = true)]
    Man(man::ManArgs),
    Restart(restart::RestartArgs),
    Ssh(ssh::SshArgs),
    Start(start::StartArgs),
    Status(status::StatusArgs),
    Stop(stop::StopArgs),
    Submit(submit::SubmitArgs),
    Undrain(undrain::UndrainArgs),
    Unload(unload::UnloadArgs),
    Verify(verify::VerifyArgs),
    Version(version::VersionArgs),
    Why(why::WhyArgs),
}

/// Runs the command of a command line; without one, nothing. `definition` is what a command line may say.
///
/// # Errors
/// Whatever keeps it from doing what it was asked.
pub async fn run(command: Option<Command>, global: &Global, definition: fn() -> clap::Command) -> Outcome {
    let context = || Ok::<_, Failure>(Context { client: Arc::new(global.client()?), remote: global.remote()? });
    match command {
        // These need no cluster.
        None => Ok(0),
        Some(Command::Completion(args)) => completion::run(&args),
        Some(Command::FdForward(args)) => fd_forward::run(args).await,
        Some(Command::Man(args)) => man::run(&args, definition),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Version(args)) => version::run(&args, global.unasking_client()).await,
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

/// CoreOS fleet's answer to a verb without units, which scripts with empty lists rely on.
fn no_units_given() -> Outcome {
    output::note("No units given");
    Ok(0)
}
