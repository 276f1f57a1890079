//! Transcripts: what was typed or sent, and what came of it, as text that is read, run and compared.
//!
//! A transcript is written the way COMPATIBILITY.md writes it. Every line begins with what it is:
//!
//! ```text
//! # A remark.
//! == 3 stop, only loaded         a case: the section it covers, and what
//! eventually                     this case is tried again until it holds (state is published in its own time)
//! known: why                     the case is known not to hold yet: it is run and told of, and fails nobody
//! file hello.service             a file in /root, made of the lines that follow
//! | [Unit]
//! $ fleetctl stop hello          a shell line in /root of the first machine; `m2$` is the second machine
//! 1> Unit ...                    its standard output
//! 2> Successfully ...            its standard error
//! [0]                            its exit code
//! > PUT /fleet/v1/units/a.timer  a request to the first machine, with its headers
//! > Content-Type: application/json
//! >
//! > {"options": ...}             its body; with an empty line after it, it ends in a line end
//! < 201                          the answer: status, those headers that matter, and after an empty line the body
//! < Allow: GET
//! <
//! < {"error": ...}
//! ```
//!
//! Output has to be the same byte for byte, tabs included, but for these:
//!
//! * `{m1}` is the short ID of the first machine, `{M1}` the whole one, `{ip1}` its address, `{h1}` its host name.
//!   Machines are counted in the order of their IDs, which is the order that lists and the scheduler have.
//! * `{version}` is the version of this workspace.
//! * `{*}` is any text within a line, `{more}` any number of lines: where the text is somebody else's (systemd's,
//!   the operating system's), or where fleet goes on to explain what CoreOS fleet left at the documented words.
//!
//! Requests get `HTTP/1.1`, `Host` and `Content-Length` where they have none; a body under
//! `Transfer-Encoding: chunked` goes out in two chunks.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use fleet_lab::{Host, Seen, eventually, eventually_eq};
use fleet_tests::{
    Cluster, DEADLINE, Run,
    http::{Answer, Connection},
};
use serde_json::Value;

/// Seconds until a command is ended that waits for what does not come.
const PATIENCE: &str = "60";

/// A cluster with its machines in the order of their IDs, and what has not held on it so far.
pub struct Stage<'c> {
    cluster: &'c Cluster,
    machines: Vec<Host>,
    passed: usize,
    faults: Vec<String>,
    known: Vec<String>,
}

/// One case of a transcript.
#[derive(Debug, Default)]
struct Case<'t> {
    name: &'t str,
    known: Option<&'t str>,
    eventually: bool,
    steps: Vec<Step<'t>>,
}

#[derive(Debug)]
enum Step<'t> {
    File { name: &'t str, lines: Vec<&'t str> },
    Shell { machine: usize, line: &'t str, stdout: Vec<&'t str>, stderr: Vec<&'t str>, code: Option<i32> },
    Http { request: Vec<&'t str>, answer: Vec<&'t str> },
}

impl<'c> Stage<'c> {
    /// A stage on `cluster`.
    pub fn new(cluster: &'c Cluster) -> Self {
        let mut machines = cluster.lab.hosts().to_vec();
        machines.sort_by(|one, other| one.machine_id().cmp(other.machine_id()));
        Self { cluster, machines, passed: 0, faults: Vec::new(), known: Vec::new() }
    }

    /// The machines in the order of their IDs.
    pub fn machines(&self) -> &[Host] {
        &self.machines
    }

    /// Runs a transcript, then takes away all units and files that it leaves.
    pub fn play(&mut self, transcript: &str) {
        for case in cases(transcript) {
            self.case(&case);
        }
        if let Err(error) = self.clear() {
            self.check("after a transcript its units can be destroyed", Err(error));
        }
    }

    /// Not by `fleetctl`, which cannot name units of every type.
    fn clear(&self) -> Result<()> {
        self.machines[0].sh("rm -rf /root/*")?;
        let mut connection = Connection::open(&self.machines[0])?;
        let mut list = |path: &str, member: &str| -> Result<Vec<String>> {
            let list: Value = serde_json::from_str(&connection.request("GET", path, "")?.body)?;
            let names = list[member].as_array().into_iter().flatten();
            Ok(names.filter_map(|entity| entity["name"].as_str()).map(str::to_owned).collect())
        };
        let mut deleting = Connection::open(&self.machines[0])?;
        loop {
            let units = list("/fleet/v1/units", "units")?;
            if units.is_empty() {
                break;
            }
            for name in units {
                let path = format!("/fleet/v1/units/{}", name.replace('\\', "%5C"));
                let answer = deleting.request("DELETE", &path, "")?;
                ensure!(answer.status == 204, "DELETE of {name}: {answer:?}");
            }
        }
        eventually_eq(DEADLINE, "units that are left on machines", &Vec::<String>::new(), || {
            list("/fleet/v1/state", "states")
        })
    }

