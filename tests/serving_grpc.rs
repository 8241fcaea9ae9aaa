//! Promise: over gRPC the scorer gives what it gives over HTTP, within the same limits, with the version in every answer and the field in
//! every refusal.

mod serving_support;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rocket_launching::serving::Subscriber;
use rocket_launching::serving::grpc::proto::scorer_client::ScorerClient;
use rocket_launching::serving::grpc::proto::{Columns, GetModelRequest, List, ScoreBatchRequest, ScoreRequest, Value, value::Kind};
use rocket_launching::serving::grpc::serve;
use rocket_launching::serving::service::{Limits, Service};
use rocket_launching::telemetry::server::ConnectionLimits;
use serving_support::{MODEL, TIME, Topic, candidates, context, follow, scores, until_serves};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

fn columns(json: &serde_json::Map<String, serde_json::Value>) -> Columns {
    Columns { columns: json.iter().map(|(name, json)| (name.clone(), value(json))).collect() }
}

fn value(json: &serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null | serde_json::Value::Object(_) => None,
        serde_json::Value::Bool(flag) => Some(Kind::Flag(*flag)),
        serde_json::Value::Number(number) => {
            Some(number.as_i64().map_or_else(|| Kind::Number(number.as_f64().expect("a double")), Kind::Integer))
        }
        serde_json::Value::String(text) => Some(Kind::Text(text.clone())),
        serde_json::Value::Array(values) => Some(Kind::List(List { values: values.iter().map(value).collect() })),
    };
    Value { kind }
}

fn request(count: usize) -> ScoreRequest {
    ScoreRequest {
        model: String::new(),
        context: Some(columns(&context())),
        candidates: candidates(count).iter().map(columns).collect(),
        time_ms: Some(TIME.0),
    }
}

fn fact<'a>(status: &'a Status, name: &str) -> &'a str {
    status.metadata().get(name).unwrap_or_else(|| panic!("no {name}: {status:?}")).to_str().expect("ASCII")
}

/// A scorer that serves version 7, where asked to.
struct Site {
    _dir: tempfile::TempDir,
    subscriber: Arc<Subscriber>,
    address: SocketAddr,
    channel: Channel,
}

