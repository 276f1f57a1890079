//! The built `fleetctl` against a stand-in for fleetd: what it prints, and where, and its exit code.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

#[path = "stand_in/cluster.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with other tests, which use the rest")]
mod cluster;

use std::{path::Path, process::Stdio, sync::Arc};

use cluster::{
    HELLO, StandIn, error,
    fake::{Answer, Fake},
    files, fleetctl, transcript,
};
use tokio::process::Command;

/// Puts programs into a directory: an `ssh` that notes its words in `ssh.log` and runs the command here, and
/// stand-ins for what it runs.
fn programs(directory: &Path) {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let ssh = "#!/bin/sh\ncase \" $* \" in *\" -G \"*) echo hostname 10.82.0.13; exit;; esac\n\
         echo \"$*\" >> ssh.log\nwhile [ \"$1\" != -- ]; do shift; done; shift 2\nexec /bin/sh -c \"$*\"\n";
    for (name, text) in [
        ("ssh", ssh),
        ("systemctl", "#!/bin/sh\n[ \"$1\" = show ] && echo 07:00 UTC && exit\necho \"systemctl $*\"\nexit 3\n"),
        ("journalctl", "#!/bin/sh\necho \"journalctl $*\"\n"),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    symlink(env!("CARGO_BIN_EXE_fleetctl"), directory.join("fleetctl")).unwrap();
}

#[tokio::test]
async fn units_are_submitted_and_replaced() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO), ("e1.service", "[Unit\n")]));
    let broken =
        "1> \n2> Error creating units: failed getting Unit(e1.service) from file: unable to find end of section";
    transcript(
        &fake,
        directory.path(),
        &[
            ("submit", "2> No units given\n[0]"),
            ("submit hello.service", "1> Unit hello.service inactive\n[0]"),
            ("submit hello", "[0]"),
            ("submit --replace hello", "1> Found same Unit(hello.service) in Registry, nothing to do\n[0]"),
            (
                "submit nosuch.service",
                "2> Error creating units: unable to find Unit(nosuch.service) in Registry or on filesystem\n[1]",
            ),
            (
                "submit nosuch@1.service",
                "2> Error creating units: failed getting Unit(nosuch@1.service) from template: \
                 unable to find template Unit(nosuch@.service) in Registry or on filesystem\n[1]",
            ),
            ("cat hello", "1> [Service]\n1> ExecStart=/bin/sleep 1\n[0]"),
            ("cat nosuch", "2> Unit nosuch.service not found\n[1]"),
        ],
    )
    .await;
    let ran = fleetctl(&fake, directory.path(), "submit e1").await;
    assert!(broken.ends_with(ran.err.lines().next().unwrap()) && ran.err.contains("^^^^^") && ran.code == 1);

    std::fs::write(directory.path().join("hello.service"), "[Service]\nExecStart=/bin/sleep 2\n").unwrap();
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "submit hello",
                "2> warning: hello.service keeps the contents that the cluster has, which differ from the file hello.service\n\
                 2> hint: replace them with `fleetctl submit --replace hello.service`\n[0]",
            ),
            ("submit --replace hello", "1> Unit hello.service inactive\n[0]"),
            ("start hello", "1> Unit hello.service launched on d097a72e.../10.82.0.13\n[0]"),
        ],
    )
    .await;
    std::fs::write(directory.path().join("hello.service"), HELLO).unwrap();
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "submit --replace hello",
                "2> warning: hello.service is launched and keeps its contents, which differ from the file hello.service\n\
                 2> hint: replace them with `fleetctl start --replace hello.service`\n[0]",
            ),
            ("start --replace hello", "1> Unit hello.service launched on d097a72e.../10.82.0.13\n[0]"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_unit_goes_through_its_life() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "load hello",
                "1> Unit hello.service inactive\n1> Unit hello.service loaded on d097a72e.../10.82.0.13\n[0]",
            ),
            ("load hello", "[0]"),
            ("start hello", "1> Unit hello.service launched on d097a72e.../10.82.0.13\n[0]"),
            ("start hello", "[0]"),
            (
                "list-units",
                "1> UNIT\t\tMACHINE\t\t\tACTIVE\tSUB\n1> hello.service\td097a72e.../10.82.0.13\tactive\trunning\n[0]",
            ),
            (
                "list-unit-files --fields=unit,dstate,state,target,global --no-legend",
                "1> hello.service\tlaunched\tlaunched\td097a72e.../10.82.0.13\tfalse\n[0]",
            ),
            (
                "stop hello nosuch",
                "1> Unit hello.service loaded on d097a72e.../10.82.0.13\n\
                 2> warning: unit nosuch.service does not exist\n\
                 2> stopped hello.service\n[0]",
            ),
            ("stop hello", "2> did not run: hello.service\n[0]"),
            (
                "restart hello",
                "1> Unit hello.service launched on d097a72e.../10.82.0.13\n\
                 1> Unit hello.service launched on d097a72e.../10.82.0.13\n[0]",
            ),
            ("unload hello", "1> Unit hello.service inactive\n2> unloaded hello.service\n[0]"),
            ("unload hello", "2> was not loaded: hello.service\n[0]"),
            ("stop hello", "2> error: cannot stop hello.service: it is inactive, on no machine\n[1]"),
            (
                "restart hello",
                "2> warning: hello.service was not restarted: it is inactive, `fleetctl start hello.service` starts it\n[0]",
            ),
            ("status hello", "2> Unit hello.service does not appear to be loaded.\n[1]"),
            ("journal hello", "2> Unit hello.service does not appear to be running.\n[1]"),
            (
                "start --no-block hello",
                "1> Triggered unit hello.service start\n1> Triggered unit hello.service start\n[0]",
            ),
            ("destroy hello nosuch", "1> Destroyed hello.service\n2> warning: unit nosuch.service does not exist\n[0]"),
            ("destroy hello", "2> warning: unit hello.service does not exist\n[0]"),
            ("status hello", "2> Unit hello.service does not exist.\n[1]"),
        ],
    )
    .await;
}

