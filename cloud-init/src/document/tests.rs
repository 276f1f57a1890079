use std::net::Ipv4Addr;

use fleet_core::model::Desired;

use super::*;

const DECK: &str = include_str!("../../examples/elasticsearch.yaml");

pub(crate) fn parse(text: &str) -> Result<Document, Vec<Fault>> {
    let address = |last| Some(Ipv4Addr::new(10, 0, 0, last));
    let check = |option: &str, value: &str| match (option, value) {
        ("agent_ttl", "soon") => Err("not a time".to_owned()),
        ("agent_ttl", "2.5s") => Ok(vec!["whole seconds".to_owned()]),
        _ => Ok(Vec::new()),
    };
    Document::parse(
        text,
        Reading {
            addresses: Addresses { private: address(7), public: address(8) },
            options: &["agent_ttl", "etcd_servers", "metadata", "public_ip"],
            gone: &["engine_reconcile_interval"],
            check: &check,
        },
    )
}

/// Line and message of each fault, then its mend.
fn faults(text: &str) -> Vec<String> {
    let faults = parse(&format!("#cloud-config\n{text}")).expect_err("the document is refused");
    faults.into_iter().map(|fault| format!("{}: {}; {}", fault.mark.line - 1, fault.message, fault.mend)).collect()
}

fn document(text: &str) -> Document {
    parse(&format!("#cloud-config\n{text}")).unwrap()
}

fn notes(text: &str) -> Vec<String> {
    document(text).notes.into_iter().map(|note| format!("{}: {}", note.line - 1, note.text)).collect()
}

#[test]
fn the_document_of_the_slides_is_read() {
    let document = parse(DECK).unwrap();
    assert_eq!(document.notes, []);
    let [docker, es] = &document.units[..] else { panic!("{:?}", document.units) };
    assert_eq!((&*docker.name, docker.command, &docker.content), ("docker.service", Some(Verb::Start), &None));
    assert_eq!((&*es.name, es.command), ("es.service", Some(Verb::Start)));
    assert!(es.content.as_ref().unwrap().ends_with("-p 9300:9300 dockerfile/elasticsearch\n"));
}

#[test]
fn a_document_begins_with_its_header() {
    for (text, mend) in [
        ("hostname: a\n", "begin with a line #cloud-config"),
        ("", "begin with a line #cloud-config"),
        ("#!/bin/bash\n", "this is a script: run it, or write it with write_files and run it by a unit"),
        ("Content-Type: multipart/mixed\n", "this has several parts: give its part of type text/cloud-config"),
    ] {
        assert_eq!(parse(text).unwrap_err()[0].mend, mend);
    }
    for text in ["#cloud-config", "#cloud-config\r\nhostname: a\r\n", "\u{feff}#cloud-config \n# no more\n"] {
        parse(text).unwrap();
    }
}

#[test]
fn users_are_read_in_both_spellings_and_core_gets_the_keys_at_the_top() {
    let document = document(
        "ssh_authorized_keys:\n  - ssh-rsa AAAA me\nusers:\n  - name: elroy\n    passwd: $6$5s2u6/jR$un0\n    groups: \
         [sudo, docker]\n    ssh-authorized-keys:\n      - ssh-ed25519 BBBB\n    no-create-home: yes\n  - name: other\n    \
         groups: adm, www-data\n    primary_group: staff\n",
    );
    let [elroy, other, core] = &document.users[..] else { panic!("{:?}", document.users) };
    assert_eq!(elroy.password.as_deref(), Some("$6$5s2u6/jR$un0"));
    assert_eq!(
        (&*elroy.groups, &*elroy.keys, elroy.no_home),
        (&["sudo".into(), "docker".into()][..], &["ssh-ed25519 BBBB".into()][..], true)
    );
    assert_eq!(
        (&*other.groups, other.primary_group.as_deref()),
        (&["adm".into(), "www-data".into()][..], Some("staff"))
    );
    assert_eq!((&*core.name, &*core.keys), ("core", &["ssh-rsa AAAA me".into()][..]));
}

#[test]
fn files_are_unpacked_and_permissions_are_octal() {
    let document = document(
        "write_files:\n  - path: /a\n    permissions: 0640\n    owner: core:adm\n    encoding: b64\n    content: aGk=\n  \
         - path: /b\n    permissions: '755'\n    owner: core\n    content: |\n      $private_ipv4\n  - path: /c\n",
    );
    let [a, b, c] = &document.files[..] else { panic!("{:?}", document.files) };
    assert_eq!((&a.content[..], a.mode), (&b"hi"[..], 0o640));
    assert_eq!(a.owner, Owner { user: "core".into(), group: "adm".into() });
    assert_eq!((&b.content[..], b.mode, &*b.owner.group), (&b"10.0.0.7\n"[..], 0o755, "root"));
    assert_eq!((&c.content[..], c.mode, &c.owner), (&b""[..], 0o644, &Owner::root()));
}

