use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use half::f16;

use super::KeyHasher;
use crate::domain::Version;
use crate::serving::ModelError;

/// Embedding rows by key.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) dim: usize,
    index: HashMap<u64, u32, BuildHasherDefault<KeyHasher>>,
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
        let mut index = HashMap::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        for (row, key) in keys.into_iter().enumerate() {
            let row = u32::try_from(row).map_err(|_| ModelError::Artifact { version, why: format!("more than {} rows", u32::MAX) })?;
            match index.entry(key) {
                Entry::Occupied(_) => return Err(ModelError::Artifact { version, why: format!("key {key} stands twice in {name}") }),
                Entry::Vacant(place) => place.insert(row),
            };
        }
        Ok(Table { dim, index, rows })
    }

    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Adds the row of an id to `sum [dim]`; nothing where it has none.
    pub(super) fn add(&self, id: u64, sum: &mut [f32]) {
        let Some(row) = self.index.get(&id) else { return };
        let (row, dim) = (*row as usize, self.dim);
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
