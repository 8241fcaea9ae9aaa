//! Files of click counts.

use std::collections::HashMap;
use std::path::Path;

use safetensors::tensor::Dtype;

use super::chain::Keyed;
use super::{CheckpointError, files};
use crate::train::CountsState;

const WIDTH: usize = CountsState::WIDTH;

/// What a file says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct CountsInfo {
    full: bool,
}

impl Keyed for CountsState {
    fn is_full(&self) -> bool {
        self.full
    }

    fn encode(&self) -> Vec<u8> {
        let rows = self.keys.len();
        let keys: Vec<u8> = self.keys.iter().flat_map(|key| key.to_le_bytes()).collect();
        let data = files::f32_bytes(&self.data);
        files::encode(
            &CountsInfo { full: self.full },
            &[("keys", Dtype::U64, vec![rows], &keys), ("data", Dtype::F32, vec![rows, WIDTH], &data)],
        )
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let (info, tensors): (CountsInfo, _) = files::decode(path, bytes)?;
        let (keys, data) = (files::u64_tensor(path, &tensors, "keys")?, files::f32_tensor(path, &tensors, "data")?);
        if data.len() != keys.len() * WIDTH {
            return Err(CheckpointError::corrupt(path, format_args!("{} floats for {} keys of {WIDTH}", data.len(), keys.len())));
        }
        Ok(CountsState { keys, data, full: info.full })
    }

    /// Known keys are replaced, new ones appended.
    fn overlay(&mut self, touched: Self) -> Result<(), String> {
        let mut places: HashMap<u64, usize> = self.keys.iter().copied().zip(0..).collect();
        for (key, counts) in touched.keys.into_iter().zip(touched.data.chunks_exact(WIDTH)) {
            match places.get(&key) {
                Some(place) => self.data[place * WIDTH..(place + 1) * WIDTH].copy_from_slice(counts),
                None => {
                    places.insert(key, self.keys.len());
                    self.keys.push(key);
                    self.data.extend_from_slice(counts);
                }
            }
        }
        Ok(())
    }
}
