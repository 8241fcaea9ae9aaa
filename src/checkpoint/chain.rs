//! Keyed state as a chain of files: a full one, then what was touched since, oldest first.

use std::collections::HashMap;
use std::path::Path;

use super::files::{self, COUNTS_WIDTH};
use super::{CheckpointError, FileEntry};
use crate::train::{CountsState, RowsState};

/// State by key that is captured whole or in part.
pub(super) trait Keyed: Sized {
    fn is_full(&self) -> bool;
    fn encode(&self) -> Vec<u8>;
    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError>;
    /// Lays `touched` over this: known keys are replaced, new ones appended. The error says why the two do not belong together.
    fn overlay(&mut self, touched: Self) -> Result<(), String>;
}

impl Keyed for RowsState {
    fn is_full(&self) -> bool {
        self.full
    }

    fn encode(&self) -> Vec<u8> {
        files::encode_rows(self)
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        files::decode_rows(path, bytes)
    }

    fn overlay(&mut self, touched: Self) -> Result<(), String> {
        let (found, before) = ((touched.dim, touched.width, touched.optimizer), (self.dim, self.width, self.optimizer));
        if found != before {
            return Err(format!("dim, width and optimizer {found:?} after files of {before:?}"));
        }
        overlay(self.width, (&mut self.keys, &mut self.data), touched.keys, &touched.data);
        Ok(())
    }
}

impl Keyed for CountsState {
    fn is_full(&self) -> bool {
        self.full
    }

    fn encode(&self) -> Vec<u8> {
        files::encode_counts(self)
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        files::decode_counts(path, bytes)
    }

    fn overlay(&mut self, touched: Self) -> Result<(), String> {
        overlay(COUNTS_WIDTH, (&mut self.keys, &mut self.data), touched.keys, &touched.data);
        Ok(())
    }
}

fn overlay(width: usize, (keys, data): (&mut Vec<u64>, &mut Vec<f32>), touched: Vec<u64>, rows: &[f32]) {
    let mut index: HashMap<u64, usize> = keys.iter().enumerate().map(|(row, key)| (*key, row)).collect();
    for (key, row) in touched.into_iter().zip(rows.chunks_exact(width.max(1))) {
        match index.get(&key) {
            Some(at) => data[at * width..(at + 1) * width].copy_from_slice(row),
            None => {
                index.insert(key, keys.len());
                keys.push(key);
                data.extend_from_slice(row);
            }
        }
    }
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