#[tokio::test]
async fn templates_make_instances_and_never_run() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("web@.service", HELLO)]));
    transcript(
        &fake,
        directory.path(),
        &[
            ("submit web@1", "1> Unit web@1.service inactive\n[0]"),
            (
                "start web@.service",
                "1> Unit web@.service inactive\n\
                 2> Error starting units: Error 400: cannot activate template \"web@.service\"\n[1]",
            ),
            ("load web@.service", "2> Error loading units: Error 400: cannot activate template \"web@.service\"\n[1]"),
        ],
    )
    .await;
    std::fs::write(directory.path().join("web@.service"), "[Service]\nExecStart=/bin/sleep 2\n").unwrap();
    let ran = fleetctl(&fake, directory.path(), "submit web@2").await;
    assert_eq!(
        ran.err,
        "warning: web@.service keeps the contents that the cluster has, which differ from the file web@.service\n\
         hint: replace them with `fleetctl submit --replace web@.service`\n"
    );
    assert_eq!(ran.out, "Unit web@2.service inactive\n");
}

#[tokio::test]
async fn many_units_are_started_at_once_and_a_restart_goes_one_by_one() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("web@.service", HELLO)]));
    let names = (0..250).map(|i| format!("web@{i}")).collect::<Vec<_>>().join(" ");
    let ran = fleetctl(&fake, directory.path(), &format!("start {names}")).await;
    assert_eq!((ran.out.matches(" launched on ").count(), &*ran.err, ran.code), (250, "", 0));
    let changes = fake.asked().iter().filter(|line| line.starts_with("POST /changes ")).count();
    assert_eq!((changes, fake.asked().iter().filter(|line| line.starts_with("PUT ")).count()), (3, 0));

    let ran = fleetctl(&fake, directory.path(), "restart web@1 web@2").await;
    assert_eq!(ran.out.matches("launched on").count(), 4, "as often as CoreOS fleet says it");
    assert_eq!(ran.err, "");
    let asked = fake.asked();
    let (first, second) = (
        asked.iter().position(|line| line == "POST /units/web@1.service/restart").unwrap(),
        asked.iter().position(|line| line == "POST /units/web@2.service/restart").unwrap(),
    );
    assert!(asked[first..second].iter().any(|line| line == "GET /watch?unit=web@1.service"), "{asked:?}");
}

