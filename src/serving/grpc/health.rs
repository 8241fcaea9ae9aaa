use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::serving::service::Service;

/// The standard health service, answered from what is served at that moment.
pub(super) struct Readiness {
    service: Service,
}

impl Readiness {
    pub(super) fn new(service: Service) -> Self {
        Readiness { service }
    }
}

#[tonic::async_trait]
impl Health for Readiness {
    type WatchStream = BoxStream<HealthCheckResponse>;

    /// Of the model named as service; of all of them, where none is named.
    async fn check(&self, call: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let name = call.into_inner().service;
        let models = self.service.models();
        let ready = match name.as_str() {
            "" | "rocket.v1.Scorer" => models.iter().all(|subscriber| subscriber.version().is_some()),
            name => models.get(name).ok_or_else(|| Status::not_found(format!("no model {name:?} here")))?.version().is_some(),
        };
        let status = if ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }

    /// The protocol lets a server have no watch; clients then check.
    async fn watch(&self, _call: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("check instead; nothing is pushed"))
    }
}
