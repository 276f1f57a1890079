//! Every verb, on three real hosts.

use std::{collections::BTreeSet, time::Duration};

use fleet_lab::eventually;
use fleet_tests::{Cluster, DEADLINE};

const HELLO: &str = "# a comment\n[Unit]\nDescription=Hello there\n[Service]\nExecStart=/bin/sleep 10001\n";
const WEB: &str = "[Service]\nExecStart=/bin/sleep 1000%i\n[X-Fleet]\nConflicts=%p@*.service\n";

#[test]
fn every_verb_does_what_it_says() {
    let cluster = Cluster::new(3);
    cluster.write(&[("hello.service", HELLO)]);
    assert_eq!(cluster.ok(&["submit", "hello.service"]), "Unit hello.service inactive\n");
    assert_eq!(cluster.ok(&["submit", "hello.service"]), "", "again: silence");
    assert_eq!(
        cluster.ok(&["cat", "hello"]),
        "[Unit]\nDescription=Hello there\n\n[Service]\nExecStart=/bin/sleep 10001\n"
    );
    let files = cluster.ok(&["list-unit-files", "--no-legend"]);
    assert_eq!(
        files.split('\t').filter(|cell| !cell.is_empty()).collect::<Vec<_>>()[2..],
        ["inactive", "inactive", "-\n"]
    );

    let loaded = cluster.ok(&["load", "hello.service"]);
    let host = cluster.host_of("hello.service").unwrap();
    let machine = cluster.host(&host).machine_id()[..8].to_owned();
    let place = format!("{machine}.../{}", cluster.host(&host).address());
    assert_eq!(loaded, format!("Unit hello.service loaded on {place}\n"));
    cluster.active(&[]);

    assert_eq!(cluster.ok(&["start", "hello.service"]), format!("Unit hello.service launched on {place}\n"));
    cluster.active(&[("hello.service", &host)]);
    assert_eq!(cluster.ok(&["start", "hello.service"]), "", "again: silence");
    let first = cluster.invocations("hello.service");
    assert_eq!(first.keys().collect::<Vec<_>>(), [&host]);
    let status = cluster.fleetctl_on(&host, &["status", "hello.service"]).unwrap();
    assert_eq!(status.code, 0, "{status:?}");
    assert!(status.stdout.contains("Active: active (running)"), "{status:?}");
    let journal = cluster.fleetctl_on(&host, &["journal", "hello.service"]).unwrap();
    assert!(journal.stdout.contains("Started"), "{journal:?}");

    cluster.ok(&["restart", "hello.service"]);
    let second = cluster.invocations("hello.service");
    assert_eq!(second.keys().collect::<Vec<_>>(), [&host], "on the same machine");
    assert_ne!(first, second, "it runs anew");

    let stopped = cluster.fleetctl(&["stop", "hello.service"]).unwrap();
    assert_eq!(stopped.stdout, format!("Unit hello.service loaded on {place}\n"));
    assert_eq!(stopped.stderr, "stopped hello.service\n");
    assert_eq!(cluster.rows().unwrap()[0].active, "inactive", "stop returns when it has stopped");
    let unloaded = cluster.fleetctl(&["unload", "hello.service"]).unwrap();
    assert_eq!((unloaded.code, &*unloaded.stderr), (0, "unloaded hello.service\n"));
    assert!(cluster.rows().unwrap().is_empty());
    let left =
        cluster.host(&host).sh("ls /run/fleet/units; systemctl show -p LoadState --value hello.service").unwrap();
    assert_eq!(left, "not-found\n", "nothing is left on the host");

    cluster.ok(&["start", "hello.service"]);
    assert_eq!(cluster.ok(&["destroy", "hello.service"]), "Destroyed hello.service\n");
    assert_eq!(cluster.ok(&["list-unit-files", "--no-legend"]), "");
    cluster.active(&[]);
}

