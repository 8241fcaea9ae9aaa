//! Promise: whatever a client sends, the scorer answers with the version and says which field is wrong and what is allowed.

mod serving_support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use rocket_launching::serving::Subscriber;
use rocket_launching::serving::http::Limits;
use rocket_launching::telemetry::server::ConnectionLimits;
use serde_json::{Value, json};
use serving_support::{Server, TIME, Topic, agent, candidates, context, follow, scores, until_serves};

struct Answer {
    status: u16,
    version: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }

    fn error(&self, status: u16, field: &str, text: &str) {
        let error = &self.json()["error"];
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(error["field"].as_str(), Some(field), "{}", self.body);
        assert!(error["message"].as_str().is_some_and(|message| message.contains(text)), "{}", self.body);
    }
}

fn answer(response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = response.expect("the scorer answers");
    let version = response.headers()["x-model-version"].to_str().expect("text").to_owned();
    Answer { status: response.status().as_u16(), version, body: response.body_mut().read_to_string().expect("text") }
}

fn get(server: &Server, path: &str) -> Answer {
    answer(agent().get(server.url(path)).call())
}

fn post(server: &Server, body: &str) -> Answer {
    answer(agent().post(server.url("/v1/score")).content_type("application/json").send(body))
}

fn serving(dir: &std::path::Path, limits: Limits) -> (Arc<Subscriber>, Server) {
    let mut topic = Topic::new();
    topic.publish(7);
    let subscriber = Arc::new(follow(dir, &topic));
    until_serves(&subscriber, 7);
    let server = Server::start(&subscriber, limits);
    (subscriber, server)
}

#[test]
fn scores_come_in_the_order_of_the_candidates() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (subscriber, server) = serving(dir.path(), Limits::default());
    let model = subscriber.model().expect("served");
    for count in [0, 1, 5000] {
        let answer = post(&server, &json!({ "context": context(), "candidates": candidates(count), "time_ms": TIME.0 }).to_string());
        assert_eq!((answer.status, answer.version.as_str()), (200, "7"), "{}", answer.body);
        let answer = answer.json();
        assert_eq!(answer["version"], 7);
        let found: Vec<f32> = serde_json::from_value(answer["scores"].clone()).expect("numbers");
        assert_eq!(found, scores(&model, count));
    }
}

