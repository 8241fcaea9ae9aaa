//! The scorer's HTTP: the listener and the shutdown are the caller's.
//!
//! | request | answer |
//! |---|---|
//! | `POST /v1/score` | `{"version", "scores"}`, one score per candidate, in their order |
//! | `GET /v1/model` | version, creation, expiry, quality, staleness, and the subscriber's status |
//! | `GET /livez`, `/readyz` | 200, or 503 with the reason |
//! | `GET /metrics` | Prometheus text |
//!
//! Every answer bears the header `x-model-version` (`none` while nothing is served); a score answer's is that of the model that scored.
//! Errors are `{"version", "error": {"field", "message", "limit"}}`, absent parts left out.

mod error;
mod score;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Subscriber;
use crate::domain::Version;
use crate::telemetry::server::{self, ConnectionLimits};
use error::ApiError;

/// The header that names the served version.
pub const VERSION_HEADER: HeaderName = HeaderName::from_static("x-model-version");

/// Several pages of candidates of one auction; a request of this many takes a few milliseconds.
const CANDIDATES_MAX: usize = 5000;
/// Five thousand candidates of some eight hundred bytes each.
const BODY_BYTES_MAX: usize = 4 << 20;
/// Requests held at once; times the body's limit, it bounds their memory. More are told to come back.
const IN_FLIGHT_MAX: usize = 256;
/// A body that has not come by then comes from a client that has gone.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// An auction has long been decided by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Some thousand ad servers with a few connections each have a load balancer before them.
const CONNECTIONS_MAX: usize = 4096;
/// Cookies and tracing headers of a request that came through several proxies.
const HEADER_BYTES_MAX: usize = 32 << 10;
/// Pools of connections keep them idle this long, as a rule.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// A client that has read nothing by then has gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// The text format of Prometheus, as its scraper announces it.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a request may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Candidates per request.
    pub candidates_max: usize,
    /// Bytes per request body.
    pub body_bytes_max: usize,
    /// Requests held at once; above it the answer is 503.
    pub in_flight_max: usize,
    /// Requests computed at once, each on a thread of its own.
    pub computing_max: usize,
    /// How long a request's body may take to come; then the answer is 408.
    pub body_timeout: Duration,
    /// How long a scoring request may take in all, waiting for a core included; then the answer is 503.
    pub request_timeout: Duration,
    /// What a connection may cost.
    pub connection: ConnectionLimits,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            candidates_max: CANDIDATES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            // One per core: more would only slow each other.
            computing_max: std::thread::available_parallelism().map_or(1, usize::from),
            body_timeout: BODY_TIMEOUT,
            request_timeout: REQUEST_TIMEOUT,
            connection: ConnectionLimits {
                connections_max: CONNECTIONS_MAX,
                header_bytes_max: HEADER_BYTES_MAX,
                header_timeout: HEADER_TIMEOUT,
                write_timeout: WRITE_TIMEOUT,
            },
        }
    }
}

/// What every handler sees.
#[derive(Clone)]
struct Api {
    subscriber: Arc<Subscriber>,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    computing: Arc<Semaphore>,
    metrics: PrometheusHandle,
}

/// All routes, for [`serve`] or for merging into a bigger server.
pub fn router(subscriber: Arc<Subscriber>, limits: Limits, metrics: PrometheusHandle) -> Router {
    let api = Api {
        subscriber,
        limits,
        in_flight: Arc::new(Semaphore::new(limits.in_flight_max)),
        computing: Arc::new(Semaphore::new(limits.computing_max)),
        metrics,
    };
    Router::new()
        .route("/v1/score", post(score::score))
        .route("/v1/model", get(model_page))
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
    subscriber: Arc<Subscriber>,
    limits: Limits,
    metrics: PrometheusHandle,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    server::serve(listener, router(subscriber, limits, metrics), limits.connection, shutdown).await
}

fn version_value(version: Option<Version>) -> HeaderValue {
    version.map_or(HeaderValue::from_static("none"), |version| HeaderValue::from(version.0))
}

/// Names the served version in answers that did not name the one they used.
async fn name_version(State(api): State<Api>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let served = || version_value(api.subscriber.model().map(|model| model.version()));
    response.headers_mut().entry(VERSION_HEADER).or_insert_with(served);
    response
}

async fn model_page(State(api): State<Api>) -> Result<Response, ApiError> {
    let model = api.subscriber.model().ok_or_else(ApiError::no_model)?;
    let status = api.subscriber.status();
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

async fn live_page(State(api): State<Api>) -> Response {
    if api.subscriber.is_following() {
        return (StatusCode::OK, "follows the snapshot topic\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "the thread that follows the snapshot topic has ended; the log says why\n").into_response()
}

async fn ready_page(State(api): State<Api>) -> Response {
    match api.subscriber.model() {
        Some(model) => (StatusCode::OK, format!("serves version {}\n", model.version())).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "no snapshot yet, neither on disk nor from the topic\n").into_response(),
    }
}

async fn metrics_page(State(api): State<Api>) -> Response {
    // Staleness comes with time alone, so it is looked at when somebody looks.
    let _ = api.subscriber.status();
    api.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, METRICS_TYPE)], api.metrics.render()).into_response()
}
