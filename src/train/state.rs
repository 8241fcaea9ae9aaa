use super::Health;
use crate::embedding::{CountsCopy, TableCopy};
use crate::nets::DenseCopy;

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

/// A complete copy of a learner, not put together yet: that takes time that a step has not.
#[derive(Debug)]
pub struct LearnerCopy {
    pub(super) dense: DenseCopy,
    pub(super) rows: Vec<TableCopy>,
    pub(super) light_rows: Option<Vec<TableCopy>>,
    pub(super) click_counts: Option<CountsCopy>,
    pub(super) course: Course,
}

impl LearnerCopy {
    /// As if it had been copied at once. Takes a second or so for 10 million rows.
    #[must_use]
    pub fn state(self) -> LearnerState {
        let tables = |copies: Vec<TableCopy>| copies.into_iter().map(TableCopy::state).collect();
        LearnerState {
            dense: self.dense.state(),
            rows: tables(self.rows),
            light_rows: self.light_rows.map(tables),
            click_counts: self.click_counts.map(CountsCopy::state),
            course: self.course,
        }
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
