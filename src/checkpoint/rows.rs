//! Files of embedding rows.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::chain::Keyed;
use super::{CheckpointError, files};
use crate::config::EmbeddingOptimizer;
use crate::train::{AdmissionState, RowsState, SweepState};

/// What a rows file says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct RowsInfo {
    dim: usize,
    full: bool,
    /// Files from before there was a choice do not say it: theirs is the default.
    #[serde(default)]
    optimizer: EmbeddingOptimizer,
    /// Likewise: nothing was drawn.
    #[serde(default)]
    drawn: u64,
    /// Likewise: no row could leave.
    #[serde(default)]
    rows: Option<usize>,
    /// Likewise.
    #[serde(default)]
    sweep: SweepState,
}

impl Keyed for RowsState {
    fn is_full(&self) -> bool {
        self.full
    }

    fn encode(&self) -> Vec<u8> {
        let info = RowsInfo {
            dim: self.dim,
            full: self.full,
            optimizer: self.optimizer,
            drawn: self.admission.drawn,
            rows: self.rows,
            sweep: self.sweep.clone(),
        };
        let [keys, removed] = [&self.keys, &self.removed].map(|keys| keys.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>());
        let places: Vec<u8> = self.places.iter().flat_map(|place| place.to_le_bytes()).collect();
        let data = files::f32_bytes(&self.data);
        let mut tensors =
            vec![("keys", Dtype::U64, vec![self.keys.len()], &keys), ("data", Dtype::F32, vec![self.keys.len(), self.width], &data)];
        let optional = [
            ("places", Dtype::U32, self.places.len(), &places),
            ("removed", Dtype::U64, self.removed.len(), &removed),
            ("admission", Dtype::U8, self.admission.counters.len(), &self.admission.counters),
        ];
        tensors.extend(
            optional
                .into_iter()
                .filter(|(_, _, length, _)| *length > 0)
                .map(|(name, dtype, length, bytes)| (name, dtype, vec![length], bytes)),
        );
        files::encode(&info, &tensors)
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (info, tensors): (RowsInfo, _) = files::decode(path, bytes)?;
        let shape = tensors.tensor("data").map_err(|e| CheckpointError::corrupt(path, e))?.shape().to_vec();
        let keys = files::u64_tensor(path, &tensors, "keys")?;
        let &[rows, width] = shape.as_slice() else {
            return Err(CheckpointError::corrupt(path, format_args!("tensor data is {shape:?}, not [rows, width]")));
        };
        if rows != keys.len() || width < info.dim {
            let why = format_args!("tensor data is {shape:?}, which does not fit {} keys of dim {}", keys.len(), info.dim);
            return Err(CheckpointError::corrupt(path, why));
        }
        let data = files::f32_tensor(path, &tensors, "data")?;
        let optional = |name| tensors.tensor(name).map_or_else(|_| Vec::new(), |tensor| tensor.data().to_vec());
        let places: Vec<u32> = optional("places").as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let total = info.rows.unwrap_or(usize::MAX);
        let placed = if info.full || info.rows.is_none() { places.is_empty() } else { places.len() == rows };
        if !placed || places.iter().any(|place| *place as usize >= total) || (info.full && total < rows) {
            return Err(CheckpointError::corrupt(path, format_args!("{} places do not fit {rows} of {total} rows", places.len())));
        }
        Ok(RowsState {
            dim: info.dim,
            width,
            optimizer: info.optimizer,
            keys,
            data,
            full: info.full,
            places,
            rows: info.rows,
            removed: files::u64s(&optional("removed")),
            admission: AdmissionState { drawn: info.drawn, counters: optional("admission") },
            sweep: info.sweep,
        })
    }

    /// Its rows stand where `touched` says, what is beyond its end is gone, and the rest is as of `touched`.
    fn overlay(&mut self, mut touched: Self) -> Result<(), String> {
        let (found, before) = ((touched.dim, touched.width, touched.optimizer), (self.dim, self.width, self.optimizer));
        if found != before {
            return Err(format!("dim, width and optimizer {found:?} after files of {before:?}"));
        }
        let width = self.width;
        let rows = touched.rows.unwrap_or_else(|| place_by_key(self, &mut touched));
        self.keys.resize(rows, 0);
        self.data.resize(rows * width, 0.0);
        for ((key, place), row) in touched.keys.into_iter().zip(touched.places).zip(touched.data.chunks_exact(width.max(1))) {
            let place = place as usize;
            self.keys[place] = key;
            self.data[place * width..(place + 1) * width].copy_from_slice(row);
        }
        (self.rows, self.admission, self.sweep) = (Some(rows), touched.admission, touched.sweep);
        Ok(())
    }
}

/// Places of an increment that does not say them: known keys stay, new ones are appended. Returns the rows there are then.
fn place_by_key(base: &RowsState, touched: &mut RowsState) -> usize {
    let mut places: HashMap<u64, u32> = base.keys.iter().copied().zip(0..).collect();
    for key in &touched.keys {
        let next = places.len() as u32;
        touched.places.push(*places.entry(*key).or_insert(next));
    }
    places.len()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::{EmbeddingConfig, ExpiryConfig, OptimizerConfig};
    use crate::domain::EventTime;
    use crate::embedding::Table;

    fn read_back(state: &RowsState) -> RowsState {
        RowsState::decode(Path::new("rows"), &state.encode()).expect("whole")
    }

    #[test]
    fn increments_with_removed_rows_add_up_to_the_table_they_came_from() {
        let expiry = ExpiryConfig { rows_max: 64, ..ExpiryConfig::default() };
        let config = EmbeddingConfig { dim: 2, expiry, ..EmbeddingConfig::default() };
        let mut table = Table::new(&config, &OptimizerConfig::default(), 1);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut base = read_back(&table.capture(true));
        let mut keys: BTreeSet<u64> = BTreeSet::new();
        let mut removed = 0;
        for batch in 1..200 {
            table.begin(Some(EventTime(batch * 3_600_000)));
            for _ in 0..8 {
                let key = random.random_range(0..150);
                table.update(key, table.find(key), &[random.random_range(-1.0..1.0), 0.5], 1);
            }
            table.end();
            if batch % 3 == 0 {
                let increment = read_back(&table.capture(false));
                removed += increment.removed.len();
                increment.removed.iter().for_each(|key| assert!(keys.remove(key) || !increment.keys.contains(key)));
                keys.extend(&increment.keys);
                base.overlay(increment).expect("of the same table");
                let full = read_back(&table.capture(true));
                assert_eq!(base, RowsState { full: base.full, ..full }, "batch {batch}");
                assert_eq!(keys, base.keys.iter().copied().collect(), "batch {batch}");
            }
        }
        assert!(removed > 100, "{removed}");
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let mut table = Table::new(&EmbeddingConfig { dim: 1, ..EmbeddingConfig::default() }, &OptimizerConfig::default(), 1);
        (0..3).for_each(|key| table.update(key, None, &[1.0], 1));
        let good = table.capture(false);
        for (places, rows) in [(vec![0, 1, 3], 3), (vec![0, 1], 3), (vec![0, 1, 2], 2)] {
            let bad = RowsState { places, rows: Some(rows), ..good.clone() };
            let error = RowsState::decode(Path::new("rows"), &bad.encode()).expect_err("no place");
            assert!(error.to_string().contains("places do not fit"), "{error}");
        }
    }
}
