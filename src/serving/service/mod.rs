//! What HTTP and gRPC share: which models there are, what a request may cost, and how scores are computed.

mod limits;
mod models;
mod refusal;
mod request;

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{ServedModel, Subscriber};
use crate::domain::Version;
use crate::telemetry::names;

pub use limits::Limits;
pub use models::{Models, ModelsError};
pub(super) use refusal::{Reason, Refusal};
pub(super) use request::{ScoreRequest, score};

/// The status of an answer with scores, in metrics.
pub(super) const DONE: u16 = 200;

/// What every front has in common. Fronts that share one share its limits.
#[derive(Debug, Clone)]
pub struct Service {
    models: Models,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    computing: Arc<Semaphore>,
}

impl Service {
    /// Over these models, or over a single subscriber.
    pub fn new(models: impl Into<Models>, limits: Limits) -> Self {
        let [in_flight, computing] = [limits.in_flight_max, limits.computing_max].map(|permits| Arc::new(Semaphore::new(permits)));
        Service { models: models.into(), limits, in_flight, computing }
    }

    pub(super) fn models(&self) -> &Models {
        &self.models
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The model of this name; the first, unless one is named.
    pub(super) fn find(&self, name: Option<&str>) -> Result<&Arc<Subscriber>, Refusal> {
        let Some(name) = name else { return Ok(self.models.first()) };
        self.models.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.models.iter().map(|subscriber| subscriber.name()).collect();
            Refusal::new(Reason::UnknownModel, format!("no model {name:?} here; there are {}", names.join(", "))).at("model")
        })
    }

    /// A place among the requests held at once.
    pub(super) fn hold(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.in_flight).try_acquire_owned().map_err(|_| {
            let limit = self.limits.in_flight_max;
            Refusal::new(Reason::Full, format!("{limit} requests are held already; come back or add a scorer")).above(limit)
        })
    }

    /// Within the time that a request may take. What is being computed by then is finished all the same, and holds its core until it is.
    pub(super) async fn in_time<T>(&self, answer: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let limit = self.limits.request_timeout;
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            let message = format!("not answered within {limit:?}: more is asked than can be scored; come back or add a scorer");
            Err(Refusal::new(Reason::Late, message))
        })
    }

    /// Computes with the model that is served once a core is free. Parsing and encoding thousands of candidates is as much work as scoring
    /// them: all of it belongs into `work`, which runs off the threads that serve sockets.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        subscriber: &Subscriber,
        work: impl FnOnce(&ServedModel) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Version, T), Refusal> {
        let Ok(computing) = Arc::clone(&self.computing).acquire_owned().await else {
            return Err(Refusal::new(Reason::Failed, "the scorer is closing"));
        };
        let model = subscriber.model().ok_or_else(Refusal::no_model)?;
        let version = model.version();
        let computed = tokio::task::spawn_blocking(move || {
            let answer = work(&model);
            drop(computing);
            answer
        });
        match computed.await {
            Ok(Ok(answer)) => Ok((version, answer)),
            Ok(Err(refusal)) => Err(refusal.by(Some(version))),
            Err(_) => Err(Refusal::new(Reason::Failed, "scoring panicked; the log says where").by(Some(version))),
        }
    }
}

/// Counts a scoring request that ended with this status; of one that named no model of ours, `model` is empty.
pub(super) fn record(model: &str, started: Instant, status: u16) {
    metrics::histogram!(names::SCORE_SECONDS, "model" => model.to_owned()).record(started.elapsed());
    metrics::counter!(names::SCORE_REQUESTS, "model" => model.to_owned(), "status" => status.to_string()).increment(1);
}
