//! Stages, channels, threads, shutdown: the only wiring.

mod control;
mod ingest;
mod progress;
mod run;
mod status;

pub use control::Control;
pub use run::{Parts, PipelineError, Running, State, Summary};
pub use status::Status;
