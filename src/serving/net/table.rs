use std::ops::Range;
use std::sync::Arc;

use half::f16;

use super::index::{Index, Unfit};
use crate::domain::Version;
use crate::serving::ModelError;

/// Embedding rows by key.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) dim: usize,
    pub(super) index: Index,
    rows: Rows,
}

/// Weights `[rows, dim]` where the artifact has them: made floats of only when they are read, so that a model takes little more memory than
/// its artifact, and none while it is opened.
#[derive(Debug, Clone)]
pub(in crate::serving) struct Rows {
    bytes: Arc<Vec<u8>>,
    place: Range<usize>,
    weights: Weights,
}

/// What a weight is, lowest byte first.
#[derive(Debug, Clone)]
pub(in crate::serving) enum Weights {
    F32,
    F16,
    /// Times the row's scale `[rows]`.
    I8(Vec<f32>),
}

impl Table {
    /// Of `keys [rows]`, as the tensor of this name has them, and `rows [rows, dim]`.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] where a key stands twice.
    pub(super) fn new(version: Version, name: &str, dim: usize, keys: Vec<u64>, rows: Rows) -> Result<Self, ModelError> {
        let (index, order) = Index::new(keys).map_err(|unfit| {
            let why = match unfit {
                Unfit::Twice(key) => format!("key {key} stands twice in {name}"),
                Unfit::TooMany => format!("more than {} rows", u32::MAX),
            };
            ModelError::Artifact { version, why }
        })?;
        let rows = match order {
            Some(order) => rows.ordered(dim, &order),
            None => rows,
        };
        Ok(Table { dim, index, rows })
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Reads a little of each row: they come from memory together, and not each when it is added.
    pub(super) fn touch(&self, rows: &[Option<u32>]) {
        let ends = |row: &u32| {
            let row = self.rows.row(*row as usize, self.dim);
            row[0] ^ row[row.len() - 1]
        };
        std::hint::black_box(rows.iter().flatten().map(ends).fold(0, |all, ends| all ^ ends));
    }

    /// Adds a row to `sum [dim]`.
    pub(super) fn add(&self, row: u32, sum: &mut [f32]) {
        self.rows.add(row as usize, self.dim, sum);
    }
}

impl Rows {
    /// In `place` of `bytes`.
    pub(in crate::serving) fn new(bytes: Arc<Vec<u8>>, place: Range<usize>, weights: Weights) -> Self {
        Rows { bytes, place, weights }
    }

    fn add(&self, row: usize, dim: usize, sum: &mut [f32]) {
        let row_bytes = self.row(row, dim);
        match &self.weights {
            Weights::F32 => add(sum, row_bytes.as_chunks().0.iter().map(|weight| f32::from_le_bytes(*weight))),
            Weights::F16 => add(sum, row_bytes.as_chunks().0.iter().map(|weight| f16::from_le_bytes(*weight).to_f32())),
            Weights::I8(scales) => {
                let scale = scales[row];
                add(sum, row_bytes.iter().map(|weight| f32::from(weight.cast_signed()) * scale));
            }
        }
    }

    fn row(&self, row: usize, dim: usize) -> &[u8] {
        let width = dim
            * match self.weights {
                Weights::F32 => 4,
                Weights::F16 => 2,
                Weights::I8(_) => 1,
            };
        &self.bytes[self.place.clone()][row * width..][..width]
    }

    /// The rows in this order, in bytes of their own.
    fn ordered(self, dim: usize, order: &[u32]) -> Self {
        let bytes: Vec<u8> = order.iter().flat_map(|row| self.row(*row as usize, dim)).copied().collect();
        let weights = match self.weights {
            Weights::I8(scales) => Weights::I8(order.iter().map(|row| scales[*row as usize]).collect()),
            weights => weights,
        };
        Rows { place: 0..bytes.len(), bytes: Arc::new(bytes), weights }
    }
}

fn add(sum: &mut [f32], weights: impl Iterator<Item = f32>) {
    sum.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
}
