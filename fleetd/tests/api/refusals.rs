//! What is refused before a handler sees it, or because of its form: told as everything else is.

use axum::http::Method;

use super::*;

const JSON: &str = "application/json";

async fn refused(server: &mut Server, method: Method, path: &str, body: Body) -> (u16, String) {
    let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, JSON).body(body);
    let (status, body) = server.ask(request.expect("a request")).await;
    let answer: Value = serde_json::from_slice(&body).expect("an answer in JSON");
    if status < 400 {
        return (status, answer.to_string());
    }
    assert_eq!(answer["error"]["code"], status, "{answer}");
    (status, answer["error"]["message"].as_str().expect("a message").to_owned())
}

#[test]
fn of_a_parameter_given_twice_the_first_counts_but_of_a_page_token() {
    simulate(async {
        let mut server = Server::new();
        server
            .change(json!([{"name": "a.service", "options": [{"section": "Unit", "name": "After", "value": "b"}]}]))
            .await;
        let get = Method::GET;
        for path in ["/units", "/machines", "/state"] {
            let path = format!("/fleet/v1{path}?nextPageToken=ZAABAA==&nextPageToken=ZAABAA==");
            let answer = refused(&mut server, get.clone(), &path, Body::empty()).await;
            assert_eq!(answer, (400, "too many values for page token".into()), "{path}");
        }
        for path in [
            "/fleet/v1/state?unitName=a.service&unitName=b.service&machineID=x&machineID=y",
            "/fleet/v1/units?alt=json&alt=xml&unit=a.service&unit=a.service",
            "/fleet/v1/machines?alt=json&alt=json",
        ] {
            let (status, _) = refused(&mut server, get.clone(), path, Body::empty()).await;
            assert_eq!(status, 200, "{path}");
        }
    });
}

#[test]
fn what_the_framework_refuses_is_told_in_the_words_of_the_api() {
    simulate(async {
        let mut server = Server::new();
        let (get, put, patch, post) = (Method::GET, Method::PUT, Method::PATCH, Method::POST);
        let not_text = "name in URL is not UTF-8 text";
        for (method, path) in [
            (get.clone(), "/fleet/v1/units/%ff.service"),
            (put.clone(), "/fleet/v1/units/%ff.service"),
            (get.clone(), "/fleet/v1/units/%ff.service/why"),
            (get.clone(), "/fleet/v1/units/%ff.service/trace"),
            (post.clone(), "/fleet/v1/units/%ff.service/restart"),
            (get.clone(), "/fleet/v1/state/%ff.service"),
            (get, "/fleet/v1/machines/%ff/drain"),
            (put.clone(), "/fleet/v1/machines/%ff/evict"),
        ] {
            let answer = refused(&mut server, method, path, Body::from("{}")).await;
            assert_eq!(answer, (400, not_text.into()), "{path}");
        }
        let too_much = vec![b' '; (2 << 20) + 1];
        for (method, path) in
            [(put, "/fleet/v1/units/a.service"), (patch, "/fleet/v1/machines"), (post, "/fleet/v1/changes")]
        {
            let answer = refused(&mut server, method, path, Body::from(too_much.clone())).await;
            assert_eq!(answer, (413, "body has more than 2097152 bytes".into()), "{path}");
        }
    });
}

