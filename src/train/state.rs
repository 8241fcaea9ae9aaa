pub use crate::embedding::{AdmissionState, RowsState, SweepState};
pub use crate::nets::{DenseState, TensorLayout};

/// Everything a learner is.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    /// Dense parameters.
    pub dense: DenseState,
    /// Embedding rows.
    pub rows: RowsState,
}