#[test]
fn instances_of_a_template_spread_over_the_hosts() {
    let cluster = Cluster::new(3);
    cluster.write(&[("web@.service", WEB)]);
    cluster.ok(&["submit", "web@.service"]);
    let started = cluster.ok(&["start", "web@1", "web@2", "web@3"]);
    assert_eq!(started.matches("launched on").count(), 3, "{started}");
    let hosts: BTreeSet<String> = cluster.rows().unwrap().into_iter().map(|row| row.host).collect();
    assert_eq!(hosts.len(), 3, "{hosts:?}");
    let template = cluster.fleetctl(&["start", "web@.service"]).unwrap();
    assert_eq!(template.code, 1);
    assert!(template.stderr.contains("cannot activate template \"web@.service\""), "{template:?}");
    let command = cluster.host(&cluster.host_of("web@2.service").unwrap());
    let command = command.sh("systemctl show -p ExecStart --value web@2.service").unwrap();
    assert!(command.contains("/bin/sleep 10002"), "systemd fills in the instance: {command}");
}

#[test]
fn changed_contents_restart_the_unit_where_it_is_and_no_other() {
    let cluster = Cluster::new(3);
    cluster.write(&[("hello.service", HELLO), ("other.service", HELLO)]);
    cluster.ok(&["start", "hello.service", "other.service"]);
    let (host, other) = (cluster.host_of("hello.service"), cluster.invocations("other.service"));
    cluster.write(&[("hello.service", "[Service]\nExecStart=/bin/sleep 20002\n")]);
    let warned = cluster.fleetctl(&["start", "hello.service"]).unwrap();
    assert!(
        warned.stderr.contains(
            "warning: hello.service keeps the contents that the cluster has, which differ from the file hello.service"
        ),
        "{warned:?}"
    );
    cluster.ok(&["start", "--replace", "hello.service"]);
    assert_eq!(cluster.host_of("hello.service"), host);
    let host = cluster.host(&host.unwrap());
    eventually(DEADLINE, "the new command runs", || Ok(host.sh("pgrep -f 'sleep 20002'").is_ok())).unwrap();
    assert_eq!(cluster.invocations("other.service"), other, "the other unit was not touched");
}

#[test]
fn start_says_how_a_unit_failed_and_shows_its_journal() {
    let cluster = Cluster::new(1);
    cluster.write(&[
        // It lives on for a moment: journald does not always know whose line it was once the process has ended.
        ("bad.service", "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo something broke; sleep 0.5; exit 7'\n"),
        ("missing.service", "[Service]\nExecStart=/nonexistent\n"),
        ("brief.service", "[Service]\nExecStart=/bin/false\n"),
        ("once.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n"),
        ("slow.service", "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sleep 3\n"),
        (
            "needy.service",
            "[Unit]\nRequires=nonexistent.service\nAfter=nonexistent.service\n[Service]\nExecStart=/bin/sleep 5\n",
        ),
    ]);
    let bad = cluster.fleetctl(&["start", "bad.service"]).unwrap();
    assert_eq!(bad.code, 1);
    assert!(bad.stdout.contains("Unit bad.service launched on "), "{bad:?}");
    for words in ["error: bad.service on ", "something broke", "it failed"] {
        assert!(bad.stderr.contains(words), "{words}: {bad:?}");
    }
    for unit in ["missing.service", "brief.service", "needy.service"] {
        let run = cluster.fleetctl(&["start", unit]).unwrap();
        assert_eq!(run.code, 1, "{run:?}");
    }
    for unit in ["once.service", "slow.service"] {
        let run = cluster.fleetctl(&["start", unit]).unwrap();
        assert_eq!(run.code, 0, "{run:?}");
    }
    let rows = cluster.rows().unwrap();
    let state = |unit: &str| rows.iter().find(|row| row.unit == unit).map(|row| (&*row.active, &*row.sub));
    assert_eq!(state("bad.service"), Some(("failed", "failed")));
    assert_eq!(state("once.service"), Some(("inactive", "dead")));
    assert_eq!(state("slow.service"), Some(("active", "exited")), "start waited for it");
}