#[test]
fn settings_of_etcd_become_a_drop_in_and_options_of_fleet_keep_their_names() {
    let document = document(
        "coreos:\n  etcd2:\n    name: n1\n    advertise-client-urls: http://$private_ipv4:2379\n    discovery: \
         'https://x/%y'\n  fleet:\n    public-ip: $public_ipv4\n    metadata: region=us-west\n    etcd_servers: [http://a, \
         http://b]\n    engine_reconcile_interval: 2\n",
    );
    let [etcd] = &document.settings[..] else { panic!("{:?}", document.settings) };
    assert_eq!(etcd.path(), "/etc/systemd/system/etcd.service.d/20-cloud-config.conf");
    assert_eq!(
        etcd.content(),
        "# Written by fleetd cloud-config.\n[Service]\nEnvironment=\"ETCD_NAME=n1\"\n\
         Environment=\"ETCD_ADVERTISE_CLIENT_URLS=http://10.0.0.7:2379\"\nEnvironment=\"ETCD_DISCOVERY=https://x/%%y\"\n"
    );
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        document.fleet,
        [
            option("public_ip", "10.0.0.8"),
            option("metadata", "region=us-west"),
            option("etcd_servers", "http://a,http://b")
        ]
    );
}

#[test]
fn what_is_accepted_and_not_done_is_told_with_its_line() {
    assert_eq!(
        notes(
            "coreos:\n  update:\n    reboot-strategy: off\n    group: stable\n  etcd:\n    addr: $public_ipv4:4001\n"
        ),
        [
            "2: coreos.update is accepted and does nothing: the distribution updates this host, and nothing here \
             reboots it; see `fleetctl drain`",
            "6: coreos.etcd.addr is of etcd 0.4 and left out: instead there is advertise-client-urls",
        ]
    );
    assert_eq!(
        notes("users:\n  - name: a\n    sudo: ALL=(ALL) NOPASSWD:ALL\n    coreos-ssh-import-github: a\n"),
        [
            "3: users.sudo does nothing: CoreOS did not do it either: use groups: [sudo], or a file in /etc/sudoers.d",
            "4: users.coreos-ssh-import-github does nothing: keys are not fetched: write them to ssh-authorized-keys",
        ]
    );
    assert_eq!(
        notes(
            "coreos:\n  units:\n    - name: a.service\n      enable: true\n      content: |\n        [Unit]\n        nonsense\n"
        ),
        [
            "3: enable of a.service does nothing: its content has no [Install] section",
            "7: systemd will not read this line of a unit: unexpected newline encountered while parsing option name",
        ]
    );
}

#[test]
fn everything_that_is_wrong_is_told_at_once_with_its_line_and_its_mend() {
    assert_eq!(
        faults(
            "hostnam: a\nhostname: -a-\nusers: {}\nruncmd: [ls]\nwrite_files:\n  - path: etc/motd\n  - path: /a\n    \
             permissions: rw\n  - path: /b\n    encoding: rot13\n  - path: /c\n    encoding: b64\n    content: '$'\n  - \
             content: x\n"
        ),
        [
            "1: the document has no key `hostnam`; did you mean `hostname`?",
            "2: \"-a-\" cannot be a host's name; use at most 64 letters, digits and `-`, with `.` between parts",
            "3: users is a mapping, not a list; begin each item with `- `, on a line of its own",
            "4: `runcmd` is cloud-init's, and CoreOS never had it; use a unit with `Type=oneshot` and `command: start` \
             in coreos.units",
            "6: \"etc/motd\" is no path that a file can be written to; write the whole path from `/` on, without `.`, \
             `..` and `//`",
            "8: \"rw\" are no permissions; write them in octal, as in \"0644\"",
            "10: there is no encoding \"rot13\"; known are b64, base64, gz, gzip, gz+b64, gz+base64, gzip+b64, \
             gzip+base64",
            "13: the content is not base64: Invalid symbol 36, offset 0.; check `encoding`, and that nothing is cut off",
            "14: a file has no path; add `path: /where/it/goes`",
        ]
    );
    assert_eq!(
        faults(
            "coreos:\n  units:\n    - name: docker\n    - name: a.service\n      comand: start\n    - name: b.service\n      \
             command: strat\n    - name: a.service\n      enable: perhaps\n    - command: start\n  fleet:\n    metadta: \
             a=b\n    agent-ttl: soon\n  etcd2:\n    nmae: x\n"
        ),
        [
            "3: coreos.units.name cannot be \"docker\": unit name must contain \".\"; did you mean `docker.service`?",
            "5: coreos.units has no key `comand`; did you mean `command`?",
            "7: coreos.units.command cannot be \"strat\"; did you mean `start`?",
            "8: a.service stands twice in coreos.units, first in line 5; make one entry of the two",
            "9: coreos.units.enable is \"perhaps\"; write true or false",
            "10: a unit has no name; add `name: NAME.service`",
            "12: coreos.fleet has no key `metadta`; did you mean `metadata`?",
            "13: coreos.fleet.agent-ttl: not a time; see docs/configuration.md",
            "15: coreos.etcd2 has no key `nmae`; did you mean `name`?",
        ]
    );
}

