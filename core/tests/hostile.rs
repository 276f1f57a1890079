//! Hostile input to the core: the properties that the fuzz targets check, under proptest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "hostile/properties.rs"]
mod properties;

use fleet_core::unit::{Glob, Requirements, UnitFile, UnitName, UnitOption};
use proptest::prelude::*;

/// Text made of the pieces that unit files and their faults are made of.
fn unit_like_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "[Unit]", "[Service]", "[X-Fleet]", "[X-Fleet", "]", "=", "\\", "\n", "\r", "\r\n", "\n\n", "#", ";", " ",
            "\t", "a=b", "MachineOf=", "Conflicts=", "MachineMetadata=", "Global=yes", "Replaces=", "MachineID=x",
            "OnPartition=stop", "\"", "*", "[", "%i", "%p", "%", "\u{feff}", "\u{85}", "é", "\\\n", "\0", "a.service",
        ]).prop_map(str::to_owned),
        1 => "\\PC{0,3}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Names, and what nearly is one.
fn name_like() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z@.:_\\\\/-]{0,6}(@[a-z.]{0,3})?\\.(service|socket|mount|timer|x|)",
        "\\PC{0,12}",
        "(\\.\\./|/|[a-z]){0,4}\\.service",
        "[0-9a-f]{32}",
        "[+0-9a-fA-F]{40}",
        (240..260usize).prop_map(|length| format!("{}.service", "a".repeat(length))),
    ]
}

/// JSON that is near to the values of fleet's keys.
fn value_like() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        Just("null".to_owned()),
        Just("1".into()),
        Just("2".into()),
        Just("-1".into()),
        Just("1e400".into()),
        Just("18446744073709551615".into()),
        Just("99999999999999999999999".into()),
        Just("true".into()),
        Just(r#""launched""#.into()),
        Just(r#""da39a3ee5e6b4b0d3255bfef95601890afd80709""#.into()),
        "\"[a-z]{0,3}\"",
    ];
    let value = scalar.prop_recursive(4, 16, 4, |inner| {
        let members = prop::collection::vec(("[a-z]{1,3}", inner.clone()), 0..3);
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|items| format!("[{}]", items.join(","))),
            members.prop_map(|members| {
                let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    let names = vec![
        "v",
        "v",
        "hash",
        "desired",
        "generation",
        "address",
        "hostname",
        "metadata",
        "version",
        "boot_id",
        "cpus",
        "memory",
        "edits",
        "load",
        "active",
        "sub",
        "current",
        "job",
        "since",
        "problem",
        "later",
    ];
    let member = (prop::sample::select(names), value);
    let object = prop::collection::vec(member, 0..10).prop_map(|members| {
        let members: Vec<String> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        format!("{{{}}}", members.join(",")).into_bytes()
    });
    prop_oneof![3 => object, 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

proptest! {
    #[test]
    fn any_text_is_a_unit_file_or_an_error_with_its_line(text in unit_like_text()) {
        properties::unit_file(text.as_bytes());
    }

    #[test]
    fn any_bytes_are_a_unit_file_or_an_error_with_its_line(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        properties::unit_file(&bytes);
    }

    #[test]
    fn options_of_any_text_read_back_as_themselves_or_are_refused(
        parts in prop::collection::vec(("\\PC{0,4}|Unit|X-Fleet", unit_like_text(), unit_like_text()), 0..4)
    ) {
        let options = parts.into_iter().map(|(section, name, value)| UnitOption { section, name, value, line: 0 });
        properties::options(&options.collect::<Vec<_>>());
    }

    #[test]
    fn any_text_has_requirements_or_an_error_and_warnings_point_into_it(name in name_like(), text in unit_like_text()) {
        properties::requirements(&name, &format!("[X-Fleet]\n{text}"));
        properties::requirements("web@1.service", &text);
    }

    #[test]
    fn any_pattern_matches_or_not(pattern in "\\PC{0,12}|[*?a\\[\\]^\\\\-]{0,12}", name in name_like()) {
        properties::glob(&pattern, &name);
    }

    #[test]
    fn any_value_has_its_specifiers_replaced(value in "(%|[npNiH]|\\PC){0,12}", name in name_like()) {
        properties::specifiers(&value, &name);
        properties::specifiers(&value, "web@1.service");
    }

    #[test]
    fn nothing_that_leaves_its_directory_is_a_name(text in name_like()) {
        properties::name(&text);
    }

    #[test]
    fn keys_read_back_under_any_prefix(prefix in "[a-z/]{0,6}|\\PC{0,4}", name in name_like(), text in
        "(unit|global|sched|machine|metadata|state|file|x)/([0-9a-f]{32}/)?(a.service|b@.timer|[0-9a-fA-F]{40}|/)"
    ) {
        properties::keys(&prefix, &text);
        properties::keys(&prefix, &name);
    }

    #[test]
    fn any_value_is_read_or_refused(bytes in value_like()) {
        properties::records(&bytes);
    }
}

#[test]
fn values_nested_deeper_than_any_stack_are_refused() {
    for open in ["[", r#"{"v":"#, r#"{"v":1,"x":"#] {
        properties::records(open.repeat(200_000).as_bytes());
    }
}

#[test]
fn patterns_full_of_stars_and_classes_end_soon() {
    // With backtracking to every star, none of these would ever come to an end.
    let name = format!("{}.service", "a".repeat(247));
    for part in ["*", "*a", "a*", "?*", "[a-z]*", "*[^b]", "*aaaaaaaa"] {
        let pattern = format!("{}c", part.repeat(2000 / part.len()));
        assert!(!Glob::new(&*pattern).matches(&name), "{part}");
    }
}

#[test]
fn file_with_a_section_on_each_line_is_read_soon() {
    // As large as a body of the HTTP API may be. Quadratic work took minutes.
    let text: String = (0..100_000).map(|n| format!("[{n}]\na={n}\n")).collect();
    let file = UnitFile::parse(&text).unwrap();
    assert_eq!(file.canonical().lines().count(), 300_000 - 1);
    assert_eq!(UnitFile::from_options(file.options()).unwrap().hash(), file.hash());
}

#[test]
fn requirements_full_of_patterns_are_read_soon() {
    // 64 kB, the largest unit file taken: thousands of targets and of patterns, none of which matches.
    let name = UnitName::new("a.service").unwrap();
    let line = |key: &str, n: usize, word: &dyn Fn(usize) -> String| {
        let words: Vec<String> = (n * 40..n * 40 + 40).map(word).collect();
        format!("{key}={}\n", words.join(" "))
    };
    let targets: String = (0..50).map(|n| line("MachineOf", n, &|n| format!("\"{n:x}\""))).collect();
    let patterns: String = (0..100).map(|n| line("Conflicts", n, &|n| format!("*{n:x}x"))).collect();
    let file = UnitFile::parse(&format!("[X-Fleet]\n{targets}{patterns}")).unwrap();
    assert!(file.canonical().len() > 30_000);
    let (read, warnings) = Requirements::read(&file, &name).unwrap();
    assert_eq!((read.machine_of.len(), read.conflicts.len(), warnings.len()), (2000, 4000, 0));
}

#[test]
fn carriage_returns_in_a_continuation_do_not_change_the_hash() {
    properties::unit_file(b"[Service]\nExecStart=/bin/a \\\r\r\n  # why\r\r\n  -b\r\r\n");
}
