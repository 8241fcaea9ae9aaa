mod layer;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use super::ModelError;
use super::artifact::{Parts, read};
use crate::config::Pooling;
use crate::domain::Version;
use crate::features::Features;
use crate::wire::snapshot::Architecture;

pub(super) use layer::{Hidden, Layer};

/// Examples that go through the layers together: with a few hundred inputs each, their input and activations stay in the L2 cache.
pub(super) const EXAMPLES_PER_BLOCK: usize = 256;

/// Keys are XXH3 hashes already: one multiplication spreads them well enough, and a lookup costs a cache miss instead of a second hash.
#[derive(Debug, Clone, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, key: u64) {
        // 2⁶⁴ divided by the golden ratio, odd: neighbouring keys land far apart in the high bits, which the table looks at first.
        self.0 = key.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

/// Dense layers and embedding rows of the light net, with a hand-written f32 forward pass.
///
/// Per example: each slot's rows are pooled to `dim` floats, the slots stand in their order, the numbers after them; then
/// `h ← f(h · W + b)` for every layer but the last, whose one output is the logit, with f as [`crate::config::HiddenConfig`] says. An id without a row is the zero vector, and counts in
/// the mean of a bag, as it does in training.
#[derive(Debug, Clone)]
pub struct LightNet {
    dim: usize,
    slots: usize,
    inputs: usize,
    index: HashMap<u64, u32, BuildHasherDefault<KeyHasher>>,
    rows: Vec<f32>,
    layers: Vec<Layer>,
}

impl LightNet {
    /// Reads a safetensors artifact: `embedding.keys` U64 `[rows]`, `embedding.rows` F32 `[rows, dim]`,
    /// `shared.{i}.weight` F32 `[in, out]`, `shared.{i}.bias` F32 `[out]`, `light.{i}.weight`, `light.{i}.bias` likewise, and as the
    /// architecture says `norm.scale`, `norm.shift`, `slope`, `mean`, `variance`, F32 `[out]`, for every layer but the last, which has
    /// out = 1. Nothing else may be in it, and every key stands there once.
    ///
    /// # Errors
    /// [`ModelError::Artifact`], [`ModelError::NotFinite`].
    pub fn from_artifact(version: Version, architecture: &Architecture, slots: usize, artifact: &[u8]) -> Result<Self, ModelError> {
        let Parts { keys, rows, layers } = read(version, architecture, slots, artifact)?;
        let mut index = HashMap::with_capacity_and_hasher(keys.len(), BuildHasherDefault::default());
        for (row, key) in keys.into_iter().enumerate() {
            let row = u32::try_from(row).map_err(|_| ModelError::Artifact { version, why: format!("more than {} rows", u32::MAX) })?;
            match index.entry(key) {
                Entry::Occupied(_) => {
                    return Err(ModelError::Artifact { version, why: format!("key {key} stands twice in embedding.keys") });
                }
                Entry::Vacant(place) => place.insert(row),
            };
        }
        Ok(LightNet { dim: architecture.embedding_dim, slots, inputs: architecture.inputs, index, rows, layers })
    }

    /// Embedding rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.index.len()
    }

    /// Logits of examples whose slots are pooled as `pooling` says.
    ///
    /// # Shapes
    /// `pooling [slots]`, `examples [examples]`, each with `slots` slots and `inputs − slots · dim` numbers → `[examples]`.
    ///
    /// # Panics
    /// If `pooling` or an example has other lengths: they belong to another schema than the net.
    #[must_use]
    pub fn logits(&self, pooling: &[Pooling], examples: &[Features]) -> Vec<f32> {
        assert_eq!(pooling.len(), self.slots, "one pooling per slot");
        let mut logits = Vec::with_capacity(examples.len());
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for block in examples.chunks(EXAMPLES_PER_BLOCK) {
            self.gather(pooling, block, &mut input);
            for layer in &self.layers {
                layer.apply(block.len(), &input, &mut output);
                std::mem::swap(&mut input, &mut output);
            }
            logits.extend_from_slice(&input);
        }
        logits
    }

    /// Input vectors `[examples, inputs]` into `into`.
    fn gather(&self, pooling: &[Pooling], examples: &[Features], into: &mut Vec<f32>) {
        into.clear();
        into.resize(examples.len() * self.inputs, 0.0);
        let embedded = self.slots * self.dim;
        let mut before: Option<(&Features, &[f32])> = None;
        for (example, input) in examples.iter().zip(into.chunks_exact_mut(self.inputs)) {
            assert_eq!(example.bounds.len(), self.slots + 1, "one more bound than slots");
            let (vectors, numbers) = input.split_at_mut(embedded);
            numbers.copy_from_slice(&example.numbers);
            for (slot, pooling) in pooling.iter().enumerate() {
                let place = slot * self.dim..(slot + 1) * self.dim;
                let (ids, vector) = (ids(example, slot), &mut vectors[place.clone()]);
                match before {
                    // Candidates of one request share their user's slots: what was pooled for the one before is copied.
                    Some((other, pooled)) if self::ids(other, slot) == ids => vector.copy_from_slice(&pooled[place]),
                    _ => self.pool(*pooling, ids, vector),
                }
            }
            before = Some((example, &*vectors));
        }
    }

    /// Adds the rows of `ids` to a zero `vector`.
    fn pool(&self, pooling: Pooling, ids: &[u64], vector: &mut [f32]) {
        for id in ids {
            let Some(row) = self.index.get(id) else { continue };
            let start = *row as usize * self.dim;
            vector.iter_mut().zip(&self.rows[start..start + self.dim]).for_each(|(sum, float)| *sum += float);
        }
        if pooling == Pooling::Mean && ids.len() > 1 {
            let share = 1.0 / ids.len() as f32;
            vector.iter_mut().for_each(|sum| *sum *= share);
        }
    }
}

fn ids(example: &Features, slot: usize) -> &[u64] {
    &example.ids[example.bounds[slot] as usize..example.bounds[slot + 1] as usize]
}

#[cfg(test)]
mod tests;
