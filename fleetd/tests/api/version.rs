//! `GET /version`

use std::time::Duration;

use fleet_api::Version;
use fleet_core::model::{Features, Key, MachineId, features::GLOBAL_PLACEMENTS};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Server, simulate};

#[test]
fn version_names_what_the_daemon_says_of_itself_in_etcd() {
    simulate(async {
        let (status, body) = Server::new().get("/fleet/v1/version").await;
        assert_eq!(status, 200);
        let answer: Version = serde_json::from_slice(&body).expect("a version");
        assert_eq!(answer.version, env!("CARGO_PKG_VERSION"));
        assert!(!answer.features.is_empty());
        assert_eq!(
            serde_json::to_value(&answer.features).expect("words"),
            serde_json::to_value(Features::of_this_daemon()).expect("words")
        );
    });
}

#[test]
fn version_names_the_machines_for_which_the_cluster_waits() {
    simulate(async {
        let mut server = Server::new();
        let id = |n: u32| MachineId::new(&format!("{n:032x}")).expect("32 digits");
        let machine = |name: &str, features: &[&str]| {
            json!({"v": 1, "address": "", "hostname": name, "version": "0.1.0", "boot_id": "", "cpus": 1, "memory": 1,
                   "features": features})
            .to_string()
            .into_bytes()
        };
        server.write(&Key::Machine(id(1)), machine("h1", &[GLOBAL_PLACEMENTS]));
        server.write(&Key::Machine(id(2)), machine("h2", &[]));
        let version = async |server: &mut Server| -> Value {
            // Of the clock that is simulated: the view follows the store.
            sleep(Duration::from_secs(1)).await;
            serde_json::from_slice(&server.get("/fleet/v1/version").await.1).expect("an answer")
        };
        let waiting = json!({ GLOBAL_PLACEMENTS: [{"id": id(2), "hostname": "h2", "version": "0.1.0"}] });
        let answer = version(&mut server).await;
        assert_eq!((&answer["waitsFor"], answer.get("inUse")), (&waiting, None));
        server.write(&Key::Machine(id(2)), machine("h2", &[GLOBAL_PLACEMENTS]));
        let answer = version(&mut server).await;
        assert_eq!((answer.get("waitsFor"), answer.get("inUse")), (None, None), "it waits for no machine");
        let in_use = json!({"v": 1, "features": [GLOBAL_PLACEMENTS, "later"]});
        server.write(&Key::InUse, in_use.to_string().into_bytes());
        // One that comes later and does not understand it changes nothing any more.
        server.write(&Key::Machine(id(2)), machine("h2", &[]));
        let answer = version(&mut server).await;
        assert_eq!((answer.get("waitsFor"), &answer["inUse"]), (None, &json!([GLOBAL_PLACEMENTS, "later"])));
    });
}
