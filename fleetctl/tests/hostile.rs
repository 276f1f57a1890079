//! A server that is not fleetd, or one gone mad: whatever it answers, every command ends with an exit code of its own
//! and says why.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use proptest::prelude::*;
use tempfile::TempDir;

/// Answers every request with the same bytes, then hangs up.
struct Server {
    directory: TempDir,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("fleet.sock")).unwrap();
        fs::write(directory.path().join("a.service"), "[Service]\nExecStart=/bin/a\n").unwrap();
        let answer = Arc::new(Mutex::new(Vec::new()));
        let given = Arc::clone(&answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = given.lock().unwrap().clone();
                // A client that has read enough may hang up first.
                thread::spawn(move || serve(stream, &answer).ok());
            }
        });
        Self { directory, answer }
    }

    /// How a command ends that is answered like this.
    fn fleetctl(&self, words: &[&str], answer: &[u8]) -> Output {
        *self.answer.lock().unwrap() = answer.to_vec();
        // The time limit is far beyond every timeout of the command's own.
        Command::new("/usr/bin/timeout")
            .args(["60", env!("CARGO_BIN_EXE_fleetctl"), "--request-timeout=2"])
            .arg(format!("--endpoint=unix://{}", self.directory.path().join("fleet.sock").display()))
            .args(words)
            .current_dir(self.directory.path())
            // No programs: there are no machines to reach.
            .env("PATH", self.directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command and checks that it ends as a command should.
    fn check(&self, words: &[&str], answer: &[u8]) -> Output {
        let output = self.fleetctl(words, answer);
        let (code, said) = (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(300)]).into_owned();
        assert!(matches!(code, Some(0..=4)), "{words:?} ended with {code:?}: {said}\nanswered {shown:?}");
        assert!(!said.contains("panicked"), "{words:?}: {said}\nanswered {shown:?}");
        let silent = said.trim().is_empty() && output.stdout.trim_ascii().is_empty();
        assert!(code == Some(0) || !silent, "{words:?} failed without a word\nanswered {shown:?}");
        assert!(!said.contains('\u{1b}'), "{words:?} lets a terminal be commanded: {said:?}");
        output
    }
}

fn serve(stream: UnixStream, answer: &[u8]) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" {
            break;
        }
    }
    stream.read_exact(&mut vec![0; length])?;
    stream.get_mut().write_all(answer)
}

/// Every command that asks something of fleetd.
const COMMANDS: [&[&str]; 17] = [
    &["list-units"],
    &["list-units", "--output=json"],
    &["list-unit-files"],
    &["list-machines", "--full"],
    &["cat", "a.service"],
    &["status", "a.service"],
    &["why", "a.service"],
    &["journal", "a.service"],
    &["ssh", "a.service", "true"],
    &["submit", "a.service"],
    &["load", "--block-attempts=1", "a.service"],
    &["start", "--block-attempts=1", "a.service"],
    &["restart", "--block-attempts=1", "a.service"],
    &["stop", "--block-attempts=1", "a.service"],
    &["unload", "--block-attempts=1", "a.service"],
    &["destroy", "--no-block", "a.service"],
    &["start", "--block-attempts=1", "b@1.service"],
];

fn json(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into()
}