    /// Checks one case that is no transcript.
    pub fn check(&mut self, name: &str, outcome: Result<()>) {
        match outcome {
            Ok(()) => self.passed += 1,
            Err(error) => {
                let fault = format!("== {name}\n{error:#}");
                eprintln!("{fault}\n");
                self.faults.push(fault);
            }
        }
    }

    /// Ends the play.
    ///
    /// # Panics
    /// When something did not hold that was not known to.
    pub fn end(self) {
        for known in &self.known {
            eprintln!("known: {known}\n");
        }
        eprintln!("{} cases hold, {} are known not to", self.passed, self.known.len());
        assert!(self.faults.is_empty(), "{} cases do not hold:\n\n{}", self.faults.len(), self.faults.join("\n\n"));
    }

    fn case(&mut self, case: &Case) {
        let outcome = case.steps.iter().try_for_each(|step| {
            if case.eventually && case.known.is_none() {
                eventually(DEADLINE, case.name, || {
                    Ok(self.step(step).map_or_else(|error| Seen::NotYet(format!("{error:#}")), Seen::Done))
                })
            } else {
                self.step(step)
            }
        });
        match (outcome, case.known) {
            (outcome, None) => self.check(case.name, outcome),
            (Ok(()), Some(why)) => self.known.push(format!("== {} holds now ({why})", case.name)),
            (Err(error), Some(why)) => self.known.push(format!("== {} ({why})\n{error:#}", case.name)),
        }
    }

    fn step(&self, step: &Step) -> Result<()> {
        match step {
            Step::File { name, lines } => {
                self.machines[0].write(&format!("/root/{name}"), &self.filled(&joined(lines)))?;
                Ok(())
            }
            Step::Shell { machine, line, stdout, stderr, code } => {
                let line = self.filled(line);
                let run = self.shell(*machine, &line)?;
                let code = code.with_context(|| format!("`{line}` has no exit code in the transcript"))?;
                let expected = Run { code, stdout: self.filled(&joined(stdout)), stderr: self.filled(&joined(stderr)) };
                let same = run.code == code
                    && matches(&expected.stdout, &run.stdout)
                    && matches(&expected.stderr, &run.stderr);
                ensure!(same, "$ {line}\n{}", difference(&shown(&expected), &shown(&run)));
                Ok(())
            }
            Step::Http { request, answer } => {
                let request: Vec<String> = request.iter().map(|line| self.filled(line)).collect();
                let answer = self.filled(&answer.join("\n"));
                let got = Connection::open(&self.machines[0])?.send(&wire(&request))?;
                fits(&answer, &got).with_context(|| format!("> {}", request.join("\n> ")))
            }
        }
    }

    fn shell(&self, machine: usize, line: &str) -> Result<Run> {
        let output =
            self.machines[machine - 1].exec(&["timeout", PATIENCE, "sh", "-c", &format!("cd /root\n{line}")])?;
        Ok(Run {
            code: output.status.code().context("it was killed")?,
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Fills in what is this cluster's own.
    fn filled(&self, text: &str) -> String {
        let mut text = text.replace("{version}", env!("CARGO_PKG_VERSION"));
        for (machine, number) in self.machines.iter().zip(1..) {
            let id = machine.machine_id();
            for (name, value) in
                [("m", &id[..8]), ("M", id), ("ip", &*machine.address().to_string()), ("h", machine.name())]
            {
                text = text.replace(&format!("{{{name}{number}}}"), value);
            }
        }
        let etcd = self.cluster.lab.etcd_endpoints().join(",");
        text.replace("{etcd}", &etcd)
    }
}

/// Reads a transcript.
///
/// # Panics
/// When a line is none.
fn cases(transcript: &str) -> Vec<Case<'_>> {
    let mut cases: Vec<Case> = Vec::new();
    for (number, line) in transcript.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix("== ") {
            cases.push(Case { name, ..Case::default() });
            continue;
        }
        let read = cases.last_mut().and_then(|case| case.take(line));
        read.unwrap_or_else(|| panic!("line {} of the transcript makes no sense: {line}", number + 1));
    }
    cases
}

impl<'t> Case<'t> {
    /// Takes up one more line; `None` when it cannot stand there.
    fn take(&mut self, line: &'t str) -> Option<()> {
        // The mark, and what follows it without the one blank between.
        let (mark, rest) = line.split_once(' ').unwrap_or((line, ""));
        if let Some(machine) = mark.strip_suffix('$') {
            let machine = if machine.is_empty() { 1 } else { machine.strip_prefix('m')?.parse().ok()? };
            let (stdout, stderr) = (Vec::new(), Vec::new());
            self.steps.push(Step::Shell { machine, line: rest, stdout, stderr, code: None });
            return Some(());
        }
        match (mark, self.steps.last_mut()) {
            ("eventually", _) => self.eventually = true,
            ("known:", _) => self.known = Some(rest),
            ("file", _) => self.steps.push(Step::File { name: rest, lines: Vec::new() }),
            ("|", Some(Step::File { lines, .. })) => lines.push(rest),
            ("1>", Some(Step::Shell { stdout, .. })) => stdout.push(rest),
            ("2>", Some(Step::Shell { stderr, .. })) => stderr.push(rest),
            (">", Some(Step::Http { request, answer })) if answer.is_empty() => request.push(rest),
            (">", _) => self.steps.push(Step::Http { request: vec![rest], answer: Vec::new() }),
            ("<", Some(Step::Http { answer, .. })) => answer.push(rest),
            (mark, Some(Step::Shell { code, .. })) => {
                *code = Some(mark.strip_prefix('[')?.strip_suffix(']')?.parse().ok()?);
            }
            _ => return None,
        }
        Some(())
    }
}

fn joined(lines: &[&str]) -> String {
    lines.iter().fold(String::new(), |text, line| text + line + "\n")
}

/// Whether `text` is what `pattern`, with its `{*}` and lines `{more}`, describes.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<&str>, Vec<&str>) = (lines(pattern), lines(text));
    matches_lines(&pattern, &text)
}

