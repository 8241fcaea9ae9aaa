use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::serving::service::{Reason, Refusal};

/// The code that says whose fault it is and whether to come back.
const fn code(reason: Reason) -> Code {
    match reason {
        Reason::Malformed | Reason::Invalid => Code::InvalidArgument,
        Reason::TooLarge => Code::OutOfRange,
        Reason::UnknownModel => Code::NotFound,
        Reason::NoModel => Code::Unavailable,
        Reason::Full => Code::ResourceExhausted,
        Reason::Slow | Reason::Late => Code::DeadlineExceeded,
        Reason::Failed => Code::Internal,
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = MetadataMap::new();
        let facts = [
            ("x-model-version", refusal.version.map(|version| version.to_string())),
            ("x-field", refusal.field),
            ("x-limit", refusal.limit.map(|limit| limit.to_string())),
        ];
        for (name, fact) in facts {
            // Names of columns may be of any text, and metadata of ASCII only; the message has them all the same.
            if let Some(value) = fact.and_then(|fact| MetadataValue::try_from(fact).ok()) {
                metadata.insert(name, value);
            }
        }
        Status::with_metadata(code(refusal.reason), refusal.message, metadata)
    }
}
