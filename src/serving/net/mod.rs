mod bytes;
mod gather;
mod index;
mod layer;
mod panel;
mod table;

use std::ops::Range;
use std::sync::Arc;

use super::ModelError;
use super::artifact::{Parts, read};
use crate::config::Pooling;
use crate::domain::Version;
use crate::features::{CLICK_RATE_INPUTS, Features, Side, SlotSpec};
use crate::wire::snapshot::Architecture;

use bytes::Bytes;
use gather::Gathered;
use panel::{Lanes, PANEL, Product, ZERO, add_at, room};
use table::Table;

pub(super) use gather::Part;
pub(super) use index::{Index, Unfit};
pub(super) use layer::{Hidden, Layer};
pub(super) use table::{Rows, Weights};

/// Examples that go through the layers together: with a few hundred inputs each, their input and activations stay in the L2 cache.
pub(super) const EXAMPLES_PER_BLOCK: usize = 512;

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
    /// out = 1. Nothing else may be in it, and every key stands there once. Rows are read where they stand: the artifact is kept.
    ///
    /// # Errors
    /// [`ModelError::Artifact`], [`ModelError::NotFinite`].
    pub fn from_artifact(
        version: Version,
        architecture: &Architecture,
        slots: &[SlotSpec],
        artifact: &Arc<Vec<u8>>,
    ) -> Result<Self, ModelError> {
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

    /// Multiplies all layers between the first, whose inputs are of any size, and the last, which is no work, in 8 bits from here on, or in
    /// floats. Whether there are any.
    pub(super) fn set_eight_bits(&mut self, eight_bits: bool) -> bool {
        let last = self.layers.len() - 1;
        let mut between = self.layers[..last].iter_mut().skip(1);
        between.by_ref().map(|layer| layer.set_eight_bits(eight_bits)).count() > 0
    }

    /// Floats of the first layer's sums.
    pub(super) fn width(&self) -> usize {
        self.layers[0].width()
    }

    /// Where what a side of the features makes stands among the inputs; `numbers` is how many numeric inputs there are, without click rates.
    pub(super) fn part(&self, side: &Side, numbers: usize) -> Part {
        let first = self.slots.last().map_or(0, |slot| slot.columns.end);
        let inputs = |rate: &usize| rate * CLICK_RATE_INPUTS..(rate + 1) * CLICK_RATE_INPUTS;
        let rates = side.click_rates.iter().flat_map(inputs).map(|input| first + numbers + input);
        Part { slots: side.slots.clone(), numbers: side.numbers.iter().map(|number| first + number).chain(rates).collect() }
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
        let first = self.slots.last().map_or(0, |slot| slot.columns.end);
        let own = Part { slots: (0..self.slots.len()).collect(), numbers: (first..self.inputs).collect() };
        let mut all = Features { bounds: vec![0], ..Features::default() };
        for example in examples {
            assert_eq!(example.bounds.len(), self.slots.len() + 1, "one more bound than slots");
            assert_eq!(example.numbers.len(), own.numbers.len(), "the inputs that are no slot's");
            let ids = all.ids.len() as u32;
            all.ids.extend_from_slice(&example.ids);
            all.bounds.extend(example.bounds[1..].iter().map(|bound| ids + bound));
            all.numbers.extend_from_slice(&example.numbers);
        }
        let (mut forward, mut logits) = (Forward::default(), Vec::with_capacity(examples.len()));
        forward.share(self, &Part::default(), &Features::default());
        for start in (0..examples.len()).step_by(EXAMPLES_PER_BLOCK) {
            forward.look_up(self, &own, &all, start..examples.len().min(start + EXAMPLES_PER_BLOCK));
            forward.begin_alike(self);
            forward.add_looked_up(self);
            logits.extend(forward.logits(self));
        }
        logits
    }
}

/// A forward pass: first what the examples share, then block by block their own. Its memory is used again by the next.
#[derive(Debug, Clone, Default)]
pub(super) struct Forward {
    gathered: Gathered,
    examples: usize,
    /// The first layer's sums of what the examples share, bias included: `[panels]`.
    shared: Vec<Lanes>,
    /// The first layer's sums of what was looked up last: `[examples, width]`.
    sums: Vec<f32>,
    /// A panel of them: `[examples]`.
    panel: Vec<Lanes>,
    products: Vec<Lanes>,
    input: Vec<f32>,
    output: Vec<f32>,
    bytes: Bytes,
}