#[tokio::test]
async fn units_that_are_changed_together_go_one_by_one_to_an_old_fleetd() {
    let old = StandIn { old: true, ..StandIn::default() };
    let (fake, directory) = (old.serve(), files(&[("web@.service", HELLO)]));
    transcript(
        &fake,
        directory.path(),
        &[
            ("submit web@1 web@2", "1> Unit web@1.service inactive\n1> Unit web@2.service inactive\n[0]"),
            (
                "destroy web@1 nosuch web@2",
                "1> Destroyed web@1.service\n1> Destroyed web@2.service\n\
                 2> warning: unit nosuch.service does not exist\n[0]",
            ),
        ],
    )
    .await;
    let fake = StandIn::default().serve();
    transcript(
        &fake,
        directory.path(),
        &[
            ("submit web@1 web@2", "1> Unit web@1.service inactive\n1> Unit web@2.service inactive\n[0]"),
            (
                "destroy web@1 nosuch web@2",
                "1> Destroyed web@1.service\n1> Destroyed web@2.service\n\
                 2> warning: unit nosuch.service does not exist\n[0]",
            ),
            (
                "start web@.service web@3",
                "1> Unit web@.service inactive\n1> Unit web@3.service inactive\n\
                 2> Error starting units: Error 400: cannot activate template \"web@.service\"\n[1]",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_trace_says_where_the_time_of_a_start_went() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO), ("web@.service", HELLO)]));
    let stages = |out: &str| -> Vec<(String, Vec<String>)> {
        let lines = out.lines().skip_while(|line| !line.starts_with("STAGE")).skip(1);
        let split = |line: &str| {
            let (stage, cells) = line.split_at(26);
            (stage.trim().to_owned(), cells.split_whitespace().map(str::to_owned).collect())
        };
        lines.map(split).collect()
    };
    let ran = fleetctl(&fake, directory.path(), "start --trace hello").await;
    assert!(ran.out.starts_with("Unit hello.service inactive\nUnit hello.service launched on "), "{}", ran.out);
    let got = stages(&ran.out);
    let names: Vec<&str> = got.iter().map(|(stage, _)| &**stage).collect();
    let expected = [
        "fleetctl looks",
        "API request",
        "etcd write",
        "engine decision and write",
        "agent notices",
        "files in place",
        "systemd job",
        "active",
        "stayed active",
        "state written",
        "client told",
        "total",
    ];
    assert_eq!(names, expected);
    let fleetds: Vec<&str> = got[1..10].iter().map(|(_, cells)| &*cells[0]).collect();
    assert_eq!(fleetds, ["0.010", "0.010", "0.010", "0.001", "0.001", "0.001", "0.001", "0.001", "0.005"]);
    assert_eq!((&*ran.err, ran.code), ("", 0));
    let ran = fleetctl(&fake, directory.path(), "start --trace web@1 web@2").await;
    assert!(ran.out.contains("MEDIAN MS   MOST MS\n") && stages(&ran.out).iter().all(|(_, cells)| cells.len() == 2));
    transcript(
        &fake,
        directory.path(),
        &[("start --trace hello", "2> No unit was started, there is nothing to trace.\n[0]")],
    )
    .await;
    assert_eq!(fleetctl(&fake, directory.path(), "start --trace --no-block hello").await.code, 2);
    let old = StandIn { old: true, ..StandIn::default() }.serve();
    let ran = fleetctl(&old, directory.path(), "start --trace hello").await;
    assert_eq!((&*ran.err, ran.code), ("Of 1 of 1 starts it is not known how they went.\n", 0));
}

