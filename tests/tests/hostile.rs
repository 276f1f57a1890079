//! Values in etcd that are not what belongs there, on a store and on hosts that are real.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    io::Write as _,
    os::unix::ffi::OsStrExt,
    process::{Command, Stdio},
    time::Duration,
};

use fleet_core::{
    model::{Desired, Key, Keys, Record, Snapshot, UnitRecord},
    unit::{UnitFile, UnitHash, UnitName},
};
use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE, EtcdProcess};
use fleetd::registry::{Etcd, Store, Transaction, Write, etcd::Endpoints, files::Files, mirror};
use tokio::{sync::watch, time::timeout};

/// Writes any bytes under a key of any bytes.
fn put(endpoint: &str, key: &[u8], value: &[u8]) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoint, "put", "--"]).arg(OsStr::from_bytes(key));
    if value.is_empty() {
        // Without bytes on its standard input, etcdctl wants to be told of a value.
        command.arg("");
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("etcdctl is installed");
    child.stdin.take().expect("piped").write_all(value).expect("etcdctl reads its value");
    assert!(child.wait().expect("it ends").success(), "{}", String::from_utf8_lossy(key));
}

fn connect(etcd: &EtcdProcess) -> Etcd {
    let request_timeout = Duration::from_secs(20);
    Etcd::new(Endpoints { urls: vec![etcd.url().into()], request_timeout, ..Endpoints::default() })
}

/// More than fits into one answer of etcd, in values of a megabyte.
const LARGE: usize = 72;

#[tokio::test]
async fn values_larger_than_an_answer_of_etcd_can_be_hide_no_other() {
    let etcd = EtcdProcess::start();
    let (store, keys) = (connect(&etcd), Keys::new("fleet"));
    let large = |n: usize| UnitFile::parse(&format!("[Unit]\nDescription={n}\n")).unwrap().hash();
    let good = UnitFile::parse("[Service]\nExecStart=/bin/a\n").unwrap();
    let record = UnitRecord::new(good.hash(), Desired::Launched, 0);
    let name = |n: usize| UnitName::new(&format!("u{n:03}.service")).unwrap();
    let mut writes = vec![
        vec![Write::put(keys.format(&Key::Unit(name(LARGE))), record.encode())],
        vec![Write::put(keys.format(&Key::File(good.hash())), good.canonical().into_bytes())],
    ];
    for n in 0..LARGE {
        for key in [Key::Unit(name(n)), Key::File(large(n))] {
            writes.push(vec![Write::put(keys.format(&key), vec![b'x'; 1 << 20])]);
        }
    }
    for writes in writes {
        store.commit(Transaction { guards: Vec::new(), writes }).await.unwrap();
    }

    let (sender, mut cluster) = watch::channel(Snapshot::default());
    let (followed, following) = (store.clone(), keys.clone());
    let mirror = tokio::spawn(async move {
        mirror::follow(&followed, &following, &[following.followed()], &sender).await;
    });
    let whole =
        timeout(DEADLINE, cluster.wait_for(|cluster| cluster.complete)).await.expect("in time").unwrap().clone();
    assert_eq!(whole.units.keys().collect::<Vec<_>>(), [&name(LARGE)]);
    assert_eq!(whole.unreadable.len(), LARGE);
    mirror.abort();

    let hashes: Vec<UnitHash> = (0..LARGE).map(large).chain([good.hash()]).collect();
    let found = Files::new(store, keys).get(hashes).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&good.hash()]);
}

#[tokio::test]
async fn keys_that_are_no_text_do_not_turn_a_list_in_circles() {
    let etcd = EtcdProcess::start();
    for n in 0..5u8 {
        put(etcd.url(), &[b"/fleet/unit/\xff", &[0xf0 + n][..]].concat(), b"x");
    }
    put(etcd.url(), b"/fleet/unit/a.service", b"x");
    put(etcd.url(), b"/fleet/unit/\xef\xbf\xbd\xef\xbf\xbd", b"x");
    let store = connect(&etcd);
    let mut range = Keys::new("fleet").under("unit/");
    // As everybody reads lists; one key of a page is the last.
    for _page in 0..7 {
        let page = store.list(&range, None, 1).await.unwrap();
        match page.entries.last().filter(|_| page.more) {
            Some(last) => range.0 = format!("{}\0", last.key),
            None => return,
        }
    }
    panic!("the list has no end");
}

