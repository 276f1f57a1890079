//! Requests of earlier clients get the answers that they got of the fleetd of their time.
//!
//! `tests/requests/COMMIT` holds what they sent, and the answers, as `tests/tests/compatibility` writes it: recorded from
//! the programs of that commit on hosts of a lab. The cluster that they asked is kept beside the records of that commit,
//! in `core/tests/records`. There is no engine here: requests are left out whose answers show where one placed a unit.

use std::{fs, path::Path};

use axum::{body::Body, http::Request};
use fleet_core::model::Keys;
use serde_json::Value;

use super::{Server, simulate};

/// The commit before records were made to grow.
const BEFORE: &str = "6ba0864";

/// A request and its answer.
#[derive(Debug, Default)]
struct Exchange {
    request: Vec<String>,
    answer: Vec<String>,
}

fn recorded(file: &str) -> Vec<Exchange> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/requests").join(BEFORE).join(file);
    let text = fs::read_to_string(path).expect("a file of requests");
    let mut all: Vec<Exchange> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let content = || line.get(2..).unwrap_or_default().to_owned();
        match (line.get(..1), all.last_mut()) {
            (Some(">"), Some(last)) if last.answer.is_empty() => last.request.push(content()),
            (Some(">"), _) => all.push(Exchange { request: vec![content()], answer: Vec::new() }),
            (Some("<"), Some(last)) => last.answer.push(content()),
            (None, _) => {}
            _ => panic!("{line:?} is no line of a request or answer"),
        }
    }
    all
}

/// The head of a message and its body.
fn parts(lines: &[String]) -> (&[String], String) {
    let end = lines.iter().position(String::is_empty).unwrap_or(lines.len());
    (&lines[..end], lines.get(end + 1..).unwrap_or_default().join("\n"))
}

/// A server before the cluster that was asked.
fn cluster() -> Server {
    let server = Server::new();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/records").join(BEFORE).join("cluster.txt");
    let text = fs::read_to_string(path).expect("a cluster");
    let keys = Keys::new("fleet");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.split_once(' ').expect("a key and a value");
        // Plain text is a string there.
        let value = serde_json::from_str::<String>(value).unwrap_or_else(|_| value.to_owned());
        server.write(&keys.parse(key).expect("a key"), value.into_bytes());
    }
    server
}

/// What of an answer is not in another one: that may have more members.
fn missing(before: &Value, now: &Value, at: &str) -> Option<String> {
    match (before, now) {
        (Value::Object(before), Value::Object(now)) => before.iter().find_map(|(name, value)| {
            let at = format!("{at}/{name}");
            now.get(name).map_or_else(|| Some(format!("{at} is missing")), |now| missing(value, now, &at))
        }),
        (Value::Array(before), Value::Array(now)) if before.len() == now.len() => {
            let pairs = before.iter().zip(now).enumerate();
            pairs.into_iter().find_map(|(n, (before, now))| missing(before, now, &format!("{at}/{n}")))
        }
        _ => (before != now).then(|| format!("{at} was {before} and is {now}")),
    }
}

fn answers_are_those_of_then(server: fn() -> Server, file: &str) {
    simulate(async {
        let mut server = server();
        let recorded = recorded(file);
        assert!(recorded.len() > 5, "{file} has hardly a request");
        for exchange in &recorded {
            let (head, body) = parts(&exchange.request);
            let (method, target) = head[0].split_once(' ').expect("a request line");
            let mut request = Request::builder().method(method).uri(target);
            for (name, value) in head[1..].iter().filter_map(|line| line.split_once(": ")) {
                request = request.header(name, value);
            }
            let (status, answer) = server.ask(request.body(Body::from(body)).expect("a request")).await;
            let answer = String::from_utf8(answer).expect("text");
            let (head, body) = parts(&exchange.answer);
            let told = format!("{file}: {}: {answer}", exchange.request[0]);
            assert_eq!(head[0], status.to_string(), "{told}");
            match serde_json::from_str::<Value>(&body) {
                Ok(before) => {
                    let now = serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{told}: {error}"));
                    assert_eq!(missing(&before, &now, ""), None, "{told}");
                }
                Err(_) => assert_eq!(body, answer, "{told}"),
            }
        }
    });
}

#[test]
fn earlier_fleetctl_gets_the_answers_of_its_time() {
    answers_are_those_of_then(Server::new, "fleetctl-first-writes.txt");
    answers_are_those_of_then(cluster, "fleetctl-reads.txt");
    answers_are_those_of_then(cluster, "fleetctl-writes.txt");
}

#[test]
fn client_of_coreos_fleet_gets_the_answers_of_that_time() {
    answers_are_those_of_then(cluster, "go-client-reads.txt");
    answers_are_those_of_then(cluster, "go-client-writes.txt");
}