#[tokio::test]
async fn a_unit_that_fails_says_so_at_once() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("bad.service", HELLO)]));
    transcript(
        &fake,
        directory.path(),
        &[(
            "start bad",
            "1> Unit bad.service inactive\n\
             1> Unit bad.service launched on d097a72e.../10.82.0.13\n\
             2> error: bad.service on d097a72e.../10.82.0.13: it failed\n\
             2> hint: its journal is in `fleetctl journal bad.service`; `fleetctl start bad.service` tries again\n\
             [1]",
        )],
    )
    .await;
}

#[tokio::test]
async fn a_unit_that_fits_nowhere_is_explained() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("lone.service", HELLO)]));
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "start --block-attempts=1 lone",
                "1> Unit lone.service inactive\n\
                 2> Unit lone.service: not placed: lacks disk=ssd\n\
                 2>   d097a72e.../10.82.0.13: lacks disk=ssd\n\
                 2> error: timed out: lone.service is not active: it has no machine\n\
                 2> hint: `fleetctl why lone.service` tells more; it goes on without this command\n[1]",
            ),
            (
                "why lone",
                "1> not placed: lacks disk=ssd\n\
                 1> MACHINE\t\t\tFITS\tREASON\n1> d097a72e.../10.82.0.13\tno\tlacks disk=ssd\n[3]",
            ),
            ("why nosuch", "2> Unit nosuch.service does not exist.\n[1]"),
            (
                "stop lone",
                "2> error: cannot stop lone.service: it waits for a machine\n\
                 2> hint: `fleetctl unload lone.service` calls that off, \
                 `fleetctl why lone.service` says what it waits for\n[1]",
            ),
            ("unload lone", "1> Unit lone.service inactive\n2> unloaded lone.service\n[0]"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_unit_that_fits_is_explained_when_the_engine_does_not_come_to_it() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("wait.service", HELLO)]));
    let timed_out = |state: &str| {
        format!(
            "2> error: timed out: wait.service is not {state}: it has no machine\n\
             2> hint: `fleetctl why wait.service` tells more; it goes on without this command\n[1]"
        )
    };
    transcript(
        &fake,
        directory.path(),
        &[
            ("load --block-attempts=1 wait", &format!("1> Unit wait.service inactive\n{}", timed_out("loaded"))),
            (
                "start --block-attempts=4 wait",
                &format!(
                    "2> Unit wait.service: not placed: least loaded\n\
                     2>   d097a72e.../10.82.0.13: least loaded\n{}",
                    timed_out("active")
                ),
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn global_units_are_triggered_at_first_and_mended_afterwards() {
    let global = "[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nGlobal=true\nGlobl=1\n";
    let (fake, directory) = (StandIn::default().serve(), files(&[("glob.service", global)]));
    let ran = fleetctl(&fake, directory.path(), "start glob").await;
    assert_eq!(ran.out, "Unit glob.service \nTriggered global unit glob.service start\n");
    let warning = "warning: glob.service:5: unrecognized requirement in [X-Fleet] section: \"Globl\"\n\
                   hint: did you mean \"Global\"?\n";
    assert_eq!(ran.err, warning);
    transcript(
        &fake,
        directory.path(),
        &[
            ("start glob", "[0]"),
            ("restart glob", "2> restarted glob.service on d097a72e.../10.82.0.13\n[0]"),
            ("stop glob", "1> Triggered global unit glob.service stop\n[0]"),
            (
                "restart glob",
                "2> warning: glob.service was not restarted: it is loaded, `fleetctl start glob.service` starts it\n[0]",
            ),
            ("status glob", "2> glob.service on d097a72e.../10.82.0.13: inactive (dead)\n[0]"),
            ("journal glob", "2> Unable to retrieve journal of global unit glob.service.\n[1]"),
        ],
    )
    .await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_warned_of_once_a_line_and_done_all_the_same() {
    let template = "[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nGlobal=True # everywhere\nMachineOf=nap@%i\n";
    let (fake, directory) = (StandIn::default().serve(), files(&[("web@.service", template)]));
    let ran = fleetctl(&fake, directory.path(), "submit web@1 web@2 web@3").await;
    assert_eq!(ran.out, "Unit web@1.service inactive\nUnit web@2.service inactive\nUnit web@3.service inactive\n");
    let told: Vec<&str> = ran.err.lines().collect();
    assert_eq!(
        told[..2],
        [
            "warning: web@.service:4: Global=\"True # everywhere\" is not \"true\", so the unit is not global",
            "hint: write Global=True, and the comment on a line of its own",
        ]
    );
    assert_eq!(told.iter().filter(|line| line.starts_with("warning: web@.service:4: ")).count(), 1, "{told:?}");
    assert_eq!(ran.code, 0);
    let repeated = fleetctl(&fake, directory.path(), "why web@1").await.err;
    assert!(repeated.starts_with("warning: web@1.service:5: Global=\"True # everywhere\" is not"), "{repeated}");
}

#[tokio::test]
async fn what_is_no_unit_file_is_told_with_its_mend() {
    let directory = files(&[("web.service", HELLO), ("web.service.in", HELLO), ("alias.service", "")]);
    std::fs::create_dir(directory.path().join("units")).unwrap();
    let alias = format!("{HELLO}[Install]\nAlias=web.timer\n");
    std::fs::write(directory.path().join("alias.service"), alias).unwrap();
    let fake = StandIn::default().serve();
    let begin = "2> Error creating units:";
    for verb in ["submit", "load", "start"] {
        let line = |words: &str| format!("{verb} {words}");
        transcript(
            &fake,
            directory.path(),
            &[
                (
                    &line("web.service.in"),
                    &format!(
                        "{begin} web.service.in is not named like a unit file, so it would make a unit \
                         web.service.in.service\n2> hint: did you mean web.service?\n[1]"
                    ),
                ),
                (
                    &line("./units/"),
                    &format!(
                        "{begin} ./units/ is a directory, not a unit file\n\
                         2> hint: name the files in it: ./units/*.service\n[1]"
                    ),
                ),
                (
                    &line("-"),
                    &format!(
                        "{begin} - stands for no file: a unit is called as its file is, and standard input has no name\n\
                         2> hint: write it to a file first, such as hello.service\n[1]"
                    ),
                ),
                (
                    &line("alias"),
                    &format!(
                        "{begin} Alias=web.timer is refused by systemd: an alias of a service unit ends in .service\n\
                         2> hint: alias.service:4: write Alias=web.service, or remove it\n[1]"
                    ),
                ),
            ],
        )
        .await;
    }
}

#[tokio::test]
async fn a_watch_that_breaks_is_taken_up_again() {
    let cluster = StandIn { breaks: Arc::new(true.into()), ..StandIn::default() };
    let (fake, directory) = (cluster.serve(), files(&[("hello.service", HELLO)]));
    let ran = fleetctl(&fake, directory.path(), "start hello").await;
    assert_eq!(ran.out, "Unit hello.service inactive\nUnit hello.service launched on d097a72e.../10.82.0.13\n");
    assert_eq!(fake.asked().iter().filter(|line| line.starts_with("GET /watch")).count(), 2);
}

#[tokio::test]
async fn an_old_fleetd_is_asked_again_and_again() {
    let cluster = StandIn { old: true, ..StandIn::default() };
    let (fake, directory) = (cluster.serve(), files(&[("hello.service", HELLO)]));
    let ran = fleetctl(&fake, directory.path(), "start hello").await;
    assert_eq!(ran.out, "Unit hello.service inactive\nUnit hello.service launched on d097a72e.../10.82.0.13\n");
    let ran = fleetctl(&fake, directory.path(), "destroy hello").await;
    assert_eq!((&*ran.out, ran.code), ("Destroyed hello.service\n", 0));
}

#[tokio::test]
async fn without_etcd_lists_say_so() {
    let fake = Fake::new(|_| error(503, "fleet server unable to communicate with etcd"));
    let directory = files(&[]);
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "list-machines",
                "2> Error retrieving list of active machines from fleet API \
                 (Error 503: fleet server unable to communicate with etcd)\n\
                 2> Possible issues:\n2>   etcd is unhealthy and/or lost quorum\n\
                 2>   connection cannot be established to any etcd servers\n[1]",
            ),
            (
                "list-units",
                "2> Error retrieving list of units from repository: \
                 Error 503: fleet server unable to communicate with etcd\n[1]",
            ),
        ],
    )
    .await;
    let fake = Fake::new(|_| Answer::Aged(12, "{}".into()));
    transcript(
        &fake,
        directory.path(),
        &[("list-machines", "1> MACHINE\tIP\tMETADATA\n2> WARNING: etcd is unreachable; this was true 12 s ago\n[0]")],
    )
    .await;
    // A unit that was stopped when etcd was last seen may run by now.
    let unit = r#"{"name":"a.service","desiredState":"loaded","currentState":"loaded","options":[],"machineID":"m"}"#;
    let fake = Fake::new(move |_| Answer::Aged(12, unit.into()));
    let refusal = "2> WARNING: etcd is unreachable; this was true 12 s ago\n\
                   2> Error stopping units: fleet server unable to communicate with etcd\n[1]";
    transcript(&fake, directory.path(), &[("stop a", refusal)]).await;
}

#[tokio::test]
async fn other_machines_are_reached_with_the_users_ssh() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO), ("bad.service", HELLO)]));
    programs(directory.path());
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "start hello",
                "1> Unit hello.service inactive\n1> Unit hello.service launched on d097a72e.../10.82.0.13\n[0]",
            ),
            ("status hello", "1> systemctl status -l hello.service\n[3]"),
            (
                "journal --lines=5 --f hello",
                "1> journalctl --unit hello.service --no-pager -n 5 --output short -f\n[0]",
            ),
            ("ssh d097 exit 7", "[7]"),
            ("ssh --unit=hello echo -n x", "1> x\n[0]"),
            ("ssh nosuch true", "2> Unable to proceed: could not find matching unit or machine\n[1]"),
            ("ssh --machine nosuch x", "2> Unable to proceed: machine does not exist\n[1]"),
            ("ssh --unit nosuch x", "2> Unable to proceed: unit does not exist\n[1]"),
        ],
    )
    .await;
    let failed = fleetctl(&fake, directory.path(), "start bad").await;
    assert!(
        failed
            .err
            .contains("\n  journalctl -q --no-pager -n 10 --output short --unit bad.service --since 07:00 UTC\nhint: "),
        "{}",
        failed.err
    );
    let log = std::fs::read_to_string(directory.path().join("ssh.log")).unwrap();
    assert!(log.contains("BatchMode=yes -- 10.82.0.13 /bin/sh -c "), "{log}");
}

