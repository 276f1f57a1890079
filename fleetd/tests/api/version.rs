//! `GET /version`

use fleet_api::Version;
use fleet_core::model::Features;

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