/// Answers that are wrong each in its own way.
fn answers() -> Vec<Vec<u8>> {
    let head = "HTTP/1.1 200 OK\r\n";
    let raw = [
        String::new(),
        "\0\0\0".into(),
        "SSH-2.0-OpenSSH_9.2\r\n".into(),
        "HTTP/1.1 200".into(),
        "HTTP/1.1 99999 X\r\n\r\n".into(),
        "HTTP/1.1 100 Continue\r\n\r\n".repeat(50),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".into(),
        "HTTP/1.1 204 No Content\r\n\r\n".into(),
        "HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 500 X\r\nContent-Length: 15\r\n\r\n<html>\u{1b}[2J</h>".into(),
        "HTTP/1.1 503 X\r\nContent-Length: 19\r\n\r\n{\"error\":\"strange\"}".into(),
        format!("{head}Content-Length: 100\r\n\r\n{{\"units\":[{{\"na"),
        format!("{head}Content-Length: 18446744073709551615\r\n\r\n{{}}"),
        format!("{head}Content-Length: -1\r\n\r\n{{}}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n{{}}"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nnull\n\r\n0\r\n\r\n"),
        format!("{head}Fleet-Age: x\r\nX: {}\r\n\r\n{{}}", "y".repeat(500_000)),
        format!("{head}\r\n{{}}"),
    ];
    let bodies = [
        String::new(),
        "null".into(),
        "[]".into(),
        "{}".into(),
        "1e999".into(),
        "\u{feff}{}".into(),
        r#"{"units":1,"machines":{},"states":"x"}"#.into(),
        r#"{"units":[{"name":1}],"machines":[{"id":[]}],"states":[null]}"#.into(),
        r#"{"units":[{}],"machines":[{}],"states":[{}],"name":"","options":[{}]}"#.into(),
        r#"{"units":[],"machines":[],"states":[],"nextPageToken":"again"}"#.into(),
        r#"{"name":"a.service","currentState":"launched","desiredState":"x","machineID":"é€\u001b[2J",
            "options":[{"section":"]\n","name":"=\u001b","value":"\\\n"}],"summary":"\u001b]0;x\u0007",
            "units":[{"name":"\u001b[2J\n","machineID":"ééééééééé","currentState":"\u009b1m"}],
            "machines":[{"id":"é","primaryIP":"-oProxyCommand=x","metadata":{"\n":"\u001b"},"reason":"\u001b"}],
            "states":[{"name":"\u001b[2J\n","hash":"éééé","machineID":"é"}]}"#
            .into(),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!("{{\"units\":[{}]}}", vec![r#"{"name":"a.service"}"#; 20_000].join(",")),
    ];
    let lines = [
        "\n\n\n".to_owned(),
        "{\"name\":\"a.service\"".into(),
        "{\"name\":\"a.service\",\"exists\":true,\"reports\":[{\"since\":18446744073709551615}]}\n".into(),
        "nonsense\n".repeat(1000),
    ];
    let lines = lines.map(|lines| format!("{head}Content-Type: application/x-ndjson\r\n\r\n{lines}"));
    raw.into_iter().chain(lines).map(String::into_bytes).chain(bodies.iter().map(|body| json(body))).collect()
}

#[test]
fn whatever_a_server_answers_every_command_ends_in_order() {
    // Commands wait for their timeouts, so they run side by side; each with a server of its own.
    thread::scope(|scope| {
        for words in COMMANDS {
            scope.spawn(move || {
                let server = Server::new();
                for answer in answers() {
                    let output = server.check(words, &answer);
                    // What `cat` shows is the unit's, byte for byte.
                    assert!(words[0] == "cat" || !output.stdout.contains(&0x1b), "{words:?} commands a terminal");
                }
            });
        }
    });
}

#[test]
fn list_without_end_is_refused() {
    let server = Server::new();
    let output = server.check(&["list-machines"], &json(r#"{"machines":[],"nextPageToken":"again"}"#));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("its list has no end"), "{output:?}");
}

#[test]
fn watch_that_tells_nonsense_ends_the_wait() {
    let server = Server::new();
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\nnonsense\n";
    // Without a limit of its own, only the answer can end it.
    let output = server.check(&["destroy", "a.service"], answer);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot read the answer"), "{output:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_for_an_answer_end_a_command_in_order(
        command in 0..COMMANDS.len(),
        is_http in any::<bool>(),
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let head: &[u8] = if is_http { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"" };
        Server::new().check(COMMANDS[command], &[head, &bytes].concat());
    }

    #[test]
    fn any_file_is_submitted_or_refused_in_order(bytes in prop_oneof![
        prop::collection::vec(any::<u8>(), 0..80),
        "(\\[(Unit|X-Fleet|\\])\\]?\n|[A-Z][a-z]*=|\\PC|\\\\\n|Global=true|Conflicts=\\*|MachineOf=a|\n){0,12}"
            .prop_map(String::into_bytes),
    ]) {
        let server = Server::new();
        fs::write(server.directory.path().join("any.service"), bytes).unwrap();
        server.check(&["submit", "any.service"], b"HTTP/1.1 404 X\r\nContent-Length: 45\r\n\r\n{\"error\":{\"code\":404,\"message\":\"not there\"}}");
    }

    #[test]
    fn any_dump_is_imported_or_refused_in_order(
        nodes in prop::collection::vec(("/x/(job/\\PC{0,3}(/object|/target-state)|unit/[0-9a-f]{0,4}|/)", "\\PC{0,6}"), 0..4),
        junk in prop::option::weighted(0.3, prop::collection::vec(any::<u8>(), 0..60)),
    ) {
        let node = |(key, value): (String, String)| {
            let value = if key.ends_with("object") { format!(r#"{{"Name":"{value}","UnitHash":[1,2]}}"#) } else { value };
            serde_json::json!({"key": key, "value": value})
        };
        let nodes: Vec<_> = nodes.into_iter().map(node).collect();
        let dump = serde_json::json!({"action": "get", "node": {"key": "/x", "nodes": nodes}}).to_string();
        let server = Server::new();
        fs::write(server.directory.path().join("dump.json"), junk.unwrap_or(dump.into_bytes())).unwrap();
        server.check(&["import-v2", "dump.json"], &json(r#"{"units":[]}"#));
    }
}
