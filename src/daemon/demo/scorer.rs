//! The scorer as ad servers run it, in this process: subscriber, HTTP, and the one request that the demo's clients send.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::client::Client;
use super::traffic::Offer;
use crate::config::Config;
use crate::daemon::Failure;
use crate::domain::Version;
use crate::keys::Trust;
use crate::serving::http::{Limits, Service, serve};
use crate::serving::{Subscriber, SubscriberConfig};
use crate::stream::{KafkaLogReader, LogReader};

/// What is still running when the demo ends is nobody's any more.
const ABANDON: Duration = Duration::from_secs(1);

/// A running scorer.
pub(super) struct Scorer {
    subscriber: Arc<Subscriber>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
    runtime: Runtime,
}

impl Scorer {
    /// Follows the configuration's snapshot topic and listens on a free port of the loopback interface.
    pub(super) fn start(config: &Config, cache: &Path, metrics: PrometheusHandle) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::failed(format!("starting the scorer: {e}"));
        let (kafka, topic) = (config.kafka.clone(), config.snapshots_topic());
        let open = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
        let trust = Trust::load(&config.keys.trusted)?;
        let following = SubscriberConfig { trust, ..SubscriberConfig::new(&config.name, cache) };
        let subscriber = Subscriber::start(following, open).map_err(|e| Failure::Failed(e.into()))?;
        let subscriber = Arc::new(subscriber);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("scorer").enable_all().build().map_err(failed)?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (stop, mut stopped) = watch::channel(false);
        let served = Arc::clone(&subscriber);
        runtime.spawn(async move {
            let until = async move {
                // A sender that is gone means the same.
                let _ = stopped.wait_for(|stop| *stop).await;
            };
            if let Err(e) = serve(listener, Service::new(served, Limits::default()), metrics, until).await {
                tracing::error!("scorer: {e}");
            }
        });
        Ok(Scorer { subscriber, address, stop, runtime })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The version that requests are answered with now.
    pub(super) fn version(&self) -> Option<Version> {
        self.subscriber.model().map(|model| model.version())
    }

    /// Swaps since start.
    pub(super) fn swaps(&self) -> u64 {
        self.subscriber.status().swaps
    }

    /// Stops listening and following, so that the broker can go.
    pub(super) fn stop(self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        self.runtime.shutdown_timeout(ABANDON);
        // A request that was abandoned above still holds it; then the process ends before it matters.
        let subscriber = Arc::into_inner(self.subscriber);
        subscriber.map_or(Ok(()), Subscriber::stop).map_err(|e| Failure::Failed(e.into()))
    }
}

#[derive(Deserialize)]
struct Scores {
    version: u64,
    scores: Vec<f32>,
}

/// One scoring request: the version that answered, and the score of the candidate that was shown.
pub(super) fn ask(client: &mut Client, offer: &Offer) -> Result<(u64, f32), String> {
    let request = json!({ "time_ms": offer.time_ms, "context": offer.context, "candidates": offer.candidates });
    let (status, body) = client.post("/v1/score", request.to_string().as_bytes()).map_err(|e| e.to_string())?;
    if status != 200 {
        return Err(format!("status {status}: {}", String::from_utf8_lossy(&body)));
    }
    let answer: Scores = serde_json::from_slice(&body).map_err(|e| format!("the answer cannot be read: {e}"))?;
    match answer.scores.first() {
        Some(&score) if answer.scores.len() == offer.candidates.len() => Ok((answer.version, score)),
        _ => Err(format!("{} scores for {} candidates", answer.scores.len(), offer.candidates.len())),
    }
}