/// Line by line, with the line ends: a last line without one is another line.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn matches_lines(pattern: &[&str], text: &[&str]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        (["{more}\n" | "{more}", rest @ ..], _) => {
            (0..=text.len()).any(|skipped| matches_lines(rest, &text[skipped..]))
        }
        ([line, rest @ ..], [first, others @ ..]) => matches_line(line, first) && matches_lines(rest, others),
        _ => false,
    }
}

fn matches_line(pattern: &str, line: &str) -> bool {
    match pattern.split_once("{*}") {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let mut places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            places.any(|at| matches_line(after, &rest[at..]))
        }),
    }
}

fn shown(run: &Run) -> String {
    let mut text = String::new();
    for (mark, output) in [("1>", &run.stdout), ("2>", &run.stderr)] {
        for line in output.lines() {
            writeln!(text, "{mark} {}", line.replace('\t', "\u{2192}")).expect("strings take anything");
        }
        if !output.is_empty() && !output.ends_with('\n') {
            text.push_str("(no line end)\n");
        }
    }
    text + &format!("[{}]", run.code)
}

fn difference(expected: &str, got: &str) -> String {
    format!("--- expected\n{expected}\n--- got\n{got}")
}

/// The bytes of a request, with what it lacks.
fn wire(lines: &[String]) -> Vec<u8> {
    let end = lines.iter().position(String::is_empty).unwrap_or(lines.len());
    let (head, body) = (&lines[..end], lines.get(end + 1..).unwrap_or_default().join("\n"));
    let has = |name: &str| head.iter().any(|line| line.to_lowercase().starts_with(&name.to_lowercase()));
    let version = if head[0].ends_with(" HTTP/1.1") { "" } else { " HTTP/1.1" };
    let mut text = format!("{}{version}\r\n", head[0]);
    if !has("Host:") {
        text += "Host: fleet\r\n";
    }
    for header in &head[1..] {
        text += &format!("{}\r\n", header.replace("{length}", &body.len().to_string()));
    }
    if has("Transfer-Encoding: chunked") {
        let (one, other) = body.split_at(body.len() / 2);
        text += &format!("\r\n{:x}\r\n{one}\r\n{:x}\r\n{other}\r\n0\r\n\r\n", one.len(), other.len());
        return text.into_bytes();
    }
    if !body.is_empty() && !has("Content-Length:") {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    (text + "\r\n" + &body).into_bytes()
}

/// Compares an answer with the lines that describe it.
fn fits(expected: &str, got: &Answer) -> Result<()> {
    let (head, body) = expected.split_once("\n\n").unwrap_or((expected, ""));
    let mut head = head.lines();
    let status = head.next().unwrap_or_default();
    // What every answer has: who it is from, and that its body is JSON unless it says otherwise.
    let server = format!("fleetd/{}", env!("CARGO_PKG_VERSION"));
    let mut headers = vec![("Server", &*server)];
    headers.extend(head.filter_map(|line| line.split_once(": ")));
    if !body.is_empty() && headers.iter().all(|(name, _)| *name != "Content-Type") {
        headers.push(("Content-Type", "application/json"));
    }
    let differs = |(name, value): &&(&str, &str)| !matches_line(value, got.header(name).unwrap_or_default());
    let same = got.status.to_string() == status && matches(body, &got.body);
    if let Some((name, value)) = headers.iter().find(differs) {
        anyhow::bail!("--- expected\n{name}: {value}\n--- got\n{:?}", got.headers);
    }
    ensure!(same, "{}", difference(&format!("< {status}\n< {body}"), &format!("< {}\n< {}", got.status, got.body)));
    Ok(())
}
