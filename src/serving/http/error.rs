use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{VERSION_HEADER, version_value};
use crate::domain::Version;

/// A refusal: what, where in the request, and the limit where one was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct ApiError {
    #[serde(skip)]
    pub(super) status: StatusCode,
    #[serde(skip)]
    version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Body<'a> {
    version: Option<Version>,
    error: &'a ApiError,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, version: None, field: None, message: message.into(), limit: None }
    }

    pub(super) fn no_model() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no model yet: no snapshot on disk, and none verified from the topic so far")
    }

    /// Where in the request.
    pub(super) fn at(self, field: impl Into<String>) -> Self {
        ApiError { field: Some(field.into()), ..self }
    }

    /// The limit that was passed.
    pub(super) fn above(self, limit: usize) -> Self {
        ApiError { limit: Some(limit), ..self }
    }

    /// The version that refused.
    pub(super) fn by(self, version: Option<Version>) -> Self {
        ApiError { version, ..self }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Json(Body { version: self.version, error: &self });
        let mut response = (self.status, [(VERSION_HEADER, version_value(self.version))], body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, 1.into());
        }
        response
    }
}
