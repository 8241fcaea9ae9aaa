use std::future::poll_fn;
use std::pin::Pin;
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::ApiError;
use super::{Api, VERSION_HEADER, version_value};
use crate::domain::{EventTime, Version};
use crate::serving::shared::now_ms;
use crate::serving::{Candidate, ServedModel};
use crate::telemetry::names;
use crate::wire::DecodeError;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScoreRequest {
    /// Columns that all candidates share.
    context: Map<String, Value>,
    /// Columns of each, over those of the context.
    candidates: Vec<Candidate>,
    /// Event time; now, unless given.
    #[serde(default)]
    time_ms: Option<i64>,
}

#[derive(Serialize)]
struct Scores {
    version: Version,
    scores: Vec<f32>,
}

/// `POST /v1/score`.
pub(super) async fn score(State(api): State<Api>, body: Body) -> Response {
    let started = Instant::now();
    let response = match answer_in_time(&api, body).await {
        Ok((version, json)) => (
            [(VERSION_HEADER, version_value(Some(version))), (header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"))],
            json,
        )
            .into_response(),
        Err(error) => error.into_response(),
    };
    metrics::histogram!(names::SCORE_SECONDS).record(started.elapsed());
    metrics::counter!(names::SCORE_REQUESTS, "status" => response.status().as_u16().to_string()).increment(1);
    response
}

/// Within the time that a request may take. What is being computed by then is finished all the same, and holds its core until it is.
async fn answer_in_time(api: &Api, body: Body) -> Result<(Version, Vec<u8>), ApiError> {
    let limit = api.limits.request_timeout;
    tokio::time::timeout(limit, answer(api, body)).await.unwrap_or_else(|_| {
        let message = format!("not answered within {limit:?}: more is asked than can be scored; come back or add a scorer");
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).by(api.subscriber.model().map(|model| model.version())))
    })
}

async fn answer(api: &Api, body: Body) -> Result<(Version, Vec<u8>), ApiError> {
    let served = || api.subscriber.model().map(|model| model.version());
    let limits = api.limits;
    let Ok(_held) = api.in_flight.try_acquire() else {
        let message = format!("{} requests are held already; come back or add a scorer", limits.in_flight_max);
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message).above(limits.in_flight_max).by(served()));
    };
    let body = read(api, body).await.map_err(|error| error.by(served()))?;
    let computing = api.computing.clone().acquire_owned().await;
    let model = api.subscriber.model().ok_or_else(ApiError::no_model)?;
    let version = model.version();
    // Parsing and encoding thousands of candidates is as much work as scoring them: all of it stays off the threads that serve sockets.
    let computed = tokio::task::spawn_blocking(move || {
        let answer = compute(&model, &body, limits.candidates_max);
        drop(computing);
        answer
    });
    match computed.await {
        Ok(Ok(json)) => Ok((version, json)),
        Ok(Err(error)) => Err(error.by(Some(version))),
        Err(_) => Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "scoring panicked; the log says where").by(Some(version))),
    }
}

async fn read(api: &Api, body: Body) -> Result<Vec<u8>, ApiError> {
    let limit = api.limits.body_bytes_max;
    let too_large = || {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is longer than {limit} bytes; send fewer candidates at a time"))
            .at("body")
            .above(limit)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(api.limits.body_timeout, collect(body, limit)).await {
        Ok(Ok(Some(bytes))) => Ok(bytes),
        Ok(Ok(None)) => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::new(StatusCode::BAD_REQUEST, format!("the body broke off: {error}")).at("body")),
        Err(_) => {
            let message = format!("the body did not come within {:?}", api.limits.body_timeout);
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, message).at("body"))
        }
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

fn compute(model: &ServedModel, body: &[u8], candidates_max: usize) -> Result<Vec<u8>, ApiError> {
    let request = parse(body)?;
    let count = request.candidates.len();
    if count > candidates_max {
        let message = format!("{count} candidates; at most {candidates_max} per request");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).at("candidates").above(candidates_max));
    }
    let time = EventTime(request.time_ms.unwrap_or_else(now_ms));
    let scores = model.score(time, &request.context, &request.candidates).map_err(|(index, error)| {
        let field = match &error {
            DecodeError::WrongType { column, .. } | DecodeError::MissingColumn(column) => format!("candidates[{index}].{column}"),
            _ => format!("candidates[{index}]"),
        };
        ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("candidate {index}, with the context's columns: {error}")).at(field)
    })?;
    if let Some(index) = scores.iter().position(|score| !score.is_finite()) {
        let message = format!("candidate {index} has no finite score: its numbers overflow the net");
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message).at(format!("candidates[{index}]")));
    }
    metrics::counter!(names::SCORE_CANDIDATES).increment(count as u64);
    serde_json::to_vec(&Scores { version: model.version(), scores })
        .map_err(|error| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn parse(body: &[u8]) -> Result<ScoreRequest, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let request: ScoreRequest = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let field = error.path().to_string();
        let error = error.into_inner();
        match error.classify() {
            serde_json::error::Category::Data => ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).at(field),
            _ => ApiError::new(StatusCode::BAD_REQUEST, format!("not JSON: {error}")).at("body"),
        }
    })?;
    json.end().map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, format!("more than one JSON value: {error}")).at("body"))?;
    Ok(request)
}
