//! The HTTP API as programs see it, and etcd as those see it that watch from outside.

use fleet_lab::{Lab, eventually};
use fleet_tests::{Cluster, DEADLINE};
use serde_json::{Value, json};

const JSON: [&str; 2] = ["-H", "Content-Type: application/json"];

fn error(code: u16, message: &str) -> Value {
    json!({"error": {"code": code, "message": message}})
}

/// An error as CoreOS fleet's clients know it: what was added is a reason.
fn known(answer: &str) -> Value {
    let mut answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let reason = answer["error"].as_object_mut().and_then(|error| error.remove("reason"));
    assert!(reason.is_some_and(|reason| reason.is_string()), "{answer}");
    answer
}

/// Puts a unit.
fn put(cluster: &Cluster, name: &str, body: &str) -> (u16, String) {
    cluster.request(&[&["-X", "PUT", "-d", body][..], &JSON].concat(), &format!("/fleet/v1/units/{name}"))
}

#[test]
fn units_are_put_read_and_deleted_as_clients_of_version_one_expect() {
    let cluster = Cluster::new(1);
    let options = r#"[{"section":"Unit","name":"Description","value":"Hello 4"},{"section":"Service","name":"ExecStart","value":"/bin/sleep 10003"}]"#;
    let body = format!(r#"{{"name":"hello.service","desiredState":"launched","options":{options}}}"#);
    assert_eq!(put(&cluster, "hello.service", &body), (201, String::new()));
    assert_eq!(put(&cluster, "hello.service", &body), (204, String::new()), "the same again");
    let id = cluster.host("h1").machine_id().to_owned();
    eventually(DEADLINE, "the unit is active", || {
        let (_, state) = cluster.request(&[], "/fleet/v1/state/hello.service");
        Ok(serde_json::from_str::<Value>(&state)?["systemdActiveState"] == "active")
    })
    .unwrap();
    let (status, unit) = cluster.request(&[], "/fleet/v1/units/hello.service?alt=json");
    let unit: Value = serde_json::from_str(&unit).unwrap();
    let options: Value = serde_json::from_str(options).unwrap();
    let expected = json!({"currentState": "launched", "desiredState": "launched", "machineID": id, "name": "hello.service",
        "options": options});
    assert_eq!((status, unit), (200, expected));
    let (_, states) = cluster.request(&[], &format!("/v1-alpha/state?machineID={id}&unitName=hello.service"));
    let states: Value = serde_json::from_str(&states).unwrap();
    assert_eq!(states["states"][0]["systemdSubState"], "running", "{states}");
    assert_eq!(cluster.request(&[], "/fleet/v1/state?unitName=other.service"), (200, "{}".into()));
    let delete = |name: &str| cluster.request(&["-X", "DELETE"], &format!("/fleet/v1/units/{name}"));
    assert_eq!(delete("hello.service"), (204, String::new()));
    assert_eq!(delete("hello.service").0, 404);
    assert_eq!(cluster.request(&[], "/fleet/v1/units"), (200, "{}".into()));
    let (_, machines) = cluster.request(&[], "/fleet/v1/machines");
    let machines: Value = serde_json::from_str(&machines).unwrap();
    assert_eq!(machines["machines"][0]["primaryIP"], cluster.host("h1").address().to_string());
    let head = cluster.host("h1").sh("curl -si --unix-socket /run/fleet.sock http://x/fleet/v1/discovery").unwrap();
    assert!(head.to_lowercase().contains("server: fleetd/") && head.contains("\"id\":\"fleet:v1\""), "{head}");
    assert!(cluster.request(&[], "/metrics").1.contains("fleet_engine_leader 1"));
}

#[test]
fn faulty_requests_get_the_answers_that_clients_know() {
    let cluster = Cluster::new(1);
    let unit = |name: &str, rest: &str| {
        format!(
            r#"{{"name":"{name}","options":[{{"section":"Service","name":"ExecStart","value":"/bin/true"}}{rest}]}}"#
        )
    };
    let x_fleet = |name: &str, option: &str, value: &str| {
        unit(
            name,
            &format!(
                r#",{{"section":"X-Fleet","name":"Global","value":"true"}},{{"section":"X-Fleet","name":"{option}","value":"{value}"}}"#
            ),
        )
    };
    assert_eq!(put(&cluster, "t@.service", &unit("t@.service", "")).0, 201);
    for (name, body, code, message) in [
        (
            "x.service",
            "{\"name\":\"y.service\"}".to_owned(),
            400,
            "name in URL \"x.service\" differs from unit name in request body \"y.service\"",
        ),
        ("x.bogus", "{}".into(), 400, "invalid unit type: \"bogus\""),
        ("x!.service", "{}".into(), 400, "invalid character '!' in unit name"),
        ("x.service", "{\"desiredState\":\"launched\"}".into(), 409, "unit does not exist and options field empty"),
        ("t@.service", "{}".into(), 409, "must provide DesiredState to update existing unit"),
        ("t@.service", "{\"desiredState\":\"launched\"}".into(), 400, "cannot activate template \"t@.service\""),
        (
            "x.service",
            "{\"desiredState\":\"running\"}".into(),
            400,
            "invalid desiredState \"running\": expect inactive, loaded or launched",
        ),
        ("x.service", x_fleet("x.service", "MachineID", "a"), 400, "MachineID cannot be used with Global"),
        ("x.service", x_fleet("x.service", "MachineOf", "a.service"), 400, "Global cannot be used with Peers"),
    ] {
        let (status, answer) = put(&cluster, name, &body);
        assert_eq!((status, known(&answer)), (code, error(code, message)), "{name} {body}");
    }
    let (status, _) = put(&cluster, "x.service", "no json");
    assert_eq!(status, 400);
    let form = cluster.request(&["-X", "PUT", "-d", "{}"], "/fleet/v1/units/x.service");
    assert_eq!(form.0, 415);
    for (method, path, code, message) in [
        ("GET", "/fleet/v1/units/nosuch.service", 404, "unit does not exist"),
        ("GET", "/fleet/v1/state/nosuch.service", 404, "unit state does not exist"),
        ("GET", "/fleet/v1/units/", 404, ""),
        ("GET", "/fleet/v1/units/a/b", 404, ""),
        ("GET", "/fleet/v1/machines/x", 404, ""),
        ("GET", "/nosuch", 404, ""),
        ("GET", "/", 405, ""),
        ("GET", "/fleet/v1", 405, ""),
        ("POST", "/fleet/v1/units", 405, "only GET supported against this resource"),
        ("DELETE", "/fleet/v1/state", 405, "only GET supported against this resource"),
        ("POST", "/fleet/v1/units/a.service", 405, "only GET, PUT and DELETE supported against this resource"),
        ("POST", "/fleet/v1/machines", 405, "only GET and PATCH supported against this resource"),
        ("POST", "/fleet/v1/discovery", 400, "only HTTP GET supported against this resource"),
        ("GET", "/fleet/v1/units?nextPageToken=ZAAAAA==", 400, "token page must be greater than zero"),
    ] {
        let (status, answer) = cluster.request(&["-X", method], path);
        assert_eq!((status, known(&answer)), (code, error(code, message)), "{method} {path}");
    }
    assert_eq!(cluster.ok(&["list-unit-files", "--no-legend"]).lines().count(), 1, "nothing of it was stored");
}

#[test]
fn bad_values_in_etcd_are_passed_over_and_stop_nobody() {
    let cluster = Cluster::new(1);
    for (key, value) in [
        ("unit/broken.service", "no json"),
        ("unit/newer.service", "{\"v\":2,\"hash\":\"later\"}"),
        (
            "unit/lost.service",
            "{\"v\":1,\"hash\":\"da39a3ee5e6b4b0d3255bfef95601890afd80709\",\"desired\":\"launched\"}",
        ),
        ("unit/no name", "{}"),
        ("global/broken.service", "[]"),
        ("metadata/nonsense", "{}"),
        ("elsewhere", "{}"),
    ] {
        cluster.lab.etcdctl(&["put", &format!("/fleet/{key}"), value]).unwrap();
    }
    cluster.write(&[("good.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    cluster.ok(&["start", "good.service"]);
    let list = cluster.ok(&["list-unit-files", "--no-legend"]);
    assert!(list.contains("good.service") && !list.contains("broken"), "{list}");
    cluster.ok(&["destroy", "lost.service"]);
    cluster.write(&[("broken.service", "[Service]\nExecStart=/bin/sleep 10002\n")]);
    cluster.ok(&["start", "broken.service"]);
    cluster.active(&[("broken.service", "h1"), ("good.service", "h1")]);
    // A template that is wanted everywhere runs nowhere, and is in nobody's way.
    let template = r#"{"desiredState":"launched","options":[{"section":"Service","name":"ExecStart","value":"/bin/true"},{"section":"X-Fleet","name":"Global","value":"true"}]}"#;
    assert_eq!(put(&cluster, "everywhere@.service", template).0, 201);
    // What a newer fleet wrote of a unit that runs leaves it as it is, and holds up no other.
    let before = cluster.invocations("good.service");
    let newer = "{\"v\":2,\"later\":true}";
    let sched = format!("/fleet/sched/{}/broken.service", cluster.host("h1").machine_id());
    for key in ["/fleet/unit/good.service", &sched] {
        cluster.lab.etcdctl(&["put", key, newer]).unwrap();
    }
    cluster.write(&[("other.service", "[Service]\nExecStart=/bin/sleep 10003\n")]);
    cluster.ok(&["start", "other.service"]);
    cluster.host("h1").sh("systemctl restart fleet").unwrap();
    cluster.ok(&["destroy", "other.service"]);
    cluster.write(&[("more.service", "[Service]\nExecStart=/bin/sleep 10003\n")]);
    cluster.ok(&["start", "more.service"]);
    cluster.host("h1").sh("systemctl is-active broken.service").expect("it runs on");
    assert_eq!(cluster.invocations("good.service"), before);
}

#[test]
fn lists_are_read_page_by_page() {
    let cluster = Cluster::with(Lab::builder().hosts(1).config("token_limit=3"));
    cluster.write(&[("n@.service", "[Service]\nExecStart=/bin/true\n")]);
    let names: Vec<String> = (1..7).map(|n| format!("n@{n}")).collect();
    cluster.ok(&[&["submit"], &names.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    let (_, first) = cluster.request(&[], "/fleet/v1/units");
    let first: Value = serde_json::from_str(&first).unwrap();
    assert_eq!((first["units"].as_array().unwrap().len(), &first["nextPageToken"]), (3, &json!("AwACAA==")));
    assert_eq!(cluster.ok(&["list-unit-files", "--no-legend"]).lines().count(), 6, "fleetctl follows the pages");
}

#[test]
fn api_listens_where_it_is_told_and_on_sockets_from_systemd() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    assert_eq!(host.sh("stat -c '%a %G' /run/fleet.sock").unwrap(), "660 fleet\n");
    // One more socket from systemd, then none at all.
    host.write("/etc/systemd/system/fleet.socket.d/tcp.conf", "[Socket]\nListenStream=0.0.0.0:49153\n").unwrap();
    host.sh("systemctl daemon-reload; systemctl stop fleet; systemctl start fleet.socket fleet.service").unwrap();
    let endpoint = format!("--endpoint=http://{}:49153", host.address());
    eventually(DEADLINE, "fleetd answers on the port", || {
        Ok(cluster.fleetctl(&[&endpoint, "list-machines", "--no-legend"])?.stdout.lines().count() == 1)
    })
    .unwrap();
    // What is configured is opened beside them, and the socket that systemd has already is not opened twice.
    let listen = r#"listen=["unix:///var/run/fleet.sock", "unix:///run/own.sock", "tcp://127.0.0.1:49200"]"#;
    host.sh(&format!("echo '{listen}' >> /etc/fleet/fleet.conf; systemctl restart fleet")).unwrap();
    let sockets = ["unix:///run/fleet.sock", "unix:///run/own.sock", "http://127.0.0.1:49200"];
    for endpoint in sockets.map(|socket| format!("--endpoint={socket}")) {
        eventually(DEADLINE, "fleetd answers", || Ok(cluster.fleetctl(&[&endpoint, "list-machines"])?.code == 0))
            .unwrap();
    }
    let second = host.sh("fleetd 2>&1; echo $?").unwrap();
    assert!(second.contains("error: /var/run/fleet.sock is in use") && second.ends_with("1\n"), "{second}");
}

#[test]
fn faults_of_the_client_side_are_one_line_with_the_mend() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    host.sh("useradd --create-home --shell /bin/sh ordinary 2>/dev/null || true").unwrap();
    let denied = host.sh("su ordinary -c 'fleetctl list-machines' 2>&1; echo $?").unwrap();
    assert!(denied.contains("/run/fleet.sock") || denied.contains("fleet.sock"), "{denied}");
    assert!(denied.contains("group") && denied.ends_with("1\n"), "{denied}");
    let absent = cluster.fleetctl(&["--endpoint=unix:///nope", "list-units"]).unwrap();
    assert_eq!(absent.code, 1);
    assert!(absent.stderr.starts_with("Error retrieving list of units from repository:"), "{absent:?}");
    assert!(absent.stderr.contains("/nope") && absent.stderr.contains("systemctl status fleet"), "{absent:?}");
    cluster.write(&[
        ("e1.service", "[Service\nExecStart=/bin/true\n"),
        ("e2.service", "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetdata=a=b\n"),
    ]);
    let parse = cluster.fleetctl(&["submit", "e1.service"]).unwrap();
    assert_eq!(parse.code, 1);
    assert!(
        parse.stderr.contains("failed getting Unit(e1.service) from file: unable to find end of section"),
        "{parse:?}"
    );
    assert!(parse.stderr.contains("1 | [Service\n"), "{parse:?}");
    let typo = cluster.fleetctl(&["submit", "e2.service"]).unwrap();
    assert_eq!(typo.code, 0);
    assert!(typo.stderr.contains("did you mean \"MachineMetadata\"?"), "{typo:?}");
}

#[test]
fn outside_watcher_sees_a_unit_come_and_go() {
    let cluster = Cluster::new(1);
    let host = cluster.host("h1");
    let endpoint = cluster.lab.etcd_endpoints().join(",");
    let watch =
        format!("nohup timeout 60 etcdctl --endpoints {endpoint} watch --prefix /fleet/ > /run/watched 2>/dev/null &");
    host.sh(&format!("export ETCDCTL_API=3; {watch} sleep 1")).unwrap();
    cluster.write(&[("hello.service", "[Service]\nExecStart=/bin/sleep 10001\n")]);
    cluster.ok(&["start", "hello.service"]);
    cluster.ok(&["destroy", "hello.service"]);
    let id = host.machine_id();
    let seen = eventually(DEADLINE, "the watcher saw it all", || {
        let seen = host.sh("cat /run/watched")?;
        Ok((seen.matches(&format!("/fleet/state/{id}/hello.service")).count() >= 2
            && seen.contains("DELETE\n/fleet/unit/hello.service"))
        .then_some(seen))
    })
    .unwrap();
    for part in [
        "PUT\n/fleet/file/",
        "PUT\n/fleet/unit/hello.service\n{\"v\":1,\"hash\":",
        "\"desired\":\"launched\"",
        &format!("PUT\n/fleet/sched/{id}/hello.service"),
        "\"active\":\"active\",\"sub\":\"running\",\"current\":\"launched\"",
    ] {
        assert!(seen.contains(part), "{part} in {seen}");
    }
}
