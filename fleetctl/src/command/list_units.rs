//! `fleetctl list-units`

use clap::Args;
use fleet_core::model::api::UnitState;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{ClientError, FAILED},
    machines::Roster,
};

/// List the units that are on machines
///
/// Lists what every machine reports of its units: systemd's load, active and sub states. A global unit has a line
/// for each machine. Units that are on no machine are in `fleetctl list-unit-files` only.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n    fleetctl list-units --full --fields=unit,hash,machine")]
pub struct ListUnits {
    #[command(flatten)]
    list: ListArgs,
    /// Columns to show: unit, machine, load, active, sub, hash
    #[arg(long, value_name = "FIELDS", default_value = "unit,machine,active,sub")]
    fields: String,
}

/// A state, and how its machine is shown, short and in full.
struct Row {
    state: UnitState,
    machine: [String; 2],
}

const COLUMNS: [Column<Row>; 6] = [
    Column { name: "unit", cell: |row, _| row.state.name.clone() },
    Column { name: "machine", cell: |row, full| row.machine[usize::from(full)].clone() },
    Column { name: "load", cell: |row, _| list::or_dash(&row.state.systemd_load_state) },
    Column { name: "active", cell: |row, _| list::or_dash(&row.state.systemd_active_state) },
    Column { name: "sub", cell: |row, _| list::or_dash(&row.state.systemd_sub_state) },
    Column { name: "hash", cell: |row, full| list::hash_cell(&row.state.hash, full) },
];

pub async fn run(context: &Context, args: &ListUnits) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let failure = |error: ClientError| error.during("Error retrieving list of units from repository").code(FAILED);
    let mut states = context.client.states().await.map_err(failure)?;
    states.sort_unstable_by(|one, other| (&one.name, &one.machine_id).cmp(&(&other.name, &other.machine_id)));
    let shows_machines = columns.iter().any(|column| column.name == "machine");
    let roster = if shows_machines && !states.is_empty() {
        Roster::new(context.client.machines().await.map_err(failure)?)
    } else {
        Roster::default()
    };
    let row = |state: UnitState| {
        let machine = [false, true].map(|full| roster.legend(&state.machine_id, full));
        Row { state, machine }
    };
    let rows: Vec<Row> = states.into_iter().map(row).collect();
    list::print(&rows, &columns, &args.list)?;
    Ok(0)
}

#[cfg(test)]
impl ListUnits {
    pub fn full(&self) -> bool {
        self.list.full
    }

    pub fn legend(&self) -> bool {
        !self.list.no_legend
    }
}