#[tokio::test]
async fn a_tunnel_carries_requests_and_watches() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    programs(directory.path());
    let ran = fleetctl(&fake, directory.path(), "--tunnel=gate:2222 --ssh-username=core start hello").await;
    assert_eq!(ran.out, "Unit hello.service inactive\nUnit hello.service launched on d097a72e.../10.82.0.13\n");
    assert_eq!((&*ran.err, ran.code), ("", 0));
    let log = std::fs::read_to_string(directory.path().join("ssh.log")).unwrap();
    assert!(log.contains("-l core -T -p 2222 -- gate fleetctl fd-forward /"), "{log}");
}

#[tokio::test]
async fn a_tunnel_that_ends_on_the_machine_of_a_unit_is_the_way_to_it() {
    let (fake, directory) = (StandIn::default().serve(), files(&[("hello.service", HELLO)]));
    programs(directory.path());
    fleetctl(&fake, directory.path(), "start hello").await;
    for (line, words) in [
        ("ssh hello true", "true"),
        ("status hello", "systemctl status -l hello.service"),
        ("journal hello", "journalctl --unit hello.service"),
    ] {
        for (tunnel, way) in [("gate:2222", "-p 2222 -- gate"), ("10.82.0.13", "-- 10.82.0.13")] {
            let _ = std::fs::remove_file(directory.path().join("ssh.log"));
            fleetctl(&fake, directory.path(), &format!("--tunnel={tunnel} {line}")).await;
            let log = std::fs::read_to_string(directory.path().join("ssh.log")).unwrap();
            let last = log.lines().find(|line| !line.contains("fd-forward")).unwrap();
            assert!(last.contains(&format!("{way} {words}")) && !last.contains("-J"), "{line}: {last}");
        }
    }
}

