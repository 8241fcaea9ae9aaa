use super::{LearnerState, TrainError};
use crate::batch::Batch;
use crate::config::{ModelConfig, TrainConfig};
use crate::domain::Head;
use crate::features::FeatureSpec;

/// Logits from the forward pass before the update, `[rows]` per head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Light.
    pub light: Vec<f32>,
    /// Booster.
    pub booster: Vec<f32>,
    /// Control, if the model has one.
    pub control: Option<Vec<f32>>,
}

impl Scores {
    /// Logits of one head.
    #[must_use]
    pub fn head(&self, head: Head) -> Option<&[f32]> {
        match head {
            Head::Light => Some(&self.light),
            Head::Booster => Some(&self.booster),
            Head::Control => self.control.as_deref(),
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq)]
pub struct StepReport {
    /// Prequential logits.
    pub scores: Scores,
    /// Total loss (cross-entropies, hint), mean over the batch.
    pub loss: f64,
    /// mean((l − z)²).
    pub hint_mse: f64,
    /// Share of the light head's gradient norm that the hint supplies, 0 to 1; measured at the light logit.
    pub hint_share: f64,
    /// False: something was not finite, every parameter is bit-unchanged, and the batch is not trained.
    pub applied: bool,
}

/// Nets, table and optimizers. Used by one thread.
pub struct Learner {}

impl Learner {
    /// A fresh learner: weights from `config.seed`.
    ///
    /// # Errors
    /// [`TrainError::Device`].
    pub fn new(model: &ModelConfig, config: &TrainConfig, spec: &FeatureSpec) -> Result<Self, TrainError> {
        let _ = (model, config, spec);
        todo!()
    }

    /// Predict, then train.
    pub fn step(&mut self, batch: &Batch) -> StepReport {
        let _ = batch;
        todo!()
    }

    /// Logits with the current weights; changes nothing (unknown ids stay unknown).
    #[must_use]
    pub fn predict(&self, batch: &Batch) -> Scores {
        let _ = batch;
        todo!()
    }

    /// A copy of the state: all rows, or those touched since the last capture. Leaves training bit-equal.
    pub fn capture(&mut self, full: bool) -> LearnerState {
        let _ = full;
        todo!()
    }

    /// Becomes `state`; `state.rows` must be full.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`]; the learner is unchanged then.
    pub fn restore(&mut self, state: LearnerState) -> Result<(), TrainError> {
        let _ = state;
        todo!()
    }

    /// Rows in the table.
    #[must_use]
    pub fn table_rows(&self) -> usize {
        todo!()
    }
}
