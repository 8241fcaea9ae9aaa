use std::path::Path;

use super::{CheckpointError, Commit};
use crate::domain::{Books, EventTime, ImpressionId, PartitionPosition};
use crate::evaluate::{AggregateState, Report};
use crate::train::LearnerState;

/// A raw event and the light net's logit for it at the checkpoint: a snapshot's self-test.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ProbeSample {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// One per feature, as [`crate::wire::snapshot::field_to_json`] writes them.
    pub fields: Vec<serde_json::Value>,
    /// Light's logit with the weights of the checkpoint.
    pub logit: f32,
}

/// What is to be committed.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Checkpoint number.
    pub number: u64,
    /// Weights, rows, optimizer.
    pub learner: LearnerState,
    /// Impressions closed recently.
    pub memory: Vec<(EventTime, ImpressionId)>,
    /// Self-test.
    pub probes: Vec<ProbeSample>,
    /// What is done of the input.
    pub positions: Vec<PartitionPosition>,
    /// Conservation.
    pub books: Books,
    /// GAUC.
    pub evaluation: AggregateState,
    /// Metrics.
    pub report: Report,
    /// blake3 of the config's JSON, hex.
    pub config_hash: String,
    /// When, milliseconds.
    pub created_ms: i64,
}

/// A checkpoint read back.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Weights, rows (full), optimizer.
    pub learner: LearnerState,
    /// Impressions closed recently.
    pub memory: Vec<(EventTime, ImpressionId)>,
    /// Self-test.
    pub probes: Vec<ProbeSample>,
}

/// The checkpoint directory. One process at a time.
#[derive(Debug)]
pub struct CheckpointStore {}

impl CheckpointStore {
    /// Opens (or makes) the directory and takes its lock.
    ///
    /// # Errors
    /// [`CheckpointError::Locked`], [`CheckpointError::Io`].
    pub fn open(dir: &Path, keep: usize) -> Result<Self, CheckpointError> {
        let _ = (dir, keep);
        todo!()
    }

    /// Reads a committed checkpoint, every hash checked.
    ///
    /// # Errors
    /// [`CheckpointError::Corrupt`], [`CheckpointError::Io`].
    pub fn load(dir: &Path, commit: &Commit) -> Result<Loaded, CheckpointError> {
        let _ = (dir, commit);
        todo!()
    }
}
