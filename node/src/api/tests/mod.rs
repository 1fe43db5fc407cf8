//! Endpoints, asked without sockets where none are needed.

pub(crate) mod double;
mod forwarding;
mod quarantine;
mod roles;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use futures_util::StreamExt as _;
use gear_core::control::{Reply, Request as Asked, Wish};
use gear_core::host::process::Answer;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::routes::router;
use crate::security::Access;
use double::{Double, api};

fn open(double: &Arc<Double>) -> Router {
    router(api(double, Access::everybody(), None))
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.expect("it always answers");
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 24).await.expect("it ends");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::String(text)))
}

fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    request.header("content-type", "application/json").body(body.into()).expect("it is one")
}

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    ask(router, request("GET", path, Body::empty())).await
}

async fn send(router: &Router, method: &str, path: &str, body: &Value) -> (StatusCode, Value) {
    ask(router, request(method, path, body.to_string())).await
}

#[tokio::test]
async fn an_app_is_found_by_number_and_by_name() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    for name in ["1", "words"] {
        let (status, app) = get(&router, &format!("/api/v1/apps/{name}")).await;
        assert_eq!(status, StatusCode::OK, "{app}");
        assert_eq!(app["summary"]["state"], "running");
        assert_eq!(app["live"]["records"], 1_000);
        assert_eq!(app["live"]["tasks"][0]["records_in"], 7);
        assert_eq!(app["processes"][0]["term"], 2);
    }
    let (status, problem) = get(&router, "/api/v1/apps/nobody").await;
    assert_eq!((status, &problem["code"]), (StatusCode::NOT_FOUND, &json!("not_found")));
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("gear-node apps")));
    let (_, app) = get(&router, "/api/v1/apps/2").await;
    assert_eq!(app["live"], Value::Null);
    assert!(app["live_missing"].as_str().is_some_and(|it| it.contains("ended")), "{app}");
}

#[tokio::test]
async fn everything_that_looks_on_answers() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    for (path, pointer, expected) in [
        ("/api/v1/cluster", "/cluster", json!("00000000000000c1")),
        ("/api/v1/cluster", "/capacity/slots", json!(4)),
        ("/api/v1/nodes", "/0/leads", json!(true)),
        ("/api/v1/nodes/127.0.0.1:7400", "/node", json!("1")),
        ("/api/v1/workers/1", "/labels/zone", json!("a")),
        ("/api/v1/voters", "/voters/0/leads", json!(true)),
        ("/api/v1/apps", "/1/state", json!("finished")),
        ("/api/v1/apps/1/executors", "/0/tasks/0/processor", json!("lines")),
        ("/api/v1/apps/1/executors/1", "/process/state", json!("running")),
        ("/api/v1/apps/1/stalling", "/0/task", json!("p0[0]")),
        ("/api/v1/apps/1/errors", "/failures", json!([])),
        ("/api/v1/apps/1/savepoints", "", json!([])),
        ("/api/v1/apps/1/quarantine", "/records", json!(0)),
        ("/api/v1/apps/1/logs?bytes=5", "/logs/0/text", json!("hello")),
        ("/api/v1/metrics?name=gear_app_committed_epoch", "/0/samples/0/value", json!(9.0)),
        ("/api/v1/whoami", "/role", json!("admin")),
        ("/ready", "/ready", json!(true)),
        ("/health", "/version", json!(env!("CARGO_PKG_VERSION"))),
    ] {
        let (status, value) = get(&router, path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {value}");
        assert_eq!(value.pointer(pointer), Some(&expected), "{path}: {value}");
    }
    let (status, text) = get(&router, "/metrics").await;
    assert_eq!(status, StatusCode::OK);
    assert!(text.as_str().is_some_and(|it| it.contains("gear_master_term 3")), "{text}");
    for missing in
        ["/api/v1/apps/1/executors/7", "/api/v1/nodes/7", "/api/v1/workers/7", "/api/v1/moon"]
    {
        assert_eq!(get(&router, missing).await.0, StatusCode::NOT_FOUND, "{missing}");
    }
    let (status, problem) = send(&router, "PATCH", "/api/v1/apps", &json!({})).await;
    assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{problem}");
    assert_eq!(problem["code"], "no_such_method");
}

