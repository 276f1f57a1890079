//! Hostile input to the daemon: the properties that the fuzz targets check, under proptest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "hostile/agent.rs"]
mod agent;
#[path = "hostile/api.rs"]
mod api;
#[path = "hostile/engine.rs"]
mod engine;
#[path = "hostile/properties.rs"]
mod properties;

use std::{fs, path::Path, process::Command};

use fleet_core::unit::UnitName;
use fleetd::{agent::Disk, config::OPTIONS, filesystem::Real};
use proptest::prelude::*;

use api::Ask;
use properties::{Found, Happening};

fn bytes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..most)
}

/// Values as they might stand in etcd: of another shape, of another version, none at all.
fn bad_value() -> impl Strategy<Value = Vec<u8>> {
    let known: Vec<&[u8]> = vec![
        b"",
        b"null",
        b"[1]",
        b"{}",
        b"{\"v\":1}",
        b"{\"v\":99,\"edits\":{}}",
        b"{\"v\":1,\"edits\":{\"a\":1}}",
        b"{\"v\":1,\"edits\":{}}",
        b"{\"v\":1,\"hash\":\"da39a3ee5e6b4b0d3255bfef95601890afd80709\",\"desired\":\"paused\"}",
        b"{\"v\":1,\"hash\":\"da39a3ee5e6b4b0d3255bfef95601890afd80709\",\"desired\":\"loaded\",\"generation\":-1}",
        b"\xff\xfe",
    ];
    prop_oneof![prop::sample::select(known).prop_map(<[u8]>::to_vec), bytes(40)]
}

fn happening() -> impl Strategy<Value = Happening> {
    let value = prop_oneof![
        3 => any::<u8>().prop_map(|variant| Some(Ok(variant))),
        3 => bad_value().prop_map(|bytes| Some(Err(bytes))),
        1 => Just(None),
    ];
    (any::<u8>(), value).prop_map(|(key, value)| Happening { key, value })
}

fn found() -> impl Strategy<Value = Found> {
    let name = prop_oneof!["[ab]\\.(service|new|socket)".prop_map(String::into_bytes), bytes(6)];
    let contents = prop_oneof![bytes(20), Just(b"[Service]\nExecStart=/bin/a\n".to_vec())];
    (name, any::<u8>(), contents).prop_map(|(name, kind, contents)| Found { name, kind, contents })
}

fn config_line() -> impl Strategy<Value = String> {
    let names = [&OPTIONS[..], &["enable_grpc", "unheard_of", "[section]", "#", ""]].concat();
    let value = prop_oneof![
        "[0-9]{1,22}(ms|s|m|h|x)?([0-9]{1,22}(ms|s|m|h))?",
        "(nan|inf|-inf|-1|1e400|0|true|false)",
        "\"?\\PC{0,6}\"?",
        "\\[{0,200}\"?[a-z:/0-9.]{0,12}\"?\\]{0,3}",
    ];
    (prop::sample::select(names), "( ?= ?)?", value).prop_map(|(name, equals, value)| format!("{name}{equals}{value}"))
}

