//! `fleetctl import-v2`

use std::{
    collections::HashMap,
    fs,
    io::{self, Read},
};

use clap::{Args, ValueHint};
use fleet_api::{Again, Unit};
use fleet_client::os_message;
use fleet_core::model::Desired;

use super::{
    Context, Outcome,
    submit::{self, Submission},
};
use crate::{
    dump::{Dump, DumpedUnit},
    error::{Ending, FAILED, Failure},
    output, units,
};

/// Submit the units of a CoreOS fleet cluster
///
/// Reads a dump of CoreOS fleet's keys, as etcd's v2 API gives it, and submits every unit in it that the cluster
/// does not know. Units that it knows stay as they are. The whole dump is checked before anything is sent; units
/// that cannot be taken are reported and left out, and make the exit code 1.
///
/// Importing again is harmless, and goes on where an import has broken off.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    curl -s 'http://OLD-ETCD:2379/v2/keys/_coreos.com/fleet?recursive=true' > fleet-v2.json
    fleetctl import-v2 --dry-run fleet-v2.json
    fleetctl import-v2 --start fleet-v2.json")]
pub struct ImportV2Args {
    /// The dump, or `-` for standard input
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    file: String,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Load and start units that were loaded and started; do not wait for them
    #[arg(long)]
    start: bool,
}

/// What is to be done about one unit of a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: the cluster has it.
    Keep,
    /// Nothing: the cluster has a unit of that name, with other contents.
    Differs,
    /// The cluster has it. Bring it into this state.
    Set(Desired),
    /// The cluster lacks it. Submit it, in this state.
    Create(Desired),
}

pub async fn run(context: &Context, args: &ImportV2Args) -> Outcome {
    let json =
        read(&args.file).map_err(|error| Failure::new(format!("cannot read {}: {}", args.file, os_message(&error))))?;
    let dump = Dump::read(&json).map_err(|error| {
        Failure::new(format!("cannot import {}: {error}", args.file))
            .hint("get a dump with `curl 'http://OLD-ETCD:2379/v2/keys/_coreos.com/fleet?recursive=true'`")
    })?;
    let known = context.client.units().await.map_err(|error| error.during("Error retrieving list of units"))?;
    let known: HashMap<&str, &Unit> = known.iter().map(|unit| (&*unit.name, unit)).collect();
    let steps: Vec<(DumpedUnit, Step)> = dump
        .units
        .into_iter()
        .map(|unit| {
            let step = next_step(&unit, known.get(unit.name.as_str()).copied(), args.start);
            (unit, step)
        })
        .collect();
    if args.dry_run {
        steps.iter().try_for_each(|(unit, step)| output::result(&prospect(unit, *step)))?;
    } else {
        apply(context, &steps).await?;
    }
    for (name, fault) in &dump.faults {
        output::note(&format!("error: unit {name} is left out: {fault}"));
    }
    let differs = steps.iter().any(|(_, step)| *step == Step::Differs);
    Ok(if differs || !dump.faults.is_empty() { FAILED } else { 0 })
}

fn read(file: &str) -> io::Result<Vec<u8>> {
    if file != "-" {
        return fs::read(file);
    }
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn next_step(unit: &DumpedUnit, known: Option<&Unit>, start: bool) -> Step {
    // A template never runs: fleetd says so when it is asked for more.
    let desired = if start && !unit.name.is_template() { unit.desired } else { Desired::Inactive };
    match known {
        None => Step::Create(desired),
        Some(known) if units::differs(known, &unit.file) => Step::Differs,
        // A desired state that somebody has set here meanwhile counts more than the one in the dump.
        Some(known) if known.desired_state == "inactive" && desired != Desired::Inactive => Step::Set(desired),
        Some(_) => Step::Keep,
    }
}

/// What would be done, for `--dry-run`.
fn prospect(unit: &DumpedUnit, step: Step) -> String {
    let name = &unit.name;
    let verbs = |desired| match desired {
        Desired::Inactive => "",
        Desired::Loaded => " and loaded",
        Desired::Launched => " and started",
    };
    match step {
        Step::Keep => same(unit),
        Step::Differs => different(unit),
        Step::Set(desired) => format!("{}; it would be{}", same(unit), verbs(desired).trim_start_matches(" and")),
        Step::Create(desired) => format!("Unit {name} would be submitted{}", verbs(desired)),
    }
}

/// Submits first and says so, then tells what was triggered by that.
async fn apply(context: &Context, steps: &[(DumpedUnit, Step)]) -> Result<(), Failure> {
    let submission = |(unit, step): &(DumpedUnit, Step)| match step {
        Step::Create(desired) => {
            Some(Submission { name: unit.name.to_string(), file: unit.file.clone(), desired: desired.as_str() })
        }
        _ => None,
    };
    submit::send(context, steps.iter().filter_map(submission).collect()).await?;
    for desired in [Desired::Loaded, Desired::Launched] {
        let names: Vec<String> = steps
            .iter()
            .filter(|(_, step)| *step == Step::Set(desired))
            .map(|(unit, _)| unit.name.to_string())
            .collect();
        let setting = context.set_desired(&names, desired.as_str(), Again::No).await;
        setting.map_err(|error| error.during("Error starting units"))?;
    }
    for (unit, step) in steps {
        let name = &unit.name;
        match step {
            Step::Keep => output::result(&same(unit))?,
            Step::Differs => output::note(&different(unit)),
            Step::Create(_) => output::result(&format!("Unit {name} inactive"))?,
            Step::Set(_) => {}
        }
        match step {
            Step::Create(Desired::Loaded) | Step::Set(Desired::Loaded) => {
                output::result(&format!("Triggered unit {name} load"))?;
            }
            Step::Create(Desired::Launched) | Step::Set(Desired::Launched) => {
                output::result(&format!("Triggered unit {name} start"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn same(unit: &DumpedUnit) -> String {
    format!("Found same Unit({}) in Registry, nothing to do", unit.name)
}

fn different(unit: &DumpedUnit) -> String {
    format!("warning: {} keeps the contents that the cluster has, which differ from the dump", unit.name)
}

#[cfg(test)]
mod tests {
    use fleet_api::options_of;
    use fleet_core::unit::{UnitFile, UnitName};

    use super::*;

    fn unit(name: &str) -> DumpedUnit {
        let file = UnitFile::parse("[Service]\nExecStart=/bin/true\n").unwrap();
        DumpedUnit { name: UnitName::new(name).unwrap(), file, desired: Desired::Launched }
    }

    #[test]
    fn units_are_created_once_and_started_only_when_told() {
        let unit = unit("a.service");
        let known = |desired: &str| Unit {
            name: "a.service".into(),
            options: options_of(&unit.file),
            desired_state: desired.into(),
            ..Unit::default()
        };
        assert_eq!(next_step(&unit, None, false), Step::Create(Desired::Inactive));
        assert_eq!(next_step(&unit, None, true), Step::Create(Desired::Launched));
        assert_eq!(next_step(&unit, Some(&known("inactive")), false), Step::Keep);
        assert_eq!(next_step(&unit, Some(&known("inactive")), true), Step::Set(Desired::Launched));
        assert_eq!(next_step(&unit, Some(&known("loaded")), true), Step::Keep);
        let other = Unit { options: Vec::new(), ..known("inactive") };
        assert_eq!(next_step(&unit, Some(&other), true), Step::Differs);
    }

    #[test]
    fn templates_are_never_started() {
        assert_eq!(next_step(&unit("a@.service"), None, true), Step::Create(Desired::Inactive));
    }
}
