//! `fleetctl list-unit-files`

use clap::Args;
use fleet_api::Unit;
use fleet_client::ClientError;
use fleet_core::unit::UnitFile;
use serde::Serialize;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{Ending, FAILED},
    format::member,
    machines::Roster,
    output, units,
};

/// List the units that the cluster knows
///
/// Lists every unit, on a machine or not: what is wanted of it (DSTATE), how far that is (STATE), and the machine
/// it is scheduled to (TARGET).
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl list-unit-files --fields=unit,dstate,state,desc
    fleetctl list-unit-files -o json | jq -r '.[] | select(.machineID == null) | .unit'

JSON:
    An array of objects, by unit. With --watch, one array a line.
    unit          string
    hash          string: the contents that are wanted
    desiredState  string: inactive, loaded or launched
    currentState  the same; null for global units
    global        boolean: whether it runs on every machine that fits
    machineID     string, or null: the machine it is scheduled to
    primaryIP     string, or null: the address of that machine
    description   string, or null: the first Description= of [Unit]")]
pub struct ListUnitFilesArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Columns: unit,hash,dstate,state,target, if not given; also global and desc
    #[arg(long, value_name = "FIELDS", default_value = "unit,hash,dstate,state,target", hide_default_value = true)]
    fields: String,
}

/// A unit, and what its contents say.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    unit: String,
    hash: Option<String>,
    desired_state: Option<String>,
    current_state: Option<String>,
    global: bool,
    #[serde(rename = "machineID")]
    machine_id: Option<String>,
    #[serde(rename = "primaryIP")]
    primary_ip: Option<String>,
    description: Option<String>,
}

impl list::Row for Row {
    fn unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
}

/// Deprecated by `target`, which also tells of global units.
const TMACHINE: &str = "tmachine";

const COLUMNS: [Column<Row>; 8] = [
    Column { name: "unit", cell: |row, _| row.unit.clone() },
    Column { name: "hash", cell: |row, full| list::hash_cell(row.hash.as_deref(), full) },
    Column { name: "dstate", cell: |row, _| list::or_dash(row.desired_state.as_deref()) },
    Column { name: "state", cell: |row, _| list::or_dash(row.current_state.as_deref()) },
    Column { name: "target", cell: |row, full| if row.global { "global".into() } else { row.machine(full) } },
    Column { name: TMACHINE, cell: Row::machine },
    Column { name: "global", cell: |row, _| row.global.to_string() },
    Column { name: "desc", cell: |row, _| list::or_dash(row.description.as_deref()) },
];

impl Row {
    fn new(unit: Unit, roster: &Roster) -> Self {
        let file = units::file_of(&unit).ok();
        let global = units::is_global(&unit);
        Self {
            hash: file.as_ref().map(|file| file.hash().to_string()),
            desired_state: member(&unit.desired_state),
            current_state: if global { None } else { member(&unit.current_state) },
            global,
            primary_ip: roster.address(&unit.machine_id).map(Into::into),
            machine_id: member(&unit.machine_id),
            description: file.as_ref().and_then(UnitFile::description).and_then(member),
            unit: unit.name,
        }
    }

    fn machine(&self, full: bool) -> String {
        list::machine_cell(self.machine_id.as_deref(), self.primary_ip.as_deref(), full)
    }
}

pub async fn run(context: &Context, args: &ListUnitFilesArgs) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let asks = |name: &str| columns.iter().any(|column| column.name == name);
    if asks(TMACHINE) {
        output::note("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead");
    }
    let shows_machines = args.list.format.is_json() || asks("target") || asks(TMACHINE);
    let failure = |error: &ClientError| error.during("Error retrieving list of units from repository").code(FAILED);
    list::show(context, &args.list, &columns, async || rows(context, shows_machines).await, failure).await
}

async fn rows(context: &Context, with_machines: bool) -> Result<Vec<Row>, ClientError> {
    let mut units = context.client.units().await?;
    units.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let roster = if with_machines && units.iter().any(|unit| !unit.machine_id.is_empty()) {
        Roster::new(context.client.machines().await?)
    } else {
        Roster::default()
    };
    Ok(units.into_iter().map(|unit| Row::new(unit, &roster)).collect())
}
