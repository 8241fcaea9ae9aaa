//! Looking at checkpoints beside a running daemon: nothing is locked, nothing changes, and a checkpoint may be collected meanwhile.

use std::io::ErrorKind;
use std::path::Path;

use super::{CheckpointError, CheckpointStore, Commit, Evidence, directory, files};
use crate::config::SchemaConfig;

/// A kept checkpoint.
#[derive(Debug)]
pub struct Kept {
    /// Number.
    pub number: u64,
    /// Its record, or why that cannot be read.
    pub commit: Result<Commit, CheckpointError>,
}

/// The kept checkpoints, oldest first.
///
/// # Errors
/// [`CheckpointError::Io`]: the directory cannot be listed.
pub fn list(dir: &Path) -> Result<Vec<Kept>, CheckpointError> {
    let read = |number| match directory::read_commit(dir, number) {
        Err(CheckpointError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => None,
        commit => Some(Kept { number, commit }),
    };
    Ok(directory::commit_numbers(dir)?.into_iter().filter_map(read).collect())
}

/// What the version of a checkpoint was judged on, if that is still kept; in the order of the features of the checkpoint's schema, which is
/// `None` in checkpoints of earlier versions.
///
/// # Errors
/// [`CheckpointError`], as [`commit`], and for a damaged file.
pub fn evidence(dir: &Path, number: u64) -> Result<(Evidence, Option<SchemaConfig>), CheckpointError> {
    let commit = commit(dir, number)?;
    let extra = files::read_extra(&directory::files_dir(dir), &commit.extra)?;
    Ok((extra.evidence, extra.schema))
}

/// A kept commit.
///
/// # Errors
/// [`CheckpointError::Unknown`], [`CheckpointError::Corrupt`], [`CheckpointError::Newer`], [`CheckpointError::Io`].
pub fn commit(dir: &Path, number: u64) -> Result<Commit, CheckpointError> {
    match directory::read_commit(dir, number) {
        Err(CheckpointError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let kept: Vec<String> = directory::commit_numbers(dir)?.iter().map(u64::to_string).collect();
            let kept = if kept.is_empty() { "none".to_owned() } else { kept.join(", ") };
            Err(CheckpointError::Unknown { number, path: dir.to_owned(), kept })
        }
        commit => commit,
    }
}

/// Whether every file of a commit is there and as long as it should be: a look, not a proof ([`verify`] is one).
#[must_use]
pub fn is_whole(dir: &Path, commit: &Commit) -> bool {
    commit.files().all(|entry| directory::holds(dir, entry))
}

/// Hashes every file of a commit and decodes the whole. Returns what is wrong, of every file that is; nothing where all is well.
///
/// # Errors
/// [`CheckpointError::Unknown`]: it was collected meanwhile.
pub fn verify(dir: &Path, commit: &Commit) -> Result<Vec<String>, CheckpointError> {
    let files_dir = directory::files_dir(dir);
    let mut wrong: Vec<String> =
        commit.files().filter_map(|entry| files::read_verified(&files_dir, entry).err()).map(|error| error.to_string()).collect();
    if wrong.is_empty()
        && let Err(error) = CheckpointStore::load(dir, commit)
    {
        wrong.push(error.to_string());
    }
    let counted: u64 = commit.positions.iter().map(crate::domain::PartitionPosition::count).sum();
    if counted != commit.books.done() {
        wrong.push(format!("its positions say that {counted} events are done, its books {}", commit.books.done()));
    }
    if !wrong.is_empty() {
        self::commit(dir, commit.number)?;
    }
    Ok(wrong)
}