#[test]
fn a_body_that_is_no_object_is_bad_and_changes_nothing() {
    simulate(async {
        let mut server = Server::new();
        let path = "/fleet/v1/units/a.service";
        let go = |kind: &str| {
            (400, format!("unable to decode body: json: cannot unmarshal {kind} into Go value of type schema.Unit"))
        };
        for (body, kind) in
            [("[]", "array"), ("[\"\",\"launched\",\"\",\"a.service\",[]]", "array"), ("\"\"", "string")]
        {
            assert_eq!(refused(&mut server, Method::PUT, path, Body::from(body)).await, go(kind), "{body}");
        }
        for body in [r#"{"options":[["ExecStart","Service","/bin/true"]]}"#, r#"{"options":{}}"#, r#"{"name":[]}"#] {
            let (status, words) = refused(&mut server, Method::PUT, path, Body::from(body)).await;
            assert!(status == 400 && words.starts_with("unable to decode body: "), "{body}: {status} {words}");
        }
        let nothing = (409, "unit does not exist and options field empty".to_owned());
        assert_eq!(refused(&mut server, Method::PUT, path, Body::from("null")).await, nothing);
        for (body, kind) in [("[]", "array"), ("[[]]", "array"), ("1", "number")] {
            let answer = refused(&mut server, Method::POST, "/fleet/v1/changes", Body::from(body)).await;
            assert_eq!(answer, (400, format!("unable to decode body: expect an object, not {kind}")), "{body}");
        }
        let inner = refused(&mut server, Method::POST, "/fleet/v1/changes", Body::from(r#"{"changes":[[]]}"#)).await;
        assert_eq!(inner.0, 400, "{inner:?}");
        assert_eq!(server.record("a.service"), None);
    });
}

#[test]
fn other_methods_are_refused_in_the_words_that_clients_know() {
    simulate(async {
        let mut server = Server::new();
        for (method, path, code, words) in [
            (Method::POST, "/fleet/v1/units", 405, "only GET supported against this resource"),
            (Method::HEAD, "/v1-alpha/units", 405, ""),
            (
                Method::POST,
                "/fleet/v1/units/a.service",
                405,
                "only GET, PUT and DELETE supported against this resource",
            ),
            (Method::POST, "/fleet/v1/machines", 405, "only GET and PATCH supported against this resource"),
            (Method::GET, "/fleet/v1/changes", 405, "only POST supported against this resource"),
            (Method::DELETE, "/fleet/v1/version", 405, "only GET supported against this resource"),
            (Method::PUT, "/fleet/v1/discovery", 400, "only HTTP GET supported against this resource"),
            (Method::GET, "/fleet/v1", 405, ""),
            (Method::GET, "/fleet/v1/nothing", 404, ""),
        ] {
            let request = Request::builder().method(method.clone()).uri(path).body(Body::empty());
            let (status, body) = server.ask(request.expect("a request")).await;
            assert_eq!(status, code, "{method} {path}");
            if method == Method::HEAD {
                continue;
            }
            let answer: Value = serde_json::from_slice(&body).expect("an answer in JSON");
            let reason = if code == 404 { "no-such-resource" } else { "method-not-allowed" };
            let error = json!({ "code": code, "message": words, "reason": reason });
            assert_eq!(answer, json!({ "error": error }), "{method} {path}");
        }
    });
}

#[test]
fn what_a_newer_fleet_wrote_is_left_and_refused_with_a_reason() {
    simulate(async {
        let mut server = Server::new();
        let key = Key::Unit(unit("a.service"));
        let newer = br#"{"v":9,"hash":"later"}"#.to_vec();
        server.write(&key, newer.clone());
        let body = r#"{"desiredState":"launched","options":[{"section":"Unit","name":"After","value":"b"}]}"#;
        for (method, body) in [(Method::PUT, body), (Method::DELETE, "")] {
            let request = Request::builder().method(method).uri("/fleet/v1/units/a.service");
            let request = request.header(header::CONTENT_TYPE, JSON).body(Body::from(body)).expect("a request");
            let (status, answer) = server.ask(request).await;
            let answer: Value = serde_json::from_slice(&answer).expect("an answer in JSON");
            assert_eq!((status, answer["error"]["reason"].as_str()), (409, Some("newer-schema")), "{answer}");
        }
        let changes = json!([{ "name": "a.service", "destroy": true }, { "name": "b.service", "destroy": true }]);
        let (_, answer) = server.post(changes).await;
        let answer: Value = serde_json::from_slice(&answer).expect("an answer in JSON");
        let reasons = [0, 1].map(|at| answer["results"][at]["reason"].as_str().unwrap_or_default());
        assert_eq!(reasons, ["newer-schema", "unit-not-found"]);
        let key = server.keys.format(&key);
        assert_eq!(server.store.entries(&(key.clone(), format!("{key}\0")))[0].value, newer);
    });
}
