mod layer;
mod table;

use std::hash::Hasher;
use std::ops::Range;

use super::ModelError;
use super::artifact::{Parts, read};
use crate::config::Pooling;
use crate::domain::Version;
use crate::features::{Features, SlotSpec};
use crate::wire::snapshot::Architecture;

use table::Table;

pub(super) use layer::{Hidden, Layer};
pub(super) use table::Rows;

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
/// Per example: each slot's rows are pooled to its dim, the slots stand in their order, the numbers after them; then `h ← f(h · W + b)` for
/// every layer but the last, whose one output is the logit, with f as [`crate::config::HiddenConfig`] says. An id without a row is the zero
/// vector, and counts in the mean of a bag, as it does in training.
#[derive(Debug, Clone)]
pub struct LightNet {
    tables: Vec<Table>,
    slots: Vec<Slot>,
    inputs: usize,
    layers: Vec<Layer>,
}

/// A slot of the input vector.
#[derive(Debug, Clone)]
struct Slot {
    pooling: Pooling,
    /// Number of the table that its rows are in.
    table: usize,
    /// Where its vector stands.
    columns: Range<usize>,
}

impl LightNet {
    /// Reads a safetensors artifact of a net over these slots: of each table ([`Architecture::tables`]) keys U64 `[rows]`, rows F32, F16 or
    /// I8 `[rows, dim]` and, beside I8, scales F32 `[rows]`; `shared.{i}.weight` F32 `[in, out]`, `shared.{i}.bias` F32 `[out]`, `light.{i}.weight`, `light.{i}.bias` likewise, and as the
    /// architecture says `norm.scale`, `norm.shift`, `slope`, `mean`, `variance`, F32 `[out]`, for every layer but the last, which has
    /// out = 1. Nothing else may be in it, and every key stands there once.
    ///
    /// # Errors
    /// [`ModelError::Artifact`], [`ModelError::NotFinite`].
    pub fn from_artifact(version: Version, architecture: &Architecture, slots: &[SlotSpec], artifact: &[u8]) -> Result<Self, ModelError> {
        let Parts { tables, layers } = read(version, architecture, slots, artifact)?;
        let tables = architecture.tables().zip(tables).map(|((dim, [name, ..]), (keys, rows))| Table::new(version, &name, dim, keys, rows));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let mut end = 0;
        let slots = slots.iter().map(|slot| {
            let dim = slot.dim(architecture.embedding_dim);
            end += dim;
            let table = tables.iter().position(|table| table.dim == dim).expect("the architecture was checked against the slots");
            Slot { pooling: slot.pooling, table, columns: end - dim..end }
        });
        Ok(LightNet { slots: slots.collect(), tables, inputs: architecture.inputs, layers })
    }

    /// Embedding rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tables.iter().map(Table::len).sum()
    }

    /// Logits of examples.
    ///
    /// # Shapes
    /// `examples [examples]`, each with the net's slots and as many numbers as it has inputs besides → `[examples]`.
    ///
    /// # Panics
    /// If an example has other lengths: it belongs to another schema than the net.
    #[must_use]
    pub fn logits(&self, examples: &[Features]) -> Vec<f32> {
        let mut logits = Vec::with_capacity(examples.len());
        let (mut input, mut output) = (Vec::new(), Vec::new());
        for block in examples.chunks(EXAMPLES_PER_BLOCK) {
            self.gather(block, &mut input);
            for layer in &self.layers {
                layer.apply(block.len(), &input, &mut output);
                std::mem::swap(&mut input, &mut output);
            }
            logits.extend_from_slice(&input);
        }
        logits
    }

    /// Input vectors `[examples, inputs]` into `into`.
    fn gather(&self, examples: &[Features], into: &mut Vec<f32>) {
        into.clear();
        into.resize(examples.len() * self.inputs, 0.0);
        let embedded = self.slots.last().map_or(0, |slot| slot.columns.end);
        let mut before: Option<(&Features, &[f32])> = None;
        for (example, input) in examples.iter().zip(into.chunks_exact_mut(self.inputs)) {
            assert_eq!(example.bounds.len(), self.slots.len() + 1, "one more bound than slots");
            let (vectors, numbers) = input.split_at_mut(embedded);
            numbers.copy_from_slice(&example.numbers);
            for (number, slot) in self.slots.iter().enumerate() {
                let (ids, vector) = (ids(example, number), &mut vectors[slot.columns.clone()]);
                match before {
                    // Candidates of one request share their user's slots: what was pooled for the one before is copied.
                    Some((other, pooled)) if self::ids(other, number) == ids => vector.copy_from_slice(&pooled[slot.columns.clone()]),
                    _ => self.pool(slot, ids, vector),
                }
            }
            before = Some((example, &*vectors));
        }
    }

    /// Adds the rows of `ids` to a zero `vector`.
    fn pool(&self, slot: &Slot, ids: &[u64], vector: &mut [f32]) {
        let table = &self.tables[slot.table];
        ids.iter().for_each(|id| table.add(*id, vector));
        if slot.pooling == Pooling::Mean && ids.len() > 1 {
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
