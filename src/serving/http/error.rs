use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{VERSION_HEADER, version_value};
use crate::domain::Version;
use crate::serving::service::Refusal;

#[derive(Serialize)]
struct Body<'a> {
    version: Option<Version>,
    error: &'a Refusal,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.reason.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(Body { version: self.version, error: &self });
        let mut response = (status, [(VERSION_HEADER, version_value(self.version))], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        response
    }
}
