use std::collections::BTreeSet;
use std::ops::Range;

use crate::batch::Batch;
use crate::config::{AttentionPair, BoosterAttentionConfig, FeatureKind, Pooling};
use crate::features::{CLICK_RATE_INPUTS, FeatureSpec};

/// How a batch becomes a net's input vector: the slots' pooled rows side by side, then the numbers, then the click rates. Beside it may stand
/// sequences: the rows of a slot one by one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLayout {
    slots: Vec<SlotLayout>,
    numbers: usize,
    click_rates: usize,
    sequences: Vec<SequenceLayout>,
}

/// A slot that is read as a sequence, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceLayout {
    /// Number of the slot.
    pub slot: usize,
    /// Its newest ids, at most so many.
    pub length: usize,
    /// Number of the slot that it is looked at with.
    pub target: usize,
}

/// One slot of the input vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotLayout {
    /// How its rows become one vector.
    pub pooling: Pooling,
    /// Where that vector stands.
    pub columns: Range<usize>,
}

impl SlotLayout {
    /// Floats per row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.columns.len()
    }
}

impl SequenceLayout {
    /// Of every pair of `attention`; a pair of features that `spec` does not have as a sequence and a target is left out, as a checked
    /// configuration has none.
    #[must_use]
    pub fn of(spec: &FeatureSpec, attention: &BoosterAttentionConfig) -> Vec<Self> {
        let place = |name: &str| spec.slots().iter().position(|slot| slot.name == name);
        let length = |name: &str| match spec.schema().features[spec.schema().feature(name)?].kind {
            FeatureKind::Bag { last, .. } => last,
            _ => None,
        };
        let layout = |pair: &AttentionPair| {
            let (slot, target) = (place(&pair.sequence)?, place(&pair.target)?);
            Some(SequenceLayout { slot, length: length(&pair.sequence)?, target })
        };
        attention.of.iter().filter_map(layout).collect()
    }
}

impl InputLayout {
    /// The layout of a schema's features; `dim` floats per row where a feature has no dim of its own.
    #[must_use]
    pub fn new(spec: &FeatureSpec, dim: usize) -> Self {
        let slots: Vec<_> = spec.slots().iter().map(|slot| (slot.pooling, slot.dim(dim))).collect();
        Self::of(&slots, spec.numbers().len(), spec.click_rates().len())
    }

    /// Slots of these poolings and dims, then so many numbers and click rates.
    #[must_use]
    pub fn of(slots: &[(Pooling, usize)], numbers: usize, click_rates: usize) -> Self {
        let mut end = 0;
        let place = |&(pooling, dim): &(Pooling, usize)| {
            end += dim;
            SlotLayout { pooling, columns: end - dim..end }
        };
        InputLayout { slots: slots.iter().map(place).collect(), numbers, click_rates, sequences: Vec::new() }
    }

    /// The same with these sequences beside the vector.
    #[must_use]
    pub fn with_sequences(self, sequences: Vec<SequenceLayout>) -> Self {
        InputLayout { sequences, ..self }
    }

    /// The sequences, in their order.
    #[must_use]
    pub fn sequences(&self) -> &[SequenceLayout] {
        &self.sequences
    }

    /// The slots, in their order.
    #[must_use]
    pub fn slots(&self) -> &[SlotLayout] {
        &self.slots
    }

    /// The columns of one slot.
    #[must_use]
    pub fn columns(&self, slot: usize) -> Range<usize> {
        self.slots[slot].columns.clone()
    }

    /// The slots whose rows have `dim` floats, and their numbers.
    pub fn slots_of(&self, dim: usize) -> impl Iterator<Item = (usize, &SlotLayout)> {
        self.slots.iter().enumerate().filter(move |(_, slot)| slot.dim() == dim)
    }

    /// Floats per row of every table there has to be: `first`, which is there in any case, then what other slots have, rising.
    #[must_use]
    pub fn dims(&self, first: usize) -> Vec<usize> {
        let others: BTreeSet<usize> = self.slots.iter().map(SlotLayout::dim).filter(|dim| *dim != first).collect();
        std::iter::once(first).chain(others).collect()
    }

    /// Width of the input vector: the slots' dims + numbers + click rates · 2.
    #[must_use]
    pub fn width(&self) -> usize {
        self.embedded() + self.numbers + self.click_rates * CLICK_RATE_INPUTS
    }

    /// The input matrix of a batch with its numbers, and zeros for all else.
    ///
    /// # Shapes
    /// Returns `[rows, width]`, row-major.
    #[must_use]
    pub fn matrix(&self, batch: &Batch) -> Vec<f32> {
        let (first, width) = (self.embedded(), self.width());
        let mut inputs = vec![0.0; batch.rows() * width];
        for (row, numbers) in inputs.chunks_exact_mut(width.max(1)).zip(batch.numbers.chunks_exact(self.numbers.max(1))) {
            row[first..first + numbers.len()].copy_from_slice(numbers);
        }
        inputs
    }

    /// Width of all slots.
    fn embedded(&self) -> usize {
        self.slots.last().map_or(0, |slot| slot.columns.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeatureConfig, SchemaConfig};

    #[test]
    fn a_layout_is_as_wide_as_the_features_say() {
        let feature = |name: &str, kind| FeatureConfig::new(name, kind);
        let bag = FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: None };
        let schema = SchemaConfig::labelled(vec![
            feature("item", FeatureKind::Categorical),
            feature("price", FeatureKind::Log1p),
            FeatureConfig { dim: Some(3), ..feature("tags", bag) },
            feature("hour", FeatureKind::Hour),
        ]);
        let spec = FeatureSpec::new(&schema).expect("a sound schema");
        let layout = InputLayout::new(&spec, 8);
        assert_eq!(layout, InputLayout::of(&[(Pooling::Sum, 8), (Pooling::Mean, 3), (Pooling::Sum, 8)], 1, 0));
        assert_eq!([0, 1, 2].map(|slot| layout.columns(slot)), [0..8, 8..11, 11..19]);
        assert_eq!((layout.width(), spec.inputs(8)), (20, 20));
        assert_eq!(layout.slots_of(8).map(|(slot, _)| slot).collect::<Vec<_>>(), [0, 2]);
        assert_eq!((layout.dims(8), layout.dims(5)), (vec![8, 3], vec![5, 3, 8]));
        let batch = Batch { numbers: vec![0.5, -2.0], labels: vec![true, false], ..Batch::default() };
        assert_eq!(layout.matrix(&batch), [vec![0.0; 19], vec![0.5], vec![0.0; 19], vec![-2.0]].concat());
    }
}
