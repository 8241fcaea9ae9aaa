//! Durable state: checkpoint files, the commit record, recovery, retention.

mod chain;
mod commit;
mod counts;
mod error;
mod files;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod rows;
mod store;
mod tables;

pub use commit::{Commit, FileEntry};
pub use error::CheckpointError;
#[cfg(feature = "fuzzing")]
pub use fuzz::fuzz_file;
pub use store::{CheckpointStore, Draft, Loaded, ProbeSample};
