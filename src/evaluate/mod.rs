//! Prequential metrics: AUC, logloss, calibration, per-user GAUC, hint health; tumbling windows and since start.
//!
//! Every sum is an integer (counts, or fixed-point numbers): what is added can be taken away again without a trace, the order of
//! additions does not matter, and a state restored from its JSON goes on bit by bit like one that was never interrupted. Drift alone is
//! watched in floats and in the order of the stream, and goes on bit by bit as well.
//!
//! architecture invariant: no sled and no clock. Records of users are opaque bytes behind [`UserStates`] and [`UserWriter`]; time is event time.

mod adwin;
mod bytes;
mod cache;
mod capture;
pub mod compare;
mod drift;
mod evaluator;
mod fixed;
mod gauc;
mod histogram;
mod impressions;
mod pairwise;
mod record;
mod report;
mod top;
mod totals;
mod user;
mod users;
mod windows;

pub use capture::Capture;
pub use evaluator::{AggregateState, Evaluator};
#[cfg(feature = "fuzzing")]
pub use record::fuzz_user;
pub use report::{DriftReport, HeadReport, HintReport, Report, Rise, UserLine, WindowReport};
pub use top::TopUsers;
pub use users::{EvaluateError, MemoryUsers, UserStates, UserWriter};

/// One value per head, in the order of [`crate::domain::Head::index`].
type PerHead<T> = [T; crate::domain::Head::ALL.len()];
