use crate::embedding::{CountsError, TableError};
use crate::nets::DenseError;

/// Why a learner cannot be built, restored or stepped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The device is unknown, or not in this build.
    #[error("train.device = \"{device}\": {why}")]
    Device {
        /// As configured.
        device: String,
        /// Why, and what is allowed.
        why: String,
    },
    /// A saved state that does not fit the configured model.
    #[error("saved state does not fit the configured model: {0}; `checkpoint.mismatch = \"warm_start\"` goes on with what fits")]
    Mismatch(String),
}

impl From<TableError> for TrainError {
    fn from(error: TableError) -> Self {
        TrainError::Mismatch(error.to_string())
    }
}

impl From<CountsError> for TrainError {
    fn from(error: CountsError) -> Self {
        TrainError::Mismatch(error.to_string())
    }
}

impl From<DenseError> for TrainError {
    fn from(error: DenseError) -> Self {
        TrainError::Mismatch(error.to_string())
    }
}
