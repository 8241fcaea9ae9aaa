//! Owns nets, embedding table and optimizers: one [`Learner::step`] per batch.

mod error;
mod learner;
mod state;

pub use error::TrainError;
pub use learner::{Learner, Scores, StepReport};
pub use state::{DenseState, LearnerState, RowsState, TensorLayout};
