//! `fleetctl verify`, which needs no cluster: what it prints about good and bad files, and how it exits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

/// The unit of an old slide: it runs, once, and not as a service.
const DECK: &str = "\
[Unit]
After=docker.service
Requires=docker.service
Description=starts ElasticSearch container
[Service]
TimeoutStartSec=0
ExecStartPre=/usr/bin/docker pull dockerfile/elasticsearch
ExecStart=/usr/bin/docker run -d -p 9200:9200 -p 9300:9300 dockerfile/elasticsearch
";

const GOOD: &str = "[Service]\nExecStart=/bin/sleep 1\n";

/// Runs `fleetctl verify` in a directory, with the programs of `path`.
fn verify(directory: &Path, path: &str, words: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    let output =
        command.arg("verify").args(words).current_dir(directory).env_clear().env("PATH", path).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

/// A directory with these files.
fn files(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(directory.path().join(name), text).unwrap());
    directory
}

#[test]
fn units_of_this_repository_are_clean_for_fleet_and_for_systemd() {
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../units");
    let mut names: Vec<String> =
        fs::read_dir(&units).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| !name.ends_with(".md"));
    names.sort();
    assert!(names.len() > 5, "{names:?}");
    let words: Vec<&str> = ["--strict"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let (out, err, code) = verify(&units, "/usr/bin:/bin", &words);
    assert_eq!((&*out, code), ("", 0), "{err}");
    assert!(err.starts_with(&format!("nothing found in {} files\n", names.len())), "{err}");
}

#[test]
fn findings_are_named_with_line_rule_and_mend_and_decide_the_exit_code() {
    let slip = GOOD.to_owned() + "[X-Fleet]\nConflict=b.service\n";
    let directory = files(&[
        ("es.service", DECK),
        ("good@.service", GOOD),
        ("slip.service", &slip),
        ("broken.service", "[Unit]\n\n[Service\n"),
        ("notes.txt", "x"),
        ("he!lo.service", GOOD),
    ]);
    let run = |line: &str| {
        let words: Vec<&str> = ["--no-systemd"].into_iter().chain(line.split_whitespace()).collect();
        let (out, err, code) = verify(directory.path(), "", &words);
        let out = out.lines().map(|line| format!("1> {line}\n"));
        out.chain(err.lines().map(|line| format!("2> {line}\n"))).collect::<String>() + &format!("[{code}]")
    };
    for (line, expected) in [
        ("", "2> error: no files given\n2> hint: fleetctl verify units/*.service\n[2]"),
        ("good@.service", "2> nothing found in 1 file\n[0]"),
        ("good@1", "2> nothing found in 1 file\n[0]"),
        (
            "es good@1",
            "1> es.service:8: error: docker-detached: docker run --detach ends at once: systemd takes the service for \
             ended and runs ExecStop=, and nobody looks after the container\n\
             1>     mend: take -d (--detach) out of docker run\n\
             1> es.service:8: warning: docker-name: the container gets a name that docker makes up: the unit can neither \
             stop nor remove it\n\
             1>     mend: add --name %p-%i, or --name %N\n\
             1> es.service:8: warning: docker-rm: the container stays on the machine when it has ended, one more with \
             each start\n\
             1>     mend: add --rm to docker run\n\
             2> 1 error, 2 warnings in 2 files\n[1]",
        ),
        (
            "slip",
            "1> slip.service:4: warning: x-fleet-ignored: unrecognized requirement in [X-Fleet] section: \"Conflict\"\n\
             1>     mend: did you mean \"Conflicts\"?\n\
             2> 0 errors, 1 warning in 1 file\n[0]",
        ),
        (
            "--strict slip",
            "1> slip.service:4: warning: x-fleet-ignored: unrecognized requirement in [X-Fleet] section: \"Conflict\"\n\
             1>     mend: did you mean \"Conflicts\"?\n\
             2> 0 errors, 1 warning in 1 file\n[1]",
        ),
        (
            "broken",
            "1> broken.service:3: error: syntax: unable to find end of section\n\
             1>   |\n\
             1> 3 | [Service\n\
             1>   | ^^^^^^^^ close the section's name with `]`\n\
             2> 1 error, 0 warnings in 1 file\n[1]",
        ),
        (
            "nosuch",
            "1> nosuch.service: error: unreadable: no such file or directory\n\
             1>     mend: name a file that can be read, of a unit or of its template\n\
             2> 1 error, 0 warnings in 1 file\n[1]",
        ),
        (
            "notes.txt",
            "1> notes.txt: error: name: notes.txt is not named like a unit file, so it would make a unit \
             notes.txt.service\n\
             1>     mend: rename it: unit files end in .service, .socket, .timer, .path, .device, .mount or \
             .automount\n\
             2> 1 error, 0 warnings in 1 file\n[1]",
        ),
        (
            "he!lo.service",
            "1> he!lo.service: error: name: invalid character '!' in unit name\n\
             1>     mend: rename the file: letters, digits and :-_.\\@, then .service, .timer or another type\n\
             2> 1 error, 0 warnings in 1 file\n[1]",
        ),
    ] {
        assert_eq!(run(line), expected, "$ fleetctl verify {line}");
    }
}

