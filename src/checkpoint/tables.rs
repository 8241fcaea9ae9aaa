//! Chains of the rows of several tables: the first bears its kind's name alone, further ones their dim too.

use std::collections::BTreeMap;
use std::path::Path;

use super::{CheckpointError, FileEntry, chain};
use crate::train::RowsState;

/// Files, oldest first.
type Chain = Vec<FileEntry>;

/// As [`chain::extend`], for all tables that one net reads: the chain of the first, and those of the further ones by dim. `before` are their
/// chains so far.
pub(super) fn extend(
    dir: &Path,
    kind: &str,
    number: u64,
    tables: &[RowsState],
    before: Option<(&Chain, &BTreeMap<usize, Chain>)>,
) -> Result<(Chain, BTreeMap<usize, Chain>), CheckpointError> {
    let mut tables = tables.iter();
    let first = chain::extend(dir, kind, number, tables.next(), before.map(|(first, _)| first))?;
    let further = tables.map(|rows| {
        let before = before.and_then(|(_, further)| further.get(&rows.dim));
        Ok((rows.dim, chain::extend(dir, &format!("{kind}_{}", rows.dim), number, Some(rows), before)?))
    });
    Ok((first, further.collect::<Result<_, CheckpointError>>()?))
}

/// The tables of these chains, each as one full state; none where the first chain has no files.
pub(super) fn read(dir: &Path, first: &[FileEntry], further: &BTreeMap<usize, Chain>) -> Result<Vec<RowsState>, CheckpointError> {
    let chains = std::iter::once(first).chain(further.values().map(Vec::as_slice));
    chains.filter_map(|chain| chain::read(dir, chain).transpose()).collect()
}
