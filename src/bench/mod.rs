//! The program's own speed on this machine: what is measured, and on what load. The rooms are measured as the daemon uses them.
//!
//! One model stands behind all figures ([`Workload`]): 24 slots of 16 floats, 8 numbers, a booster 392-1024-512-256-1 and a light net
//! 392-128-64-1, ids by Zipf's law. Run it on an idle machine: other load moves the figures by a factor of two.

mod feed;
mod gauc;
mod ingest;
mod timing;
mod train;
mod workload;

pub use gauc::{GaucBench, GaucFigures};
pub use ingest::{IngestBench, IngestFigures};
pub use train::{TrainBench, TrainFigures};
pub use workload::Workload;

use crate::evaluate::EvaluateError;
use crate::store::StoreError;
use crate::train::TrainError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The device, most likely.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// GAUC.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The store of users.
    #[error(transparent)]
    Store(#[from] StoreError),
}
