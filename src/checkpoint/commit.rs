use serde::{Deserialize, Serialize};

use crate::domain::{Books, PartitionPosition};
use crate::evaluate::{AggregateState, Report};

/// A file that belongs to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name inside the checkpoint directory; made from numbers alone.
    pub name: String,
    /// Length.
    pub bytes: u64,
    /// blake3, hex.
    pub blake3: String,
}

/// The commit record: the one point at which everything becomes true.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Commit {
    /// Checkpoint number; also the version of a snapshot published from it.
    pub number: u64,
    /// When, milliseconds.
    pub created_ms: i64,
    /// Dense parameters and Adam's state.
    pub dense: FileEntry,
    /// Embedding rows: a full file, then those touched since, oldest first.
    pub rows: Vec<FileEntry>,
    /// Join memory and probe samples.
    pub extra: FileEntry,
    /// What is done of the input.
    pub positions: Vec<PartitionPosition>,
    /// Conservation.
    pub books: Books,
    /// GAUC's aggregates.
    pub evaluation: AggregateState,
    /// Metrics at this point, for people and manifests.
    pub report: Report,
    /// blake3 of the config's JSON, hex.
    pub config_hash: String,
}
