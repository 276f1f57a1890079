//! Units of every type that a cluster can run: put, found active, destroyed without a trace.

use fleet_lab::{Host, eventually};
use fleet_tests::{Cluster, DEADLINE, http::Connection};
use serde_json::{Value, json};

/// A unit, its contents as section, option and value, and the sub state that says that it is up.
struct Kind {
    name: &'static str,
    options: &'static [(&'static str, &'static str, &'static str)],
    sub: &'static str,
    /// Whether `fleetctl` takes it for what it is, rather than appending `.service`.
    named: bool,
    /// The unit that it starts, which has to be there.
    partner: Option<&'static str>,
}

const KINDS: [Kind; 8] = [
    Kind {
        name: "kind.service",
        options: &[("Service", "ExecStart", "/bin/sleep 10001")],
        sub: "running",
        named: true,
        partner: None,
    },
    Kind {
        name: "kind.socket",
        options: &[("Socket", "ListenStream", "/run/kind.sock"), ("Socket", "Accept", "no")],
        sub: "listening",
        named: true,
        partner: Some("kind.service"),
    },
    Kind {
        name: "kind.timer",
        options: &[("Timer", "OnActiveSec", "1h"), ("Timer", "Unit", "kind.service")],
        sub: "waiting",
        named: true,
        partner: Some("kind.service"),
    },
    Kind {
        name: "kind.path",
        options: &[("Path", "PathExists", "/run/no-such-file"), ("Path", "Unit", "kind.service")],
        sub: "waiting",
        named: true,
        partner: Some("kind.service"),
    },
    Kind {
        name: "mnt-kind.mount",
        options: &[("Mount", "What", "tmpfs"), ("Mount", "Where", "/mnt/kind"), ("Mount", "Type", "tmpfs")],
        sub: "mounted",
        named: true,
        partner: None,
    },
    Kind {
        name: "mnt-kind.automount",
        options: &[("Automount", "Where", "/mnt/kind")],
        sub: "waiting",
        named: true,
        partner: Some("mnt-kind.mount"),
    },
    Kind {
        name: "kind.target",
        options: &[("Unit", "Description", "A kind")],
        sub: "active",
        named: false,
        partner: None,
    },
    Kind { name: "kind.slice", options: &[("Slice", "CPUWeight", "50")], sub: "active", named: false, partner: None },
];

/// Starts and destroys each of them, by `fleetctl` where it can name them and by the API alone where it cannot.
pub fn check(cluster: &Cluster) {
    let host = cluster.host("h1");
    // What automounts need and a container lacks; systemd looks for it once in its life.
    host.sh("test -e /dev/autofs || mknod /dev/autofs c 10 235; systemctl daemon-reexec").unwrap();
    let mut connection = Connection::open(&host).unwrap();
    for kind in &KINDS {
        let partner = KINDS.iter().find(|other| kind.partner == Some(other.name));
        if let Some(partner) = partner {
            put(&mut connection, partner, "loaded");
            until(&mut connection, partner.name, "inactive", "dead");
        }
        lives(cluster, &host, &mut connection, kind);
        if let Some(partner) = partner {
            destroy(cluster, &host, &mut connection, partner);
        }
    }
    assert_eq!(cluster.ok(&["list-unit-files", "--no-legend"]), "");
}

fn lives(cluster: &Cluster, host: &Host, connection: &mut Connection, kind: &Kind) {
    put(connection, kind, "inactive");
    if kind.named {
        let started = cluster.ok(&["start", kind.name]);
        assert!(started.contains(&format!("Unit {} launched on ", kind.name)), "{started}");
    } else {
        put(connection, kind, "launched");
    }
    until(connection, kind.name, "active", kind.sub);
    assert_eq!(host.sh(&format!("systemctl is-active {}", kind.name)).unwrap(), "active\n");
    destroy(cluster, host, connection, kind);
}

fn destroy(cluster: &Cluster, host: &Host, connection: &mut Connection, kind: &Kind) {
    if kind.named {
        assert_eq!(cluster.ok(&["destroy", kind.name]), format!("Destroyed {}\n", kind.name));
    } else {
        let answer = connection.request("DELETE", &format!("/fleet/v1/units/{}", kind.name), "").unwrap();
        assert_eq!(answer.status, 204, "{answer:?}");
    }
    let traces = format!(
        "systemctl list-units --all --plain --no-legend {name}; systemctl list-unit-files --no-legend {name}; \
         ls -d /run/fleet/units/{name} /run/systemd/system/{name} 2>/dev/null; true",
        name = kind.name
    );
    fleet_lab::eventually_eq(DEADLINE, &format!("no trace of {}", kind.name), &String::new(), || host.sh(&traces))
        .unwrap();
}

fn put(connection: &mut Connection, kind: &Kind, desired: &str) {
    let options: Vec<Value> = kind
        .options
        .iter()
        .map(|(section, name, value)| json!({"section": section, "name": name, "value": value}))
        .collect();
    let body = json!({"name": kind.name, "desiredState": desired, "options": options}).to_string();
    let answer = connection.request("PUT", &format!("/fleet/v1/units/{}", kind.name), &body).unwrap();
    assert!([201, 204].contains(&answer.status), "{answer:?}");
}

fn until(connection: &mut Connection, name: &str, active: &str, sub: &str) {
    eventually(DEADLINE, &format!("{name} is {active} ({sub})"), || {
        let answer = connection.request("GET", &format!("/fleet/v1/state/{name}"), "")?;
        let state: Value = serde_json::from_str(&answer.body)?;
        let is = |member: &str, word: &str| state[member] == word;
        Ok(if is("systemdActiveState", active) && is("systemdSubState", sub) && is("systemdLoadState", "loaded") {
            fleet_lab::Seen::Done(())
        } else {
            fleet_lab::Seen::NotYet(answer.body)
        })
    })
    .unwrap();
}
