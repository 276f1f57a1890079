//! `fleetctl list-units`

use std::collections::BTreeMap;

use clap::Args;
use fleet_api::{FailedUnit, HeldUnit, UnitState};
use fleet_client::ClientError;
use fleet_core::model::short;
use serde::Serialize;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{Ending, FAILED, unsupported},
    format::member,
    machines::{Roster, shown_id},
    output,
};

/// The states of a unit of which nothing is heard.
const UNKNOWN: &str = "unknown";

/// List the units that are on machines
///
/// Lists what every machine reports of its units: systemd's load, active and sub states. A global unit has a line
/// for each machine. Units that are on no machine are in `fleetctl list-unit-files` only. A unit that may still run on a
/// machine that is gone is shown as `unknown`.
///
/// With --failed, only units that are wanted and do not run, also those that have no machine; `fleetctl why` says why.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl list-units --full --fields=unit,hash,machine
    fleetctl list-units --failed
    fleetctl list-units --watch
    fleetctl list-units -o json | jq -r '.[] | select(.active == \"failed\") | .unit'

JSON:
    An array of objects, by unit, then machineID. With --watch, one array a line.
    unit        string
    machineID   string
    primaryIP   string, or null when the machine has gone
    load        string, or null when it is not known yet: systemd's load state
    active      the same: systemd's active state, or unknown
    sub         the same: systemd's sub state
    hash        string, or null: the contents that are in place")]
pub struct ListUnitsArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Columns: unit,machine,active,sub, if not given; also load and hash
    #[arg(long, value_name = "FIELDS", default_value = "unit,machine,active,sub", hide_default_value = true)]
    fields: String,
    /// Only units that are wanted and do not run
    #[arg(long)]
    failed: bool,
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

pub async fn run(context: &Context, args: &ListUnitsArgs) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let shows_machines = args.list.format.is_json() || columns.iter().any(|column| column.name == "machine");
    let failure = |error: &ClientError| match error.is_unsupported() {
        true => unsupported(error, "cannot tell which units do not run"),
        false => error.during("Error retrieving list of units from repository").code(FAILED),
    };
    let read = async || match args.failed {
        true => failed_rows(context).await,
        false => rows(context, shows_machines).await,
    };
    let code = list::show(context, &args.list, &columns, read, failure).await?;
    if !args.failed {
        tell_held(context).await;
    }
    Ok(code)
}

async fn rows(context: &Context, with_machines: bool) -> Result<Vec<Row>, ClientError> {
    let mut states = context.client.states().await?;
    for held in held(context).await {
        if states.iter().all(|state| (&state.name, &state.machine_id) != (&held.name, &held.machine_id)) {
            states.push(UnitState {
                name: held.name,
                machine_id: held.machine_id,
                systemd_active_state: UNKNOWN.into(),
                systemd_sub_state: UNKNOWN.into(),
                ..UnitState::default()
            });
        }
    }
    states.sort_unstable_by(|one, other| (&one.name, &one.machine_id).cmp(&(&other.name, &other.machine_id)));
    let roster = if with_machines && !states.is_empty() {
        Roster::new(context.client.machines().await?)
    } else {
        Roster::default()
    };
    Ok(states.into_iter().map(|state| row(state, &roster)).collect())
}

/// The units that should run and do not, as the list shows them.
async fn failed_rows(context: &Context) -> Result<Vec<Row>, ClientError> {
    let failed = context.client.failed().await?;
    let mut states: BTreeMap<(String, String), UnitState> = BTreeMap::new();
    if !failed.is_empty() {
        let all = context.client.states().await?.into_iter();
        states.extend(all.map(|state| ((state.name.clone(), state.machine_id.clone()), state)));
    }
    let roster = Roster::new(context.client.machines().await?);
    let row = |FailedUnit { name, machine_id, .. }| {
        let state = states.remove(&(name.clone(), machine_id.clone()));
        let gone = if machine_id.is_empty() { "" } else { UNKNOWN };
        let unknown = UnitState {
            name,
            machine_id,
            systemd_active_state: gone.into(),
            systemd_sub_state: gone.into(),
            ..UnitState::default()
        };
        row(state.unwrap_or(unknown), &roster)
    };
    Ok(failed.into_iter().map(row).collect())
}

fn row(state: UnitState, roster: &Roster) -> Row {
    Row {
        primary_ip: roster.address(&state.machine_id).map(Into::into),
        machine_id: member(&state.machine_id),
        load: member(&state.systemd_load_state),
        active: member(&state.systemd_active_state),
        sub: member(&state.systemd_sub_state),
        hash: member(&state.hash),
        unit: state.name,
    }
}

/// The units that may still run on machines that are gone. Without an answer, none are known.
async fn held(context: &Context) -> Vec<HeldUnit> {
    context.client.held().await.map(|held| held.units).unwrap_or_default()
}

/// Says on stderr since when nothing is known of units, and what becomes of them.
async fn tell_held(context: &Context) {
    for HeldUnit { name, machine_id, since, until } in held(context).await {
        let since = since.map_or_else(String::new, |since| format!(" since {since}"));
        let until =
            until.map_or_else(|| "nobody can tell when it moves".into(), |until| format!("it moves at {until}"));
        let id = short(&machine_id);
        output::note(&format!(
            "warning: {name} may still run on {}, which is gone{since}; {until}, `fleetctl evict {id}` moves it now",
            shown_id(&machine_id, false)
        ));
    }
}

#[cfg(test)]
impl ListUnitsArgs {
    pub fn full(&self) -> bool {
        self.list.full
    }

    pub fn legend(&self) -> bool {
        !self.list.no_legend
    }
}
