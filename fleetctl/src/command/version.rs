//! `fleetctl version`

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use fleet_api::{Older, Version};
use fleet_client::Client;
use fleet_core::model::short;
use serde::Serialize;
use tokio::time::timeout;

use super::Outcome;
use crate::{
    error::Failure,
    format::{self, FormatArgs},
    output,
};

/// The longest that this takes, also where ssh has to log in first: whoever asks may be a script. Without a tunnel
/// --request-timeout is shorter; fleetd itself waits 2 s for etcd before it tells what it knows without.
const LIMIT: Duration = Duration::from_secs(5);

/// Print the version
///
/// Prints the version of fleetctl. On standard error, says that of the fleetd that it reaches, and that of the oldest
/// fleetd in the cluster: what is newer than that can be used when all are. Says what is not used yet, and for which
/// machines that waits. Exits with 0 also when none is reached.
#[derive(Args, Debug)]
#[command(after_help = "\
EXAMPLES:
    fleetctl version
    fleetctl version -o json | jq -r .oldest

JSON:
    An object.
    version   string: of fleetctl
    fleetd    string, or null when it does not tell: of the fleetd that is reached
    oldest    string, or null when it is not known: of the oldest fleetd in the cluster
    features  array of strings: what the fleetd that is reached can do
    schema    number, or null: the version of the schema that it writes in etcd
    inUse     array of strings: what the cluster uses that all its fleetds have to understand
    waitsFor  object: what it does not use yet, and the machines whose fleetd does not understand it: an array of objects
              with the strings id, hostname and version")]
pub struct VersionArgs {
    #[command(flatten)]
    format: FormatArgs,
}

/// All that is known.
#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    version: &'static str,
    fleetd: Option<String>,
    oldest: Option<String>,
    features: Vec<String>,
    schema: Option<u32>,
    in_use: Vec<String>,
    waits_for: BTreeMap<String, Vec<Older>>,
}

pub async fn run(args: &VersionArgs, client: Result<Client, Failure>) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    if !args.format.is_json() {
        // First of all, and alone: it is what CoreOS fleet prints.
        output::result(&format!("fleetctl version {version}"))?;
    }
    let told = match client {
        Ok(client) => ask(&client).await,
        Err(failure) => Err(failure.lines().join("; ")),
    };
    if let Err(why) = &told {
        output::note(&format!("fleetd's version is not known: {why}"));
    }
    if !args.format.is_json() {
        if let Ok(Version { version, oldest, waits_for, .. }) = told {
            output::note(&format!("fleetd version {version}"));
            oldest.iter().for_each(|oldest| output::note(&format!("oldest fleetd version {oldest}")));
            for (feature, machines) in &waits_for {
                machines.iter().for_each(|machine| output::note(&waits(feature, machine)));
            }
        }
        return Ok(0);
    }
    let answer = match told {
        Ok(Version { version: fleetd, features, schema, oldest, in_use, waits_for }) => {
            Answer { version, fleetd: Some(fleetd), oldest, features, schema: Some(schema), in_use, waits_for }
        }
        Err(_) => Answer { version, ..Answer::default() },
    };
    output::verbatim(&format::pretty(&answer))?;
    Ok(0)
}

/// Why something is not used yet, and what to do about it.
fn waits(feature: &str, machine: &Older) -> String {
    let Older { id, hostname, version } = machine;
    let of = if version.is_empty() { String::new() } else { format!(", fleetd {version}") };
    let who = if hostname.is_empty() { short(id).into() } else { format!("{hostname} ({}{of})", short(id)) };
    format!("{feature} is not used yet: {who} does not understand it; upgrade it")
}

/// What fleetd tells of itself, or why it does not.
async fn ask(client: &Client) -> Result<Version, String> {
    match timeout(LIMIT, client.version()).await {
        Ok(Ok(Some(version))) => Ok(version),
        Ok(Ok(None)) => Err("it is too old to tell".into()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}
