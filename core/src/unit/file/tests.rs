use proptest::prelude::*;

use super::*;

fn values(text: &str, name: &str) -> Vec<String> {
    UnitFile::parse(text).unwrap().values("Service", name)
}

fn option(section: &str, name: &str, value: &str) -> UnitOption {
    UnitOption { section: section.into(), name: name.into(), value: value.into(), line: 0 }
}

#[test]
fn values_mean_what_systemd_makes_of_them() {
    for (text, expected) in [
        ("[Service]\nExecStart=/bin/a\n", &["/bin/a"][..]),
        ("  [Service]  \n\t ExecStart = /bin/a \n", &["/bin/a"]),
        ("\u{feff}[Service]\r\nExecStart=/bin/a\r\n", &["/bin/a"]),
        ("[Service]\nExecStart=/bin/a \\\n  # why\n  -b \\\n\t-c\n", &["/bin/a    -b  \t-c"]),
        ("[Service]\nExecStart=/bin/a \\\n\nType=simple\n", &["/bin/a"]),
        ("[Service]\nExecStart=/bin/a \\", &["/bin/a"]),
        ("[Service]\nExecStart=/bin/echo \\\\\nType=simple\n", &["/bin/echo \\\\"]),
        ("[Service]\n# ExecStart=/no\n;ExecStart=/no\nExecStart=/bin/a # not a comment\n", &["/bin/a # not a comment"]),
        ("[Service]\nExecStart=a\n[Unit]\nX=1\n[Service]\nExecStart=b\n", &["a", "b"]),
        ("[Service]\nExecStart=a\nExecStart=\nExecStart=b\n", &["b"]),
        ("[Service]\nExecStart=sh -c \"a=b; c\"\n", &["sh -c \"a=b; c\""]),
        ("ExecStart=before any section\n[Service]\nExecStart=a", &["a"]),
        ("[Service]\nExecStart=a \\\n  # why\n  -e B=c \\\n  d\n", &["a  -e B=c    d"]),
        ("[Service]\nExecStart=a \\ \n-e B=c \\ \n", &["a  -e B=c"]),
    ] {
        assert_eq!(values(text, "ExecStart"), expected, "{text:?}");
    }
}

#[test]
fn canonical_text_and_hash_are_those_of_coreos_fleet() {
    let file = UnitFile::parse(
        "# hello\n\n[Unit]\nDescription=Hello there\n[Service]\nExecStart=/bin/sh -c \\\n  'sleep 1' \\\n  x\n\n[Unit]\n After = a.service\n",
    )
    .unwrap();
    let canonical =
        "[Unit]\nDescription=Hello there\nAfter=a.service\n\n[Service]\nExecStart=/bin/sh -c \\\n  'sleep 1' \\\n  x\n";
    assert_eq!(file.canonical(), canonical);
    assert_eq!(file.hash(), UnitHash::of(canonical));
    assert_eq!(file.description(), Some("Hello there"));
    // A value that the coming line belongs to keeps its newline, or it would swallow the next option.
    let dangling = UnitFile::parse("[Service]\nExecStart=/bin/a \\\n\nType=simple\n").unwrap();
    assert_eq!(dangling.canonical(), "[Service]\nExecStart=/bin/a \\\n\nType=simple\n");
    assert_eq!(UnitFile::parse("").unwrap().canonical(), "");
}