#[tokio::test]
async fn what_is_wanted_reaches_the_masters() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let stop = send(&router, "POST", "/api/v1/apps/words/stop", &json!({})).await;
    assert_eq!(stop.0, StatusCode::OK, "{}", stop.1);
    let again = send(&router, "POST", "/api/v1/apps/words/stop", &json!({})).await;
    assert_eq!(again.0, StatusCode::CONFLICT, "it has stopped: {}", again.1);
    let (status, new) = send(&router, "POST", "/api/v1/apps/1/restart", &json!({})).await;
    assert_eq!((status, &new["app"]), (StatusCode::OK, &json!(3)));
    send(&router, "POST", "/api/v1/nodes/1/drain", &json!({})).await;
    send(&router, "POST", "/api/v1/nodes/1/undrain", &json!({})).await;
    let voters = json!({"voters": [{"node": "1", "address": ""}, {"node": "9", "address": "a:1"}]});
    let (status, done) = send(&router, "PUT", "/api/v1/voters", &voters).await;
    assert_eq!(status, StatusCode::OK, "{done}");
    let asked = double.asked.lock().expect("nobody panics");
    let asked: Vec<_> = asked.iter().map(|(_, request)| request.clone()).collect();
    let app = double::RUNNING;
    assert_eq!(asked[0], Asked::Wish { app, wish: Wish::Stop });
    assert_eq!(asked[1], Asked::Restart { app });
    let node = gear_core::id::NodeId(1);
    assert_eq!(asked[2], Asked::Drain { node, drains: true });
    assert_eq!(asked[3], Asked::Drain { node, drains: false });
    assert!(matches!(&asked[4], Asked::Voters { voters } if voters.len() == 2), "{asked:?}");
}

#[tokio::test]
async fn a_refusal_says_why_and_is_told_from_a_missing_leader() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    for (answer, status, code) in [
        (
            Answer::Reply(Reply::Refused { reason: "no, since".into() }),
            StatusCode::CONFLICT,
            "refused",
        ),
        (
            Answer::Reply(Reply::NotLeader { leader: None }),
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
        ),
        (
            Answer::Refused { reason: "nobody leads".into() },
            StatusCode::SERVICE_UNAVAILABLE,
            "no_leader",
        ),
    ] {
        *double.refuses.lock().expect("nobody panics") = Some(answer);
        let (got, problem) = send(&router, "POST", "/api/v1/nodes/1/drain", &json!({})).await;
        assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
    }
}

#[tokio::test]
async fn a_savepoint_is_taken_and_listed() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let path = "/api/v1/apps/words/savepoints";
    let (status, taken) = send(&router, "POST", path, &json!({"name": "before"})).await;
    assert_eq!((status, &taken["epoch"]), (StatusCode::OK, &json!(10)), "{taken}");
    let folder = double.folder.path().join("checkpoints/apps/app-1/savepoints/before");
    std::fs::create_dir_all(&folder).expect("it is ours");
    std::fs::write(folder.join("1"), "12345").expect("it is ours");
    let (_, list) = get(&router, path).await;
    assert_eq!(list[0]["name"], "before");
    assert_eq!((&list[0]["objects"], &list[0]["bytes"]), (&json!(1), &json!(5)));
    assert_eq!(list[0]["from"], taken["from"]);
    let (status, _) = send(&router, "POST", path, &json!({"name": "../x"})).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn garbage_is_answered_by_a_problem_and_changes_nothing() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let digest = "0".repeat(64);
    let binary = format!("/api/v1/binaries/{digest}");
    for (method, path) in [
        ("POST", "/api/v1/apps"),
        ("PUT", "/api/v1/voters"),
        ("POST", "/api/v1/apps/1/savepoints"),
        ("PUT", binary.as_str()),
        ("PUT", "/api/v1/binaries/..%2f..%2fetc"),
    ] {
        let deep = "[".repeat(100_000);
        for body in [
            "",
            "{}",
            "null",
            "[]",
            "{\"voters\": 3}",
            "\u{0}\u{1}",
            "{\"name\": \"a/b\"}",
            "{\"unknown\": 1}",
            &deep,
        ] {
            let (status, problem) = ask(&router, request(method, path, body.to_owned())).await;
            assert!(status.is_client_error(), "{method} {path} {body}: {status} {problem}");
            let detail = problem["detail"].as_str().unwrap_or_default();
            assert!(!detail.is_empty(), "{method} {path} {body}: {problem}");
        }
    }
    let large = format!("{{\"name\": \"{}\"}}", "x".repeat(super::BODY_BYTES_MAX));
    let (status, problem) = ask(&router, request("POST", "/api/v1/apps/1/savepoints", large)).await;
    assert_eq!((status, &problem["code"]), (StatusCode::PAYLOAD_TOO_LARGE, &json!("too_large")));
    assert!(double.asked.lock().expect("nobody panics").is_empty());
    let left = std::fs::read_dir(double.folder.path().join("binaries")).expect("it is ours");
    assert_eq!(left.count(), 0);
}

