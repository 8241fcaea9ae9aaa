use std::collections::HashMap;
use std::ops::Range;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::domain::Version;
use crate::serving::ModelError;
use crate::serving::artifact::{HEADER_BYTES_MAX, LENGTH_BYTES, keys, parse};
use crate::wire::snapshot::delta::{HEADER, gone_of, keys_of, table_of};

/// Rows that follow one another, of the base or of the delta.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Base(Range<usize>),
    Delta(Range<usize>),
}

/// A table's rows in the order of the artifact.
struct Merged {
    pieces: Vec<Piece>,
    rows: usize,
}

/// The artifact of `bytes` bytes that a delta makes of its base. What it is compared by is the caller's: the hash in its manifest.
///
/// # Errors
/// [`ModelError::Artifact`], [`ModelError::HeaderBomb`], [`ModelError::WrongBase`] where the base lacks what the delta takes away.
pub(super) fn apply(version: Version, base: &[u8], delta: &[u8], bytes: u64) -> Result<Vec<u8>, ModelError> {
    let refuse = |why: String| ModelError::Artifact { version, why: format!("delta: {why}") };
    let (base, delta) = (parse(version, base)?, parse(version, delta)?);
    let view = |name: &str| delta.tensor(name).map_err(|_| refuse(format!("tensor {name} is missing")));
    let header = view(HEADER)?.data();
    if header.len() > LENGTH_BYTES + HEADER_BYTES_MAX {
        return Err(ModelError::HeaderBomb { version, bytes: header.len() as u64 });
    }
    let mut made = match usize::try_from(bytes) {
        Ok(length) if length >= header.len() => vec![0; length],
        _ => return Err(refuse(format!("an artifact of {bytes} bytes with a header of {}", header.len()))),
    };
    made[..header.len()].copy_from_slice(header);
    let (length, layout) = SafeTensors::read_metadata(&made).map_err(|error| refuse(format!("header: {error}")))?;
    if LENGTH_BYTES + length != header.len() {
        return Err(refuse(format!("header of {length} bytes in {}", header.len())));
    }
    let body = &mut made[header.len()..];
    let mut tables: HashMap<String, Merged> = HashMap::new();
    for name in layout.offset_keys() {
        let Some(info) = layout.info(&name) else { continue };
        let region = &mut body[info.data_offsets.0..info.data_offsets.1];
        match table_of(&name).filter(|table| layout.info(&keys_of(table)).is_some()) {
            Some(table) => {
                if !tables.contains_key(table) {
                    tables.insert(table.to_owned(), merge(version, table, &base, &delta)?);
                }
                let empty: &[u8] = &[];
                let old = base.tensor(&name).map_or(empty, |old| old.data());
                fill(region, &tables[table], old, view(&name)?.data()).ok_or_else(|| refuse(format!("rows of {name} do not add up")))?;
            }
            None => {
                let data = view(&name)?.data();
                if data.len() != region.len() {
                    return Err(refuse(format!("tensor {name} has {} bytes of {}", data.len(), region.len())));
                }
                region.copy_from_slice(data);
            }
        }
    }
    Ok(made)
}

/// The rows of the base but for those that are gone or stand in the delta, and those of the delta, by rising key.
fn merge(version: Version, table: &str, base: &SafeTensors<'_>, delta: &SafeTensors<'_>) -> Result<Merged, ModelError> {
    let refuse = |why: &str| ModelError::Artifact { version, why: format!("delta: table {table}: {why}") };
    let numbers = |tensors: &SafeTensors<'_>, name: &str| -> Option<Vec<u64>> {
        let view: TensorView<'_> = tensors.tensor(name).ok()?;
        (view.dtype() == Dtype::U64).then(|| keys(&view).collect())
    };
    // A table that is new has nothing in the base.
    let old = numbers(base, &keys_of(table)).unwrap_or_default();
    let new = numbers(delta, &keys_of(table)).ok_or_else(|| refuse("no keys"))?;
    let gone = numbers(delta, &gone_of(table)).ok_or_else(|| refuse("nothing says what is gone"))?;
    if !new.is_sorted_by(|a, b| a < b) || !gone.is_sorted_by(|a, b| a < b) {
        return Err(refuse("keys do not rise"));
    }
    let mut merged = Merged { pieces: Vec::new(), rows: 0 };
    let (mut held, mut new, mut gone) = (0, new.iter().enumerate().peekable(), gone.into_iter().peekable());
    loop {
        match (old.get(held), new.peek()) {
            (Some(key), next) if next.is_none_or(|(_, next)| key < *next) => {
                if gone.next_if_eq(key).is_none() {
                    merged.push(Piece::Base(held..held + 1));
                }
                held += 1;
            }
            (key, Some((row, next))) => {
                merged.push(Piece::Delta(*row..row + 1));
                held += usize::from(key == Some(*next));
                new.next();
            }
            (_, None) => break,
        }
    }
    if gone.peek().is_some() {
        let why = format!("delta: table {table}: what it takes away is not in its base");
        return Err(ModelError::WrongBase { version, why });
    }
    Ok(merged)
}

impl Merged {
    fn push(&mut self, piece: Piece) {
        self.rows += 1;
        match (self.pieces.last_mut(), piece) {
            (Some(Piece::Base(held)), Piece::Base(next)) if held.end == next.start => held.end = next.end,
            (Some(Piece::Delta(held)), Piece::Delta(next)) if held.end == next.start => held.end = next.end,
            (_, piece) => self.pieces.push(piece),
        }
    }
}

/// Copies one column; `None` where lengths do not fit.
fn fill(mut region: &mut [u8], merged: &Merged, old: &[u8], new: &[u8]) -> Option<()> {
    if merged.rows == 0 {
        return region.is_empty().then_some(());
    }
    let width = region.len() / merged.rows;
    if width * merged.rows != region.len() {
        return None;
    }
    for piece in &merged.pieces {
        let (from, rows) = match piece {
            Piece::Base(rows) => (old, rows),
            Piece::Delta(rows) => (new, rows),
        };
        let bytes = from.get(rows.start * width..rows.end * width)?;
        let (head, rest) = region.split_at_mut_checked(bytes.len())?;
        head.copy_from_slice(bytes);
        region = rest;
    }
    Some(())
}
