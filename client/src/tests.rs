//! The client against a stand-in for fleetd.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fleet_api::Reason;

use super::*;
use crate::fake::{Answer, Fake};

fn transport(fake: &Fake) -> Transport {
    Transport::new(Endpoint::parse(&fake.endpoint).unwrap(), Ssh::default())
}

fn client(fake: &Fake) -> Arc<Client> {
    Arc::new(Client::new(transport(fake), Duration::from_secs(3), "test/1"))
}

fn whole(status: u16, body: &str) -> Answer {
    Answer::Whole(status, body.into())
}

#[tokio::test]
async fn pages_are_followed_to_the_last() {
    let fake = Fake::new(|asked| match &*asked.line {
        "GET /units" => whole(200, r#"{"units":[{"name":"a.service"}],"nextPageToken":"ZAACAA=="}"#),
        "GET /units?nextPageToken=ZAACAA%3D%3D" => {
            whole(200, r#"{"units":[{"name":"b.service"}],"nextPageToken":"ZAADAA=="}"#)
        }
        "GET /units?nextPageToken=ZAADAA%3D%3D" => whole(200, "{}"),
        other => panic!("{other}"),
    });
    let units = client(&fake).units().await.unwrap();
    assert_eq!(units.iter().map(|unit| &*unit.name).collect::<Vec<_>>(), ["a.service", "b.service"]);
}

#[tokio::test]
async fn errors_carry_the_message_and_unknown_units_are_none() {
    let fake = Fake::new(|asked| match &*asked.line {
        "GET /units/a.service" => whole(404, r#"{"error":{"code":404,"message":"unit does not exist"}}"#),
        r"GET /units/dev-a%5Cx2d.device" => whole(200, r#"{"name":"dev-a\\x2d.device"}"#),
        "GET /units/a.service/why" => whole(404, r#"{"error":{"code":404,"message":""}}"#),
        _ => whole(503, r#"{"error":{"code":503,"message":"fleet server unable to communicate with etcd"}}"#),
    });
    let client = client(&fake);
    assert_eq!(client.unit("a.service").await.unwrap(), None);
    assert!(client.unit(r"dev-a\x2d.device").await.unwrap().is_some());
    assert!(matches!(client.why("a.service").await, Err(ClientError::Api { code: 404, .. })));
    let error = client.machines().await.unwrap_err();
    assert_eq!(error.to_string(), "Error 503: fleet server unable to communicate with etcd");
}

#[tokio::test]
async fn a_desired_state_is_sent_as_json() {
    let fake = Fake::new(|_| whole(204, ""));
    client(&fake).put("a.service", Vec::new(), "launched").await.unwrap();
    assert_eq!(fake.asked(), [r#"PUT /units/a.service {"desiredState":"launched","name":"a.service"}"#]);
}

#[tokio::test]
async fn an_answer_that_never_comes_is_told_from_a_lost_connection() {
    let fake = Fake::new(|_| Answer::Nothing);
    let error = client(&fake).machines().await.unwrap_err();
    assert!(error.to_string().ends_with("it was closed before an answer came"), "{error}");

    let fake = Fake::new(|_| Answer::Lines(Vec::new()));
    let hasty = Client::new(transport(&fake), Duration::from_millis(50), "test/1");
    assert!(matches!(hasty.machines().await, Err(ClientError::Timeout { .. })));
}

#[tokio::test]
async fn a_change_tells_when_it_was_taken() {
    let fake = Fake::new(|asked| match &*asked.line {
        "PUT /units/old.service" => whole(204, ""),
        _ => Answer::Timed(204, String::new()),
    });
    let client = client(&fake);
    for name in ["new.service", "old.service"] {
        client.put(name, Vec::new(), "launched").await.unwrap();
    }
    let taken = client.taken("new.service").map(|taken| (taken.received, taken.checked));
    assert_eq!((taken, client.taken("old.service").is_none()), (Some((10, 20)), true));
}

#[tokio::test]
async fn a_kept_connection_that_fleetd_closed_is_replaced() {
    let fake = Fake::new(|_| Answer::Last("{}".into()));
    let client = client(&fake);
    for _ in 0..3 {
        assert!(client.machines().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn many_requests_share_few_connections_and_keep_their_order() {
    let fake = Fake::new(|asked| {
        let name = asked.line.rsplit_once('/').unwrap().1;
        Answer::Aged(7, format!(r#"{{"name":"{name}"}}"#))
    });
    let told = Arc::new(AtomicUsize::default());
    let tells = Arc::clone(&told);
    let listener = move |event: Event<'_>| match event {
        Event::Old { seconds } => assert_eq!((seconds, tells.fetch_add(1, Ordering::Relaxed)), ("7", 0)),
        Event::Asks { .. } => {}
    };
    let client = Arc::new(Client::with_events(transport(&fake), Duration::from_secs(3), "test/1", listener));
    let names: Vec<String> = (0..200).map(|i| format!("web@{i}.service")).collect();
    let units = client.each(names.clone(), |client, name| async move { client.unit(&name).await }).await.unwrap();
    let got: Vec<String> = units.into_iter().map(|unit| unit.unwrap().name).collect();
    assert_eq!(got, names);
    assert!(client.pool.idle() <= client.pool.transport.connections());
    assert!(client.was_aged() && told.load(Ordering::Relaxed) == 1);
}

#[tokio::test]
async fn a_watch_is_read_line_by_line_and_an_old_fleetd_has_none() {
    let fake = Fake::new(|asked| match &*asked.line {
        "GET /watch?unit=a.service&unit=b.service" => Answer::BrokenLines(vec![
            r#"{"name":"a.service","exists":true}"#.into(),
            String::new(),
            r#"{"name":"b.service"}"#.into(),
        ]),
        _ => whole(404, r#"{"error":{"code":404,"message":""}}"#),
    });
    let client = client(&fake);
    let mut lines = client.watch(&["a.service".into(), "b.service".into()]).await.unwrap().unwrap();
    let first = lines.next().await.unwrap().unwrap();
    assert_eq!((&*first.name, first.exists), ("a.service", true));
    assert_eq!(lines.next().await.unwrap().unwrap().name, "b.service");
    assert!(!matches!(lines.next().await, Ok(Some(_))));
    assert!(client.watch(&["old.service".into()]).await.unwrap().is_none());
}

#[tokio::test]
async fn a_reason_tells_what_is_too_old_from_what_is_not_there() {
    let fake = Fake::new(|asked| match &*asked.line {
        "GET /version" => whole(404, r#"{"error":{"code":404,"message":"no such path","reason":"no-such-resource"}}"#),
        "GET /units/a.service" => whole(404, r#"{"error":{"code":404,"message":"","reason":"unit-not-found"}}"#),
        "POST /units/a.service/restart" => {
            whole(405, r#"{"error":{"code":405,"message":"only GET, PUT and DELETE supported against this resource"}}"#)
        }
        _ => whole(409, r#"{"error":{"code":409,"message":"try again","reason":"changed-meanwhile"}}"#),
    });
    let client = client(&fake);
    assert_eq!(client.version().await.unwrap(), None);
    assert_eq!(client.unit("a.service").await.unwrap(), None);
    assert!(client.restart("a.service", &Rolling::default()).await.unwrap_err().is_unsupported());
    let error = client.put("a.service", Vec::new(), "launched").await.unwrap_err();
    assert!(matches!(error, ClientError::Api { reason: Some(Reason::ChangedMeanwhile), .. }), "{error:?}");
}
