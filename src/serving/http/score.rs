use std::future::poll_fn;
use std::pin::Pin;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Api, Named, VERSION_HEADER, version_value};
use crate::domain::Version;
use crate::serving::service::{DONE, Limits, Reason, Refusal, ScoreRequest, Service, record, score};
use crate::serving::{ServedModel, Subscriber};
use crate::wire::RequestText;

/// Scores of one request.
#[derive(Serialize)]
struct Scores {
    scores: Vec<f32>,
}

/// An answer: the version, and what the path asks for.
#[derive(Serialize)]
struct Answer<T> {
    version: Version,
    #[serde(flatten)]
    found: T,
}

/// A request as it is sent. Objects are not looked into: what was scored before is known by its bytes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneRequest<'a> {
    #[serde(borrow)]
    context: &'a RawValue,
    #[serde(borrow)]
    candidates: Vec<&'a RawValue>,
    #[serde(default)]
    time_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BatchRequest<'a> {
    #[serde(borrow)]
    requests: Vec<OneRequest<'a>>,
}

impl<'a> From<RequestText<'a>> for ScoreRequest<'a> {
    fn from(text: RequestText<'a>) -> Self {
        let (context, candidates) = text.objects();
        ScoreRequest { context, candidates, time_ms: text.time_ms }
    }
}

impl<'a> From<OneRequest<'a>> for RequestText<'a> {
    fn from(request: OneRequest<'a>) -> Self {
        let candidates = request.candidates.into_iter().map(RawValue::get).collect();
        RequestText { context: request.context.get(), candidates, time_ms: request.time_ms }
    }
}

#[derive(Serialize)]
struct Results {
    results: Vec<Scores>,
}

/// What becomes of a body: parsed, scored, encoded.
type Compute = fn(&ServedModel, &[u8], &Limits) -> Result<Vec<u8>, Refusal>;

/// `POST …/score`.
pub(super) async fn one(State(api): State<Api>, name: Named, body: Body) -> Response {
    answer(&api.service, name, body, |model, body, limits| {
        let text = match RequestText::find(body) {
            Some(text) => text,
            None => parse::<OneRequest<'_>>(body)?.into(),
        };
        let scores = score(model, &[text.into()], limits.candidates_max, |_| String::new())?;
        encode(model, Scores { scores: scores.concat() })
    })
    .await
}

/// `POST …/batch`.
pub(super) async fn batch(State(api): State<Api>, name: Named, body: Body) -> Response {
    answer(&api.service, name, body, |model, body, limits| {
        let BatchRequest { requests } = parse(body)?;
        let requests: Vec<_> = requests.into_iter().map(|request| RequestText::from(request).into()).collect();
        let results = score(model, &requests, limits.candidates_max, |index| format!("requests[{index}]."))?;
        encode(model, Results { results: results.into_iter().map(|scores| Scores { scores }).collect() })
    })
    .await
}

async fn answer(service: &Service, name: Named, body: Body, compute: Compute) -> Response {
    let started = Instant::now();
    let found = service.find(name.as_ref().map(|Path(name)| name.as_str()));
    let model = found.as_ref().map_or("", |subscriber| subscriber.name());
    let answered = match &found {
        Ok(subscriber) => {
            service.in_time(answer_held(service, subscriber, body, compute)).await.map_err(|refusal| refusal.by(subscriber.version()))
        }
        Err(refusal) => Err(refusal.clone()),
    };
    record(model, started, answered.as_ref().map_or_else(|refusal| refusal.reason.status(), |_| DONE));
    match answered {
        Ok((version, json)) => (
            [(VERSION_HEADER, version_value(Some(version))), (header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"))],
            json,
        )
            .into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn answer_held(service: &Service, subscriber: &Subscriber, body: Body, compute: Compute) -> Result<(Version, Vec<u8>), Refusal> {
    let _held = service.hold()?;
    let limits = *service.limits();
    let body = read(&limits, body).await?;
    service.compute(subscriber, move |model| compute(model, &body, &limits)).await
}

async fn read(limits: &Limits, body: Body) -> Result<Vec<u8>, Refusal> {
    let limit = limits.body_bytes_max;
    let too_large = || {
        Refusal::new(Reason::TooLarge, format!("the body is longer than {limit} bytes; send fewer candidates at a time"))
            .at("body")
            .above(limit)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(Refusal::new(Reason::Malformed, format!("the body broke off: {error}")).at("body")),
        Err(_) => Err(Refusal::new(Reason::Slow, format!("the body did not come within {:?}", limits.body_timeout)).at("body")),
    }
}

/// The whole body; `None` where it is longer than `limit`.
async fn collect(mut body: Body, limit: usize) -> Result<Option<Vec<u8>>, axum::Error> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        // What is no data is a trailer.
        let Ok(data) = frame?.into_data() else { continue };
        if bytes.len() + data.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Some(bytes))
}

fn encode(model: &ServedModel, found: impl Serialize) -> Result<Vec<u8>, Refusal> {
    serde_json::to_vec(&Answer { version: model.version(), found }).map_err(|error| Refusal::new(Reason::Failed, error.to_string()))
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => Refusal::new(Reason::Invalid, error.to_string()).at(field),
            _ => Refusal::new(Reason::Malformed, format!("not JSON: {error}")).at("body"),
        }
    })?;
    json.end().map_err(|error| Refusal::new(Reason::Malformed, format!("more than one JSON value: {error}")).at("body"))?;
    Ok(request)
}
