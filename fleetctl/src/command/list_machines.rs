//! `fleetctl list-machines`

use std::collections::BTreeMap;

use clap::Args;
use fleet_core::model::api::Machine;
use serde::Serialize;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{ClientError, FAILED, Failure},
    format::member,
    machines::shown_id,
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
    metadata    object of strings")]
pub struct ListMachines {
    #[command(flatten)]
    list: ListArgs,
    /// Columns: machine,ip,metadata, if not given
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
}

impl list::Row for Row {}

const COLUMNS: [Column<Row>; 3] = [
    Column { name: "machine", cell: |row, full| shown_id(&row.machine_id, full) },
    Column { name: "ip", cell: |row, _| list::or_dash(row.primary_ip.as_deref()) },
    Column {
        name: "metadata",
        cell: |row, _| {
            let pairs: Vec<_> = row.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            list::or_dash(member(&pairs.join(",")).as_deref())
        },
    },
];

pub async fn run(context: &Context, args: &ListMachines) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    list::show(context, &args.list, &columns, async || rows(context).await, failure).await
}

async fn rows(context: &Context) -> Result<Vec<Row>, ClientError> {
    let mut machines = context.client.machines().await?;
    machines.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    let row = |machine: Machine| Row {
        machine_id: machine.id,
        hostname: member(&machine.hostname),
        primary_ip: member(&machine.primary_ip),
        metadata: machine.metadata,
    };
    Ok(machines.into_iter().map(row).collect())
}

fn failure(error: &ClientError) -> Failure {
    let failure = Failure::said(format!("Error retrieving list of active machines from fleet API ({error})"));
    match error {
        // The other 503 is a machine ID that two hosts share, and says itself what to do.
        ClientError::Api { code: 503, message } if message.contains("etcd") => failure
            .line("Possible issues:")
            .line("  etcd is unhealthy and/or lost quorum")
            .line("  connection cannot be established to any etcd servers"),
        _ => error.hinted(failure),
    }
    .code(FAILED)
}
