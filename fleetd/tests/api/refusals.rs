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