#[test]
fn passwords_in_clear_are_refused_and_not_repeated() {
    let faults = faults("users:\n  - name: a\n    passwd: hunter2\n");
    assert_eq!(faults, ["3: users.passwd is no hash of a password; make one with `openssl passwd -6`"]);
}

#[test]
fn units_for_the_cluster_are_started_unless_told_otherwise_and_instances_take_their_template() {
    let document = document(
        "fleet:\n  units:\n    - name: web@.service\n      content: |\n        [Service]\n        ExecStart=/bin/sleep 1\n    \
         - name: web@1.service\n    - name: web@2.service\n      command: load\n    - name: all.service\n      replace: true\n      \
         content: |\n        [Service]\n        ExecStart=/bin/sleep 1\n        [X-Fleet]\n        Global=true\n",
    );
    let seen: Vec<_> =
        document.cluster.iter().map(|unit| (unit.name.as_str(), unit.desired, unit.global, unit.replace)).collect();
    assert_eq!(
        seen,
        [
            ("web@.service", Desired::Inactive, false, false),
            ("web@1.service", Desired::Launched, false, false),
            ("web@2.service", Desired::Loaded, false, false),
            ("all.service", Desired::Launched, true, true),
        ]
    );
    assert_eq!(document.cluster[0].file, document.cluster[1].file);
}

#[test]
fn units_that_the_cluster_would_refuse_are_faults_at_their_line() {
    assert_eq!(
        faults(
            "fleet:\n  units:\n    - name: a.service\n    - name: b@1.service\n    - name: c.service\n      content: |\n        \
             [Service\n    - name: d@.service\n      command: start\n      content: |\n        [Service]\n        \
             ExecStart=/bin/true\n    - name: e\n      content: x\n  unit: []\n"
        ),
        [
            "3: a.service has no content; add `content: |` and the unit's file below it",
            "4: b@1.service has no content; add content, or b@.service with content to this list",
            "7: c.service: unable to find end of section; close the section's name with `]`",
            "8: d@.service is a template and never runs; add `- name: d@1.service`",
            "13: unit name must contain \".\"; did you mean `e.service`?",
            "15: fleet has no key `unit`; did you mean `units`?",
        ]
    );
}

#[test]
fn a_fault_shows_the_line_and_a_caret_under_the_word() {
    let text = "#cloud-config\ncoreos:\n  units:\n    - name: a.service\n      command: strat\n";
    let faults = parse(text).unwrap_err();
    assert_eq!(
        faults[0].render("user-data", text),
        "user-data:5: coreos.units.command cannot be \"strat\"\n  |\n5 |       command: strat\n  |                ^^^^^ did \
         you mean `start`?"
    );
}

/// Lines that a document is made of, right and wrong, so that chance finds combinations.
const LINES: [&str; 40] = [
    "hostname: a",
    "hostname:",
    "hostname: [a]",
    "manage_etc_hosts: localhost",
    "ssh_authorized_keys:",
    "  - ssh-rsa A",
    "users:",
    "  - name: core",
    "    groups: a, b",
    "    passwd: $6$x",
    "    sudo: x",
    "  - {}",
    "write_files:",
    "  - path: /a",
    "    encoding: gz+b64",
    "    content: H4sI",
    "    permissions: 0644",
    "    owner: a:b",
    "coreos:",
    "  etcd2:",
    "    name: $private_ipv4",
    "  fleet:",
    "    metadata: a=b",
    "  update:",
    "    group: stable",
    "  units:",
    "    - name: a.service",
    "      command: start",
    "      enable: true",
    "      mask: yes",
    "      drop-ins:",
    "        - name: a.conf",
    "          content: x",
    "      content: |",
    "        [Service]",
    "        ExecStart=/bin/true",
    "fleet:",
    "  units: &a",
    "  x: *a",
    "---",
];

proptest::proptest! {
    #[test]
    fn any_document_is_read_or_refused(text in "(.|\n){0,200}") {
        let _ = parse(&format!("#cloud-config\n{text}"));
    }

    #[test]
    fn any_lines_are_read_or_refused_and_every_fault_can_be_shown(lines in proptest::collection::vec(0..LINES.len(), 0..30)) {
        let lines: Vec<&str> = lines.into_iter().map(|line| LINES[line]).collect();
        let text = format!("#cloud-config\n{}\n", lines.join("\n"));
        for fault in parse(&text).err().unwrap_or_default() {
            proptest::prop_assert!(fault.mark.line <= text.lines().count() + 1, "{fault:?}");
            let _ = fault.render("f", &text);
        }
    }
}
