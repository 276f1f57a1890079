//! Everything that COMPATIBILITY.md says of CoreOS fleet holds for this one, row by row.
//!
//! Most rows are [transcripts](script): text that reads like the document itself. Those that are tables there (names
//! and requirements that are refused) or too long for a line (the discovery document) are tables here.

#[path = "compatibility/discovery.rs"]
mod discovery;
#[path = "compatibility/go_client.rs"]
mod go_client;
#[path = "compatibility/refusals.rs"]
mod refusals;
#[path = "compatibility/rounds.rs"]
mod rounds;
#[path = "compatibility/script.rs"]
mod script;
#[path = "compatibility/types.rs"]
mod types;

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};

use self::script::Stage;

macro_rules! transcript {
    ($name:literal) => {
        include_str!(concat!("compatibility/", $name, ".transcript"))
    };
}

/// In one boot, because a cluster's life is one story.
#[test]
fn every_row_of_the_document_holds() {
    let lab = Lab::builder().hosts(3).config("metadata=\"region=east\"").config("token_limit=100");
    let cluster = Cluster::with(lab);
    let mut stage = Stage::new(&cluster);
    stage.play(transcript!("1-general"));
    stage.play(transcript!("2-lists"));
    stage.play(transcript!("3-verbs"));
    stage.play(transcript!("4-files"));
    refusals::check(&mut stage);
    stage.play(transcript!("5-scheduling"));
    stage.play(transcript!("7-http"));
    stage.play(transcript!("7-go-client"));
    go_client::check(&cluster);
    discovery::check(&mut stage);
    // The last: it turns machines over.
    stage.play(transcript!("6-machine"));
    stage.end();
}

#[test]
fn without_etcd_answers_are_those_that_scripts_know() {
    let cluster = Cluster::with(Lab::builder().hosts(1).config("agent_ttl=\"3s\""));
    let mut stage = Stage::new(&cluster);
    let (etcd, host) = (cluster.lab.etcd(1), stage.machines()[0].clone());
    etcd.kill().unwrap();
    stage.play(transcript!("2-etcd-lost"));
    host.sh("systemctl restart --no-block fleet").unwrap();
    eventually(DEADLINE, "fleetd knows nothing", || {
        Ok(cluster.request(&[], "/fleet/v1/units").1.contains("unable to communicate"))
    })
    .unwrap();
    stage.play(transcript!("6-etcd-away"));
    etcd.start().unwrap();
    cluster.joined(1);
    stage.end();
}

#[test]
fn units_of_every_type_are_started_found_active_and_destroyed_without_a_trace() {
    types::check(&Cluster::new(1));
}

#[test]
fn destroyed_and_submitted_again_a_unit_is_there_a_thousand_times_out_of_a_thousand() {
    rounds::check(&Cluster::new(1), 1000);
}
