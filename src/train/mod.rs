//! Owns nets, embedding table and optimizers: one [`Learner::step`] per batch.

mod device;
mod error;
mod health;
mod learner;
mod lookup;
mod phase;
mod state;
mod teacher;
mod warm_start;

pub use crate::nets::Scores;
pub use device::Compute;
pub use error::TrainError;
pub use health::Health;
pub use learner::{Learner, StepReport};
pub use state::{AdmissionState, CountsState, Course, DenseState, LearnerCopy, LearnerState, RowsState, SweepState, TensorLayout};
pub use teacher::{Teacher, Teachers};
