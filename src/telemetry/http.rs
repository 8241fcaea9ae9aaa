//! `/metrics`, `/livez` and `/readyz`: the listener and the shutdown are the caller's.

use std::time::Duration;

use axum::Router;
use axum::body::HttpBody;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;

use super::server::ConnectionLimits;
use super::{Health, Verdict};

/// The text format of Prometheus, as its scraper announces it.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A scraper, a load balancer and a few people; a page is short.
const LIMITS: ConnectionLimits = ConnectionLimits {
    connections_max: 64,
    header_bytes_max: 16 << 10,
    header_timeout: Duration::from_secs(30),
    write_timeout: Duration::from_secs(10),
};

#[derive(Clone)]
struct Shared {
    metrics: PrometheusHandle,
    health: Health,
}

/// The three pages, for merging into a bigger server or for [`serve`].
///
/// `/livez` and `/readyz` answer 200 or 503, with the reason as text.
pub fn router(metrics: PrometheusHandle, health: Health) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/livez", get(live_page))
        .route("/readyz", get(ready_page))
        .layer(from_fn(refuse_bodies))
        .with_state(Shared { metrics, health })
}

/// Serves [`router`] on `listener` until `shutdown` resolves; requests in flight are answered.
///
/// # Errors
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    metrics: PrometheusHandle,
    health: Health,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    super::server::serve(listener, router(metrics, health), LIMITS, shutdown).await
}

/// No page reads a body.
async fn refuse_bodies(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() { next.run(request).await } else { StatusCode::PAYLOAD_TOO_LARGE.into_response() }
}

async fn metrics_page(State(shared): State<Shared>) -> Response {
    shared.metrics.run_upkeep();
    ([(header::CONTENT_TYPE, METRICS_TYPE)], shared.metrics.render()).into_response()
}

async fn live_page(State(shared): State<Shared>) -> Response {
    page(shared.health.live())
}

async fn ready_page(State(shared): State<Shared>) -> Response {
    page(shared.health.is_ready())
}

fn page(verdict: Verdict) -> Response {
    let status = if verdict.ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", verdict.why)).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get_page(address: std::net::SocketAddr, path: &str) -> String {
        get_page_with(address, path, "").await
    }

    async fn get_page_with(address: std::net::SocketAddr, path: &str, header: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{header}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("send");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answer");
        answer
    }

    #[tokio::test]
    async fn pages_tell_health_and_metrics() {
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || metrics::gauge!(super::super::names::TABLE_ROWS).set(7.0));
        let health = Health::new(Duration::from_secs(3600));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = tokio::spawn(serve(listener, recorder.handle(), health.clone(), async {
            let _ = stopped.await;
        }));

        assert!(get_page(address, "/metrics").await.contains("rocket_table_rows 7"));
        assert!(get_page(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let not_ready = get_page(address, "/readyz").await;
        assert!(not_ready.starts_with("HTTP/1.1 503"), "{not_ready}");
        assert!(not_ready.contains("not recovered"), "{not_ready}");
        health.ready(true);
        assert!(get_page(address, "/readyz").await.starts_with("HTTP/1.1 200"));

        let refused = get_page_with(address, "/metrics", "Content-Length: 9\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 413"), "{refused}");
        let refused = get_page_with(address, "/metrics", &format!("X: {}\r\n", "x".repeat(20_000))).await;
        assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");

        stop.send(()).expect("server lives");
        server.await.expect("no panic").expect("no error");
    }
}
