//! `fleetctl list-machines`

use std::collections::BTreeMap;

use clap::Args;
use fleet_api::Machine;
use fleet_client::ClientError;
use fleet_core::model::short;
use serde::Serialize;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{Ending, FAILED, Failure},
    format::member,
    machines::shown_id,
    output,
};

/// List the machines of the cluster
///
/// Lists every machine that is alive, with the address at which others reach it and its metadata.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl list-machines --fields=machine,metadata --no-legend
    fleetctl list-machines -o json | jq -r '.[].primaryIP'

JSON:
    An array of objects, by machineID. With --watch, one array a line.
    machineID   string
    hostname    string, or null when it is not known
    primaryIP   string, or null: the address at which others reach the machine
    metadata    object of strings
    drained     bool: it gets no new units, see `fleetctl drain`")]
pub struct ListMachinesArgs {
    #[command(flatten)]
    list: ListArgs,
    /// Columns: machine,ip,metadata, if not given; also drained
    #[arg(long, value_name = "FIELDS", default_value = "machine,ip,metadata", hide_default_value = true)]
    fields: String,
}

/// A machine.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(rename = "machineID")]
    machine_id: String,
    hostname: Option<String>,
    #[serde(rename = "primaryIP")]
    primary_ip: Option<String>,
    metadata: BTreeMap<String, String>,
    drained: bool,
}

impl list::Row for Row {}

const COLUMNS: [Column<Row>; 4] = [
    Column { name: "machine", cell: |row, full| shown_id(&row.machine_id, full) },
    Column { name: "ip", cell: |row, _| list::or_dash(row.primary_ip.as_deref()) },
    Column {
        name: "metadata",
        cell: |row, _| {
            let pairs: Vec<_> = row.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            list::or_dash(member(&pairs.join(",")).as_deref())
        },
    },
    Column { name: "drained", cell: |row, _| if row.drained { "yes" } else { "-" }.into() },
];

pub async fn run(context: &Context, args: &ListMachinesArgs) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let code = list::show(context, &args.list, &columns, async || rows(context).await, failure).await?;
    tell_held(context).await;
    Ok(code)
}

/// Says on stderr which machines are not in the list, and yet have their units.
async fn tell_held(context: &Context) {
    // A courtesy: whatever keeps the answer away, the list itself will tell.
    let Ok(held) = context.client.held().await else { return };
    for machine in held.machines {
        let until = machine.until.map_or_else(String::new, |until| format!(" until {until}"));
        let id = shown_id(&machine.id, false);
        output::note(&format!(
            "Machine {id} is gone since {}, its units are held{until}: {}",
            machine.since, machine.reason
        ));
        output::note(&format!(
            "hint: if it is gone for good, `fleetctl evict {}` moves its units now",
            short(&machine.id)
        ));
    }
}

async fn rows(context: &Context) -> Result<Vec<Row>, ClientError> {
    let mut machines = context.client.machines().await?;
    machines.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let row = |machine: Machine| Row {
        machine_id: machine.id,
        hostname: member(&machine.hostname),
        primary_ip: member(&machine.primary_ip),
        metadata: machine.metadata,
        drained: machine.drained,
    };
    Ok(machines.into_iter().map(row).collect())
}

fn failure(error: &ClientError) -> Failure {
    let failure = Failure::said(format!("Error retrieving list of active machines from fleet API ({error})"));
    match error {
        // The other 503 is a machine ID that two hosts share, and says itself what to do.
        ClientError::Api { code: 503, message, .. } if message.contains("etcd") => failure
            .line("Possible issues:")
            .line("  etcd is unhealthy and/or lost quorum")
            .line("  connection cannot be established to any etcd servers"),
        _ => error.hinted(failure),
    }
    .code(FAILED)
}