const WEB: &str = "[Service]\nExecStart=/bin/sleep 1000%i\n";
const GLOBAL: &str = "[Service]\nExecStart=/bin/sleep 9999\n[X-Fleet]\nGlobal=true\n";

/// What may stand where a value of fleet's should.
fn bad_values() -> Vec<Vec<u8>> {
    vec![
        b"".to_vec(),
        b"garbage".to_vec(),
        br#"{"v":99}"#.to_vec(),
        br#"{"v":1,"hash":7,"edits":"none","address":[]}"#.to_vec(),
        b"[1]".to_vec(),
        b"\xff\x00\xfe\n".to_vec(),
        vec![b'{'; 1 << 20],
    ]
}

/// How often each host's log speaks of a key.
fn said(cluster: &Cluster, key: &str) -> Vec<usize> {
    let quoted = format!("key={key:?}");
    let of = |host: &fleet_lab::Host| {
        let log = host.sh("journalctl -u fleet --no-pager -o cat").expect("the host has a journal");
        log.lines().filter(|line| line.contains("passed over") && line.contains(&quoted)).count()
    };
    cluster.lab.hosts().iter().map(of).collect()
}

#[test]
fn garbage_under_every_kind_of_key_stops_no_unit_and_is_told_once() {
    let cluster = Cluster::with(Lab::builder().hosts(2));
    let endpoint = cluster.lab.etcd_endpoints().remove(0);
    cluster.write(&[("web@.service", WEB), ("glob.service", GLOBAL)]);
    cluster.ok(&["start", "web@1", "web@2", "web@3", "glob.service"]);
    eventually(DEADLINE, "five units are active", || {
        Ok(cluster.rows()?.iter().filter(|row| row.active == "active").count() == 5)
    })
    .unwrap();
    let units = ["web@1.service", "web@2.service", "web@3.service", "glob.service"];
    let invocations = || -> BTreeMap<_, _> { units.iter().map(|unit| (*unit, cluster.invocations(unit))).collect() };
    let before = invocations();
    let (h1, h2) = (cluster.host("h1").machine_id().to_owned(), cluster.host("h2").machine_id().to_owned());

    let mut garbage: Vec<(String, Vec<u8>)> = Vec::new();
    for (n, value) in bad_values().into_iter().enumerate() {
        for key in [
            format!("unit/bad{n}.service"),
            format!("global/bad{n}.service"),
            format!("sched/{h1}/bad{n}.service"),
            format!("sched/{h2}/web@{}.service", n + 10),
            format!("machine/{n:032x}"),
            format!("metadata/{n:032x}"),
            format!("state/{h1}/bad{n}.service"),
        ] {
            garbage.push((format!("/fleet/{key}"), value.clone()));
        }
    }
    for key in ["unit/no-suffix", "unit/a/b.service", "sched/xyz/a.service", "machine/short", "state/"] {
        garbage.push((format!("/fleet/{key}"), b"x".to_vec()));
    }
    put(&endpoint, b"/fleet/other/x", b"x");
    garbage.push((format!("/fleet/metadata/{h1}"), b"{\"v\":99,\"edits\":{}}".to_vec()));
    // A unit whose file is another's.
    let hash = UnitHash::of("of no file");
    let wrong = UnitRecord::new(hash, Desired::Launched, 1);
    put(&endpoint, b"/fleet/unit/wrong.service", &wrong.encode());
    put(&endpoint, format!("/fleet/file/{hash}").as_bytes(), b"[Service]\nExecStart=/bin/sleep 1\n");
    for (key, value) in &garbage {
        put(&endpoint, key.as_bytes(), value);
    }

    cluster.write(&[("fresh@.service", WEB)]);
    cluster.ok(&["start", "fresh@1", "fresh@2", "fresh@3", "fresh@4"]);
    let fresh = cluster.rows().unwrap().into_iter().filter(|row| row.unit.starts_with("fresh@"));
    let hosts: BTreeMap<String, String> = fresh.map(|row| (row.host, row.active)).collect();
    assert_eq!(hosts.len(), 2, "new units start on every host: {hosts:?}");
    for list in ["list-units", "list-unit-files", "list-machines"] {
        cluster.ok(&[list]);
    }
    cluster.ok(&["why", "fresh@1"]);
    for _again in 0..5 {
        cluster.ok(&["cat", "wrong.service"]);
    }
    assert!(cluster.ok(&["list-units"]).contains("web@1.service"));

    // What was good is overwritten. A host writes its own entry again.
    let machine = format!("/fleet/machine/{h2}");
    put(&endpoint, machine.as_bytes(), b"overwritten");
    let get = |key: &str| cluster.lab.etcdctl(&["get", "--print-value-only", key]);
    eventually(DEADLINE, "h2 has its entry again", || Ok(get(&machine)?.contains("\"hostname\":\"h2\""))).unwrap();
    let taken: Vec<(String, String)> = ["web@1.service", "web@2.service"]
        .iter()
        .flat_map(|unit| {
            let host = cluster.host_of(unit).expect("it is scheduled");
            let machine = cluster.host(&host).machine_id().to_owned();
            [format!("/fleet/unit/{unit}"), format!("/fleet/sched/{machine}/{unit}")]
        })
        .chain(["/fleet/global/glob.service".into()])
        .map(|key| (key.clone(), get(&key).unwrap().trim_end().to_owned()))
        .collect();
    for (n, (key, _)) in taken.iter().enumerate() {
        put(&endpoint, key.as_bytes(), &bad_values()[n]);
    }
    cluster.host("h2").sh("systemctl kill -s KILL fleet").unwrap();
    cluster.ok(&["start", "fresh@5", "fresh@6"]);
    cluster.joined(2);
    assert_eq!(invocations(), before, "nothing was touched");

    assert_eq!(said(&cluster, "/fleet/other/x"), [0, 0], "what is of no kind known here is no matter");
    for key in garbage.iter().map(|(key, _)| key).chain(taken.iter().map(|(key, _)| key)) {
        let said = said(&cluster, key);
        assert!(said.iter().any(|times| *times > 0), "{key} is told of: {said:?}");
        // Two parts of a daemon look at some keys: the agent and the view. One of the daemons was started twice.
        assert!(said[0] <= 2 && said[1] <= 4, "{key} is not told of again and again: {said:?}");
    }

    for host in cluster.lab.hosts() {
        let log = host.sh("journalctl -u fleet --no-pager -o cat").unwrap();
        let of_file = log.lines().filter(|line| line.contains("cannot be used") && line.contains(&hash.to_string()));
        assert!(of_file.count() <= 2, "the file is not told of again and again");
    }

    for (key, value) in &taken {
        put(&endpoint, key.as_bytes(), value.as_bytes());
    }
    for (key, _) in &garbage {
        cluster.lab.etcdctl(&["del", key]).unwrap();
    }
    cluster.lab.etcdctl(&["del", "/fleet/other/x"]).unwrap();
    cluster.ok(&["destroy", "wrong.service"]);
    cluster.write(&[("bad0.service", "[Service]\nExecStart=/bin/sleep 9998\n")]);
    cluster.ok(&["start", "bad0.service", "web@10"]);
    assert_eq!(invocations(), before, "nothing was touched");
    cluster.ok(&["stop", "web@1"]);
    eventually(DEADLINE, "the mended unit obeys again", || {
        Ok(cluster.rows()?.iter().any(|row| row.unit == "web@1.service" && row.active == "inactive"))
    })
    .unwrap();
}

