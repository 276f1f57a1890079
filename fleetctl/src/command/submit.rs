//! `fleetctl submit`, and the creating of units that `load`, `start` and `restart` begin with.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::ArgValueCompleter;
use fleet_api::{Change, Unit, options_of};
use fleet_client::ClientError;
use fleet_core::unit::{UnitFile, UnitName};

use super::{Context, Outcome, no_units_given};
use crate::{
    completion,
    error::{Ending, Failure},
    output,
    units::{self, Argument, Doubts, Misnamed, Source, creating},
};

/// Give units to the cluster without starting them
///
/// Creates each unit that does not exist yet: from the file of that path; else, for `a@b.service`, from the
/// template `a@.service` in the cluster; else from the template's file beside the given path.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    fleetctl submit units/hello.service units/web@.service")]
pub struct SubmitArgs {
    #[command(flatten)]
    pub files: FileArgs,
}

/// Arguments of commands that create units.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// Units, by name or by the path of their file
    #[arg(value_name = "UNIT", add = ArgValueCompleter::new(completion::units_and_files))]
    pub units: Vec<String>,
    /// Give units that exist the contents of the file, if it differs
    #[arg(long)]
    pub replace: bool,
    /// Accepted and ignored: signed units are gone
    #[arg(long, hide = true)]
    sign: bool,
}

/// What a command wants of its units, and whose contents it may replace.
#[derive(Clone, Copy)]
pub struct Intent {
    /// The desired state that it leads to.
    pub desired: &'static str,
    /// The desired states in which `--replace` is allowed; `None` when it was not given.
    pub replaceable: Option<&'static [&'static str]>,
}

/// A unit after [`create`].
pub struct Created {
    /// Its name.
    pub name: String,
    /// Whether it runs on every machine that fits.
    pub global: bool,
    /// Its desired state now.
    pub desired: String,
    /// Whether this command brought about its contents.
    pub changed: bool,
}

pub async fn run(context: &Context, args: &SubmitArgs) -> Outcome {
    if args.files.units.is_empty() {
        return no_units_given();
    }
    create(context, &args.files.units, args.files.intent("inactive", &["inactive"])).await?;
    Ok(0)
}

