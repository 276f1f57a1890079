//! `POST /changes`

use fleet_api::UnitPage;
use fleet_core::{
    model::{Desired, Key, Record, UnitRecord},
    unit::UnitHash,
};
use serde_json::{Value, json};

use super::{Server, simulate, unit};

fn submit(name: &str, program: &str, desired: &str) -> Value {
    json!({
        "name": name,
        "desiredState": desired,
        "options": [{ "section": "Service", "name": "ExecStart", "value": program }],
    })
}

fn ok(code: u16) -> (u16, String) {
    (code, String::new())
}

#[test]
fn each_change_has_the_status_that_it_would_have_alone() {
    simulate(async {
        let mut server = Server::new();
        let made = server.change(json!([submit("a.service", "/bin/a", "launched"), submit("b.service", "/bin/a", "")]));
        assert_eq!(made.await, [ok(201), ok(201)], "also with the same contents");
        let made = server.change(json!([
            { "name": "a.service", "desiredState": "loaded" },
            { "name": "b.service", "destroy": true },
            { "name": "c.service", "destroy": true },
            { "name": "d.service", "desiredState": "launched" },
            { "name": "e.service", "desiredState": "sleeping" },
            submit("f@.service", "/bin/f", "launched"),
            submit("not a name", "/bin/g", "launched"),
            { "name": "h.service", "destroy": true, "desiredState": "launched" },
        ]));
        let made = made.await;
        let codes: Vec<u16> = made.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, [204, 204, 404, 409, 400, 201, 400, 400], "{made:?}");
        assert_eq!(made[2].1, "unit does not exist");
        assert_eq!(server.record("a.service").expect("it is there").desired, Desired::Loaded);
        assert_eq!(server.record("b.service"), None);
        let (status, body) = server.post(json!([{ "name": "a.service" }, { "name": "a.service" }])).await;
        assert_eq!(status, 400, "{}", String::from_utf8_lossy(&body));
    });
}

#[test]
fn hundreds_of_units_are_changed_and_then_found_by_name() {
    simulate(async {
        let mut server = Server::new();
        let name = |n: usize| format!("web@{n}.service");
        let units: Vec<Value> = (0..300).map(|n| submit(&name(n), &format!("/bin/{}", n % 7), "launched")).collect();
        assert_eq!(server.change(json!(units)).await, vec![ok(201); 300]);
        assert_eq!(server.change(json!(units)).await, vec![ok(204); 300], "again: nothing changes");
        let before = server.record("web@7.service");
        let query: Vec<String> = [7, 250, 999].iter().map(|n| format!("unit={}", name(*n))).collect();
        let (status, body) = server.get(&format!("/fleet/v1/units?{}", query.join("&"))).await;
        let page: UnitPage = serde_json::from_slice(&body).expect("a page");
        let found: Vec<(&str, usize)> = page.units.iter().map(|unit| (&*unit.name, unit.options.len())).collect();
        assert_eq!((status, found), (200, vec![("web@250.service", 1), ("web@7.service", 1)]));
        let destroyed: Vec<Value> = (0..300).map(|n| json!({ "name": name(n), "destroy": true })).collect();
        assert_eq!(server.change(json!(destroyed)).await, vec![ok(204); 300]);
        server.change(json!([submit("web@7.service", "/bin/0", "launched")])).await;
        let generations =
            [before, server.record("web@7.service")].map(|record| record.expect("it was there").generation);
        assert_ne!(generations[0], generations[1], "one that was destroyed and comes again is another");
    });
}

#[test]
fn one_that_others_change_meanwhile_holds_up_nobody() {
    simulate(async {
        let mut server = Server::new();
        server.change(json!([submit("a.service", "/bin/a", "loaded"), submit("b.service", "/bin/b", "loaded")])).await;
        let other = UnitRecord::new(UnitHash::of("other"), Desired::Inactive, 77);
        // What the server is about to go by does not show this yet.
        server.write(&Key::Unit(unit("a.service")), other.encode());
        let made = server.change(json!([
            { "name": "a.service", "desiredState": "launched" },
            { "name": "b.service", "desiredState": "launched" },
        ]));
        assert_eq!(made.await, [ok(204), ok(204)]);
        let record = server.record("a.service").expect("it is there");
        assert_eq!(record, UnitRecord { desired: Desired::Launched, ..other }, "only what was asked for");
        assert_eq!(server.record("b.service").expect("it is there").desired, Desired::Launched);
    });
}

#[test]
fn values_with_line_breaks_are_stored_as_coreos_fleet_wrote_them() {
    simulate(async {
        let mut server = Server::new();
        // What its client makes of a comment between continuation lines, and of a blank behind a backslash.
        let options = json!([
            { "section": "Service", "name": "ExecStartPre", "value": "/bin/a \\\n  # why" },
            { "section": "Service", "name": "-e B", "value": "c" },
            { "section": "Service", "name": "ExecStart", "value": "/bin/a \\" },
            { "section": "Service", "name": "-e C", "value": "d" },
        ]);
        let text = "[Service]\nExecStartPre=/bin/a \\\n  # why\n-e B=c\nExecStart=/bin/a \\\n-e C=d\n";
        assert_eq!(server.change(json!([{ "name": "a.service", "options": options }])).await, [ok(201)]);
        assert_eq!(server.record("a.service").expect("it is there").hash, UnitHash::of(text));
        let (_, body) = server.get("/fleet/v1/units/a.service").await;
        let shown: Value = serde_json::from_slice(&body).expect("a unit");
        let again = json!([{ "name": "a.service", "options": shown["options"], "desiredState": "inactive" }]);
        assert_eq!(server.change(again).await, [ok(204)], "the same contents: {shown}");
        assert_eq!(server.record("a.service").expect("it is there").hash, UnitHash::of(text));
        let broken = json!([{ "section": "Service", "name": "ExecStart", "value": "/bin/a\nUser=root" }]);
        let refused = server.change(json!([{ "name": "b.service", "options": broken }])).await;
        assert_eq!(refused[0].0, 400, "{refused:?}");
    });
}

#[test]
fn alias_that_systemd_refuses_is_refused() {
    simulate(async {
        let mut server = Server::new();
        let with = |alias: &str| {
            json!([
                { "section": "Service", "name": "ExecStart", "value": "/bin/a" },
                { "section": "Install", "name": "Alias", "value": alias },
            ])
        };
        let made = server.change(json!([
            { "name": "a.service", "options": with("b.timer") },
            { "name": "a@1.service", "options": with("b.service") },
            { "name": "b.service", "options": with("c.service b.service") },
        ]));
        let message = "Alias=b.timer is refused by systemd: an alias of a service unit ends in .service";
        let other = "Alias=b.service is refused by systemd: a@1.service has an \"@\" in its name, so its alias has one";
        assert_eq!(made.await, [(400, message.into()), (400, other.into()), ok(201)]);
    });
}
