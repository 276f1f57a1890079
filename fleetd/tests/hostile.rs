//! Hostile input to the daemon: the properties that the fuzz targets check, under proptest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "hostile/properties.rs"]
mod properties;

use std::{fs, path::Path, process::Command};

use fleet_core::unit::UnitName;
use fleetd::{agent::Disk, filesystem::Real};
use proptest::prelude::*;

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
    let names = vec![
        "verbosity",
        "log_format",
        "etcd_servers",
        "etcd_username",
        "etcd_key_prefix",
        "etcd_request_timeout",
        "public_ip",
        "metadata",
        "agent_ttl",
        "units_directory",
        "listen",
        "token_limit",
        "disable_engine",
        "systemd_user",
        "enable_grpc",
        "unheard_of",
        "[section]",
        "#",
        "",
    ];
    let value = prop_oneof![
        "[0-9]{1,22}(ms|s|m|h|x)?([0-9]{1,22}(ms|s|m|h))?",
        "(nan|inf|-inf|-1|1e400|0|true|false)",
        "\"?\\PC{0,6}\"?",
        "\\[{0,200}\"?[a-z:/0-9.]{0,12}\"?\\]{0,3}",
    ];
    (prop::sample::select(names), "( ?= ?)?", value).prop_map(|(name, equals, value)| format!("{name}{equals}{value}"))
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
    let left = disk.load().unwrap();
    assert_eq!(left.files.keys().collect::<Vec<_>>(), [&good]);
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
    assert!(disk.load().unwrap().files.contains_key(&name));
}