#[test]
fn faults_are_shown_with_line_and_caret() {
    let error = |text: &str| UnitFile::parse(text).unwrap_err().render("x.service");
    assert_eq!(
        error("[Unit]\nDescription=a\n[Service\nExecStart=b\n"),
        "x.service:3: unable to find end of section\n  |\n3 | [Service\n  | ^^^^^^^^ close the section's name with `]`"
    );
    assert_eq!(
        error("[Unit] junk\n"),
        "x.service:1: found garbage after section name Unit\n  |\n1 | [Unit] junk\n  |        ^^^^ begin a new line after `]`"
    );
    assert_eq!(
        error("# a\njunk [Unit]\nA=b\n"),
        "x.service:2: found garbage before section name Unit\n  |\n2 | junk [Unit]\n  | ^^^^ begin a new line before `[`"
    );
    assert_eq!(
        error("[Unit]\nA=b\n# why \\\n[Service]\nC=d\n"),
        "x.service:4: section [Service] is part of the comment above it\n  |\n4 | [Service]\n  | ^^^^^^^^^ remove the `\\` at the end of the comment"
    );
    assert_eq!(
        error("[Service]\nExecStart=a \\ \n  b\n"),
        "x.service:3: unexpected newline encountered while parsing option name\n  |\n3 |   b\n  |   ^ remove the blank behind the `\\` of the line above"
    );
    assert_eq!(
        error("[Unit]\n  Description\n"),
        "x.service:2: unexpected newline encountered while parsing option name\n  |\n2 |   Description\n  |   ^^^^^^^^^^^ write `Name=Value`, or `#` before a comment"
    );
    assert!(error("[Unit]\n=x\n").starts_with("x.service:2: missing option name before \"=\"\n"));
    assert!(
        error(&format!("[Unit]\nA={}\n", "x".repeat(2047)))
            .starts_with("x.service:2: line too long (max 2048 bytes)\n")
    );
    assert!(error("[Unit]\nA=x\0y\n").starts_with("x.service:2: NUL byte"));
    let binary = UnitFile::parse_bytes(b"[Unit]\nA=\xff\n").unwrap_err();
    assert_eq!((binary.kind.clone(), binary.line), (ParseErrorKind::NotUtf8, 2));
    assert!(!binary.render("x.service").is_empty());
}

/// What CoreOS fleet made of such files: the options that its API showed, and the text that its hash was of.
#[test]
fn odd_files_are_read_as_coreos_fleet_read_them() {
    for (text, options, canonical) in [
        // An escaped backslash at a line's end.
        (
            "[Service]\nExecStart=/bin/sh -c 'a \\\\\n  b'\nType=simple\n",
            &[("ExecStart", "/bin/sh -c 'a \\\\\n  b'"), ("Type", "simple")][..],
            "[Service]\nExecStart=/bin/sh -c 'a \\\\\n  b'\nType=simple\n",
        ),
        (
            "[Service]\nExecStart=a \\\\\nType=b\n",
            &[("ExecStart", "a \\\\\nType=b")],
            "[Service]\nExecStart=a \\\\\nType=b\n",
        ),
        // A comment between continuation lines.
        (
            "[Service]\nExecStart=a \\\n  # why\n  -e B=c \\\n  d\n",
            &[("ExecStart", "a \\\n  # why"), ("-e B", "c \\\n  d")],
            "[Service]\nExecStart=a \\\n  # why\n-e B=c \\\n  d\n",
        ),
        // A blank behind the backslash.
        (
            "[Service]\nExecStart=a \\ \n  -e B=c \\\t\n\nType=simple\n",
            &[("ExecStart", "a \\\n-e B=c \\\nType=simple")],
            "[Service]\nExecStart=a \\\n-e B=c \\\nType=simple\n",
        ),
        (
            "[Service]\r\nExecStart=a \\\r\n  -e B=c\r\n",
            &[("ExecStart", "a \\\n-e B=c")],
            "[Service]\nExecStart=a \\\n-e B=c\n",
        ),
        // A backslash and then nothing.
        (
            "[Service]\nExecStart=a \\\n\nType=b",
            &[("ExecStart", "a \\\n"), ("Type", "b")],
            "[Service]\nExecStart=a \\\n\nType=b\n",
        ),
        ("[Service]\nExecStart=a \\", &[("ExecStart", "a \\\n")], "[Service]\nExecStart=a \\\n\n"),
        // A comment takes the next line with it.
        ("[Service]\n# ExecStart=a \\\n   b\nType=c\n", &[("Type", "c")], "[Service]\nType=c\n"),
        // What CoreOS fleet refused is read as systemd reads it.
        (
            "[Service]\nExecStart=a \\\n  # why\n  -b\n",
            &[("ExecStart", "a \\\n  # why\n  -b")],
            "[Service]\nExecStart=a \\\n  # why\n  -b\n",
        ),
        (
            "[Service]\r\nExecStart=a \\\r\n  -b\r\n",
            &[("ExecStart", "a \\\n  -b")],
            "[Service]\nExecStart=a \\\n  -b\n",
        ),
    ] {
        let file = UnitFile::parse(text).unwrap();
        let read: Vec<_> = file.options().iter().map(|option| (&*option.name, &*option.value)).collect();
        assert_eq!(read, options, "{text:?}");
        assert_eq!(file.canonical(), canonical, "{text:?}");
        assert!(file.options().iter().all(|option| option.line > 1), "{file:?}");
    }
}

