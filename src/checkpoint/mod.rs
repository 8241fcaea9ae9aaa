//! Durable state: checkpoint files, the commit record, recovery, retention.

mod amend;
mod chain;
mod commit;
mod counts;
mod directory;
mod error;
mod evidence;
mod files;
#[cfg(feature = "fuzzing")]
mod fuzz;
mod inspect;
mod retention;
mod rows;
mod store;
mod tables;

pub use amend::{Input, input_of, newest_commit};
pub use commit::{Commit, FileEntry, LastPublished, PublishMark};
pub use error::CheckpointError;
pub use evidence::{Evidence, EvidenceSample};
pub(crate) use files::{read_verified, write_durable};
#[cfg(feature = "fuzzing")]
pub use fuzz::fuzz_file;
pub use inspect::{Kept, commit, evidence, is_whole, list, verify};
pub use store::{CheckpointStore, Draft, Loaded, ProbeSample};
