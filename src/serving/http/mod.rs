//! The scorer's HTTP: the listener and the shutdown are the caller's.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/models/{model}/score` | `{"version", "scores"}`, one score per candidate, in their order |
//! | `POST /v1/models/{model}/batch` | of `{"requests"}`: `{"version", "results": [{"scores"}]}`, in their order, all by one version |
//! | `GET /v1/models/{model}` | version, creation, expiry, quality, staleness, and the subscriber's status |
//! | `GET /v1/models` | names and versions |
//! | `POST /v1/score`, `POST /v1/batch`, `GET /v1/model` | likewise of the first model |
//! | `GET /livez`, `/readyz` | 200, or 503 with the reason |
//! | `GET /metrics` | Prometheus text |
//!
//! Every answer bears the header `x-model-version` (`none` while nothing is served); a score answer's is that of the model that scored, that
//! of pages about no model the first model's. Errors are `{"version", "error": {"field", "message", "limit"}}`, absent parts left out.

mod error;
mod score;

use axum::extract::{Path, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::service::Refusal;
use crate::domain::Version;
use crate::telemetry::server;

pub use super::service::{Limits, Service};

/// The header that names the served version.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-model-version");
/// The text format of Prometheus, as its scraper announces it.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every handler sees.
#[derive(Clone)]
struct Api {
    service: Service,
    metrics: PrometheusHandle,
}

/// The model that a path names, if it names one.
type Named = Option<Path<String>>;

/// All routes, for [`serve`] or for merging into a bigger server.
pub fn router(service: Service, metrics: PrometheusHandle) -> Router {
    let api = Api { service, metrics };
    Router::new()
        .route("/v1/score", post(score::one))
        .route("/v1/batch", post(score::batch))
        .route("/v1/model", get(model_page))
        .route("/v1/models", get(models_page))
        .route("/v1/models/{model}", get(model_page))
        .route("/v1/models/{model}/score", post(score::one))
        .route("/v1/models/{model}/batch", post(score::batch))
        .route("/livez", get(live_page))
        .route("/readyz", get(ready_page))
        .route("/metrics", get(metrics_page))
        .layer(from_fn_with_state(api.clone(), name_version))
        .with_state(api)
}

/// Serves [`router`] on `listener` until `shutdown` resolves; requests in flight are answered.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    service: Service,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limits = service.limits().connection;
    server::serve(listener, router(service, metrics), limits, shutdown).await
}

fn version_value(version: Option<Version>) -> HeaderValue {
    version.map_or(HeaderValue::from_static("none"), |version| HeaderValue::from(version.0))
}

/// Names the served version in answers that did not name the one they used.
async fn name_version(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let served = || version_value(api.service.models().first().version());
    response.headers_mut().entry(VERSION_HEADER).or_insert_with(served);
    response
}

async fn model_page(State(api): State<Api>, name: Named) -> Result<Response, Refusal> {
    let subscriber = api.service.find(name.as_ref().map(|Path(name)| name.as_str()))?;
    let model = subscriber.model().ok_or_else(Refusal::no_model)?;
    let status = subscriber.status();
    let manifest = model.manifest();
    let page = serde_json::json!({
        "version": manifest.version,
        "created_ms": manifest.created_ms,
        "expires_ms": manifest.expires_ms,
        "stale": status.stale,
        "quality": manifest.quality,
        "subscriber": status,
    });
    Ok(([(VERSION_HEADER, version_value(Some(manifest.version)))], Json(page)).into_response())
}

async fn models_page(State(api): State<Api>) -> Json<serde_json::Value> {
    let models =
        api.service.models().iter().map(|subscriber| serde_json::json!({ "model": subscriber.name(), "version": subscriber.version() }));
    Json(serde_json::json!({ "models": models.collect::<Vec<_>>() }))
}

async fn live_page(State(api): State<Api>) -> Response {
    match api.service.models().iter().find(|subscriber| !subscriber.is_following()) {
        None => (StatusCode::OK, "follows the snapshot topic\n").into_response(),
        Some(ended) => {
            let why = format!("{}: the thread that follows the snapshot topic has ended; the log says why\n", ended.name());
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn ready_page(State(api): State<Api>) -> Response {
    let mut served = String::new();
    for subscriber in api.service.models().iter() {
        match subscriber.version() {
            Some(version) => served += &format!("{} serves version {version}\n", subscriber.name()),
            None => {
                let why = format!("{}: no snapshot yet, neither on disk nor from the topic\n", subscriber.name());
                return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
            }
        }
    }
    (StatusCode::OK, served).into_response()
}

async fn metrics_page(State(api): State<Api>) -> Response {
    // Staleness comes with time alone, so it is looked at when somebody looks.
    for subscriber in api.service.models().iter() {
        let _ = subscriber.status();
    }
    api.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, METRICS_TYPE)], api.metrics.render()).into_response()
}