/// Bodies that are near to those of the API.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let option = prop_oneof![
        Just(r#"{"section":"Service","name":"ExecStart","value":"/bin/b"}"#.to_owned()),
        Just(r#"{"section":"X-Fleet","name":"Global","value":"true"}"#.into()),
        Just(r#"{"section":"X-Fleet","name":"Conflicts","value":"[*"}"#.into()),
        Just(r#"{"section":"X","name":"A","value":"\n"}"#.into()),
        Just("{}".into()),
        Just("1".into()),
    ];
    let state = prop::sample::select(vec!["", "inactive", "loaded", "launched", "paused"]);
    let unit = (prop::collection::vec(option, 0..3), state).prop_map(|(options, state)| {
        format!(r#"{{"desiredState":"{state}","options":[{}]}}"#, options.join(",")).into_bytes()
    });
    let op = prop::sample::select(vec!["add", "remove", "replace", "move"]);
    let path = prop_oneof![Just(format!("/{}/metadata/a", api::MACHINE)), "/[0-9a-f/]{0,8}"];
    let patch = (op, path, "\"[a-z]{0,3}\"|\\{\"value\":\"x\"\\}|null")
        .prop_map(|(op, path, value)| format!(r#"[{{"op":"{op}","path":"{path}","value":{value}}}]"#).into_bytes());
    prop_oneof![3 => unit, 3 => patch, 1 => bytes(30), 1 => bad_value()]
}

fn ask() -> impl Strategy<Value = Ask> {
    let rest = prop_oneof![
        4 => Just(String::new()),
        2 => "(a|b|g|bad|new|web@1|web@)\\.service(/why|/restart)?",
        2 => "[A-Za-z0-9_=-]{0,8}",
        1 => "\\PC{0,12}",
        1 => "[%/.?&=0-9a-f]{0,12}",
    ];
    (any::<u8>(), any::<u8>(), rest, any::<u8>(), body()).prop_map(|(method, route, rest, content_type, body)| Ask {
        method,
        route,
        rest,
        content_type,
        body,
    })
}

/// A key of any kind, and a value that is none.
fn bad_entry() -> impl Strategy<Value = (String, Vec<u8>)> {
    let path = prop_oneof![
        "(unit|global)/(bad[0-9]|u7|web@)\\.service",
        "(sched|state)/0{31}[0-9]/(bad[0-9]|u7)\\.service",
        "(machine|metadata)/0{31}[5-9]",
        "metadata/0{31}[1-3]",
        "[a-z]{1,9}/[a-z/.]{0,9}",
    ];
    (path, bad_value())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_requests_are_answered_and_leave_a_store_that_can_be_read(asks in prop::collection::vec(ask(), 0..12)) {
        api::requests(&asks);
    }

    #[test]
    fn good_units_are_placed_as_if_bad_values_were_not_there(bad in prop::collection::vec(bad_entry(), 0..8)) {
        engine::plan(&bad);
    }
}

proptest! {
    #[test]
    fn good_values_are_known_as_if_bad_ones_had_never_been_written(
        happenings in prop::collection::vec(happening(), 0..30)
    ) {
        properties::cluster(&happenings);
    }

    #[test]
    fn any_configuration_is_read_or_refused_with_its_line(lines in prop::collection::vec(config_line(), 0..5)) {
        properties::config(lines.join("\n").as_bytes());
    }

    #[test]
    fn any_bytes_are_a_configuration_or_refused_with_their_line(bytes in bytes(60)) {
        properties::config(&bytes);
    }

    #[test]
    fn good_entries_on_disk_are_loaded_whatever_lies_beside_them(
        found in prop::collection::vec(found(), 0..5),
        manifest in prop::option::weighted(0.3, bytes(40)),
        members in prop::collection::vec(("[ab]\\.(service|x)|\\PC{0,3}", "\\{\\}|null|1|\"a\"|\\[\\[\\]\\]"), 0..4),
    ) {
        properties::disk(&found, manifest.as_deref(), &members);
    }
}

#[test]
fn pipe_or_huge_file_among_the_unit_files_does_not_hold_the_agent_up() {
    let directory = tempfile::tempdir().unwrap();
    let units = directory.path().join("units");
    let disk = Disk::open(Real, &units).unwrap();
    let good = UnitName::new("good.service").unwrap();
    disk.write(&good, "[Service]\nExecStart=/bin/a\n").unwrap();
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    pipe(&units.join("pipe.service"));
    pipe(&directory.path().join("manifest.json"));
    fs::File::create(units.join("huge.service")).unwrap().set_len(1 << 40).unwrap();
    std::os::unix::fs::symlink("/dev/zero", units.join("endless.service")).unwrap();
    let units = disk.left().unwrap().units;
    assert_eq!(units.len(), 4);
    assert_eq!(units.iter().filter(|unit| disk.file(unit).is_some()).collect::<Vec<_>>(), [&good]);
}

#[test]
fn bad_entry_of_the_manifest_does_not_take_the_good_ones_with_it() {
    let members = [("a.service".to_owned(), "{\"hash\":1}".to_owned()), ("../x".into(), "{}".into())];
    properties::disk(&[], None, &members);
}

#[test]
fn unit_with_the_longest_name_can_be_put_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::open(Real, &directory.path().join("units")).unwrap();
    let name = UnitName::new(&format!("{}.service", "a".repeat(255 - ".service".len()))).unwrap();
    disk.write(&name, "[Unit]\nDescription=a\n").unwrap();
    assert!(disk.left().unwrap().units.contains(&name) && disk.file(&name).is_some());
}

#[test]
fn machine_whose_entry_was_overwritten_gets_no_unit() {
    engine::overwritten_machine();
}

#[test]
fn machine_whose_bad_entry_was_deleted_is_not_held_for_ever() {
    engine::deleted_machine();
}

#[test]
fn restart_of_a_unit_with_the_greatest_generation_is_taken() {
    let ask = |method, route, rest: &str| Ask { method, route, rest: rest.into(), content_type: 3, body: Vec::new() };
    api::requests(&[ask(5, 0, "/restart"), ask(0, 0, ""), ask(5, 0, "/restart")]);
}

/// A change of the metadata `a` of the one machine.
fn patch(value: &str) -> Ask {
    let path = format!("/{}/metadata/a", api::MACHINE);
    let body = format!(r#"[{{"op":"add","path":"{path}","value":"{value}"}}]"#).into_bytes();
    Ask { method: 3, route: 6, rest: String::new(), content_type: 3, body }
}

#[test]
fn metadata_too_large_for_the_store_are_the_client_s_fault() {
    let (status, message) = api::answer(Vec::new(), &patch(&"x".repeat(1_900_000)));
    assert!(status == 400 && message.contains("at most 65536 are taken"), "{status} {message}");
    assert_eq!(api::answer(Vec::new(), &patch("x")).0, 204);
}

#[test]
fn metadata_of_a_newer_fleet_are_not_overwritten() {
    let stored = |value: &str| vec![(format!("/fleet/metadata/{}", api::MACHINE), value.into())];
    let (status, message) = api::answer(stored(r#"{"v":99,"new":true}"#), &patch("x"));
    assert!(status == 409 && message.contains("upgrade"), "{status} {message}");
    assert_eq!(api::answer(stored("garbage"), &patch("x")).0, 204, "what is nothing of fleet's is mended");
}

#[test]
fn body_nested_deeper_than_any_stack_is_refused() {
    for open in ["[", r#"{"options":"#, r#"[{"value":"#] {
        for (method, route) in [(1, 0), (3, 6)] {
            let body = open.repeat(100_000).into_bytes();
            let ask = Ask { method, route, rest: String::new(), content_type: 3, body };
            assert_eq!(api::answer(Vec::new(), &ask).0, 400);
        }
    }
}

#[test]
fn body_with_a_section_for_each_option_is_answered_soon() {
    // Quadratic work kept one of the daemon's threads for a minute.
    let options: Vec<String> = (0..50_000).map(|n| format!(r#"{{"section":"{n}","name":"a"}}"#)).collect();
    let body = format!(r#"{{"options":[{}]}}"#, options.join(",")).into_bytes();
    let (status, message) =
        api::answer(Vec::new(), &Ask { method: 1, route: 0, rest: String::new(), content_type: 3, body });
    assert!(status == 400 && message.contains("at most 65536 are taken"), "{status} {message}");
}

#[test]
fn key_in_the_election_that_is_no_candidates_does_no_harm() {
    engine::stray_candidate();
}

#[test]
fn states_that_others_overwrote_are_published_again() {
    agent::overwritten_states();
}

#[test]
fn wrong_file_is_overwritten_when_the_unit_is_submitted_again() {
    api::mended_file();
}
