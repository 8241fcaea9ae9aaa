//! Promise: one scorer serves several models, each by its name, and several requests in one call, all by one version.

mod serving_support;

use std::sync::Arc;

use rocket_launching::serving::http::{Limits, Service};
use rocket_launching::serving::service::{Models, ModelsError};
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::LogReader;
use serde_json::{Value, json};
use serving_support::{MODEL, Server, TIME, Topic, agent, candidates, config, context, scores, until_serves};

const OTHER: &str = "cvr";

fn post(server: &Server, path: &str, body: &Value) -> (u16, String, Value) {
    let mut response = agent().post(server.url(path)).content_type("application/json").send(body.to_string()).expect("answers");
    let version = response.headers()["x-model-version"].to_str().expect("text").to_owned();
    let body = response.body_mut().read_to_string().expect("text");
    (response.status().as_u16(), version, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let mut response = agent().get(server.url(path)).call().expect("answers");
    (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
}

fn follow(dir: &std::path::Path, model: &str, topic: &Topic) -> Arc<Subscriber> {
    let log = topic.log.clone();
    let config = SubscriberConfig { model: model.to_owned(), ..config(&dir.join(model)) };
    Arc::new(Subscriber::start(config, move || Ok(Box::new(log.clone()) as Box<dyn LogReader>)).expect("the cache is usable"))
}

fn scoring(count: usize) -> Value {
    json!({ "context": context(), "candidates": candidates(count), "time_ms": TIME.0 })
}

#[test]
fn each_model_answers_by_its_name_and_the_first_where_none_is_named() {
    let dir = tempfile::tempdir().expect("tempdir");
    let (mut first, mut other) = (Topic::new(), Topic::of(OTHER));
    first.publish(7);
    let [ctr, cvr] = [follow(dir.path(), MODEL, &first), follow(dir.path(), OTHER, &other)];
    until_serves(&ctr, 7);
    let models = Models::new(vec![Arc::clone(&ctr), Arc::clone(&cvr)]).expect("two names");
    let server = Server::of(Service::new(models, Limits::default()));

    let (status, why) = get(&server, "/readyz");
    assert!(status == 503 && why.contains(OTHER), "{status} {why}");
    let (status, version, refused) = post(&server, "/v1/models/cvr/score", &scoring(1));
    assert_eq!((status, version.as_str(), &refused["version"]), (503, "none", &Value::Null), "{refused}");

    other.publish(3);
    until_serves(&cvr, 3);
    assert_eq!(get(&server, "/readyz").0, 200);
    for (path, subscriber, expected) in [("/v1/score", &ctr, 7), ("/v1/models/ctr/score", &ctr, 7), ("/v1/models/cvr/score", &cvr, 3)] {
        let (status, version, answer) = post(&server, path, &scoring(5));
        assert_eq!((status, version, &answer["version"]), (200, expected.to_string(), &json!(expected)), "{path}: {answer}");
        let found: Vec<f32> = serde_json::from_value(answer["scores"].clone()).expect("numbers");
        assert_eq!(found, scores(&subscriber.model().expect("served"), 5), "{path}");
    }
    let listed: Value = serde_json::from_str(&get(&server, "/v1/models").1).expect("JSON");
    assert_eq!(listed, json!({ "models": [{ "model": "ctr", "version": 7 }, { "model": "cvr", "version": 3 }] }));
    let page: Value = serde_json::from_str(&get(&server, "/v1/models/cvr").1).expect("JSON");
    assert_eq!((&page["version"], &page["subscriber"]["model"]), (&json!(3), &json!("cvr")));

    let (status, _, refused) = post(&server, "/v1/models/ctx/score", &scoring(1));
    assert_eq!((status, &refused["error"]["field"]), (404, &json!("model")));
    assert!(refused["error"]["message"].as_str().is_some_and(|message| message.contains("ctr, cvr")), "{refused}");
    assert_eq!(get(&server, "/v1/models/ctx").0, 404);
}

#[test]
fn two_models_of_one_name_are_refused() {
    let dir = tempfile::tempdir().expect("tempdir");
    let topic = Topic::new();
    let subscribers = ["a", "b"].map(|sub| follow(&dir.path().join(sub), MODEL, &topic));
    assert_eq!(Models::new(subscribers.to_vec()).err(), Some(ModelsError::Twice(MODEL.to_owned())));
    assert_eq!(Models::new(Vec::new()).err(), Some(ModelsError::None));
}

#[test]
fn a_batch_is_scored_by_one_version_and_refused_as_one() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut topic = Topic::new();
    topic.publish(7);
    let subscriber = follow(dir.path(), MODEL, &topic);
    until_serves(&subscriber, 7);
    let model = subscriber.model().expect("served");
    let server = Server::start(&subscriber, Limits { candidates_max: 20, ..Limits::default() });

    let (status, version, answer) = post(&server, "/v1/batch", &json!({ "requests": [scoring(3), scoring(0), scoring(17)] }));
    assert_eq!((status, version.as_str(), &answer["version"]), (200, "7", &json!(7)), "{answer}");
    let results = answer["results"].as_array().expect("a list");
    for (result, count) in results.iter().zip([3, 0, 17]) {
        let found: Vec<f32> = serde_json::from_value(result["scores"].clone()).expect("numbers");
        assert_eq!(found, scores(&model, count));
    }
    assert_eq!(results.len(), 3);
    assert_eq!(post(&server, "/v1/models/ctr/batch", &json!({ "requests": [] })).2, json!({ "version": 7, "results": [] }));

    let (status, _, refused) = post(&server, "/v1/batch", &json!({ "requests": [scoring(11), scoring(10)] }));
    assert_eq!((status, &refused["error"]["field"], &refused["error"]["limit"]), (422, &json!("requests"), &json!(20)), "{refused}");
    let mut wrong = scoring(2);
    wrong["candidates"][1]["price"] = json!([1]);
    let (status, _, refused) = post(&server, "/v1/batch", &json!({ "requests": [scoring(1), wrong] }));
    assert_eq!((status, &refused["error"]["field"]), (422, &json!("requests[1].candidates[1].price")), "{refused}");
    let (status, _, refused) = post(&server, "/v1/batch", &json!({ "requests": [{ "context": {} }] }));
    assert_eq!((status, &refused["error"]["field"]), (422, &json!("requests[0]")), "{refused}");
}
