//! Each constraint of `[X-Fleet]`, on real hosts.

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};

fn unit(x_fleet: &str) -> String {
    format!("[Service]\nExecStart=/bin/sleep 10001\n[X-Fleet]\n{x_fleet}\n")
}

fn cluster() -> Cluster {
    let lab = Lab::builder().hosts(3).metadata("h1", "disk=ssd,region=east").metadata("h2", "disk=hdd,region=east");
    Cluster::with(lab.metadata("h3", "disk=nvme,region=west"))
}

#[test]
fn metadata_are_and_over_keys_and_or_over_values() {
    let cluster = cluster();
    cluster.write(&[
        ("a.service", &unit("MachineMetadata=disk=ssd\nMachineMetadata=disk=nvme\nMachineMetadata=region=west")),
        ("b.service", &unit("MachineMetadata=\"region=east\" \"disk=hdd\"")),
        ("c.service", &unit("X-ConditionMachineMetadata=region=mars")),
    ]);
    cluster.ok(&["start", "a.service", "b.service"]);
    cluster.active(&[("a.service", "h3"), ("b.service", "h2")]);
    let never = cluster.fleetctl(&["start", "--block-attempts=1", "c.service"]).unwrap();
    assert_eq!(never.code, 1, "{never:?}");
}

#[test]
fn edited_metadata_count_at_once() {
    let cluster = cluster();
    cluster.write(&[("a.service", &unit("MachineMetadata=disk=tape"))]);
    cluster.ok(&["start", "--no-block", "a.service"]);
    let patch = |host: &str, op: &str, value: &str| {
        let id = cluster.host(host).machine_id().to_owned();
        let body = format!(r#"[{{"op":"{op}","path":"/{id}/metadata/disk","value":"{value}"}}]"#);
        let args = ["-X", "PATCH", "-H", "Content-Type: application/json", "-d", &body];
        assert_eq!(cluster.request(&args, "/fleet/v1/machines"), (204, String::new()));
    };
    patch("h2", "replace", "tape");
    cluster.active(&[("a.service", "h2")]);
    patch("h3", "add", "tape");
    patch("h2", "remove", "");
    cluster.active(&[("a.service", "h3")]);
    assert!(cluster.ok(&["list-machines"]).contains("disk=tape,region=west"));
}

#[test]
fn machine_id_and_its_short_form_name_the_machine() {
    let cluster = cluster();
    let whole = cluster.host("h2").machine_id().to_owned();
    let short = cluster.host("h3").machine_id()[..8].to_owned();
    cluster.write(&[
        ("whole.service", &unit(&format!("MachineID={whole}"))),
        ("short.service", &unit(&format!("X-ConditionMachineBootID={short}"))),
    ]);
    cluster.ok(&["start", "whole.service", "short.service"]);
    cluster.active(&[("whole.service", "h2"), ("short.service", "h3")]);
}

#[test]
fn conflicts_hold_both_ways_and_followers_follow() {
    let cluster = cluster();
    cluster.write(&[
        ("db.service", &unit("MachineMetadata=disk=ssd")),
        ("quiet.service", &unit("Conflicts=db.*\nMachineMetadata=region=east")),
        ("side.service", &unit("MachineOf=db.service")),
    ]);
    cluster.ok(&["start", "side.service", "--no-block"]);
    // In this order: quiet, had it come first, might have taken the one host that db can go to.
    cluster.ok(&["start", "db.service"]);
    cluster.ok(&["start", "quiet.service"]);
    cluster.active(&[("db.service", "h1"), ("side.service", "h1"), ("quiet.service", "h2")]);
    // The declaring unit was there first: now the other one has to keep away.
    cluster.ok(&["destroy", "db.service"]);
    cluster.write(&[("db.service", &unit("MachineMetadata=disk=hdd\nMachineMetadata=disk=nvme"))]);
    cluster.ok(&["start", "db.service"]);
    cluster.active(&[("db.service", "h3"), ("side.service", "h3"), ("quiet.service", "h2")]);
    let why = cluster.ok(&["why", "db.service"]);
    assert!(why.contains("quiet.service"), "{why}");
}

#[test]
fn replacing_unit_takes_the_place_and_the_other_moves() {
    let cluster = cluster();
    cluster.write(&[
        ("old.service", &unit("MachineMetadata=region=east")),
        ("new.service", &unit("Replaces=old.service")),
    ]);
    cluster.ok(&["start", "old.service"]);
    let place = cluster.host_of("old.service").unwrap();
    cluster.ok(&["start", "new.service"]);
    let other = if place == "h1" { "h2" } else { "h1" };
    cluster.active(&[("new.service", &place), ("old.service", other)]);
}

#[test]
fn global_unit_runs_on_every_host_that_fits_also_on_one_that_joins_later() {
    let mut cluster = cluster();
    cluster.write(&[
        ("glob.service", &unit("Global=true\nMachineMetadata=region=east")),
        ("rival.service", &unit("Conflicts=zglob.service\nMachineMetadata=disk=ssd")),
        ("zglob.service", &unit("Global=true")),
    ]);
    let started = cluster.ok(&["start", "glob.service"]);
    assert!(started.contains("Triggered global unit glob.service start"), "{started}");
    cluster.active(&[("glob.service", "h1"), ("glob.service", "h2")]);
    let h4 = cluster.lab.add_host("region=east").unwrap();
    cluster.joined(4);
    cluster.active(&[("glob.service", "h1"), ("glob.service", "h2"), ("glob.service", "h4")]);
    assert_eq!(h4.sh("systemctl is-active glob.service").unwrap(), "active\n");

    // What is already on a machine holds a global unit off, whichever name sorts first.
    cluster.ok(&["start", "rival.service"]);
    cluster.ok(&["start", "zglob.service"]);
    let mut expected = vec![("rival.service", "h1")];
    expected.extend(["h1", "h2", "h4"].map(|host| ("glob.service", host)));
    expected.extend(["h2", "h3", "h4"].map(|host| ("zglob.service", host)));
    cluster.active(&expected);
    cluster.ok(&["destroy", "rival.service", "glob.service"]);
    cluster.active(&["h1", "h2", "h3", "h4"].map(|host| ("zglob.service", host)));
    cluster.ok(&["destroy", "zglob.service"]);
    eventually(DEADLINE, "no unit file is left", || {
        Ok(cluster.lab.hosts().iter().all(|host| host.sh("ls /run/fleet/units").is_ok_and(|files| files.is_empty())))
    })
    .unwrap();
}

#[test]
fn unit_may_become_global_and_ordinary_again() {
    let cluster = cluster();
    let everywhere = ["h1", "h2", "h3"].map(|host| ("a.service", host));
    cluster.write(&[("a.service", &unit("MachineMetadata=disk=ssd"))]);
    cluster.ok(&["start", "a.service"]);
    cluster.active(&[("a.service", "h1")]);
    cluster.write(&[("a.service", &unit("Global=true"))]);
    cluster.ok(&["start", "--replace", "a.service"]);
    cluster.active(&everywhere);
    cluster.write(&[("a.service", &unit("MachineMetadata=disk=nvme"))]);
    cluster.ok(&["start", "--replace", "a.service"]);
    cluster.active(&[("a.service", "h3")]);
    cluster.ok(&["destroy", "a.service"]);
    cluster.active(&[]);
}