#[test]
fn limits_and_mistakes_name_the_field() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = Limits { body_bytes_max: 10_000, candidates_max: 10, ..Limits::default() };
    let (_subscriber, server) = serving(dir.path(), limits);

    let many = post(&server, &json!({ "context": {}, "candidates": candidates(11) }).to_string());
    many.error(422, "candidates", "11 candidates; at most 10");
    assert_eq!(many.json()["error"]["limit"], 10);
    assert_eq!((many.version.as_str(), &many.json()["version"]), ("7", &json!(7)));

    let long = post(&server, &json!({ "context": { "user": "u".repeat(10_000) }, "candidates": [] }).to_string());
    long.error(413, "body", "longer than 10000 bytes");
    assert_eq!((long.version.as_str(), &long.json()["error"]["limit"]), ("7", &json!(10_000)));

    let mut columns = candidates(3);
    columns[2].insert("price".to_owned(), json!([1]));
    let wrong = post(&server, &json!({ "context": context(), "candidates": columns }).to_string());
    wrong.error(422, "candidates[2].price", "candidate 2");

    post(&server, r#"{"context": {}, "candidates": [3]}"#).error(422, "candidates[0]", "expected an object");
    post(&server, r#"{"candidates": []}"#).error(422, ".", "missing field `context`");
    post(&server, r#"{"context": {}, "candidates": [], "time": 3}"#).error(422, "time", "unknown field `time`");
    post(&server, r#"{"context": {}, "candidates": [], "time_ms": "now"}"#).error(422, "time_ms", "expected i64");
    post(&server, r#"{"context": {}, "candidates": ["#).error(400, "body", "not JSON");
    post(&server, r#"{"context": {}, "candidates": []} {}"#).error(400, "body", "more than one JSON value");
    post(&server, "").error(400, "body", "not JSON");

    assert_eq!(get(&server, "/nowhere").status, 404);
    assert_eq!(get(&server, "/nowhere").version, "7");
    assert_eq!(get(&server, "/v1/score").status, 405);
}

#[test]
fn more_than_can_be_held_is_told_to_come_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (_subscriber, server) = serving(dir.path(), Limits { in_flight_max: 0, ..Limits::default() });
    let full = post(&server, r#"{"context": {}, "candidates": []}"#);
    assert_eq!((full.status, full.version.as_str()), (503, "7"), "{}", full.body);
    assert!(full.body.contains("come back"));
}

/// Sends `text` over a connection of its own and hears what comes until the scorer closes it.
fn raw(server: &Server, text: &str) -> String {
    let mut stream = TcpStream::connect(server.address).expect("connects");
    stream.write_all(text.as_bytes()).expect("sends");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut heard = Vec::new();
    match stream.read_to_end(&mut heard) {
        Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => panic!("not closed: {error}"),
        _ => String::from_utf8_lossy(&heard).into_owned(),
    }
}

#[test]
fn slow_clients_and_long_headers_are_let_go_with_the_right_status() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = Limits::default();
    let connection = ConnectionLimits { header_bytes_max: 8192, header_timeout: Duration::from_millis(300), ..limits.connection };
    let (_subscriber, server) = serving(dir.path(), Limits { body_timeout: Duration::from_millis(200), connection, ..limits });

    let long = raw(&server, &format!("GET /readyz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(9000)));
    assert!(long.starts_with("HTTP/1.1 431"), "{long}");
    assert!(!raw(&server, "GET /readyz HTTP/1.1\r\nHost: x\r\nX-Slow: ").contains("200"), "a header that never ends");
    let body = raw(&server, "POST /v1/score HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{");
    assert!(body.starts_with("HTTP/1.1 408") && body.contains("did not come within"), "{body}");
    assert_eq!(get(&server, "/readyz").status, 200);
}

#[test]
fn a_request_that_finds_no_core_free_in_time_is_told_to_come_back() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = Limits { computing_max: 0, request_timeout: Duration::from_millis(50), ..Limits::default() };
    let (_subscriber, server) = serving(dir.path(), limits);
    let late = post(&server, r#"{"context": {}, "candidates": []}"#);
    assert_eq!((late.status, late.version.as_str()), (503, "7"), "{}", late.body);
    assert!(late.body.contains("not answered within"), "{}", late.body);
}

#[test]
fn connections_above_the_limit_are_answered_503_and_the_others_served() {
    let dir = tempfile::tempdir().expect("tempdir");
    let limits = Limits::default();
    let connection = ConnectionLimits { connections_max: 1, ..limits.connection };
    let (_subscriber, server) = serving(dir.path(), Limits { connection, ..limits });
    let mut held = TcpStream::connect(server.address).expect("connects");
    let mut ask = || {
        held.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").expect("sends");
        let mut first = [0; 15];
        held.read_exact(&mut first).expect("answers");
        first
    };
    assert_eq!(&ask(), b"HTTP/1.1 200 OK");
    let full = raw(&server, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(full.starts_with("HTTP/1.1 503") && full.contains("retry-after"), "{full}");
}

#[test]
fn without_a_model_it_lives_but_is_not_ready() {
    let dir = tempfile::tempdir().expect("tempdir");
    let topic = Topic::new();
    let subscriber = Arc::new(follow(dir.path(), &topic));
    let server = Server::start(&subscriber, Limits::default());
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/v1/model", 503), ("/metrics", 200)] {
        let answer = get(&server, path);
        assert_eq!((answer.status, answer.version.as_str()), (status, "none"), "{path}: {}", answer.body);
    }
    let refused = post(&server, r#"{"context": {}, "candidates": []}"#);
    assert_eq!((refused.status, refused.version.as_str()), (503, "none"));
    assert!(refused.body.contains("no model yet") && refused.json()["version"].is_null());

    let mut topic = topic;
    topic.publish(1);
    until_serves(&subscriber, 1);
    assert_eq!(get(&server, "/readyz").status, 200);
    let page = get(&server, "/v1/model").json();
    assert_eq!((&page["version"], &page["stale"], &page["subscriber"]["target"]), (&json!(1), &json!(false), &json!(1)));
    assert_eq!(page["subscriber"]["following"], true);
}
