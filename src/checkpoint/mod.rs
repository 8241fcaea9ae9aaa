//! Durable state: checkpoint files, the commit record, recovery, retention.

mod chain;
mod commit;
mod counts;
mod directory;
mod error;
mod files;
mod inspect;
mod retention;
mod rows;
mod store;
mod tables;

pub use commit::{Commit, FileEntry, LastPublished, PublishMark};
pub use error::CheckpointError;
pub use inspect::{Kept, commit, is_whole, list, verify};
pub use store::{CheckpointStore, Draft, Loaded, ProbeSample};
