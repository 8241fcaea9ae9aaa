//! The program's own speed on this machine: what is measured, and on what load. The rooms are measured as the daemon uses them.
//!
//! One model stands behind all figures ([`Workload`]): 24 slots of 16 floats, 8 numbers, a booster 392-1024-512-256-1 and a light net
//! 392-128-64-1, ids by Zipf's law. Run it on an idle machine: other load moves the figures by a factor of two.

mod broker;
mod feed;
mod gauc;
mod ingest;
mod quantiles;
mod score;
mod timing;
mod train;
mod workload;

pub use broker::{BrokerBench, BrokerFigures};
pub use gauc::{GaucBench, GaucFigures};
pub use ingest::{IngestBench, IngestFigures};
pub use quantiles::Quantiles;
pub use score::{Phase, ScoreBench, ScoreFigures, ServiceBench, ServiceFigures, Shape, SwapFigures};
pub use train::{TrainBench, TrainFigures};
pub use workload::Workload;

use crate::domain::Version;
use crate::evaluate::EvaluateError;
use crate::interchange::InterchangeError;
use crate::pipeline::PipelineError;
use crate::serving::{ModelError, SubscriberError};
use crate::store::StoreError;
use crate::stream::StreamError;
use crate::train::TrainError;
use crate::wire::DecodeError;

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
    /// The model that is scored with.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A request's columns.
    #[error(transparent)]
    Columns(#[from] DecodeError),
    /// A request's JSON.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// Files for other programs.
    #[error(transparent)]
    Interchange(#[from] InterchangeError),
    /// The subscriber that is loaded.
    #[error(transparent)]
    Subscriber(#[from] SubscriberError),
    /// Its topic.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// A version that does not come to be served.
    #[error("version {version} is not served: {status}")]
    NotServed {
        /// Version.
        version: Version,
        /// The subscriber's status.
        status: String,
    },
    /// The daemon's threads.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A broker that does not bring what it has taken.
    #[error("{brokers} brought {read} of {sent} events, and no more for {waited_s} s; look at the broker's log and at the machine's load")]
    Silent {
        /// The broker.
        brokers: String,
        /// Events read.
        read: usize,
        /// Events sent.
        sent: usize,
        /// How long the next were waited for.
        waited_s: u64,
    },
    /// Files and sockets.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
