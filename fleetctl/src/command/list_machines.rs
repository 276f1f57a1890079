//! `fleetctl list-machines`

use clap::Args;
use fleet_core::model::api::Machine;

use super::{
    Context, Outcome,
    list::{self, Column, ListArgs},
};
use crate::{
    error::{ClientError, FAILED, Failure},
    machines::shown_id,
};

/// List the machines of the cluster
///
/// Lists every machine that is alive, with the address at which others reach it and its metadata.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n    fleetctl list-machines --fields=machine,metadata --no-legend")]
pub struct ListMachines {
    #[command(flatten)]
    list: ListArgs,
    /// Columns to show: machine, ip, metadata
    #[arg(long, value_name = "FIELDS", default_value = "machine,ip,metadata")]
    fields: String,
}

const COLUMNS: [Column<Machine>; 3] = [
    Column { name: "machine", cell: |machine, full| shown_id(&machine.id, full) },
    Column { name: "ip", cell: |machine, _| list::or_dash(&machine.primary_ip) },
    Column {
        name: "metadata",
        cell: |machine, _| {
            let pairs: Vec<_> = machine.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
            list::or_dash(&pairs.join(","))
        },
    },
];

pub async fn run(context: &Context, args: &ListMachines) -> Outcome {
    let columns = list::choose(&args.fields, &COLUMNS)?;
    let mut machines = context.client.machines().await.map_err(|error| failure(&error))?;
    machines.sort_unstable_by(|one, other| one.id.cmp(&other.id));
    list::print(&machines, &columns, &args.list)?;
    Ok(0)
}

fn failure(error: &ClientError) -> Failure {
    let failure = Failure::said(format!("Error retrieving list of active machines from fleet API ({error})"));
    match error {
        ClientError::Api { code: 503, .. } => failure
            .line("Possible issues:")
            .line("  etcd is unhealthy and/or lost quorum")
            .line("  connection cannot be established to any etcd servers"),
        _ => error.hinted(failure),
    }
    .code(FAILED)
}
