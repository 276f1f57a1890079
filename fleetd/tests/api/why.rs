//! `GET /units/NAME/why`

use std::time::Duration;

use fleet_api::{MachineVerdict, Why};
use fleet_core::model::{Key, MachineId, Placement, Record};
use serde_json::json;
use tokio::time::sleep;

use super::{Server, simulate, unit};

const MACHINE: &str = "d097a72e4aef45bf815b90988acdbf13";

impl Server {
    async fn why(&mut self, name: &str) -> Why {
        // Until it has heard of all that others have written.
        sleep(Duration::from_secs(1)).await;
        let (status, body) = self.get(&format!("/fleet/v1/units/{name}/why")).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).expect("an explanation")
    }

    fn schedule(&self, name: &str) {
        let record = self.record(name).expect("it is there");
        self.write(&Key::Sched(machine(), unit(name)), Placement::of(&record).expect("it is wanted").encode());
    }
}

fn machine() -> MachineId {
    MachineId::new(MACHINE).expect("an ID")
}

#[test]
fn what_only_an_engine_can_decide_is_not_told_as_decided() {
    simulate(async {
        let mut server = Server::new();
        let entry =
            json!({ "v": 1, "address": "", "hostname": "", "version": "", "boot_id": "", "cpus": 1, "memory": 1 });
        server.write(&Key::Machine(machine()), entry.to_string().into_bytes());
        let file = json!([{ "section": "Service", "name": "ExecStart", "value": "/bin/a" }]);
        let made = server.change(json!([{ "name": "a.service", "desiredState": "launched", "options": file }])).await;
        assert_eq!(made, [(201, String::new())]);

        let why = server.why("a.service").await;
        let expected = "not placed yet: the engine is to decide; no engine leads, so nothing is decided";
        assert_eq!((&*why.summary, &*why.machine_id), (expected, ""));
        let fits =
            MachineVerdict { id: MACHINE.into(), fits: true, reason: "fits (0 units)".into(), ..Default::default() };
        assert_eq!(why.machines, [fits]);

        server.write(&Key::Leader, b"{}".to_vec());
        assert_eq!(server.why("a.service").await.summary, "not placed yet: the engine is to decide");

        server.schedule("a.service");
        let why = server.why("a.service").await;
        assert_eq!((&*why.summary, &*why.machine_id), ("scheduled to d097a72e", MACHINE));

        server.change(json!([{ "name": "a.service", "desiredState": "inactive" }])).await;
        let why = server.why("a.service").await;
        assert_eq!((&*why.summary, &*why.machine_id), ("not wanted (inactive)", MACHINE));
    });
}

#[test]
fn what_a_file_cannot_mean_is_repeated() {
    simulate(async {
        let mut server = Server::new();
        let file = json!([
            { "section": "Service", "name": "ExecStart", "value": "/bin/a" },
            { "section": "X-fleet", "name": "Global", "value": "true" },
        ]);
        let made = server.change(json!([{ "name": "a.service", "options": file }])).await;
        assert_eq!(made, [(201, String::new())]);
        let warnings = server.why("a.service").await.warnings;
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert_eq!((warning.line, &*warning.hint), (4, "did you mean [X-Fleet]?"));
        assert!(warning.message.contains("[X-fleet]"), "{warning:?}");
    });
}