#[test]
fn programs_get_the_same_as_json() {
    let directory = files(&[("es.service", DECK), ("good.service", GOOD)]);
    let (out, err, code) = verify(directory.path(), "", &["-o", "json", "es.service", "good.service", "nosuch"]);
    let found: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((found.as_array().unwrap().len(), &*err, code), (4, "", 1));
    assert_eq!(
        found[1],
        serde_json::json!({
            "file": "es.service", "line": 8, "rule": "docker-name", "severity": "warning",
            "message": "the container gets a name that docker makes up: the unit can neither stop nor remove it",
            "mend": "add --name %p-%i, or --name %N",
        })
    );
    assert_eq!((&found[3]["rule"], &found[3]["line"]), (&"unreadable".into(), &serde_json::Value::Null));
    assert_eq!(verify(directory.path(), "", &["-o", "json", "good"]).0, "[]\n");
}

#[test]
fn systemd_is_asked_where_it_is() {
    let directory = files(&[("a.service", "[Service]\nExecStart=/nowhere/a\nRestrat=always\n"), ("b@.service", GOOD)]);
    // Systemd's own words, and only those about the file: there is no program /nowhere/a here.
    let (out, err, code) = verify(directory.path(), "/usr/bin:/bin", &["a", "b@1"]);
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines[0].starts_with("a.service:3: warning: systemd: Unknown key"), "{out}{err}");
    assert_eq!((lines.len(), lines[1], code), (2, "    mend: correct the line, or remove it", 0), "{out}");

    let (out, err, code) = verify(directory.path(), "", &["a"]);
    assert_eq!((&*out, code), ("", 0));
    assert!(err.ends_with("systemd-analyze is not here: only fleet's own rules were checked\n"), "{err}");

    // An old one, which does not know the option.
    let old = directory.path().join("systemd-analyze");
    let script = "#!/bin/sh\ncase \"$*\" in *--recursive*) echo \"unrecognized option '--recursive-errors'\" >&2; exit 1;; esac\n\
                  for file; do :; done; echo \"$file:2: Not good\" >&2\n";
    fs::write(&old, script).unwrap();
    fs::set_permissions(&old, fs::Permissions::from_mode(0o755)).unwrap();
    let (out, _, code) = verify(directory.path(), directory.path().to_str().unwrap(), &["./a.service"]);
    assert!(out.starts_with("./a.service:2: error: systemd: Not good\n"), "{out}");
    assert_eq!(code, 1);
}

#[test]
fn what_a_file_cannot_mean_and_names_that_two_claim_are_found() {
    let alias = |name: &str| format!("{GOOD}[Install]\nAlias={name}\n");
    let directory = files(&[
        ("a.service", &alias("db.service")),
        ("b.service", &alias("db.service")),
        ("c.service", &alias("db.timer")),
        ("case.service", &format!("{GOOD}[X-fleet]\nGlobal=true\n")),
        ("app.service.in", GOOD),
    ]);
    fs::create_dir(directory.path().join("units")).unwrap();
    for (words, expected, code) in [
        (
            &["a.service", "b.service"][..],
            "a.service:4: warning: install: the alias db.service is also an alias of b.service: a machine that has both gives \
             it to one of them\n    mend: take another alias, or keep the units apart with Conflicts=\n\
             b.service:4: warning: install: the alias db.service is also an alias of a.service: a machine that has both gives \
             it to one of them\n    mend: take another alias, or keep the units apart with Conflicts=\n",
            0,
        ),
        (
            &["c.service"],
            "c.service:4: error: install: Alias=db.timer is refused by systemd: an alias of a service unit ends in .service\n    \
             mend: write Alias=db.service, or remove it\n",
            1,
        ),
        (
            &["case.service"],
            "case.service:3: warning: doubt: fleet does not know the section [X-fleet], and passes over it\n    \
             mend: did you mean [X-Fleet]?\n",
            0,
        ),
        (
            &["app.service.in"],
            "app.service.in: error: name: app.service.in is not named like a unit file, so it would make a unit \
             app.service.in.service\n    mend: rename it, or copy it to app.service\n",
            1,
        ),
        (
            &["units"],
            "units: error: name: units is a directory, not a unit file\n    mend: name the files in it: units/*.service\n",
            1,
        ),
        (
            &["-"],
            "-: error: name: - stands for no file: a unit is called as its file is, and standard input has no name\n    \
             mend: write it to a file first, such as hello.service\n",
            1,
        ),
    ] {
        let words: Vec<&str> = ["--no-systemd"].into_iter().chain(words.iter().copied()).collect();
        let (out, err, exit) = verify(directory.path(), "", &words);
        assert_eq!((&*out, exit), (expected, code), "{words:?} {err}");
    }
}
