//! The scorer's gRPC (`scorer.proto`), beside HTTP: the listener and the shutdown are the caller's.
//!
//! | call | answer |
//! |---|---|
//! | `rocket.v1.Scorer/Score` | version and scores, one per candidate, in their order |
//! | `rocket.v1.Scorer/ScoreBatch` | of several requests, all by one version |
//! | `rocket.v1.Scorer/GetModel` | what is served |
//! | `grpc.health.v1.Health/Check` | `SERVING` once a model is served, for the service named like the model or for all of them |
//!
//! A refusal is a status with the metadata `x-model-version`, `x-field` and `x-limit`, absent parts left out:
//!
//! | code | why |
//! |---|---|
//! | `INVALID_ARGUMENT` | a mistake in the request, or too many candidates |
//! | `OUT_OF_RANGE` | a longer message than is allowed |
//! | `NOT_FOUND` | no model of that name |
//! | `UNAVAILABLE` | no model is served yet |
//! | `RESOURCE_EXHAUSTED` | as many requests as may be are held already |
//! | `DEADLINE_EXCEEDED` | not answered in time |

mod columns;
mod health;
mod scorer;
mod status;

use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use tokio::net::TcpListener;
use tonic::Status;
use tonic_health::pb::health_server::HealthServer;

use super::service::{Refusal, Service, record};
use crate::telemetry::server;
use health::Readiness;
use proto::scorer_server::ScorerServer;
use scorer::Front;

/// Messages, service and client, made from `scorer.proto` at build time.
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]
pub mod proto {
    tonic::include_proto!("rocket.v1");
}

/// Both services, for [`serve`].
pub fn router(service: Service) -> Router {
    let scorer = ScorerServer::new(Front::new(service.clone())).max_decoding_message_size(service.limits().body_bytes_max);
    Router::new()
        .route_service("/rocket.v1.Scorer/{call}", scorer)
        .layer(from_fn_with_state(service.clone(), bounded))
        .route_service("/grpc.health.v1.Health/{call}", HealthServer::new(Readiness::new(service)))
        .fallback(|| std::future::ready(Status::unimplemented("no such service here").into_http::<axum::body::Body>()))
}

/// Serves [`router`] on `listener`, HTTP/2 without TLS, until `shutdown` resolves; calls in flight are answered.
///
/// # Errors
/// The listener's.
pub async fn serve(listener: TcpListener, service: Service, shutdown: impl Future<Output = ()> + Send + 'static) -> std::io::Result<()> {
    let limits = service.limits().connection;
    server::serve_http2(listener, router(service), limits, shutdown).await
}

/// Holds a call among the others, and to its time, from before its message is read.
async fn bounded(State(service): State<Service>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let answered = service.in_time(async {
        let held = service.hold()?;
        let response = next.run(request).await;
        drop(held);
        Ok(response)
    });
    answered.await.unwrap_or_else(|refusal: Refusal| {
        record("", started, refusal.reason.status());
        Status::from(refusal).into_http()
    })
}