impl Forward {
    /// Multiplies what the examples share, once for all of them.
    pub(super) fn share(&mut self, net: &LightNet, part: &Part, features: &Features) {
        let first = &net.layers[0];
        self.gathered.gather(net, part, features, 0..1);
        self.shared.clear();
        self.shared.extend_from_slice(&first.bias);
        for (panel, sums) in self.shared.iter_mut().enumerate() {
            let Gathered { each, stride, runs, .. } = &self.gathered;
            let (weights, start) = (first.weight.get(panel), *sums);
            Product { x: each, stride: *stride, runs, weights, start, relu: false }.write(1, sums, PANEL, 0);
        }
    }

    /// Looks up what these examples have of their own.
    pub(super) fn look_up(&mut self, net: &LightNet, part: &Part, features: &Features, examples: Range<usize>) {
        self.examples = examples.len();
        self.gathered.gather(net, part, features, examples);
    }

    /// The first layer's sums of what was looked up last, without the bias: a row `[width]` for each example. They depend on nothing that
    /// the examples share.
    pub(super) fn sums(&mut self, net: &LightNet) -> impl ExactSizeIterator<Item = &[f32]> {
        let layer = &net.layers[0];
        let width = layer.width();
        let sums = room(&mut self.sums, self.examples * width);
        self.panel.resize(self.examples, ZERO);
        let Gathered { each, stride, runs, distinct, .. } = &self.gathered;
        for panel in 0..layer.bias.len() {
            let (weights, column) = (layer.weight.get(panel), panel * PANEL);
            let product = Product { x: each, stride: *stride, runs, weights, start: ZERO, relu: false };
            if distinct.is_empty() {
                product.write(self.examples, sums, width, column);
                continue;
            }
            product.write(self.examples, self.panel.as_flattened_mut(), PANEL, 0);
            for slot in distinct {
                let (x, stride) = (self.gathered.vectors(slot), slot.run.inputs.len());
                let vectors = x.len() / stride;
                self.products.resize(vectors, ZERO);
                let product = Product { x, stride, runs: std::slice::from_ref(&slot.run), weights, start: ZERO, relu: false };
                product.write(vectors, self.products.as_flattened_mut(), PANEL, 0);
                add_at(&self.products, self.gathered.places(slot), &mut self.panel);
            }
            for (into, sums) in sums.chunks_exact_mut(width).zip(&self.panel) {
                into[column..column + PANEL].copy_from_slice(sums);
            }
        }
        sums.chunks_exact(width)
    }

    /// Starts a block of the examples that were looked up last, all alike so far.
    fn begin_alike(&mut self, net: &LightNet) {
        let none = vec![0.0; net.width()];
        self.begin(std::iter::repeat_n(none.as_slice(), self.examples));
    }

    /// Starts a block of examples, each with these of [`Forward::sums`]: what the examples share is added.
    pub(super) fn begin<'a>(&mut self, sums: impl Iterator<Item = &'a [f32]>) {
        let shared = self.shared.as_flattened();
        self.input.clear();
        for sums in sums {
            self.input.extend(shared.iter().zip(sums).map(|(shared, own)| shared + own));
        }
    }

    /// Adds what was looked up last to the block, which is of the same examples.
    pub(super) fn add_looked_up(&mut self, net: &LightNet) {
        let mut input = std::mem::take(&mut self.input);
        for (into, sums) in input.chunks_exact_mut(net.width()).zip(self.sums(net)) {
            into.iter_mut().zip(sums).for_each(|(into, sum)| *into += sum);
        }
        self.input = input;
    }

    /// Logits of the block.
    pub(super) fn logits(&mut self, net: &LightNet) -> impl Iterator<Item = f32> {
        let first = &net.layers[0];
        let mut width = first.width();
        let examples = self.input.len() / width;
        first.activate(&mut self.input);
        for layer in &net.layers[1..] {
            layer.apply(examples, &self.input, width, &mut self.bytes, &mut self.output);
            std::mem::swap(&mut self.input, &mut self.output);
            width = layer.width();
        }
        self.input[..examples * width].chunks_exact(width).map(|outputs| outputs[0])
    }
}

#[cfg(test)]
mod tests;
