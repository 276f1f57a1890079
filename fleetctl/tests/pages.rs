//! Help pages and manual pages of the built `fleetctl`, and its completion scripts.
//!
//! Every help page is kept in `tests/help`; after a change that is meant, `UPDATE_HELP=1 cargo test -p fleetctl`
//! writes them anew.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "stand_in/cluster.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use the rest")]
mod cluster;

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use cluster::{HELLO, StandIn, files, fleetctl};

/// Commands that no list names.
const HIDDEN: [&str; 1] = ["man"];

fn run(words: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetctl"));
    // Pages must not depend on who runs the test, and where.
    let output = command.args(words).env_clear().env("COLUMNS", "100").output().unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{words:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands that `fleetctl help` lists.
fn commands() -> Vec<String> {
    let help = run(&["help"]);
    let list = help.split_once("COMMANDS:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let names = list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[test]
fn help_pages_are_as_they_are_kept() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    let mut pages = vec![("fleetctl".to_owned(), run(&[])), ("help".to_owned(), run(&["help"]))];
    for name in commands().iter().map(String::as_str).chain(HIDDEN) {
        let page = run(&["help", name]);
        assert_eq!(page, run(&[name, "--help"]), "{name}");
        pages.push((name.into(), page));
    }
    let names: BTreeSet<String> = pages.iter().map(|(name, _)| format!("{name}.txt")).collect();
    if std::env::var_os("UPDATE_HELP").is_some() {
        fs::remove_dir_all(&kept).unwrap();
        fs::create_dir(&kept).unwrap();
        pages.iter().for_each(|(name, page)| fs::write(kept.join(format!("{name}.txt")), page).unwrap());
    }
    for (name, page) in &pages {
        let path = kept.join(format!("{name}.txt"));
        let known = fs::read_to_string(&path).unwrap_or_default();
        assert!(*page == known, "{} differs; if that is meant, run with UPDATE_HELP=1:\n{page}", path.display());
    }
    let files = fs::read_dir(&kept).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.collect::<BTreeSet<_>>(), names);
}

#[test]
fn help_has_the_sections_of_coreos_fleet() {
    for (words, sections) in [
        (&["help"][..], &["NAME:", "USAGE:", "VERSION:", "COMMANDS:", "OPTIONS:"][..]),
        (&["help", "start"], &["NAME:", "USAGE:", "DESCRIPTION:", "OPTIONS:", "GLOBAL OPTIONS:"]),
    ] {
        let page = run(words);
        let places: Vec<_> = sections.iter().map(|section| page.find(&format!("{section}\n")).unwrap()).collect();
        assert!(places.is_sorted(), "{page}");
    }
    assert_eq!(run(&["--help"]), run(&["help"]));
    assert_eq!(run(&["-h"]), run(&["help"]));
}

#[test]
fn every_command_has_an_example_and_a_manual_page() {
    let directory = tempfile::tempdir().unwrap();
    run(&["man", directory.path().to_str().unwrap()]);
    let page = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
    for name in commands() {
        let page = page(&format!("fleetctl-{name}.1"));
        for section in ["NAME", "SYNOPSIS", "DESCRIPTION", "EXAMPLES", "ENVIRONMENT", "\"EXIT STATUS\"", "\"SEE ALSO\""]
        {
            assert!(page.contains(&format!(".SH {section}\n")), "{name} lacks {section}:\n{page}");
        }
    }
    let root = page("fleetctl.1");
    assert!(root.contains("FLEETCTL_ENDPOINT") && root.contains("fleetctl\\-why(1)"), "{root}");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), commands().len() + 1);
}

/// What a shell is offered for the last of `words`.
fn offered(endpoint: &str, directory: &Path, words: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .args(["--", "fleetctl"])
        .args(words)
        .current_dir(directory)
        .env_clear()
        .env("FLEETCTL_COMPLETE", "bash")
        .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
        .env("_CLAP_IFS", "\n")
        .env("FLEETCTL_ENDPOINT", endpoint)
        .output()
        .unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""), "{words:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(Into::into).collect()
}

/// Asks until the answer is the right one: on a busy machine 300 ms may pass without any.
fn persistently<T: PartialEq>(expected: &T, ask: impl Fn() -> T) -> T {
    (0..20).map(|_| ask()).find(|answer| answer == expected).unwrap_or_else(ask)
}

// The shell's process is waited for on this thread, the stand-in answers it on another.
#[tokio::test(flavor = "multi_thread")]
async fn shells_are_offered_units_machines_and_files() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO), ("hello.txt", "")]));
    fleetctl(&fake, directory.path(), "submit hello").await;
    fs::write(directory.path().join("help.service"), HELLO).unwrap();
    for (words, expected) in [
        (&["stop", "he"][..], &["hello.service"][..]),
        (&["start", "he"], &["hello.service", "help.service"]),
        (&["why", "hello.service", ""], &["d097a72e"]),
        (&["ssh", "10."], &["10.82.0.13"]),
        (&["ssh", "he"], &["hello.service"]),
        (&["ssh", "--unit", "he"], &["hello.service"]),
        (&["completion", ""], &["bash", "zsh", "fish"]),
        (&["list-units", "--o"], &["--output"]),
        (&["--endpoint=unix:///nope", "stop", "he"], &[]),
        (&["--tunnel=gate", "stop", "he"], &[]),
    ] {
        let expected: Vec<String> = expected.iter().map(|word| (*word).into()).collect();
        let got = persistently(&expected, || offered(&fake.endpoint, directory.path(), words));
        assert_eq!(got, expected, "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bash_completes_names_that_it_takes_apart() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("web@.service", HELLO)]));
    fleetctl(&fake, directory.path(), "submit web@1 web@2").await;
    // As bash calls it: `@` ends a word, and begins the one that is to be completed.
    let ask = r#"source <(fleetctl completion bash)
        COMP_LINE='fleetctl stop web@1 web@' COMP_POINT=${#COMP_LINE}
        _fleetctl fleetctl @ web
        echo "${COMPREPLY[@]}""#;
    let program = Path::new(env!("CARGO_BIN_EXE_fleetctl")).parent().unwrap();
    let complete = || {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", ask]).env("PATH", format!("{}:/usr/bin:/bin", program.display()));
        let output = bash.env("FLEETCTL_ENDPOINT", &fake.endpoint).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let expected = "@1.service @2.service\n".to_owned();
    assert_eq!(persistently(&expected, complete), expected);
}

#[test]
fn scripts_for_shells_ask_fleetctl() {
    for shell in ["bash", "zsh", "fish"] {
        let script = run(&["completion", shell]);
        assert!(script.contains(&format!("FLEETCTL_COMPLETE=\"{shell}\"")) || shell == "fish", "{script}");
        assert!(script.contains("fleetctl"), "{script}");
    }
}
