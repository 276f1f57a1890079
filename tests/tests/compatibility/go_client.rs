//! CoreOS fleet's own `fleetctl restart`, request by request, with its waits.
//!
//! Of each unit it asks for `loaded`, looks until the unit is in the state it waits for, asks for `launched`, and looks
//! until it is launched. The last versions wait for `launched` both times, those before for what they asked for. They look
//! at once and then every half second, without end; here the end is the test's deadline.

use std::{collections::BTreeMap, thread, time::Duration};

use fleet_lab::{Host, Seen, eventually};
use fleet_tests::{
    Cluster, DEADLINE,
    http::{Answer, Connection},
};
use serde_json::Value;

/// Between two looks of the client.
const LOOK: Duration = Duration::from_millis(500);

const UNITS: [&str; 3] = ["one.service", "two.service", "three.service"];
/// Units that are stopped before the client looks, and one that takes longer than the client for its next request.
const CONTENTS: [&str; 3] = [
    "[Service]\nExecStart=/bin/sleep 10001\n",
    "[Service]\nExecStart=/bin/sleep 10002\nExecStop=/bin/sleep 1\n",
    "[Service]\nExecStart=/bin/sleep 10003\n",
];

struct GoClient(Connection);

impl GoClient {
    fn of(host: &Host) -> Self {
        Self(Connection::open(host).unwrap())
    }

    fn send(&mut self, method: &str, path: &str, body: &str) -> Answer {
        let framing = match body.len() {
            0 => String::new(),
            length => format!("Content-Length: {length}\r\nContent-Type: application/json\r\n"),
        };
        let request = format!(
            "{method} http://domain-sock/fleet/v1/{path}?alt=json HTTP/1.1\r\nHost: domain-sock\r\n\
             User-Agent: google-api-go-client/0.5\r\n{framing}Accept-Encoding: gzip\r\n\r\n{body}"
        );
        self.0.send(request.as_bytes()).unwrap()
    }

    fn set(&mut self, unit: &str, desired: &str) {
        let body = format!("{{\"desiredState\":\"{desired}\",\"name\":\"{unit}\"}}\n");
        let answer = self.send("PUT", &format!("units/{unit}"), &body);
        assert_eq!(answer.status, 204, "{answer:?}");
    }

    /// Looks until a unit is in a state.
    #[allow(clippy::disallowed_methods, reason = "the client's own pace; there is no runtime here to block")]
    fn wait(&mut self, unit: &str, state: &str) {
        eventually(DEADLINE, &format!("the client sees {unit} {state}"), || {
            let answer = self.send("GET", &format!("units/{unit}"), "");
            let found: Value = serde_json::from_str(&answer.body)?;
            if found["currentState"] == state {
                return Ok(Seen::Done(()));
            }
            thread::sleep(LOOK);
            Ok(Seen::NotYet(answer.body))
        })
        .unwrap();
    }

    /// As `fleetctl restart` does it that waits for `first` before it starts a unit again.
    fn restart(&mut self, cluster: &Cluster, units: &[&str], first: &str) {
        let found: Value = serde_json::from_str(&self.send("GET", "units", "").body).unwrap();
        let launched = |unit: &&Value| unit["currentState"] == "launched";
        let launched = found["units"].as_array().unwrap().iter().filter(launched).count();
        assert_eq!(launched, units.len(), "{found}");
        for (done, unit) in units.iter().enumerate() {
            let before = invocations(cluster, units);
            self.set(unit, "loaded");
            if first == "launched" {
                stopped(cluster, unit);
            }
            self.wait(unit, first);
            self.set(unit, "launched");
            self.wait(unit, "launched");
            let after = invocations(cluster, units);
            for (place, other) in units.iter().enumerate() {
                assert_eq!(before[*other] != after[*other], place == done, "{unit} runs anew, {other} in its turn");
            }
        }
    }

    /// Without a word of others in between, so that the agent may not even have seen the stop.
    fn restart_at_once(&mut self, cluster: &Cluster, unit: &str) {
        let before = cluster.invocations(unit);
        self.set(unit, "loaded");
        self.wait(unit, "launched");
        self.set(unit, "launched");
        self.wait(unit, "launched");
        assert_ne!(before, cluster.invocations(unit));
    }

    fn stop_and_start(&mut self, unit: &str) {
        self.set(unit, "loaded");
        self.wait(unit, "loaded");
        self.set(unit, "launched");
        self.wait(unit, "launched");
    }
}

/// Waits until others see that a unit is stopped: the way to fleetd may be so long for this client.
fn stopped(cluster: &Cluster, unit: &str) {
    eventually(DEADLINE, &format!("others see {unit} stopped"), || {
        let (_, found) = cluster.request(&[], &format!("/fleet/v1/units/{unit}"));
        Ok(if found.contains(r#""currentState":"loaded""#) { Seen::Done(()) } else { Seen::NotYet(found) })
    })
    .unwrap();
}

fn invocations<'u>(cluster: &Cluster, units: &[&'u str]) -> BTreeMap<&'u str, BTreeMap<String, String>> {
    units.iter().map(|unit| (*unit, cluster.invocations(unit))).collect()
}

/// Restarts, stops and starts units as such clients do.
pub fn check(cluster: &Cluster) {
    let files: Vec<(&str, &str)> = UNITS.into_iter().zip(CONTENTS).collect();
    cluster.write(&files);
    cluster.ok(&[&["start"][..], &UNITS].concat());
    let mut client = GoClient::of(&cluster.host("h1"));
    client.restart(cluster, &UNITS, "launched");
    client.restart(cluster, &UNITS, "loaded");
    client.restart_at_once(cluster, UNITS[1]);
    let before = invocations(cluster, &UNITS);
    client.stop_and_start(UNITS[0]);
    let after = invocations(cluster, &UNITS);
    assert_ne!(before[UNITS[0]], after[UNITS[0]]);
    assert!(after.values().all(|hosts| hosts.len() == 1), "{after:?}");
    cluster.ok(&[&["destroy"][..], &UNITS].concat());
}
