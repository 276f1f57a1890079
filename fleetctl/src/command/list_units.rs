//! `fleetctl list-units`

use clap::Args;
use fleet_core::model::api::UnitState;
use serde::Serialize;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{ClientError, FAILED},
    format::member,
    machines::Roster,
};

/// List the units that are on machines
///
/// Lists what every machine reports of its units: systemd's load, active and sub states. A global unit has a line
/// for each machine. Units that are on no machine are in `fleetctl list-unit-files` only.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl list-units --full --fields=unit,hash,machine
    fleetctl list-units --watch
    fleetctl list-units -o json | jq -r '.[] | select(.active == \"failed\") | .unit'

JSON:
    An array of objects, by unit, then machineID. With --watch, one array a line.
    unit        string
    machineID   string
    primaryIP   string, or null when the machine has gone
    load        string, or null when it is not known yet: systemd's load state
    active      the same: systemd's active state
    sub         the same: systemd's sub state
    hash        string, or null: the contents that are in place")]
pub struct ListUnits {
    #[command(flatten)]
    list: ListArgs,
    /// Columns: unit,machine,active,sub, if not given; also load and hash
    #[arg(long, value_name = "FIELDS", default_value = "unit,machine,active,sub", hide_default_value = true)]
    fields: String,
}

/// A unit on a machine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    unit: String,
    #[serde(rename = "machineID")]
    machine_id: Option<String>,
    #[serde(rename = "primaryIP")]
    primary_ip: Option<String>,
    load: Option<String>,
    active: Option<String>,
    sub: Option<String>,
    hash: Option<String>,
}

impl list::Row for Row {
    fn unit(&self) -> Option<&str> {
        Some(&self.unit)
    }
}

const COLUMNS: [Column<Row>; 6] = [
    Column { name: "unit", cell: |row, _| row.unit.clone() },
    Column {
        name: "machine",
        cell: |row, full| list::machine_cell(row.machine_id.as_deref(), row.primary_ip.as_deref(), full),
    },
    Column { name: "load", cell: |row, _| list::or_dash(row.load.as_deref()) },
    Column { name: "active", cell: |row, _| list::or_dash(row.active.as_deref()) },
    Column { name: "sub", cell: |row, _| list::or_dash(row.sub.as_deref()) },
    Column { name: "hash", cell: |row, full| list::hash_cell(row.hash.as_deref(), full) },
];

pub async fn run(context: &Context, args: &ListUnits) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let shows_machines = args.list.format.is_json() || columns.iter().any(|column| column.name == "machine");
    let failure = |error: &ClientError| error.during("Error retrieving list of units from repository").code(FAILED);
    list::show(context, &args.list, &columns, async || rows(context, shows_machines).await, failure).await
}

async fn rows(context: &Context, with_machines: bool) -> Result<Vec<Row>, ClientError> {
    let mut states = context.client.states().await?;
    states.sort_unstable_by(|one, other| (&one.name, &one.machine_id).cmp(&(&other.name, &other.machine_id)));
    let roster = if with_machines && !states.is_empty() {
        Roster::new(context.client.machines().await?)
    } else {
        Roster::default()
    };
    let row = |state: UnitState| Row {
        primary_ip: roster.address(&state.machine_id).map(Into::into),
        machine_id: member(&state.machine_id),
        load: member(&state.systemd_load_state),
        active: member(&state.systemd_active_state),
        sub: member(&state.systemd_sub_state),
        hash: member(&state.hash),
        unit: state.name,
    };
    Ok(states.into_iter().map(row).collect())
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
