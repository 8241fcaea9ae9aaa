//! Prequential metrics: AUC, logloss, calibration, per-user GAUC, hint health; tumbling windows and since start.

mod evaluator;
mod report;
mod users;

pub use evaluator::{AggregateState, Evaluator};
pub use report::{HeadReport, HintReport, Report, UserLine, WindowReport};
pub use users::{EvaluateError, MemoryUsers, UserStates};
