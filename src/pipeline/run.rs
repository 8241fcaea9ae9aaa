use super::{Control, Status};
use crate::config::Config;
use crate::publish::Publisher;
use crate::stream::{DeadLetterSink, Source, StreamError};
use crate::telemetry::Health;

/// What a pipeline is made of.
pub struct Parts {
    /// Configuration.
    pub config: Config,
    /// Durable state, or none (backtest).
    pub state: State,
    /// Opens the source at these positions (empty: a first start).
    pub source: Box<dyn FnOnce(&[crate::domain::PartitionPosition]) -> Result<Box<dyn Source>, StreamError> + Send>,
    /// Broken events.
    pub dead_letters: Box<dyn DeadLetterSink>,
    /// Snapshots; none: nothing is published.
    pub publisher: Option<Publisher>,
    /// Progress is reported here.
    pub health: Health,
    /// At the end of a finite source, close the join's windows and stop.
    pub finish_at_end: bool,
}

/// Where state lives.
pub enum State {
    /// Under `config.state.dir`.
    Durable,
    /// In memory: nothing is committed.
    Memory,
}

/// Why a pipeline could not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PipelineError {
    /// Source or dead letters.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Features.
    #[error(transparent)]
    Feature(#[from] crate::features::FeatureError),
    /// Learner.
    #[error(transparent)]
    Train(#[from] crate::train::TrainError),
    /// Metrics.
    #[error(transparent)]
    Evaluate(#[from] crate::evaluate::EvaluateError),
    /// Checkpoints.
    #[error(transparent)]
    Checkpoint(#[from] crate::checkpoint::CheckpointError),
    /// sled.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// A thread panicked; its message is in the log.
    #[error("thread {0} panicked")]
    Panicked(&'static str),
}

/// What a pipeline did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Status at the end.
    pub status: Status,
    /// Seconds from first record to end.
    pub seconds: f64,
}

/// A running pipeline.
pub struct Running {}

impl Running {
    /// Recovers, opens the source, starts the threads.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn start(parts: Parts) -> Result<Self, PipelineError> {
        let _ = parts;
        todo!()
    }

    /// Handle.
    #[must_use]
    pub fn control(&self) -> Control {
        todo!()
    }

    /// Waits for the end. Blocking.
    ///
    /// # Errors
    /// [`PipelineError`].
    pub fn join(self) -> Result<Summary, PipelineError> {
        todo!()
    }
}