#[test]
fn what_can_hardly_be_meant_is_said_with_its_line() {
    for (text, line, words) in [
        ("Before=a\n[Service]\nA=b\n", 1, "before the first section"),
        ("[Service]\n# ExecStartPre=a \\\nExecStart=b\n", 3, "belongs to the comment of line 2"),
        ("[Service]\nExecStart=sh -c 'a \\\\\n b'\n", 2, "stands for a backslash"),
        ("[X-Fleet]\nMachineOf=a \\\\\nGlobal=true\n", 2, "stands for a backslash"),
        ("[Service]\nA=1\nExecStart=a \\ \nType=b\n", 3, "a blank behind the \"\\\""),
        ("[Service]\nA=b\n\n[X-fleet]\nGlobal=true\n", 4, "fleet does not know the section [X-fleet]"),
        ("[Service]\nA=b\n[X-Fleet ]\nGlobal=true\n", 3, "fleet does not know the section [X-Fleet ]"),
        ("[Service]\nA=b\n[Fleet]\nGlobal=true\n", 3, "fleet does not know the section [Fleet]"),
        ("[unit]\nA=b\n", 1, "systemd does not know the section [unit]"),
    ] {
        let file = UnitFile::parse(text).unwrap();
        let [warning] = file.warnings() else { panic!("{text:?}: {:?}", file.warnings()) };
        assert_eq!(warning.line, line, "{text:?}");
        assert!(warning.message.contains(words), "{text:?}: {}", warning.message);
        assert!(warning.hint.is_some(), "{text:?}");
    }
    for text in [
        "# about it\n[Unit]\nA=b\n[X-Other]\nC=d\n[Target]\nA=b\n",
        "[Service]\n#ExecStart=a \\\n#  -b\nExecStart=c\n",
        "[Service]\n#ExecStart=a \\\n  -e B=c \\\n  d\nExecStart=c\n",
        "[Service]\nExecStart=/bin/echo \\\\\nType=simple\n",
        "[Service]\nExecStart=/bin/echo \\\\\n\n",
        "[Service]\r\nExecStart=/bin/echo \\\r\n  a\r\n",
    ] {
        assert_eq!(UnitFile::parse(text).unwrap().warnings(), [], "{text:?}");
    }
}

#[test]
fn settings_have_the_lines_of_the_file() {
    let text =
        "# about\n[Service]\nExecStart=a \\\n  # why\n  -e B=c \\\n  d\n\n[Unit]\nAfter=e\n[Service]\n\nType=f\n";
    let file = UnitFile::parse(text).unwrap();
    let settings: Vec<_> = file.settings().into_iter().map(|setting| (setting.name, setting.line)).collect();
    assert_eq!(settings, [("ExecStart".into(), 3), ("Type".into(), 12), ("After".into(), 9)]);
}

#[test]
fn options_that_no_file_can_hold_are_refused() {
    for bad in [
        option("Service", "ExecStart", "a\nExecStart=b"),
        option("Service", "ExecStart", "a \\\n\n[X-Fleet]"),
        option("Service", "Exec=Start", "a"),
        option("Service", "#", "a"),
        option("Ser]vice", "A", "a"),
        option("Service", "[A", "a"),
        option("Service", "", "a"),
    ] {
        let error = UnitFile::from_options(&[bad.clone(), option("Service", "Type", "simple")]);
        assert!(error.is_err(), "{bad:?}");
    }
    let good = [option("Service", "ExecStart", "a \\\n b"), option("Unit", "A", ""), option("Service", "B", "x=y")];
    let file = UnitFile::from_options(&good).unwrap();
    assert_eq!(file.canonical(), "[Service]\nExecStart=a \\\n b\nB=x=y\n\n[Unit]\nA=\n");
}

