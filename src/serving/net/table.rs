use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::BuildHasherDefault;

use super::KeyHasher;
use crate::domain::Version;
use crate::serving::ModelError;

/// Embedding rows by key.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) dim: usize,
    index: HashMap<u64, u32, BuildHasherDefault<KeyHasher>>,
    /// `[rows, dim]`.
    rows: Vec<f32>,
}

impl Table {
    /// Of `keys [rows]`, as the tensor of this name has them, and `rows [rows, dim]`.
    ///
    /// # Errors
    /// [`ModelError::Artifact`] where a key stands twice.
    pub(super) fn new(version: Version, name: &str, dim: usize, keys: Vec<u64>, rows: Vec<f32>) -> Result<Self, ModelError> {
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

    /// The row of an id `[dim]`.
    pub(super) fn get(&self, id: u64) -> Option<&[f32]> {
        let start = *self.index.get(&id)? as usize * self.dim;
        Some(&self.rows[start..start + self.dim])
    }
}
