//! What a commit says of the input, and a new commit that says something else of it and leaves what was learnt as it is.

use std::path::Path;

use super::files::{self, Extra};
use super::{CheckpointError, Commit, directory};
use crate::domain::{Books, EventTime, ImpressionId, OpenImpression, PartitionPosition, TopicPartition};

/// Everything in a checkpoint that hangs together with where reading goes on.
#[derive(Debug, Clone, PartialEq)]
pub struct Input {
    /// What is done of it.
    pub positions: Vec<PartitionPosition>,
    /// As what.
    pub books: Books,
    /// Impressions closed recently.
    pub memory: Vec<(EventTime, ImpressionId)>,
    /// Impressions trained whose windows are open, by partition.
    pub open: Vec<(TopicPartition, Vec<OpenImpression>)>,
}

/// The newest commit record under `dir` that can be read; its files are not looked at. Needs no lock: another process may own the directory.
///
/// # Errors
/// [`CheckpointError`]: there are records, and none can be read.
pub fn newest_commit(dir: &Path) -> Result<Option<Commit>, CheckpointError> {
    if !directory::commits_dir(dir).is_dir() {
        return Ok(None);
    }
    let mut problem = None;
    for number in directory::commit_numbers(dir)?.into_iter().rev() {
        match directory::read_commit(dir, number) {
            Ok(commit) => return Ok(Some(commit)),
            Err(error) => drop(problem.get_or_insert(error)),
        }
    }
    problem.map_or(Ok(None), Err)
}

/// What `commit` says of the input.
///
/// # Errors
/// [`CheckpointError::Corrupt`], [`CheckpointError::Io`].
pub fn input_of(dir: &Path, commit: &Commit) -> Result<Input, CheckpointError> {
    let Extra { memory, open, .. } = extra_of(dir, commit)?;
    Ok(Input { positions: commit.positions.clone(), books: commit.books.clone(), memory, open })
}

/// Commits `input` under `number`, with everything else as in `commit`, users too. The caller holds the directory's lock, and `number` is
/// above every one used there.
///
/// # Errors
/// [`CheckpointError`]; `commit` is still the newest then.
pub fn amend(dir: &Path, commit: &Commit, number: u64, input: Input, created_ms: i64) -> Result<Commit, CheckpointError> {
    let extra = Extra { memory: input.memory, open: input.open, ..extra_of(dir, commit)? };
    let extra = serde_json::to_vec(&extra).expect("plain structs serialise");
    let extra = files::write_durable(&directory::files_dir(dir), &files::name("extra", number, "json"), &extra)?;
    let (positions, books, restores) = (input.positions, input.books, Some(commit.users_of()));
    let amended = Commit { number, created_ms, extra, positions, books, restores, ..commit.clone() };
    files::write_durable(&directory::commits_dir(dir), &directory::commit_name(number), &amended.encode())?;
    Ok(amended)
}

fn extra_of(dir: &Path, commit: &Commit) -> Result<Extra, CheckpointError> {
    let dir = directory::files_dir(dir);
    let bytes = files::read_verified(&dir, &commit.extra)?;
    serde_json::from_slice(&bytes).map_err(|e| CheckpointError::corrupt(dir.join(&commit.extra.name), e))
}