#[tokio::test]
async fn variables_that_are_set_to_nothing_count_as_not_set() {
    const VARIABLES: [&str; 18] = [
        "CA_FILE",
        "CERT_FILE",
        "COMPLETE",
        "DEBUG",
        "DRIVER",
        "ENDPOINT",
        "ETCD_CAFILE",
        "ETCD_CERTFILE",
        "ETCD_KEYFILE",
        "ETCD_KEY_PREFIX",
        "EXPERIMENTAL_API",
        "KEY_FILE",
        "KNOWN_HOSTS_FILE",
        "REQUEST_TIMEOUT",
        "SSH_TIMEOUT",
        "SSH_USERNAME",
        "STRICT_HOST_KEY_CHECKING",
        "TUNNEL",
    ];
    let fake = StandIn::default().serve();
    let output = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .args([&format!("-endpoint={}", fake.endpoint), "list-machines", "-no-legend", "-fields", "ip"])
        .envs(VARIABLES.map(|name| (format!("FLEETCTL_{name}"), "")))
        .env("XDG_RUNTIME_DIR", "")
        .output()
        .await
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!((&*out, &*err, output.status.code()), ("10.82.0.13\n", "", Some(0)));
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let fake = StandIn::default().serve();
    let mut list = Command::new(env!("CARGO_BIN_EXE_fleetctl"))
        .args([&format!("--endpoint={}", fake.endpoint), "list-machines"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().await.unwrap();
    assert_eq!((output.status.code(), &*String::from_utf8_lossy(&output.stderr)), (Some(0), ""));
}

#[tokio::test]
async fn machines_are_drained_and_take_units_again() {
    let cluster = StandIn::default();
    let (fake, directory) = (cluster.serve(), files(&[("hello.service", HELLO), ("stay.service", HELLO)]));
    fleetctl(&fake, directory.path(), "start hello").await;
    transcript(
        &fake,
        directory.path(),
        &[
            (
                "drain d097",
                "1> Unit hello.service moved from d097a72e.../10.82.0.13 to e515483f...\n\
                 2> Global units stay on d097a72e.../10.82.0.13: glob.service\n\
                 2> Machine d097a72e.../10.82.0.13 is drained.\n[0]",
            ),
            ("undrain 10.82.0.13", "1> Machine d097a72e.../10.82.0.13 takes units again\n[0]"),
            (
                "start stay",
                "1> Unit stay.service inactive\n1> Unit stay.service launched on d097a72e.../10.82.0.13\n[0]",
            ),
            (
                "drain d097a72e",
                "2> Unit stay.service cannot leave d097a72e.../10.82.0.13: no machine fits\n\
                 2> Global units stay on d097a72e.../10.82.0.13: glob.service\n[1]",
            ),
            ("drain --no-block d0", "1> Triggered drain of machine d097a72e.../10.82.0.13\n[0]"),
            (
                "drain nosuch",
                "2> error: no machine matches nosuch\n\
                 2> hint: see the machines that are alive with `fleetctl list-machines`\n[3]",
            ),
        ],
    )
    .await;
    let old = StandIn { old: true, ..StandIn::default() }.serve();
    transcript(
        &old,
        directory.path(),
        &[(
            "drain d097",
            "2> error: cannot drain the machine: this fleetd cannot do that\n\
             2> hint: upgrade the fleetd that answers here\n[1]",
        )],
    )
    .await;
}

#[tokio::test]
async fn machines_that_are_held_are_named_and_can_be_evicted() {
    let cluster = StandIn::default();
    cluster.held.store(true, std::sync::atomic::Ordering::Relaxed);
    let (fake, directory) = (cluster.serve(), files(&[]));
    let list = "1> MACHINE\t\tIP\t\tMETADATA\n1> d097a72e...\t10.82.0.13\t-\n";
    let held = "2> Machine e515483f... is gone since 2026-11-21T10:50:43Z, its units are held until \
                2026-11-21T10:51:03Z: many machines vanished together\n\
                2> hint: if it is gone for good, `fleetctl evict e515483f` moves its units now\n[0]";
    transcript(
        &fake,
        directory.path(),
        &[
            ("list-machines", &format!("{list}{held}")),
            (
                "evict d097",
                "2> error: machine d097a72e.../10.82.0.13 is alive\n\
                 2> hint: `fleetctl drain d097` moves its units elsewhere\n[1]",
            ),
            ("evict e5", "1> Machine e515483f... evicted, its units move now\n[0]"),
            (
                "evict e5",
                "2> error: no machine that is gone matches e5\n\
                 2> hint: `fleetctl list-machines` names those that are held\n[3]",
            ),
            ("list-machines", &format!("{list}[0]")),
        ],
    )
    .await;
}

#[tokio::test]
async fn picture_from_before_a_drain_does_not_end_it_but_its_end_does() {
    let cluster = StandIn::default();
    cluster.lags.store(true, std::sync::atomic::Ordering::Relaxed);
    let (drained, fake, directory) = (cluster.drained.clone(), cluster.serve(), files(&[("stay.service", HELLO)]));
    let end = "2> Global units stay on d097a72e.../10.82.0.13: glob.service\n\
               2> Machine d097a72e.../10.82.0.13 is drained.\n[0]";
    transcript(&fake, directory.path(), &[("drain d097", end)]).await;
    fleetctl(&fake, directory.path(), "start stay").await;
    let undrain = async {
        while !drained.load(std::sync::atomic::Ordering::Relaxed) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        drained.store(false, std::sync::atomic::Ordering::Relaxed);
    };
    drained.store(false, std::sync::atomic::Ordering::Relaxed);
    let over = "2> error: machine d097a72e.../10.82.0.13 is not being drained any more\n[1]";
    let lines = [("drain d097", over)];
    tokio::join!(transcript(&fake, directory.path(), &lines), undrain);
}

#[tokio::test]
async fn machine_that_is_away_is_undrained_by_its_whole_id() {
    let (fake, directory) = (StandIn::default().serve(), files(&[]));
    let whole = "e515483f4aef45bf815b90988acdbf13";
    transcript(
        &fake,
        directory.path(),
        &[
            (&format!("undrain {whole}"), "1> Machine e515483f... takes units again\n[0]"),
            (
                "undrain e515483f",
                "2> error: no machine matches e515483f\n\
                 2> hint: see the machines that are alive with `fleetctl list-machines`\n[3]",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn version_is_one_line_for_scripts_whoever_listens() {
    let directory = files(&[]);
    let own = concat!("1> fleetctl version ", env!("CARGO_PKG_VERSION"));
    let new = StandIn::default().serve();
    let told = format!(
        "{own}\n2> fleetd version 0.3.0\n2> oldest fleetd version 0.2.0\n\
         2> new is not used yet: h3 (d097a72e, fleetd 0.2.0) does not understand it; upgrade it\n\
         2> new is not used yet: d097a72e does not understand it; upgrade it\n[0]"
    );
    transcript(&new, directory.path(), &[("version", &told)]).await;
    let old = StandIn { old: true, ..StandIn::default() }.serve();
    let too_old = format!("{own}\n2> fleetd's version is not known: it is too old to tell\n[0]");
    let nobody = format!(
        "{own}\n2> fleetd's version is not known: cannot connect to unix:///nope: no such file or directory\n[0]"
    );
    let nowhere =
        format!("{own}\n2> fleetd's version is not known: Unable to initialize client: URL scheme undefined\n[0]");
    transcript(
        &old,
        directory.path(),
        &[("version", &too_old), ("version --endpoint=unix:///nope", &nobody), ("version --endpoint=nope", &nowhere)],
    )
    .await;
    let json = fleetctl(&old, directory.path(), "version -o json").await;
    assert!(json.out.contains("\"fleetd\": null") && json.code == 0, "{}", json.out);
}
