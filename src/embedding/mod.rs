//! The collisionless growing embedding table with sparse optimizers.
//!
//! [`Rows`] stores fixed-width rows by exact key; [`Table`] is such rows with initial weights and an optimizer. All slots share one table
//! of `dim` weights per id. A batch is read in three moves: [`Gather::read`] pools its ids into one input
//! matrix on the host, so that autodiff sees a leaf of `[rows, width]` and never the table; [`Gather::scatter`] turns the gradient of
//! that matrix into one gradient per distinct id; [`Gather::apply`] updates those rows. Nothing in the table changes before `apply`,
//! so a batch that is given up leaves no trace, not even rows for its new ids.
//!
//! Everything runs on the calling thread and in the order of the batch: the same batches give the same bits.

mod admission;
mod click_counts;
mod expiry;
mod gather;
mod index;
mod optimizer;
mod random;
mod rows;
mod state;
mod table;

pub use admission::AdmissionState;
pub use click_counts::{ClickCounts, CountsError, CountsState};
pub use expiry::SweepState;
pub use gather::Gather;
pub use optimizer::RowOptimizer;
pub use rows::{Captured, Rows, RowsError};
pub use state::{RowsState, TableError};
pub use table::Table;

use crate::config::Pooling;
use crate::features::{CLICK_RATE_INPUTS, FeatureSpec};

/// How a batch becomes a net's input vector: the slots' pooled rows side by side, then the numbers, then the click rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputLayout {
    /// Pooling of each slot.
    pub poolings: Vec<Pooling>,
    /// Numeric inputs.
    pub numbers: usize,
    /// Click rates, each [`CLICK_RATE_INPUTS`] inputs.
    pub click_rates: usize,
    /// Floats per embedding row.
    pub dim: usize,
}

impl InputLayout {
    /// The layout of a schema's features over rows of `dim` floats.
    #[must_use]
    pub fn new(spec: &FeatureSpec, dim: usize) -> Self {
        InputLayout {
            poolings: spec.slots().iter().map(|slot| slot.pooling).collect(),
            numbers: spec.numbers().len(),
            click_rates: spec.click_rates().len(),
            dim,
        }
    }

    /// Width of the input vector: slots · dim + numbers + click rates · 2.
    #[must_use]
    pub fn width(&self) -> usize {
        self.poolings.len() * self.dim + self.numbers + self.click_rates * CLICK_RATE_INPUTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeatureConfig, FeatureKind, SchemaConfig, TimeUnit};

    #[test]
    fn a_layout_is_as_wide_as_the_features_say() {
        let feature = |name: &str, kind| FeatureConfig::new(name, kind);
        let bag = FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: None };
        let schema = SchemaConfig {
            time: "time".to_owned(),
            time_unit: TimeUnit::Ms,
            user: "user".to_owned(),
            item: "item".to_owned(),
            label: "label".to_owned(),
            impression: None,
            features: vec![feature("item", FeatureKind::Categorical), feature("price", FeatureKind::Log1p), feature("tags", bag)],
        };
        let spec = FeatureSpec::new(&schema).expect("a sound schema");
        let layout = InputLayout::new(&spec, 8);
        assert_eq!(layout, InputLayout { poolings: vec![Pooling::Sum, Pooling::Mean], numbers: 1, click_rates: 0, dim: 8 });
        assert_eq!(layout.width(), spec.inputs(8));
    }
}