#[test]
fn host_whose_entry_was_deleted_joins_again() {
    let cluster = Cluster::new(2);
    let h2 = cluster.host("h2").machine_id().to_owned();
    cluster.lab.etcdctl(&["del", &format!("/fleet/machine/{h2}")]).unwrap();
    cluster.joined(2);
    cluster.write(&[("on@.service", &format!("[Service]\nExecStart=/bin/sleep 1\n[X-Fleet]\nMachineID={h2}\n"))]);
    cluster.ok(&["start", "on@1"]);
}

#[test]
fn unit_that_systemd_refuses_holds_up_no_other() {
    let cluster = Cluster::new(1);
    let long = format!("{}.service", "l".repeat(255 - ".service".len()));
    let bad = [
        ("relative.service", "[Service]\nExecStart=no/absolute/path\n"),
        ("nothing.service", "[X-Fleet]\nMachineMetadata=\n"),
        ("disk.mount", "[Mount]\nWhat=/dev/nothing\nWhere=/elsewhere\n"),
    ];
    cluster.write(&bad);
    cluster.write(&[
        (&long, "[Service]\nExecStart=/bin/sleep 1001\n"),
        (r"a\x2db.service", WEB),
        // Systemd passes over what it does not know.
        ("strange.service", "[Service]\nType=unheard-of\nExecStart=/bin/sleep 1002\n[\u{e9}]\n\u{e9}=%%%\n"),
    ]);
    let bad: Vec<&str> = bad.iter().map(|(name, _)| *name).collect();
    cluster.ok(&[&["start", "--no-block"][..], &bad].concat());
    cluster.ok(&["start", &long, r"a\x2db.service", "strange.service"]);
    for unit in bad {
        cluster.ok(&["destroy", unit]);
        let run = cluster.fleetctl(&["start", unit]).unwrap();
        assert_eq!(run.code, 1, "{unit}: {run:?}");
        assert!(run.stderr.contains(&format!("error: {unit}")), "the end of it is told: {run:?}");
    }
    assert_eq!(cluster.rows().unwrap().iter().filter(|row| row.active == "active").count(), 3);
}

