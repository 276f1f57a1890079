//! What docs/operating.md has an operator type, typed.

use std::fmt::Write;

use fleet_lab::{Host, Lab, eventually};
use fleet_tests::{Cluster, DEADLINE, docs::typed};

/// Two hosts, of which the first has an etcd of its own, as Debian installs it: without TLS, for the host alone.
fn two_hosts() -> Cluster {
    let cluster = Cluster::with(Lab::builder().hosts(2).config("agent_ttl=\"5s\""));
    cluster.host("h1").sh("chown etcd: /var/lib/etcd && systemctl start etcd").unwrap();
    cluster
}

/// Types what is under a heading, on a host of which the document says that it has this address.
fn run(on: &Host, etcd: &Host, before: &str, heading: &str) -> String {
    let script = typed("operating.md", heading).replace("10.0.0.10", &etcd.address().to_string());
    on.sh(&format!("set -e\n{before}\n{script}")).unwrap_or_else(|error| panic!("{heading}: {error:#}"))
}

#[test]
fn everything_in_the_operating_guide_works_as_typed() {
    let cluster = two_hosts();
    let (h1, h2) = (cluster.host("h1"), cluster.host("h2"));
    run(&h1, &h1, "", "TLS and a password");
    let mut given = String::new();
    for file in ["ca.pem", "host.pem", "host.key"] {
        let text = h1.sh(&format!("cat /etc/etcd-tls/{file}")).unwrap();
        [&h1, &h2].iter().for_each(|host| host.write(&format!("/etc/fleet/{file}"), &text).unwrap());
        writeln!(given, "{text}").unwrap();
    }
    assert_eq!(given.matches("-----BEGIN").count(), 3);
    for host in [&h1, &h2] {
        run(host, &h1, "", "A host that joins with TLS");
        assert_eq!(host.sh("stat -c %a /etc/fleet/fleet.conf").unwrap().trim(), "600");
    }
    cluster.joined(2);
    let at_h2 = format!("[Service]\nExecStart=/bin/sleep 10001\n[X-Fleet]\nMachineID={}\n", h2.machine_id());
    cluster.write(&[("kept.service", &at_h2), ("late.service", &at_h2)]);
    cluster.ok(&["start", "kept.service"]);
    let before = cluster.invocations("kept.service");

    // A password that is wrong, and right again.
    h2.sh("sed -i s/battery-staple/wrong/ /etc/fleet/fleet.conf && systemctl reload fleet").unwrap();
    eventually(DEADLINE, "the log says what to mend", || Ok(h2.sh("journalctl -u fleet")?.contains("etcd_password")))
        .unwrap();
    h2.sh("sed -i s/wrong/battery-staple/ /etc/fleet/fleet.conf && systemctl reload fleet").unwrap();
    cluster.joined(2);

    // The tokens that etcd gave for the password are gone with it.
    h1.sh("systemctl restart etcd").unwrap();
    let exports: Vec<String> = typed("operating.md", "TLS and a password")
        .lines()
        .filter(|line| line.starts_with("export"))
        .map(Into::into)
        .collect();
    let exports = exports.join("\n").replace("10.0.0.10", &h1.address().to_string());
    let backup = typed("operating.md", "Backup");
    let (save, restore) = backup.split_once("systemctl stop etcd").unwrap();
    eventually(DEADLINE, "etcd serves again", || {
        Ok(h1
            .sh(&format!("{exports}\netcdctl --user root:correct-horse get --keys-only --prefix /fleet/unit/"))
            .is_ok())
    })
    .unwrap();
    h1.sh(&format!("set -e\n{exports}\n{save}")).unwrap();
    cluster.ok(&["start", "late.service"]);
    cluster.active(&[("kept.service", "h2"), ("late.service", "h2")]);
    h1.sh(&format!("set -e\nsystemctl stop etcd{restore}")).unwrap();
    cluster.active(&[("kept.service", "h2")]);
    assert_eq!(cluster.ok(&["list-unit-files", "--no-legend", "--fields=unit"]).trim(), "kept.service");

    for host in [&h1, &h2] {
        run(host, &h1, "", "Upgrade");
    }
    cluster.joined(2);
    assert_eq!(cluster.invocations("kept.service"), before, "it was never touched");

    let figures = run(&h1, &h1, "", "What to watch");
    for figure in ["fleet_machine_registered 1", "fleet_engine_leader", "fleet_engine_held_machines 0"] {
        assert!(figures.contains(figure), "{figure} is not among {figures}");
    }
}
