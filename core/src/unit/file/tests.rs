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
        ("[Service]\n# comment that ends in \\\nExecStart=a\n", &["a"]),
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

#[test]
fn options_that_no_file_can_hold_are_refused() {
    for bad in [
        option("Service", "ExecStart", "a\nExecStart=b"),
        option("Service", "Exec=Start", "a"),
        option("Service", "#", "a"),
        option("Ser]vice", "A", "a"),
        option("Service", "A", " padded "),
        option("Service", "A", "ends in \\"),
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

proptest! {
    #[test]
    fn parsing_never_panics_and_keeps_every_byte(text in unit_like_text()) {
        match UnitFile::parse(&text) {
            Ok(file) => prop_assert_eq!(file.text(), text),
            Err(error) => prop_assert!(!error.render("f").is_empty()),
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
}