impl FileArgs {
    /// The intent of a command with these arguments.
    pub fn intent(&self, desired: &'static str, replaceable: &'static [&'static str]) -> Intent {
        Intent { desired, replaceable: self.replace.then_some(replaceable) }
    }
}

/// What is to be sent for a unit.
pub struct Submission {
    /// Its name.
    pub name: String,
    /// Its contents.
    pub file: UnitFile,
    /// Its desired state.
    pub desired: &'static str,
}

/// Creates what does not exist, replaces what may be replaced, and returns all units of the arguments in order.
///
/// New contents are sent together with the desired state: no half-way state is ever scheduled, and a unit that is
/// replaced while it runs stays on its machine. All arguments are looked at before anything is sent.
///
/// # Errors
/// The first argument that cannot be made a unit.
pub async fn create(context: &Context, texts: &[String], intent: Intent) -> Result<Vec<Created>, Failure> {
    let arguments = Argument::all(texts);
    let names = Argument::names(texts);
    let known = context.known(&names, "Error creating units").await?;
    let known: BTreeMap<&str, &Unit> = known.iter().map(|unit| (&*unit.name, unit)).collect();
    let mut templates = Templates::default();
    let mut doubts = Doubts::default();
    let mut created = Vec::new();
    let mut submissions = Vec::new();
    for argument in &arguments {
        let (source, existing) = match known.get(&*argument.name).copied() {
            Some(unit) => (replacement(argument, unit, intent)?, Some(unit)),
            None => (Some(templates.contents(context, argument).await?), None),
        };
        if let Some(source) = source {
            let name = argument.unit_name()?;
            let global = units::check_requirements(&source, &name)?;
            doubts.tell(&source, &name);
            let file = source.file;
            // A template never runs: fleetd says so when it is asked for more.
            let desired = if name.is_template() { "inactive" } else { intent.desired };
            submissions.push(Submission { name: argument.name.clone(), file, desired });
            created.push(Created { name: argument.name.clone(), global, desired: desired.into(), changed: true });
        } else if let Some(unit) = existing {
            let (global, desired) = (units::is_global(unit), unit.desired_state.clone());
            created.push(Created { name: argument.name.clone(), global, desired, changed: false });
        }
    }
    send(context, submissions).await?;
    for unit in created.iter().filter(|unit| unit.changed) {
        // What is replaced in place never was inactive.
        if known.get(&*unit.name).is_none_or(|before| before.desired_state == "inactive") {
            let state = if unit.global { "" } else { "inactive" };
            output::result(&format!("Unit {} {state}", unit.name))?;
        }
    }
    Ok(created)
}

/// Sends contents, several units at a time.
///
/// # Errors
/// The first that fleetd refuses; some others may have been taken.
pub async fn send(context: &Context, submissions: Vec<Submission>) -> Result<(), Failure> {
    let change = |Submission { name, file, desired }: Submission| Change {
        name,
        desired_state: desired.into(),
        options: options_of(&file),
        ..Change::default()
    };
    let sent = context.client.change(submissions.into_iter().map(change).collect());
    sent.await.map(drop).map_err(|(name, error): (String, ClientError)| {
        error.during(&format!("Error creating units: failed creating unit {name}"))
    })
}

/// The contents that a unit of the cluster shall get; `None` when it stays as it is.
fn replacement(argument: &Argument, unit: &Unit, intent: Intent) -> Result<Option<Source>, Failure> {
    let Some(replaceable) = intent.replaceable else {
        // A file that cannot be read is no concern as long as the unit exists.
        if let Ok(Some(source)) = argument.local()
            && units::differs(unit, &source.file)
        {
            warn_of_difference(&unit.name, &unit.desired_state, intent, &source);
        }
        return Ok(None);
    };
    let name = &unit.name;
    let source = argument.local()?.ok_or_else(|| match Misnamed::of(argument) {
        Some(Misnamed { message, mend }) => creating(&message).hint(mend),
        None => creating(&format!("unable to find Unit({name}) on filesystem")),
    })?;
    if !units::differs(unit, &source.file) {
        output::result(&format!("Found same Unit({name}) in Registry, nothing to do"))?;
        return Ok(None);
    }
    if !replaceable.contains(&&*unit.desired_state) {
        let state = &unit.desired_state;
        output::note(&format!(
            "warning: {name} is {state} and keeps its contents, which differ from the file {}",
            source.place
        ));
        hint_to_replace(state, intent, &source);
        return Ok(None);
    }
    Ok(Some(source))
}

fn warn_of_difference(known: &str, state: &str, intent: Intent, source: &Source) {
    let place = &source.place;
    output::note(&format!(
        "warning: {known} keeps the contents that the cluster has, which differ from the file {place}"
    ));
    hint_to_replace(state, intent, source);
}

/// Names the command that gives a unit in this state new contents, and does not take it further than asked for.
fn hint_to_replace(state: &str, intent: Intent, source: &Source) {
    let verb = match (state, intent.desired) {
        ("launched", _) | (_, "launched") => "start",
        ("loaded", _) | (_, "loaded") => "load",
        _ => "submit",
    };
    output::note(&format!("hint: replace them with `fleetctl {verb} --replace {}`", source.place));
}

/// Templates of the cluster that were asked for, so that a hundred instances ask once.
#[derive(Default)]
struct Templates(BTreeMap<UnitName, Option<UnitFile>>);

impl Templates {
    /// The contents of a unit that does not exist yet.
    async fn contents(&mut self, context: &Context, argument: &Argument) -> Result<Source, Failure> {
        if let Some(source) = argument.local()?.filter(|source| !source.of_template) {
            return Ok(source);
        }
        let name = argument.unit_name()?;
        let Some(template) = name.template() else { return Err(argument.not_found()) };
        let beside = argument.local_template()?;
        match (self.get(context, &template).await?, beside) {
            (Some(file), beside) => {
                if let Some(beside) = beside.filter(|beside| beside.file.hash() != file.hash()) {
                    let submit = Intent { desired: "inactive", replaceable: None };
                    warn_of_difference(template.as_str(), "inactive", submit, &beside);
                }
                Ok(Source { file, of_template: true, place: template.to_string() })
            }
            (None, Some(beside)) => Ok(beside),
            (None, None) => Err(argument.not_found()),
        }
    }

    async fn get(&mut self, context: &Context, template: &UnitName) -> Result<Option<UnitFile>, Failure> {
        if let Some(known) = self.0.get(template) {
            return Ok(known.clone());
        }
        let unit = context.client.unit(template.as_str()).await.map_err(|error| {
            error.during(&format!("Error creating units: error retrieving template Unit({template}) from Registry"))
        })?;
        let file = unit
            .map(|unit| units::file_of(&unit))
            .transpose()
            .map_err(|error| creating(&format!("template Unit({template}) cannot be written as a file: {error}")))?;
        self.0.insert(template.clone(), file.clone());
        Ok(file)
    }
}
