use crate::domain::Version;
use crate::serving::Catalog;
use crate::stream::{LogReader, LogWriter, StreamError};
use crate::wire::snapshot::Manifest;

/// Why an act was refused. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OperatorError {
    /// The topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// No such version.
    #[error("version {version} is not on the snapshot topic; it holds {held}")]
    UnknownVersion {
        /// Asked for.
        version: Version,
        /// What there is, or `none`.
        held: String,
    },
    /// There, but not whole.
    #[error("version {version}: {why}")]
    Damaged {
        /// Version.
        version: Version,
        /// Which chunk or check.
        why: String,
    },
    /// Nothing is pinned.
    #[error("nothing is pinned")]
    NotPinned,
}

/// An operator at the snapshot topic.
pub struct Operator {}

impl Operator {
    /// Reads the topic to its end.
    ///
    /// # Errors
    /// [`OperatorError::Stream`].
    pub fn open(model: &str, actor: &str, reader: Box<dyn LogReader>, writer: Box<dyn LogWriter>) -> Result<Self, OperatorError> {
        let _ = (model, actor, reader, writer);
        todo!()
    }

    /// The topic as read.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        todo!()
    }

    /// Fetches a version and verifies all of it as a subscriber would (hashes, tensors, probes).
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn verify(&mut self, version: Version) -> Result<Manifest, OperatorError> {
        let _ = version;
        todo!()
    }

    /// Verifies `to`, then writes `a/current`, `p/all` and the audit entry.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn rollback(&mut self, to: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        let _ = (to, reason, now_ms);
        todo!()
    }

    /// Verifies and pins.
    ///
    /// # Errors
    /// [`OperatorError`].
    pub fn pin(&mut self, version: Version, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        let _ = (version, reason, now_ms);
        todo!()
    }

    /// Lifts the pin.
    ///
    /// # Errors
    /// [`OperatorError::NotPinned`].
    pub fn unpin(&mut self, reason: &str, now_ms: i64) -> Result<(), OperatorError> {
        let _ = (reason, now_ms);
        todo!()
    }
}
