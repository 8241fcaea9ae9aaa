use super::Health;

pub use crate::embedding::{AdmissionState, CountsState, RowsState, SweepState};
pub use crate::nets::{DenseState, TensorLayout};

/// Everything a learner is.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    /// Dense parameters.
    pub dense: DenseState,
    /// Embedding rows of each table, that of `model.embedding.dim` first, the others by rising dim: what the booster reads, and light where
    /// it shares them.
    pub rows: Vec<RowsState>,
    /// Likewise of light alone, where it shares nothing.
    pub light_rows: Option<Vec<RowsState>>,
    /// Counts behind click rates: impressions and clicks per key; `None` where the schema has none.
    pub click_counts: Option<CountsState>,
    /// How far training has come.
    pub course: Course,
}

impl LearnerState {
    /// The rows that the light net reads.
    #[must_use]
    pub fn served_rows(&self) -> &[RowsState] {
        self.light_rows.as_ref().unwrap_or(&self.rows)
    }
}

/// What the learning rule remembers besides parameters.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Course {
    /// Samples trained.
    pub samples: u64,
    /// Steps that were taken before the phase which is on, where the booster comes first; 0 in the first phase.
    pub steps_before: u64,
    /// What the hint is worth; kept whatever the schedule, so that it can be switched on later.
    pub health: Health,
}
