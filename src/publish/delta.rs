//! Two artifacts → what makes the second out of the first.
//!
//! Rows are compared bit by bit, so that a delta bears what has changed and nothing else, whoever changed it.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::artifact::Tensor;
use crate::wire::snapshot::delta::{HEADER, gone_of, keys_of, table_of};

/// Length of the number that says how long a header is.
const LENGTH_BYTES: usize = 8;

/// One table of an artifact.
struct Table<'a> {
    keys: Vec<u64>,
    /// Its other tensors.
    columns: Vec<(String, TensorView<'a>)>,
}

/// The delta from `base` to `artifact`; `None` where a table's columns have other names, types or widths, and so have no row in common.
pub(super) fn make(base: &[u8], artifact: &[u8]) -> Result<Option<Vec<u8>>, SafeTensorError> {
    let (length, _) = SafeTensors::read_metadata(artifact)?;
    let (old, new) = (SafeTensors::deserialize(base)?, SafeTensors::deserialize(artifact)?);
    let mut made = vec![(HEADER.to_owned(), u8s(&artifact[..LENGTH_BYTES + length]))];
    for (name, view) in new.iter() {
        let table = table_of(name).filter(|table| new.tensor(&keys_of(table)).is_ok());
        match table {
            None => made.push((name.to_owned(), copy(&view))),
            Some(table) if name == keys_of(table) => match changes(table, &old, &new)? {
                Some(changed) => made.extend(changed),
                None => return Ok(None),
            },
            Some(_) => {}
        }
    }
    safetensors::serialize(made.iter().map(|(name, tensor)| (name, tensor)), None).map(Some)
}

/// Rows of a table that are new or other than they were, and keys that it has lost.
fn changes(table: &str, old: &SafeTensors<'_>, new: &SafeTensors<'_>) -> Result<Option<Vec<(String, Tensor)>>, SafeTensorError> {
    let Some(new) = read(table, new)? else { return Ok(None) };
    let old = match old.tensor(&keys_of(table)) {
        Err(_) => Table { keys: Vec::new(), columns: Vec::new() },
        Ok(_) => match read(table, old)? {
            Some(old) if old.fits(&new) => old,
            _ => return Ok(None),
        },
    };
    let (mut changed, mut gone, mut held) = (Vec::new(), Vec::new(), 0);
    for (row, key) in new.keys.iter().enumerate() {
        while let Some(lost) = old.keys.get(held).filter(|held| *held < key) {
            gone.push(*lost);
            held += 1;
        }
        if old.keys.get(held) == Some(key) {
            if !old.has_row(held, &new, row) {
                changed.push(row);
            }
            held += 1;
        } else {
            changed.push(row);
        }
    }
    gone.extend(&old.keys[held..]);
    let mut made = vec![(keys_of(table), u64s(changed.iter().map(|row| new.keys[*row]))), (gone_of(table), u64s(gone.into_iter()))];
    for (name, view) in &new.columns {
        let width = width(view, new.keys.len());
        let bytes = changed.iter().flat_map(|row| &view.data()[row * width..][..width]).copied().collect();
        let shape = std::iter::once(changed.len()).chain(view.shape()[1..].iter().copied()).collect();
        made.push((name.clone(), Tensor { dtype: view.dtype(), shape, bytes }));
    }
    Ok(Some(made))
}

/// A table whose keys rise and whose columns have a row for each of them.
fn read<'a>(table: &str, tensors: &SafeTensors<'a>) -> Result<Option<Table<'a>>, SafeTensorError> {
    let keyed = tensors.tensor(&keys_of(table))?;
    let keys: Vec<u64> = keyed.data().as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let mut columns: Vec<(String, TensorView<'a>)> = tensors
        .iter()
        .filter(|(name, _)| table_of(name) == Some(table) && *name != keys_of(table))
        .map(|(name, view)| (name.to_owned(), view))
        .collect();
    columns.sort_by(|a, b| a.0.cmp(&b.0));
    let whole = keyed.dtype() == Dtype::U64
        && keys.is_sorted_by(|a, b| a < b)
        && columns.iter().all(|(_, view)| view.shape().first() == Some(&keys.len()));
    Ok(whole.then_some(Table { keys, columns }))
}

impl Table<'_> {
    /// Columns of the same names, types and widths.
    fn fits(&self, other: &Table<'_>) -> bool {
        let form = |table: &Table<'_>| -> Vec<(String, Dtype, Vec<usize>)> {
            table.columns.iter().map(|(name, view)| (name.clone(), view.dtype(), view.shape()[1..].to_vec())).collect()
        };
        form(self) == form(other)
    }

    fn has_row(&self, row: usize, other: &Table<'_>, other_row: usize) -> bool {
        self.columns.iter().zip(&other.columns).all(|((_, ours), (_, theirs))| {
            let width = width(ours, self.keys.len());
            ours.data()[row * width..][..width] == theirs.data()[other_row * width..][..width]
        })
    }
}

/// Bytes of one row.
fn width(view: &TensorView<'_>, rows: usize) -> usize {
    view.data().len().checked_div(rows).unwrap_or(0)
}

fn copy(view: &TensorView<'_>) -> Tensor {
    Tensor { dtype: view.dtype(), shape: view.shape().to_vec(), bytes: view.data().to_vec() }
}

fn u8s(bytes: &[u8]) -> Tensor {
    Tensor { dtype: Dtype::U8, shape: vec![bytes.len()], bytes: bytes.to_vec() }
}

fn u64s(numbers: impl Iterator<Item = u64>) -> Tensor {
    let bytes: Vec<u8> = numbers.flat_map(u64::to_le_bytes).collect();
    Tensor { dtype: Dtype::U64, shape: vec![bytes.len() / size_of::<u64>()], bytes }
}
