//! Durable state: checkpoint files, the commit record, recovery, retention.

mod amend;
mod chain;
mod commit;
mod counts;
mod error;
mod files;
mod rows;
mod store;
mod tables;

pub use amend::{Input, amend, input_of, newest_commit};
pub use commit::{Commit, FileEntry};
pub use error::CheckpointError;
pub use store::{CheckpointStore, Draft, Loaded, ProbeSample};
