use serde::Serialize;

use crate::domain::Version;

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serving) enum Reason {
    /// The request cannot be read.
    Malformed,
    /// It can, and asks for what cannot be.
    Invalid,
    /// It is longer than it may be.
    TooLarge,
    /// It did not come in time.
    Slow,
    /// It names a model that is not here.
    UnknownModel,
    /// Nothing is served yet.
    NoModel,
    /// As many requests as may be are held already.
    Full,
    /// It was not answered in time.
    Late,
    /// Our own fault.
    Failed,
}

impl Reason {
    /// The status over HTTP; in metrics that of any call, so that an alert on 5xx sees both.
    pub(in crate::serving) const fn status(self) -> u16 {
        match self {
            Reason::Malformed => 400,
            Reason::Invalid => 422,
            Reason::TooLarge => 413,
            Reason::Slow => 408,
            Reason::UnknownModel => 404,
            Reason::NoModel | Reason::Full | Reason::Late => 503,
            Reason::Failed => 500,
        }
    }
}

/// A refusal: what, where in the request, and the limit where one was passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::serving) struct Refusal {
    #[serde(skip)]
    pub(in crate::serving) reason: Reason,
    #[serde(skip)]
    pub(in crate::serving) version: Option<Version>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::serving) field: Option<String>,
    pub(in crate::serving) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::serving) limit: Option<usize>,
}

impl Refusal {
    pub(in crate::serving) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Refusal { reason, version: None, field: None, message: message.into(), limit: None }
    }

    pub(in crate::serving) fn no_model() -> Self {
        Self::new(Reason::NoModel, "no model yet: no snapshot on disk, and none verified from the topic so far")
    }

    /// Where in the request.
    pub(in crate::serving) fn at(self, field: impl Into<String>) -> Self {
        Refusal { field: Some(field.into()), ..self }
    }

    /// The limit that was passed.
    pub(in crate::serving) fn above(self, limit: usize) -> Self {
        Refusal { limit: Some(limit), ..self }
    }

    /// The version that refused, where it is not known already.
    pub(in crate::serving) fn by(self, version: Option<Version>) -> Self {
        Refusal { version: self.version.or(version), ..self }
    }
}
