//! A unit that is destroyed and at once submitted again under its name.

use fleet_lab::{Seen, eventually};
use fleet_tests::{Cluster, DEADLINE, http::Connection};
use serde_json::{Value, json};

const PATH: &str = "/fleet/v1/units/again.service";

/// Destroys and submits as fast as the API takes it. Every so often the unit has to come up as it was last
/// submitted: systemd must know its file, and must not have kept the one before.
pub fn check(cluster: &Cluster, rounds: u32) {
    const LOOK_EVERY: u32 = 50;
    let host = cluster.host("h1");
    let mut connection = Connection::open(&host).unwrap();
    for round in 1..=rounds {
        let command = format!("/bin/sleep {}", 100_000 + round);
        let options = [json!({"section": "Service", "name": "ExecStart", "value": command})];
        let body = json!({"desiredState": "launched", "options": options}).to_string();
        let answer = connection.request("PUT", PATH, &body).unwrap();
        assert_eq!(answer.status, 201, "round {round}: {answer:?}");
        let answer = connection.request("GET", PATH, "").unwrap();
        assert!(answer.status == 200 && answer.body.contains(&command), "round {round}: {answer:?}");
        // The agent is nowhere near done with most rounds when the next begins; with these it has to be.
        if round % LOOK_EVERY == 0 {
            runs(&mut connection, &command, round);
            let known = host.sh("systemctl show -p ExecStart -p LoadState again.service").unwrap();
            assert!(known.contains(&command) && known.contains("LoadState=loaded"), "round {round}: {known}");
        }
        if round < rounds {
            assert_eq!(connection.request("DELETE", PATH, "").unwrap().status, 204, "round {round}");
        }
    }
    let processes = host.sh("pgrep -fa '^/bin/sleep 10[0-9]{4}$' | cut -d' ' -f2-").unwrap();
    assert_eq!(processes, format!("/bin/sleep {}\n", 100_000 + rounds), "the last one runs, and nothing else");
}

fn runs(connection: &mut Connection, command: &str, round: u32) {
    eventually(DEADLINE, &format!("round {round}: {command} runs"), || {
        let answer = connection.request("GET", "/fleet/v1/state?unitName=again.service", "")?;
        let states: Value = serde_json::from_str(&answer.body)?;
        let state = &states["states"][0];
        let wanted = fleet_core::unit::UnitHash::of(&format!("[Service]\nExecStart={command}\n")).to_string();
        let up = state["hash"] == *wanted && state["systemdActiveState"] == "active";
        Ok(if up { Seen::Done(()) } else { Seen::NotYet(answer.body) })
    })
    .unwrap();
}