#[tokio::test]
async fn what_is_given_again_is_counted_and_what_stays_has_a_reason() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let path = "/api/v1/apps/1/quarantine/replay";
    let (status, replayed) = send(&router, "POST", path, &json!({})).await;
    assert_eq!(status, StatusCode::OK, "{replayed}");
    let reasons = json!({"they were too long to be kept whole": 1});
    let expected = json!({"replayed": 3, "refused": 0, "kept": 1, "reasons": reasons, "epoch": 10,
        "cut": false});
    assert_eq!(replayed, expected);
}

#[tokio::test]
async fn events_begin_with_everything() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let request = request("GET", "/api/v1/events", Body::empty());
    let response = router.oneshot(request).await.expect("it always answers");
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut chunks = response.into_body().into_data_stream();
    let mut text = String::new();
    while text.matches("data:").count() < 3 {
        let chunk = chunks.next().await.expect("it goes on").expect("it is whole");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    for part in ["{\"cluster\":", "{\"nodes\":", "{\"apps\":"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[tokio::test]
async fn a_page_of_another_origin_is_kept_out() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let mut foreign = request("DELETE", "/api/v1/apps/1", Body::empty());
    foreign.headers_mut().insert("origin", "http://evil.example".parse().expect("it is one"));
    let (status, problem) = ask(&router, foreign).await;
    assert_eq!((status, &problem["code"]), (StatusCode::FORBIDDEN, &json!("foreign_origin")));
    assert!(double.asked.lock().expect("nobody panics").is_empty());
}

#[tokio::test]
async fn a_binary_that_is_none_of_this_machine_is_refused() {
    use sha2::Digest as _;

    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let name = crate::security::hex(&sha2::Sha256::digest(b"no program"));
    let path = format!("/api/v1/binaries/{name}");
    let (status, problem) = ask(&router, request("PUT", &path, "no program")).await;
    assert_eq!(
        (status, &problem["code"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!("bad_binary"))
    );
    assert_eq!(get(&router, &path).await.0, StatusCode::NOT_FOUND);
    let submit = json!({"binary": name});
    let (status, problem) = send(&router, "POST", "/api/v1/apps", &submit).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{problem}");
}

/// The program of this test is a binary of this machine, and no job.
#[tokio::test]
async fn a_binary_is_kept_served_and_asked_for_its_job() {
    let double = Arc::new(Double::new(1));
    let router = open(&double);
    let binary = std::fs::read("/bin/true").expect("every Linux has it");
    let name = super::Digest::of_file(std::path::Path::new("/bin/true")).expect("it is there");
    let path = format!("/api/v1/binaries/{name}");
    for _ in 0..2 {
        let (status, done) = ask(&router, request("PUT", &path, binary.clone())).await;
        assert_eq!(status, StatusCode::OK, "{done}");
    }
    let response = router.clone().oneshot(request("GET", &path, Body::empty())).await;
    let body = response.expect("it always answers").into_body();
    let bytes = axum::body::to_bytes(body, 1 << 24).await.expect("it ends");
    assert!(bytes == binary, "it came back changed");
    let submit = json!({"binary": name.to_string(), "arguments": ["x"]});
    let (status, problem) = send(&router, "POST", "/api/v1/apps", &submit).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("bad_job")));
    assert!(double.asked.lock().expect("nobody panics").is_empty());
}
