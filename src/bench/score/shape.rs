use crate::config::{FeatureConfig, FeatureKind, HiddenConfig, SchemaConfig};
use crate::wire::snapshot::Architecture;

/// Floats of an embedding row.
const DIM: usize = 16;

/// A light net and the features before it. The first half of the slots and of the numbers are the user's, the other half the candidate's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// As it is called on the command line.
    pub name: &'static str,
    /// Categorical features, a slot of 16 floats each.
    pub slots: usize,
    /// Numeric features.
    pub numbers: usize,
    /// Widths of the hidden layers.
    pub light: &'static [usize],
}

impl Shape {
    /// That of [`crate::bench::Workload`], 392-128-64-1, and that of the paper, 576-200-80-1.
    pub const ALL: [Shape; 2] = [
        Shape { name: "workload", slots: 24, numbers: 8, light: &[128, 64] },
        Shape { name: "published", slots: 36, numbers: 0, light: &[200, 80] },
    ];

    /// Floats of the input vector.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.slots * DIM + self.numbers
    }

    /// The features in the order of the input vector, and whether each is the candidate's.
    pub(super) fn features(&self) -> impl Iterator<Item = (FeatureConfig, bool)> {
        let Shape { slots, numbers, .. } = *self;
        let slot = move |slot| (FeatureConfig::new(&format!("c{slot}"), FeatureKind::Categorical), 2 * slot >= slots);
        let number = move |number| {
            let kind = FeatureKind::Standardise { mean: 0.5, std: 0.3 };
            (FeatureConfig::new(&format!("n{number}"), kind), 2 * number >= numbers)
        };
        (0..slots).map(slot).chain((0..numbers).map(number))
    }

    pub(super) fn schema(&self) -> SchemaConfig {
        SchemaConfig::labelled(self.features().map(|(feature, _)| feature).collect())
    }

    pub(super) fn architecture(&self) -> Architecture {
        Architecture {
            embedding_dim: DIM,
            further_dims: Vec::new(),
            inputs: self.inputs(),
            shared: Vec::new(),
            light: self.light.to_vec(),
            hidden: HiddenConfig::default(),
        }
    }
}