#[test]
fn start_of_a_unit_that_nothing_can_take_says_why_and_waits_as_told() {
    let cluster = Cluster::new(2);
    cluster.write(&[("ssd.service", "[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nMachineMetadata=disk=ssd\n")]);
    let run = cluster.fleetctl(&["start", "--block-attempts=1", "ssd.service"]).unwrap();
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("metadata disk=ssd"), "{run:?}");
    assert!(run.stderr.contains("timed out: ssd.service is not active: it has no machine"), "{run:?}");
    let why = cluster.fleetctl(&["why", "ssd.service"]).unwrap();
    assert_eq!(why.code, 3, "{why:?}");
    assert_eq!(why.stdout.matches("machine has no disk").count(), 2, "machine by machine: {why:?}");
}

#[test]
fn many_units_start_as_one_batch_and_leave_nothing_behind() {
    let cluster = Cluster::new(2);
    cluster.write(&[("many@.service", "[Service]\nExecStart=/bin/sleep 1000%i\n")]);
    let names: Vec<String> = (0..40).map(|n| format!("many@{n}")).collect();
    let with = |verb| [&[verb], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat();
    cluster.ok(&with("start"));
    let rows = cluster.rows().unwrap();
    assert_eq!(rows.iter().filter(|row| row.active == "active").count(), 40);
    for host in ["h1", "h2"] {
        assert_eq!(rows.iter().filter(|row| row.host == host).count(), 20, "least loaded first");
        let host = cluster.host(host);
        eventually(DEADLINE, "no batch target is left", || {
            Ok(host
                .sh("ls /run/systemd/system; systemctl list-units --all 'fleet-batch*'")?
                .matches("fleet-batch")
                .count()
                == 0)
        })
        .unwrap();
    }
    cluster.ok(&with("destroy"));
    assert!(cluster.rows().unwrap().is_empty());
    assert_eq!(cluster.host("h1").sh("ls /run/fleet/units; pgrep -fc '^/bin/sleep 1000' || true").unwrap(), "0\n");
}

#[test]
fn units_that_fleet_does_not_own_are_never_touched() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    host.write("/etc/systemd/system/mine.service", "[Service]\nExecStart=/bin/sleep 777\n").unwrap();
    host.sh("systemctl daemon-reload && systemctl start mine.service").unwrap();
    let before = cluster.invocations("mine.service");
    cluster.write(&[("mine.service", "[Service]\nExecStart=/bin/sleep 888\n")]);
    let run = cluster.fleetctl(&["start", "--block-attempts=10", "mine.service"]).unwrap();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("/etc/systemd/system/mine.service"), "it says whose unit is in the way: {run:?}");
    cluster.ok(&["destroy", "mine.service"]);
    assert_eq!(cluster.invocations("mine.service"), before);
    assert!(host.sh("cat /etc/systemd/system/mine.service").unwrap().contains("777"));
}

#[test]
fn install_sections_timers_and_long_stops_work() {
    let cluster = Cluster::new(1);
    cluster.write(&[
        ("tick.timer", "[Timer]\nOnActiveSec=1s\nAccuracySec=100ms\n[X-Fleet]\nMachineOf=tick.service\n"),
        ("tick.service", "[Service]\nType=oneshot\nExecStart=/bin/touch /run/ticked\n"),
        ("wanted.service", "[Service]\nExecStart=/bin/sleep 99\n[Install]\nWantedBy=multi-user.target\n"),
        (
            "slowstop.service",
            "[Service]\nExecStart=/bin/sleep 99\nExecStop=/bin/sh -c 'sleep 2; touch /run/stopped-well'\n",
        ),
    ]);
    let host = cluster.host("h1");
    cluster.ok(&["load", "tick.service"]);
    cluster.ok(&["start", "tick.timer"]);
    eventually(DEADLINE, "the timer fired", || Ok(host.sh("test -e /run/ticked").is_ok())).unwrap();
    cluster.ok(&["start", "wanted.service", "slowstop.service"]);
    assert_eq!(host.sh("systemctl is-enabled wanted.service || true").unwrap(), "enabled-runtime\n");
    assert_eq!(host.sh("systemctl is-enabled slowstop.service || true").unwrap(), "linked-runtime\n");
    cluster.ok(&["destroy", "slowstop.service", "wanted.service"]);
    host.sh("test -e /run/stopped-well").expect("destroy waits for ExecStop");
    host.sh("test ! -e /run/systemd/system/multi-user.target.wants/wanted.service").unwrap();
}

