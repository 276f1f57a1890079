//! What programs read of the built `fleetctl`: JSON, and lists that are watched.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "stand_in/cluster.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use the rest")]
mod cluster;

use std::{path::Path, process::Stdio, time::Duration};

use cluster::{HELLO, MACHINE, StandIn, error, fake::Fake, files, fleetctl, transcript};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::UnixListener,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

/// The SHA-1 of [`HELLO`].
const HASH: &str = "0291f12e379921025c603e454c0fe989ddb0f3dd";

async fn read(fake: &Fake, directory: &Path, line: &str) -> Value {
    let ran = fleetctl(fake, directory, line).await;
    assert_eq!((&*ran.err, ran.code), ("", 0), "{line}");
    assert!(ran.out.contains("\n  ") && ran.out.ends_with('\n'), "it is for people, too: {}", ran.out);
    serde_json::from_str(&ran.out).unwrap()
}

#[tokio::test]
async fn every_read_speaks_json_with_all_its_members() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    fleetctl(&fake, directory.path(), "start hello").await;
    for (line, expected) in [
        (
            "list-units -o json --fields=unit",
            json!([{"unit": "hello.service", "machineID": MACHINE, "primaryIP": "10.82.0.13", "load": "loaded",
                    "active": "active", "sub": "running", "hash": HASH}]),
        ),
        (
            "list-unit-files --output=json",
            json!([{"unit": "hello.service", "hash": HASH, "desiredState": "launched", "currentState": "launched",
                    "global": false, "machineID": MACHINE, "primaryIP": "10.82.0.13", "description": null}]),
        ),
        (
            "list-machines --output json",
            json!([{"machineID": MACHINE, "hostname": null, "primaryIP": "10.82.0.13", "metadata": {}, "drained": false}]),
        ),
        (
            "cat -o json hello",
            json!({"unit": "hello.service", "hash": HASH, "text": HELLO,
                   "options": [{"section": "Service", "name": "ExecStart", "value": "/bin/sleep 1"}]}),
        ),
        (
            "why -o json hello",
            json!({"unit": "hello.service", "summary": "not placed: least loaded", "machineID": MACHINE,
                   "machines": [{"machineID": MACHINE, "primaryIP": "10.82.0.13", "fits": true, "reason": "least loaded"}],
                   "warnings": []}),
        ),
        (
            "version -o json",
            json!({"version": env!("CARGO_PKG_VERSION"), "fleetd": "0.3.0", "oldest": "0.2.0", "features": ["new"],
                   "schema": 1, "inUse": ["known"],
                   "waitsFor": {"new": [{"id": MACHINE, "hostname": "h3", "version": "0.2.0"}, {"id": MACHINE}]}}),
        ),
    ] {
        assert_eq!(read(&fake, directory.path(), line).await, expected, "{line}");
    }
}

#[tokio::test]
async fn the_help_names_every_member() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    fleetctl(&fake, directory.path(), "start hello").await;
    for command in ["list-units", "list-unit-files", "list-machines", "cat", "why", "version"] {
        let unit = if ["cat", "why"].contains(&command) { "hello" } else { "" };
        let value = read(&fake, directory.path(), &format!("{command} -o json {unit}")).await;
        let object = value.get(0).unwrap_or(&value).as_object().unwrap().clone();
        let help = fleetctl(&fake, directory.path(), &format!("help {command}")).await.out;
        let documented = help.split_once("\nJSON:\n").unwrap().1;
        for member in object.keys() {
            assert!(documented.lines().any(|line| line.starts_with(&format!("    {member} "))), "{command}: {member}");
        }
    }
}

#[tokio::test]
async fn empty_lists_and_failures_are_plain_in_json_too() {
    let (fake, directory) = (StandIn::default().serve(), files(&[]));
    transcript(
        &fake,
        directory.path(),
        &[
            ("list-units -o json", "1> []\n[0]"),
            ("list-units -o yaml --fields=x", "2> error: invalid value 'yaml' for '--output <FORMAT>'\n2>   [possible values: text, json]\n2> \n2> For more information, try '--help'.\n[2]"),
            ("cat -o json nosuch", "2> Unit nosuch.service not found\n[1]"),
        ],
    )
    .await;
}

struct Watched {
    // Ends with the test.
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Watched {
    fn start(fake: &Fake, words: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
            .arg(format!("--endpoint={}", fake.endpoint))
            .args(words)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    async fn line(&mut self) -> String {
        timeout(Duration::from_secs(20), self.lines.next_line()).await.expect("a line comes").unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_watched_list_is_printed_again_when_it_changes() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    let mut units = Watched::start(&fake, &["list-unit-files", "--watch", "--fields=unit,dstate"]);
    assert_eq!(units.line().await, "UNIT\tDSTATE");
    fleetctl(&fake, directory.path(), "submit hello").await;
    for expected in ["", "UNIT\t\tDSTATE", "hello.service\tinactive"] {
        assert_eq!(units.line().await, expected);
    }
    let mut json = Watched::start(&fake, &["list-units", "--watch", "-o", "json"]);
    assert_eq!(json.line().await, "[]");
    fleetctl(&fake, directory.path(), "start hello").await;
    for expected in ["", "UNIT\t\tDSTATE", "hello.service\tlaunched"] {
        assert_eq!(units.line().await, expected);
    }
    let line: Value = serde_json::from_str(&json.line().await).unwrap();
    assert_eq!(line[0]["active"], "active");
    assert!(fake.asked().contains(&"GET /watch?unit=hello.service".into()));
}

#[tokio::test]
async fn a_socket_that_comes_back_at_once_is_not_missed() {
    let directory = files(&[]);
    let path = directory.path().join("fleet.sock");
    let endpoint = format!("--endpoint=unix://{}", path.display());
    // Nobody listens yet.
    let mut child = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .args([&endpoint, "list-machines"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let listener = UnixListener::bind(&path).unwrap();
    let (stream, _) = timeout(Duration::from_secs(20), listener.accept()).await.expect("it asks again").unwrap();
    drop((stream, listener));
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "lists fail with 1");
}

#[tokio::test]
async fn a_shared_machine_id_is_told_in_full() {
    let message = "machine ID d097 is in use by host h1 (10.82.0.11), this host is h2 (10.82.0.12): \
                   give one of them an ID of its own (rm /etc/machine-id && systemd-machine-id-setup)";
    let (fake, directory) = (Fake::new(move |_| error(503, message)), files(&[("hello.service", HELLO)]));
    for line in ["list-machines", "list-units", "start hello", "stop hello", "cat hello", "why hello", "ssh hello"] {
        let ran = fleetctl(&fake, directory.path(), line).await;
        assert!(ran.err.contains(message) && !ran.err.contains("etcd"), "{line}: {}", ran.err);
        assert_eq!((&*ran.out, ran.code), ("", 1), "{line}");
    }
}
