use std::collections::BTreeMap;

use crate::domain::Version;
use crate::stream::LogRecord;
use crate::wire::snapshot::{AuditEntry, Lease, Manifest, Pin, Pointer, RecordError};

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
    /// Older than what its key already holds, or written under a superseded epoch.
    #[error("offset {offset}: {why}")]
    Superseded {
        /// Its offset.
        offset: i64,
        /// Which rule.
        why: String,
    },
}

/// The fold of a snapshot topic: latest per key, chunk offsets, and what follows from them. No I/O.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    model: String,
    manifests: BTreeMap<Version, Manifest>,
    chunks: BTreeMap<(Version, u32), i64>,
    current: Option<Pointer>,
    pin: Option<Pin>,
    lease: Option<Lease>,
    audit: BTreeMap<u64, AuditEntry>,
    seq: u64,
    epoch: u64,
}

impl Catalog {
    /// Empty, for this model.
    #[must_use]
    pub fn new(model: &str) -> Self {
        Catalog { model: model.to_owned(), ..Catalog::default() }
    }

    /// Takes one record in. Tombstones on `c/` and `m/` mean collected; on other keys they are ignored. Keys of unknown kinds are skipped.
    ///
    /// # Errors
    /// [`CatalogError`]: the record is not taken in; everything else stays.
    pub fn apply(&mut self, record: &LogRecord) -> Result<(), CatalogError> {
        let _ = record;
        todo!()
    }

    /// The version that servers should serve: the pin's, else `current`'s.
    #[must_use]
    pub fn target(&self) -> Option<Version> {
        self.pin.as_ref().and_then(|pin| pin.version).or_else(|| self.current.as_ref().map(|pointer| pointer.version))
    }

    /// Manifests by version.
    #[must_use]
    pub fn manifests(&self) -> &BTreeMap<Version, Manifest> {
        &self.manifests
    }

    /// Offsets of a version's chunks in order; `None` unless its manifest and all chunks are there.
    #[must_use]
    pub fn chunk_offsets(&self, version: Version) -> Option<Vec<i64>> {
        let _ = (version, &self.chunks);
        todo!()
    }

    /// Pointer `current`.
    #[must_use]
    pub fn current(&self) -> Option<&Pointer> {
        self.current.as_ref()
    }

    /// The pin record; one with version `None` means unpinned.
    #[must_use]
    pub fn pin(&self) -> Option<&Pin> {
        self.pin.as_ref()
    }

    /// The publisher's lease.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Audit entries, oldest first.
    pub fn audit(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> {
        self.audit.values()
    }

    /// Highest seq seen; a writer takes the next.
    #[must_use]
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// Highest epoch seen.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Highest version seen in any manifest, chunk or pointer, collected ones included.
    #[must_use]
    pub fn highest_version(&self) -> Option<Version> {
        todo!()
    }
}