impl Site {
    async fn start(limits: Limits, publish: bool) -> Site {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut topic = Topic::new();
        let subscriber = Arc::new(follow(dir.path(), &topic));
        if publish {
            topic.publish(7);
            until_serves(&subscriber, 7);
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(serve(listener, Service::new(Arc::clone(&subscriber), limits), std::future::pending()));
        let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
        Site { _dir: dir, subscriber, address, channel }
    }

    fn client(&self) -> ScorerClient<Channel> {
        ScorerClient::new(self.channel.clone())
    }

    async fn health(&self, service: &str) -> Result<i32, Code> {
        let asked = HealthClient::new(self.channel.clone()).check(HealthCheckRequest { service: service.to_owned() }).await;
        asked.map(|answer| answer.into_inner().status).map_err(|status| status.code())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scores_are_those_of_the_model() {
    let site = Site::start(Limits::default(), true).await;
    let model = site.subscriber.model().expect("served");
    for count in [0, 1, 700] {
        let answer = site.client().score(request(count)).await.expect("scores").into_inner();
        assert_eq!((answer.version, answer.scores), (7, scores(&model, count)));
    }
    let named = ScoreRequest { model: MODEL.to_owned(), ..request(2) };
    let batch = ScoreBatchRequest { model: String::new(), requests: vec![request(3), named] };
    let answer = site.client().score_batch(batch).await.expect("scores").into_inner();
    let results: Vec<Vec<f32>> = answer.results.into_iter().map(|result| result.scores).collect();
    assert_eq!((answer.version, results), (7, vec![scores(&model, 3), scores(&model, 2)]));

    let shown = site.client().get_model(GetModelRequest { model: MODEL.to_owned() }).await.expect("a model").into_inner();
    assert_eq!((shown.model.as_str(), shown.version, shown.target), (MODEL, 7, Some(7)));
    assert_eq!(shown.schema_hash, model.manifest().schema_hash);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_and_limits_name_the_field() {
    let site = Site::start(Limits { candidates_max: 10, body_bytes_max: 20_000, ..Limits::default() }, true).await;
    let many = site.client().score(request(11)).await.expect_err("too many");
    assert_eq!((many.code(), fact(&many, "x-field"), fact(&many, "x-limit")), (Code::InvalidArgument, "candidates", "10"));
    assert_eq!(fact(&many, "x-model-version"), "7");

    let mut wrong = request(3);
    wrong.candidates[2].columns.insert("price".to_owned(), value(&serde_json::json!([1])));
    let batch = ScoreBatchRequest { model: String::new(), requests: vec![request(1), wrong.clone()] };
    let wrong = site.client().score(wrong).await.expect_err("a wrong type");
    assert_eq!((wrong.code(), fact(&wrong, "x-field")), (Code::InvalidArgument, "candidates[2].price"));
    let batch = site.client().score_batch(batch).await.expect_err("a wrong type");
    assert_eq!(fact(&batch, "x-field"), "requests[1].candidates[2].price");

    let foreign = ScoreBatchRequest { model: MODEL.to_owned(), requests: vec![ScoreRequest { model: "cvr".to_owned(), ..request(1) }] };
    let foreign = site.client().score_batch(foreign).await.expect_err("another model");
    assert_eq!((foreign.code(), fact(&foreign, "x-field")), (Code::InvalidArgument, "requests[0].model"));
    let unknown = site.client().score(ScoreRequest { model: "cvr".to_owned(), ..request(1) }).await.expect_err("no such model");
    assert_eq!((unknown.code(), fact(&unknown, "x-field")), (Code::NotFound, "model"));

    let mut long = request(1);
    long.context = Some(Columns { columns: [("user".to_owned(), Value { kind: Some(Kind::Text("u".repeat(20_001))) })].into() });
    assert_eq!(site.client().score(long).await.expect_err("too long").code(), Code::OutOfRange);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_held_or_answered_in_time_is_told_so() {
    let full = Site::start(Limits { in_flight_max: 0, ..Limits::default() }, true).await;
    let refused = full.client().score(request(1)).await.expect_err("full");
    assert_eq!((refused.code(), fact(&refused, "x-limit")), (Code::ResourceExhausted, "0"));

    let busy = Limits { computing_max: 0, request_timeout: Duration::from_millis(50), ..Limits::default() };
    let busy = Site::start(busy, true).await;
    assert_eq!(busy.client().score(request(1)).await.expect_err("no core").code(), Code::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_says_whether_a_model_is_served() {
    let empty = Site::start(Limits::default(), false).await;
    assert_eq!(empty.health("").await, Ok(ServingStatus::NotServing.into()));
    let refused = empty.client().score(request(1)).await.expect_err("no model");
    assert!(refused.code() == Code::Unavailable && refused.message().contains("no model yet"), "{refused:?}");

    let site = Site::start(Limits::default(), true).await;
    for service in ["", MODEL, "rocket.v1.Scorer"] {
        assert_eq!(site.health(service).await, Ok(ServingStatus::Serving.into()), "{service}");
    }
    assert_eq!(site.health("cvr").await, Err(Code::NotFound));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_says_nothing_is_let_go() {
    let limits = Limits::default();
    let connection = ConnectionLimits { header_timeout: Duration::from_millis(200), ..limits.connection };
    let site = Site::start(Limits { connection, ..limits }, true).await;
    let address = site.address;
    let heard = tokio::task::spawn_blocking(move || {
        let mut silent = TcpStream::connect(address).expect("connects");
        silent.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        let mut heard = Vec::new();
        silent.read_to_end(&mut heard).map_err(|error| error.kind())
    });
    let heard = heard.await.expect("no panic");
    assert!(!matches!(heard, Err(std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)), "{heard:?}");
    assert_eq!(site.client().score(request(1)).await.expect("scores").into_inner().version, 7);
}
