use crate::domain::Version;
use crate::keys::Unverified;
use crate::wire::snapshot::RecordError;

/// Why a record of the topic was not taken in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Not readable.
    #[error("offset {offset}: {source}")]
    Record {
        /// Its offset.
        offset: i64,
        /// Why.
        source: RecordError,
    },
    /// Of another model.
    #[error("offset {offset}: record of model `{found}`, expected `{expected}`")]
    OtherModel {
        /// Its offset.
        offset: i64,
        /// Its model.
        found: String,
        /// Ours.
        expected: String,
    },
    /// Written under a superseded epoch.
    #[error("offset {offset}: {what} of epoch {epoch}, but epoch {current} has taken over")]
    Superseded {
        /// Its offset.
        offset: i64,
        /// Kind of record.
        what: &'static str,
        /// Its epoch.
        epoch: u64,
        /// The epoch that counts.
        current: u64,
    },
    /// Not newer than what its key already holds.
    #[error("offset {offset}: {why}")]
    Replayed {
        /// Its offset.
        offset: i64,
        /// Which rule.
        why: String,
    },
    /// Over before it began.
    #[error("offset {offset}: pin written at {at_ms} ms and expired since {expires_ms} ms: it never held")]
    Expired {
        /// Its offset.
        offset: i64,
        /// Its time.
        at_ms: i64,
        /// Its end.
        expires_ms: i64,
    },
    /// A trainer points back.
    #[error(
        "offset {offset}: trainer's pointer to version {version}, but `current` has named version {highest}: only an operator goes back"
    )]
    Backward {
        /// Its offset.
        offset: i64,
        /// Its target.
        version: Version,
        /// The highest that `current` has named.
        highest: Version,
    },
}

impl CatalogError {
    /// The label in metrics and status.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            CatalogError::Record { source: RecordError::TooLarge(_), .. } => "record_too_large",
            CatalogError::Record { source: RecordError::Protocol { .. }, .. } => "record_protocol",
            CatalogError::Record { source: RecordError::Unsigned { .. }, .. } => "record_unsigned",
            CatalogError::Record { source: RecordError::Signature { why: Unverified::UnknownKey { .. }, .. }, .. } => "record_unknown_key",
            CatalogError::Record { source: RecordError::Signature { .. }, .. } => "record_signature",
            CatalogError::Record { source: RecordError::Role { .. }, .. } => "record_role",
            CatalogError::Record { .. } => "record_malformed",
            CatalogError::OtherModel { .. } => "record_other_model",
            CatalogError::Superseded { .. } => "record_superseded",
            CatalogError::Replayed { .. } => "record_replayed",
            CatalogError::Expired { .. } => "record_expired",
            CatalogError::Backward { .. } => "record_backward",
        }
    }
}