#[test]
fn destroy_and_submit_of_one_name_in_quick_turns_ends_as_last_asked() {
    let cluster = Cluster::new(1);
    cluster.write(&[("hello.service", HELLO)]);
    for round in 0..20 {
        cluster.write(&[("hello.service", &*format!("[Service]\nExecStart=/bin/sleep {}\n", 30_000 + round))]);
        cluster.ok(&["start", "--no-block", "hello.service"]);
        if round < 19 {
            cluster.ok(&["destroy", "--no-block", "hello.service"]);
        }
    }
    let host = cluster.host("h1");
    eventually(Duration::from_secs(30), "the last contents run, alone", || {
        Ok(host.sh("pgrep -fa '^/bin/sleep 300'")?.trim().ends_with("/bin/sleep 30019")
            && host.sh("pgrep -fc '^/bin/sleep 300'")?.trim() == "1")
    })
    .unwrap();
}

#[test]
fn unit_that_another_refers_to_runs_its_new_contents_after_destroy_and_submit() {
    let cluster = Cluster::new(1);
    cluster.write(&[
        ("app.service", "[Unit]\nWants=db.service\nAfter=db.service\n[Service]\nExecStart=/bin/sleep 10001\n"),
        ("db.service", "[Service]\nExecStart=/bin/sleep 20001\n"),
    ]);
    cluster.ok(&["start", "db.service", "app.service"]);
    let app = cluster.invocations("app.service");
    cluster.ok(&["destroy", "db.service"]);
    cluster.write(&[("db.service", "[Service]\nExecStart=/bin/sleep 20002\n")]);
    cluster.ok(&["start", "db.service"]);
    cluster.host("h1").sh("pgrep -f '^/bin/sleep 20002'").expect("the new command runs");
    assert_eq!(cluster.invocations("app.service"), app);
}

#[test]
fn unit_whose_removal_failed_once_is_removed_later_and_holds_up_no_host_that_leaves() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    cluster.write(&[("a.service", HELLO), ("b.service", HELLO)]);
    cluster.ok(&["start", "a.service", "b.service"]);
    // As fleetd sees it: the unit has a mount namespace of its own.
    let in_fleetd =
        |script: &str| host.sh(&format!("nsenter -m -t $(systemctl show -p MainPID --value fleet) sh -c '{script}'"));
    let read_only = "mount --bind /run/fleet/units /run/fleet/units && mount -o remount,bind,ro /run/fleet/units";
    in_fleetd(read_only).unwrap();
    cluster.ok(&["destroy", "--no-block", "a.service"]);
    eventually(DEADLINE, "the removal fails", || {
        Ok(host.sh("journalctl -u fleet --no-pager")?.contains("cannot delete /run/fleet/units/a.service"))
    })
    .unwrap();
    in_fleetd("umount /run/fleet/units").unwrap();
    eventually(DEADLINE, "it is removed in the end", || {
        Ok(cluster.ok(&["list-units"]).matches("a.service").count() == 0)
    })
    .unwrap();
    in_fleetd(read_only).unwrap();
    host.sh("timeout 60 systemctl stop fleet").expect("the host leaves all the same");
    assert!(host.sh("systemctl is-active b.service").is_err(), "nothing runs on");
}

#[test]
fn many_units_that_take_for_ever_to_start_hold_up_no_other() {
    let cluster = Cluster::new(1);
    cluster.write(&[
        ("slow@.service", "[Service]\nType=oneshot\nExecStart=/bin/sleep 10001\n"),
        ("quick.service", "[Service]\nExecStart=/bin/sleep 10002\n"),
    ]);
    let names: Vec<String> = (0..70).map(|n| format!("slow@{n}")).collect();
    cluster.ok(&[&["start", "--no-block"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    let host = cluster.host("h1");
    eventually(DEADLINE, "all are starting", || {
        Ok(host.sh("systemctl list-units 'slow@*' --no-legend | grep -c activating")?.trim() == "70")
    })
    .unwrap();
    cluster.ok(&["start", "quick"]);
    cluster.ok(&["stop", "quick", "slow@1"]);
    assert!(host.sh("systemctl is-active quick.service slow@1.service").is_err());
}
