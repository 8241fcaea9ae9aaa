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

/// Weights `[rows, dim]` as the artifact has them: made floats of only when they are read, so that small rows stay small in memory.
#[derive(Debug, Clone)]
pub(in crate::serving) enum Rows {
    F32(Vec<f32>),
    F16(Vec<f16>),
    /// Times the row's scale `[rows]`.
    I8 {
        weights: Vec<i8>,
        scales: Vec<f32>,
    },
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

    /// Adds a row to `sum [dim]`.
    pub(super) fn add(&self, row: u32, sum: &mut [f32]) {
        let (row, dim) = (row as usize, self.dim);
        let place = row * dim..(row + 1) * dim;
        match &self.rows {
            Rows::F32(weights) => sum.iter_mut().zip(&weights[place]).for_each(|(sum, weight)| *sum += weight),
            Rows::F16(weights) => sum.iter_mut().zip(&weights[place]).for_each(|(sum, weight)| *sum += weight.to_f32()),
            Rows::I8 { weights, scales } => {
                let scale = scales[row];
                sum.iter_mut().zip(&weights[place]).for_each(|(sum, weight)| *sum += f32::from(*weight) * scale);
            }
        }
    }
}

impl Rows {
    /// The rows in this order.
    fn ordered(self, dim: usize, order: &[u32]) -> Self {
        match self {
            Rows::F32(weights) => Rows::F32(ordered(&weights, dim, order)),
            Rows::F16(weights) => Rows::F16(ordered(&weights, dim, order)),
            Rows::I8 { weights, scales } => Rows::I8 { weights: ordered(&weights, dim, order), scales: ordered(&scales, 1, order) },
        }
    }
}

fn ordered<T: Copy>(values: &[T], width: usize, order: &[u32]) -> Vec<T> {
    order.iter().flat_map(|row| &values[*row as usize * width..][..width]).copied().collect()
}
