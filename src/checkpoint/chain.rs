//! Keyed state as a chain of files: a full one, then what was touched since, oldest first.

use std::path::Path;

use super::{CheckpointError, FileEntry, files};

/// State by key that is captured whole or in part.
pub(super) trait Keyed: Sized {
    fn is_full(&self) -> bool;
    fn encode(&self) -> Vec<u8>;
    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError>;
    /// Lays what was touched since over this. The error says why the two do not belong together.
    fn overlay(&mut self, touched: Self) -> Result<(), String>;
}

/// Writes `state` as the next file of the chain `before`, or as the first of a new one where it is full; without a state there is no chain.
pub(super) fn extend<T: Keyed>(
    dir: &Path,
    kind: &str,
    number: u64,
    state: Option<&T>,
    before: Option<&Vec<FileEntry>>,
) -> Result<Vec<FileEntry>, CheckpointError> {
    let Some(state) = state else { return Ok(Vec::new()) };
    let mut chain = before.filter(|_| !state.is_full()).cloned().unwrap_or_default();
    chain.push(files::write_durable(dir, &files::name(kind, number, "safetensors"), &state.encode())?);
    Ok(chain)
}

/// Reads a chain back as one full state, every hash checked; `None` for a chain without files.
pub(super) fn read<T: Keyed>(dir: &Path, chain: &[FileEntry]) -> Result<Option<T>, CheckpointError> {
    let mut whole: Option<T> = None;
    for entry in chain {
        let path = dir.join(&entry.name);
        let part = T::decode(&path, &files::read_verified(dir, entry)?)?;
        match &mut whole {
            Some(whole) => whole.overlay(part).map_err(|why| CheckpointError::corrupt(path, why))?,
            None if part.is_full() => whole = Some(part),
            None => return Err(CheckpointError::corrupt(path, "the first file of a chain must be a full one")),
        }
    }
    Ok(whole)
}
