//! What stays of old checkpoints.
//!
//! A record goes before the files that it names, and its going is durable before theirs: whatever is killed when, no record is left whose
//! files are gone. Files without a record only take space until the next checkpoint.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use super::{CheckpointError, directory, files};

/// Removes commit records beyond the newest `keep` (but `also_keep`), then files that no record names.
///
/// A kept record that cannot be read may need any file that is as old as itself or older: those stay until it is beyond the newest `keep`.
pub(super) fn retain(dir: &Path, keep: usize, also_keep: &BTreeSet<u64>) -> Result<(), CheckpointError> {
    let (commits_dir, files_dir) = (directory::commits_dir(dir), directory::files_dir(dir));
    let numbers = directory::commit_numbers(dir)?;
    let mut needed: HashSet<String> = HashSet::new();
    let mut unknown = None;
    let first_kept = numbers.len().saturating_sub(keep.max(1));
    for (index, number) in numbers.into_iter().enumerate() {
        if index < first_kept && !also_keep.contains(&number) {
            directory::remove(&commits_dir.join(directory::commit_name(number)))?;
            continue;
        }
        match directory::read_commit(dir, number) {
            Ok(commit) => needed.extend(commit.files().map(|entry| entry.name.clone())),
            Err(error) => {
                tracing::warn!(checkpoint = number, %error, "a commit record cannot be read; what it may need is kept");
                unknown = Some(number);
            }
        }
    }
    files::sync_dir(&commits_dir)?;
    for name in directory::names_in(&files_dir)? {
        let may_be_needed = unknown.is_some_and(|unknown| directory::number_of(&name).is_none_or(|number| number <= unknown));
        if !needed.contains(&name) && (!may_be_needed || files::is_temporary(&name)) {
            directory::remove(&files_dir.join(&name))?;
        }
    }
    Ok(())
}

/// Removes what a killed writer left unfinished.
pub(super) fn remove_unfinished(dir: &Path) -> Result<(), CheckpointError> {
    for dir in [directory::commits_dir(dir), directory::files_dir(dir)] {
        for name in directory::names_in(&dir)?.iter().filter(|name| files::is_temporary(name)) {
            directory::remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes what was written of a checkpoint that could not be committed, as far as that can be done: a disk that is full needs the room.
pub(super) fn give_up(dir: &Path, number: u64) {
    let files_dir = directory::files_dir(dir);
    // The record first: it may be in place where only making that durable failed.
    let removed = directory::remove(&directory::commits_dir(dir).join(directory::commit_name(number))).and_then(|()| {
        files::sync_dir(&directory::commits_dir(dir))?;
        let names = directory::names_in(&files_dir)?;
        let written = names.iter().filter(|name| directory::number_of(name) == Some(number));
        // All that can be, also behind one that cannot.
        written.map(|name| directory::remove(&files_dir.join(name))).fold(Ok(()), Result::and)
    });
    if let Err(error) = removed {
        tracing::warn!(checkpoint = number, %error, "what was written of a failed checkpoint could not be removed; it only takes space");
    }
}
