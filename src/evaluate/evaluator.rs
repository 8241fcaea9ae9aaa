use super::{EvaluateError, Report, UserLine, UserStates};
use crate::batch::Batch;
use crate::config::EvaluateConfig;
use crate::domain::UserId;
use crate::train::StepReport;

/// The aggregates that go into a commit record; integers and bit-exact sums, so that a recovered run equals an uninterrupted one.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AggregateState {}

/// Keeps the metrics. Used by one thread (the one that owns sled).
pub struct Evaluator {}

impl Evaluator {
    /// Starts from `state` (default: from nothing) over the users of `users`.
    ///
    /// # Errors
    /// [`EvaluateError::From`].
    pub fn new(config: &EvaluateConfig, users: Box<dyn UserStates>, state: AggregateState) -> Result<Self, EvaluateError> {
        let _ = (config, users, state);
        todo!()
    }

    /// Takes the prequential scores of a trained batch. Not called for batches that were not applied.
    ///
    /// # Errors
    /// [`EvaluateError`] of the store or a record.
    pub fn observe(&mut self, batch: &Batch, report: &StepReport) -> Result<(), EvaluateError> {
        let _ = (batch, report);
        todo!()
    }

    /// Metrics as of now.
    #[must_use]
    pub fn report(&self) -> Report {
        todo!()
    }

    /// The `n` users with most impressions, from the store as of the last commit.
    ///
    /// # Errors
    /// [`EvaluateError`].
    pub fn top_users(&mut self, n: usize) -> Result<Vec<UserLine>, EvaluateError> {
        let _ = n;
        todo!()
    }

    /// The aggregates as of now, after writing every user changed since the last call to the store under checkpoint `number`, durably.
    ///
    /// # Errors
    /// [`EvaluateError::Store`].
    pub fn checkpoint(&mut self, number: u64) -> Result<AggregateState, EvaluateError> {
        let _ = number;
        todo!()
    }

    /// Checkpoint `number` is committed.
    pub fn committed(&mut self, number: u64) {
        let _ = number;
        todo!()
    }

    /// Users in the cache.
    #[must_use]
    pub fn cached_users(&self) -> usize {
        let _: Option<UserId> = None;
        todo!()
    }
}
