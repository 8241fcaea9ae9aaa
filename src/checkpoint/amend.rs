//! What a commit says of the input, and a new commit that says something else of it and leaves what was learnt as it is.

use std::path::Path;

use super::files::{self, Extra};
use super::{CheckpointError, CheckpointStore, Commit, directory};
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
    let Extra { memory, open, .. } = files::read_extra(&directory::files_dir(dir), &commit.extra)?;
    Ok(Input { positions: commit.positions.clone(), books: commit.books.clone(), memory, open })
}

impl CheckpointStore {
    /// Commits `input` under the next number, with everything else as in `commit`, users too.
    ///
    /// # Errors
    /// [`CheckpointError`]; `commit` is still the newest then.
    pub fn amend(&mut self, commit: &Commit, input: Input, created_ms: i64) -> Result<&Commit, CheckpointError> {
        let number = self.next_number(0);
        let made = amended(&directory::files_dir(&self.dir), commit, number, input, created_ms);
        self.conclude(number, made)
    }
}

fn amended(files_dir: &Path, commit: &Commit, number: u64, input: Input, created_ms: i64) -> Result<Commit, CheckpointError> {
    let Input { positions, books, memory, open } = input;
    let extra = Extra { memory, open, ..files::read_extra(files_dir, &commit.extra)? };
    let extra = files::write_extra(files_dir, number, &extra)?;
    Ok(Commit { number, created_ms, extra, positions, books, restores: Some(commit.users_of()), ..commit.clone() })
}