#[test]
fn damaged_files_of_the_agent_cost_no_unit() {
    let cluster = Cluster::new(1);
    cluster.write(&[("web@.service", WEB), ("glob.service", GLOBAL)]);
    cluster.ok(&["start", "web@1", "web@2", "glob.service"]);
    let units = ["web@1.service", "web@2.service", "glob.service"];
    let invocations = || -> Vec<_> { units.iter().map(|unit| cluster.invocations(unit)).collect() };
    let before = invocations();
    let host = cluster.host("h1");
    for damage in [
        "head -c 40 manifest.json > half; mv half manifest.json",
        "head -c 300000 /dev/urandom > manifest.json; head -c 3000 /dev/urandom > lease",
        "rm manifest.json; mkfifo manifest.json units/pipe.service; mkdir units/dir.service; \
         ln -s /dev/zero units/zero.service; touch units/$(printf '\\377').service",
    ] {
        host.sh(&format!("systemctl kill -s KILL fleet; cd /run/fleet; {damage}")).unwrap();
        eventually(DEADLINE, "fleetd is back", || Ok(host.sh("systemctl is-active fleet").is_ok())).unwrap();
        // With its lease unknown, the host takes a new one, and its states come anew.
        eventually(DEADLINE, "three units are active", || {
            Ok(cluster.rows()?.iter().filter(|row| row.active == "active").count() == 3)
        })
        .unwrap();
        cluster.ok(&["stop", "web@2"]);
        cluster.ok(&["start", "web@2"]);
        assert_eq!(invocations()[0], before[0], "{damage}");
        assert_eq!(invocations()[2], before[2], "{damage}");
    }
    cluster.ok(&["destroy", "web@1", "web@2"]);
    assert_eq!(host.sh("pgrep -fc '^/bin/sleep 1000' || true").unwrap(), "0\n");
}
