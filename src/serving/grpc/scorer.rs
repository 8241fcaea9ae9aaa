use std::sync::Arc;
use std::time::Instant;

use tonic::{Request, Response, Status};

use super::columns::Columns;
use super::proto::{self, scorer_server::Scorer};
use crate::domain::Version;
use crate::serving::service::{DONE, Reason, Refusal, Service, record, score};
use crate::serving::{ServedModel, Subscriber};

/// The service over the models.
pub(super) struct Front {
    service: Service,
}

impl Front {
    pub(super) fn new(service: Service) -> Self {
        Front { service }
    }

    /// The model of this name; the first, where it is empty.
    fn find(&self, name: &str) -> Result<&Arc<Subscriber>, Refusal> {
        self.service.find((!name.is_empty()).then_some(name))
    }

    /// Computes and counts; the version belongs to what was computed.
    async fn answer<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&ServedModel, usize) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<(Version, T), Status> {
        let started = Instant::now();
        let found = self.find(name);
        let model = found.as_ref().map_or("", |subscriber| subscriber.name());
        let candidates_max = self.service.limits().candidates_max;
        let answered = match &found {
            Ok(subscriber) => {
                let computed = self.service.compute(subscriber, move |model| work(model, candidates_max)).await;
                computed.map_err(|refusal| refusal.by(subscriber.version()))
            }
            Err(refusal) => Err(refusal.clone()),
        };
        record(model, started, answered.as_ref().map_or_else(|refusal| refusal.reason.status(), |_| DONE));
        Ok(answered?)
    }
}

#[tonic::async_trait]
impl Scorer for Front {
    async fn score(&self, call: Request<proto::ScoreRequest>) -> Result<Response<proto::ScoreResponse>, Status> {
        let message = call.into_inner();
        let name = message.model.clone();
        let work = |model: &ServedModel, candidates_max| {
            let columns = Columns::new(message, "")?;
            Ok(score(model, &[columns.request()], candidates_max, |_| String::new())?.concat())
        };
        let (version, scores) = self.answer(&name, work).await?;
        Ok(Response::new(proto::ScoreResponse { version: version.0, scores }))
    }

    async fn score_batch(&self, call: Request<proto::ScoreBatchRequest>) -> Result<Response<proto::ScoreBatchResponse>, Status> {
        let message = call.into_inner();
        let name = message.model.clone();
        let work = |model: &ServedModel, candidates_max| {
            let mut columns = Vec::with_capacity(message.requests.len());
            for (index, single) in message.requests.into_iter().enumerate() {
                if !single.model.is_empty() && single.model != model.manifest().model {
                    let message = format!("model {:?} in a batch for {:?}; send it apart", single.model, model.manifest().model);
                    return Err(Refusal::new(Reason::Invalid, message).at(format!("requests[{index}].model")));
                }
                columns.push(Columns::new(single, &format!("requests[{index}]."))?);
            }
            let requests: Vec<_> = columns.iter().map(Columns::request).collect();
            score(model, &requests, candidates_max, |index| format!("requests[{index}]."))
        };
        let (version, scores) = self.answer(&name, work).await?;
        let results = scores.into_iter().map(|scores| proto::Scores { scores }).collect();
        Ok(Response::new(proto::ScoreBatchResponse { version: version.0, results }))
    }

    async fn get_model(&self, call: Request<proto::GetModelRequest>) -> Result<Response<proto::Model>, Status> {
        let subscriber = self.find(&call.into_inner().model)?;
        let model = subscriber.model().ok_or_else(Refusal::no_model)?;
        let (manifest, status) = (model.manifest(), subscriber.status());
        Ok(Response::new(proto::Model {
            model: manifest.model.clone(),
            version: manifest.version.0,
            created_ms: manifest.created_ms,
            expires_ms: manifest.expires_ms,
            stale: status.stale,
            schema_hash: manifest.schema_hash.clone(),
            target: status.target.map(|version| version.0),
            waiting: status.waiting,
        }))
    }
}