#[test]
fn values_with_line_breaks_are_taken_as_clients_of_coreos_fleet_send_them() {
    for (value, canonical) in [
        ("a \\\n  # why", "[Service]\nExecStart=a \\\n  # why\nType=simple\n"),
        ("a \\\n  # why \\\n  b", "[Service]\nExecStart=a \\\n  # why \\\n  b\nType=simple\n"),
        ("a \\\n", "[Service]\nExecStart=a \\\n\nType=simple\n"),
        ("a \\", "[Service]\nExecStart=a \\\nType=simple\n"),
        (" a ", "[Service]\nExecStart=a\nType=simple\n"),
    ] {
        let file =
            UnitFile::from_options(&[option("Service", "ExecStart", value), option("Service", "Type", "simple")]);
        let file = file.unwrap();
        assert_eq!(file.canonical(), canonical, "{value:?}");
        assert_eq!(UnitFile::from_options(file.options()).unwrap().hash(), file.hash(), "{value:?}");
    }
}

#[test]
fn names_that_only_a_machine_makes_go_over_the_api_as_well() {
    for text in ["[Unit]\n\u{feff}=a\n", "[Un\rit]\nA=b\n", "[]\nA=b\n", "[Unit]\nA B=c\n"] {
        let file = UnitFile::parse(text).unwrap();
        assert_eq!(UnitFile::from_options(file.options()).unwrap().canonical(), file.canonical(), "{text:?}");
    }
}

#[test]
fn contents_that_were_stored_keep_their_hash() {
    let text = "[Service]\nExecStart=a \\\n  # why\n  -e B=c\n";
    assert_ne!(UnitFile::parse(text).unwrap().hash(), UnitHash::of(text));
    let stored = UnitFile::stored(text).unwrap();
    assert_eq!((stored.hash(), &*stored.canonical()), (UnitHash::of(text), text));
}

/// Text made of the pieces that unit files and their faults are made of.
fn unit_like_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "[Unit]",
        "[Service]",
        "[X-Fleet",
        "]",
        "=",
        "\\",
        "\n",
        "\r\n",
        "\n\n",
        "#",
        ";",
        " ",
        "\t",
        "ExecStart",
        "a",
        "\"",
        "%i",
        "\u{feff}",
        "é",
        "\\\n",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Values made of the pieces that their continuation is made of.
fn value() -> impl Strategy<Value = String> {
    let piece =
        prop::sample::select(vec!["\\\n", "\\", "\n", "# why", ";", "a", " ", "-e B=c", "A=b", "\r", "[X]", "\t"]);
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn parsing_never_panics(text in unit_like_text()) {
        if let Err(error) = UnitFile::parse(&text) {
            prop_assert!(!error.render("f").is_empty());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        if let Err(error) = UnitFile::parse_bytes(&bytes) {
            prop_assert!(!error.render("f").is_empty());
        }
    }

    #[test]
    fn canonical_text_is_a_fixed_point(text in unit_like_text()) {
        if let Ok(file) = UnitFile::parse(&text) {
            let again = UnitFile::parse(&file.canonical()).unwrap();
            prop_assert_eq!(again.canonical(), file.canonical());
            prop_assert_eq!(again.hash(), file.hash());
        }
    }

    #[test]
    fn what_the_api_carries_is_what_the_file_says(text in unit_like_text()) {
        if let Ok(file) = UnitFile::parse(&text) {
            let carried = UnitFile::from_options(file.options()).unwrap();
            prop_assert_eq!(carried.hash(), file.hash());
        }
    }

    #[test]
    fn options_of_any_client_are_refused_or_read_back_as_the_same_unit(
        values in prop::collection::vec(value(), 1..5), name in "[A-Z][a-z]{0,3}|-e B|[=#\\[\\\\ ]{1,2}", section in "[A-Z]|X-Fleet",
    ) {
        let options: Vec<_> = values.iter().map(|value| option(&section, &name, value)).collect();
        if let Ok(file) = UnitFile::from_options(&options) {
            let plain = |file: &UnitFile| -> Vec<UnitOption> {
                file.options().iter().map(|option| UnitOption { line: 0, ..option.clone() }).collect()
            };
            let again = UnitFile::from_options(file.options()).unwrap();
            prop_assert_eq!((again.canonical(), plain(&again)), (file.canonical(), plain(&file)));
            let read = UnitFile::parse(&file.canonical()).unwrap();
            prop_assert_eq!((read.canonical(), plain(&read)), (file.canonical(), plain(&file)));
        }
    }
}
