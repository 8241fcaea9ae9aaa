pub use crate::embedding::{CountsState, RowsState};
pub use crate::nets::{DenseState, TensorLayout};

/// Everything a learner is.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    /// Dense parameters.
    pub dense: DenseState,
    /// Embedding rows.
    pub rows: RowsState,
    /// Counts behind click rates: impressions and clicks per key; `None` where the schema has none.
    pub click_counts: Option<CountsState>,
}
