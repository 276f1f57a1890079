//! What a newer fleet wrote: members that are not known here stay, values of a newer version are left.

use axum::http::Method;
use fleet_core::model::{MachineId, MetadataEdits, Placement};

use super::*;

const MACHINE: &str = "d097a72e4aef45bf815b90988acdbf13";
/// What a newer fleet may have added to any value.
const LATER: &str = r#","later":{"a":[1.50]}}"#;

fn later(value: &[u8]) -> Vec<u8> {
    [&value[..value.len() - 1], LATER.as_bytes()].concat()
}

impl Server {
    async fn send(&mut self, method: Method, path: &str, body: Value) -> (u16, String) {
        let request = Request::builder().method(method).uri(format!("/fleet/v1/{path}"));
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let (status, body) = self.ask(request.body(Body::from(body.to_string())).expect("a request")).await;
        (status, String::from_utf8_lossy(&body).into_owned())
    }

    fn value(&self, key: &Key) -> String {
        let stored = self.store.entries(&self.keys.one(key)).pop().expect("it is there");
        String::from_utf8(stored.value).expect("text")
    }
}

#[test]
fn members_that_are_not_known_survive_every_verb() {
    simulate(async {
        let mut server = Server::new();
        let (unit_key, global_key) = (Key::Unit(unit("a.service")), Key::Global(unit("g.service")));
        let options = |path: &str| json!([{ "section": "Service", "name": "ExecStart", "value": path }]);
        let global = json!([
            { "section": "Service", "name": "ExecStart", "value": "/bin/g" },
            { "section": "X-Fleet", "name": "Global", "value": "true" },
        ]);
        let made = server.change(json!([
            { "name": "a.service", "desiredState": "launched", "options": options("/bin/a") },
            { "name": "g.service", "desiredState": "launched", "options": global },
        ]));
        assert_eq!(made.await, [(201, String::new()), (201, String::new())]);
        for key in [&unit_key, &global_key] {
            server.write(key, later(server.value(key).as_bytes()));
        }
        let set = |desired: &str| json!({ "name": "a.service", "desiredState": desired });
        for (method, path, body) in [
            (Method::PUT, "units/a.service", set("inactive")),
            (Method::PUT, "units/a.service", set("loaded")),
            (Method::PUT, "units/a.service", set("launched")),
            (Method::POST, "units/a.service/restart", json!({})),
            (Method::PUT, "units/a.service", json!({ "desiredState": "launched", "options": options("/bin/b") })),
            (Method::PUT, "units/g.service", json!({ "name": "g.service", "desiredState": "inactive" })),
            (Method::PUT, "units/g.service", json!({ "name": "g.service", "desiredState": "launched" })),
            (Method::POST, "units/g.service/restart", json!({})),
        ] {
            let key = if path.contains("g.service") { &global_key } else { &unit_key };
            let before = server.value(key);
            let (status, answer) = server.send(method.clone(), path, body.clone()).await;
            assert!(status < 300, "{method} {path} {body}: {status} {answer}");
            let after = server.value(key);
            assert!(after != before && after.ends_with(LATER), "{method} {path} {body}: {before} became {after}");
        }
        let changes = json!([{ "name": "a.service", "desiredState": "loaded" }]);
        server.change(changes).await;
        assert!(server.value(&unit_key).ends_with(LATER));
    });
}

#[test]
fn members_that_are_not_known_survive_what_is_said_of_machines() {
    simulate(async {
        let mut server = Server::new();
        let id = MachineId::new(MACHINE).expect("an ID");
        let (alive, said) = (Key::Machine(id.clone()), Key::Metadata(id.clone()));
        let entry = json!({
            "v": 1, "address": "", "hostname": "", "version": "", "boot_id": "", "cpus": 1, "memory": 1,
        });
        server.write(&alive, entry.to_string().into_bytes());
        server.write(&said, later(&MetadataEdits::default().encode()));
        let patch = json!([{ "op": "add", "path": format!("/{MACHINE}/metadata/disk"), "value": "ssd" }]);
        for (method, path) in [
            (Method::PATCH, "machines".to_owned()),
            (Method::PUT, format!("machines/{MACHINE}/drain")),
            (Method::DELETE, format!("machines/{MACHINE}/drain")),
            (Method::PUT, format!("machines/{MACHINE}/evict")),
        ] {
            if path.ends_with("evict") {
                let record =
                    UnitRecord::new(fleet_core::unit::UnitHash::of(""), fleet_core::model::Desired::Launched, 0);
                let placement = Placement::of(&record).expect("it is wanted");
                server.write(&Key::Sched(id.clone(), unit("a.service")), placement.encode());
                let gone = vec![Write::Delete { key: server.keys.format(&alive) }];
                server.store.write("another", &Transaction { guards: Vec::new(), writes: gone }).expect("a deletion");
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
            let before = server.value(&said);
            let (status, answer) = server.send(method.clone(), &path, patch.clone()).await;
            assert!(status < 300, "{method} {path}: {status} {answer}");
            let after = server.value(&said);
            assert!(after != before && after.ends_with(LATER), "{method} {path}: {before} became {after}");
        }
    });
}

#[test]
fn values_of_a_newer_version_are_left_and_named() {
    simulate(async {
        let mut server = Server::new();
        let id = MachineId::new(MACHINE).expect("an ID");
        let newer = r#"{"v":2,"all":"is different"}"#;
        let (unit_key, said) = (Key::Unit(unit("a.service")), Key::Metadata(id.clone()));
        for key in [&unit_key, &said, &Key::Machine(id)] {
            server.write(key, newer.into());
        }
        let file = json!([{ "section": "Service", "name": "ExecStart", "value": "/bin/a" }]);
        let patch = json!([{ "op": "add", "path": format!("/{MACHINE}/metadata/disk"), "value": "ssd" }]);
        for (method, path, body, key) in [
            (
                Method::PUT,
                "units/a.service".to_owned(),
                json!({ "desiredState": "launched", "options": file }),
                "unit/a.service",
            ),
            (Method::PUT, "units/a.service".into(), json!({ "desiredState": "inactive" }), "unit/a.service"),
            (Method::DELETE, "units/a.service".into(), json!({}), "unit/a.service"),
            (Method::PATCH, "machines".into(), patch, "metadata/"),
            (Method::PUT, format!("machines/{MACHINE}/drain"), json!({}), "metadata/"),
        ] {
            let (status, answer) = server.send(method.clone(), &path, body).await;
            assert_eq!(status, 409, "{method} {path}: {answer}");
            assert!(answer.contains(key) && answer.contains("upgrade"), "{method} {path}: {answer}");
        }
        assert_eq!([server.value(&unit_key), server.value(&said)], [newer, newer], "nothing is changed");
        server.write(&unit_key, b"no JSON of ours".to_vec());
        let body = json!({ "desiredState": "launched", "options": file });
        assert_eq!(server.send(Method::PUT, "units/a.service", body).await.0, 201, "what is no value is overwritten");
    });
}
