use super::{AdmissionState, RowsError, SweepState};
use crate::config::EmbeddingOptimizer;

/// Embedding rows: all, or those touched since the capture before.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowsState {
    /// Weights per row.
    pub dim: usize,
    /// Floats per row: `dim` weights, the optimizer's state, and the time of the last update where rows expire.
    pub width: usize,
    /// Whose state that is.
    pub optimizer: EmbeddingOptimizer,
    /// Keys, in the order the table knows them.
    pub keys: Vec<u64>,
    /// `[keys, width]`.
    pub data: Vec<f32>,
    /// All rows of the table.
    pub full: bool,
    /// In an increment, the place of each key among the rows of the table; all other rows stand where they stood. Empty when full.
    pub places: Vec<u32>,
    /// Rows of the table: in an increment, what stands beyond is gone. `None` in increments from before rows could leave: their keys
    /// stand where they stood, new ones behind.
    pub rows: Option<usize>,
    /// In an increment, keys whose rows left since the capture before, by value.
    pub removed: Vec<u64>,
    /// What is known of ids without a row; whole in an increment too.
    pub admission: AdmissionState,
    /// How far the search for expired rows is.
    pub sweep: SweepState,
}

/// Saved rows that do not make a table of this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Another number of weights.
    #[error("embedding rows have {found} floats, model.embedding.dim is {expected}")]
    Dim {
        /// Of the saved rows.
        found: usize,
        /// Of the configuration.
        expected: usize,
    },
    /// Other tables.
    #[error("embedding rows have {found:?} floats, table by table, model.embedding.dim and the dims of features make {expected:?}")]
    Dims {
        /// Of the saved rows.
        found: Vec<usize>,
        /// Of the configuration.
        expected: Vec<usize>,
    },
    /// Optimizer state of another kind.
    #[error("embedding rows were trained with {found}, train.optimizer.embedding is {expected}")]
    Optimizer {
        /// Of the saved rows.
        found: EmbeddingOptimizer,
        /// Of the configuration.
        expected: EmbeddingOptimizer,
    },
    /// Optimizer state of another size.
    #[error("embedding rows have {found} floats with their optimizer state, expected {expected}")]
    Width {
        /// Of the saved rows.
        found: usize,
        /// Of the configuration.
        expected: usize,
    },
    /// An increment where the whole table is needed.
    #[error("embedding rows are an increment, restoring needs the full table")]
    Partial,
    /// Keys and floats do not belong together.
    #[error("embedding rows {0}")]
    Rows(#[from] RowsError),
}
