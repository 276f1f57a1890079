//! `fleetctl list-unit-files`

use clap::Args;
use fleet_core::{model::api::Unit, unit::UnitFile};

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{ClientError, FAILED},
    machines::Roster,
    output, units,
};

/// List the units that the cluster knows
///
/// Lists every unit, on a machine or not: what is wanted of it (DSTATE), how far that is (STATE), and the machine
/// it is scheduled to (TARGET).
#[derive(Args, Debug)]
#[command(after_help = "Example:\n    fleetctl list-unit-files --fields=unit,dstate,state,desc")]
pub struct ListUnitFiles {
    #[command(flatten)]
    list: ListArgs,
    /// Columns to show: unit, hash, dstate, state, target, global, desc
    #[arg(long, value_name = "FIELDS", default_value = "unit,hash,dstate,state,target")]
    fields: String,
}

/// A unit, what its contents say, and how its machine is shown, short and in full.
struct Row {
    unit: Unit,
    file: Option<UnitFile>,
    global: bool,
    machine: [String; 2],
}

/// Deprecated by `target`, which also tells of global units.
const TMACHINE: &str = "tmachine";

const COLUMNS: [Column<Row>; 8] = [
    Column { name: "unit", cell: |row, _| row.unit.name.clone() },
    Column { name: "hash", cell: |row, full| list::hash_cell(&row.hash(), full) },
    Column { name: "dstate", cell: |row, _| list::or_dash(&row.unit.desired_state) },
    Column {
        name: "state",
        cell: |row, _| if row.global { "-".into() } else { list::or_dash(&row.unit.current_state) },
    },
    Column { name: "target", cell: |row, full| if row.global { "global".into() } else { row.machine(full) } },
    Column { name: TMACHINE, cell: Row::machine },
    Column { name: "global", cell: |row, _| row.global.to_string() },
    Column {
        name: "desc",
        cell: |row, _| list::or_dash(row.file.as_ref().and_then(UnitFile::description).unwrap_or("")),
    },
];

impl Row {
    fn machine(&self, full: bool) -> String {
        self.machine[usize::from(full)].clone()
    }

    fn hash(&self) -> String {
        self.file.as_ref().map(|file| file.hash().to_string()).unwrap_or_default()
    }
}

pub async fn run(context: &Context, args: &ListUnitFiles) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let failure = |error: ClientError| error.during("Error retrieving list of units from repository").code(FAILED);
    let mut units = context.client.units().await.map_err(failure)?;
    units.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let asks = |name: &str| columns.iter().any(|column| column.name == name);
    let shows_machines = asks("target") || asks(TMACHINE);
    let roster = if shows_machines && units.iter().any(|unit| !unit.machine_id.is_empty()) {
        Roster::new(context.client.machines().await.map_err(failure)?)
    } else {
        Roster::default()
    };
    let row = |unit: Unit| Row {
        file: units::file_of(&unit).ok(),
        global: units::is_global(&unit),
        machine: [false, true].map(|full| roster.legend(&unit.machine_id, full)),
        unit,
    };
    let rows: Vec<Row> = units.into_iter().map(row).collect();
    list::print(&rows, &columns, &args.list)?;
    if asks(TMACHINE) {
        output::note("WARNING: The \"tmachine\" field is deprecated. Use \"target\" instead");
    }
    Ok(0)
}
