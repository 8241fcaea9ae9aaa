use burn::tensor::Device;

use super::lookup::Lookup;
use super::{LearnerState, TrainError};
use crate::batch::Batch;
use crate::embedding::{ClickCounts, InputLayout};
use crate::nets::{Layout, Nets};

/// Makes teachers, on whatever thread has the time: a table's worth of rows is copied.
#[derive(Debug)]
pub struct Teachers {
    layout: Layout,
    device: Device,
    /// Without rows: the settings alone.
    lookup: Lookup,
}

impl Teachers {
    pub(super) fn new(layout: Layout, device: Device, lookup: Lookup) -> Self {
        Teachers { layout, device, lookup }
    }

    /// The booster of `state`, whose rows must be full.
    ///
    /// # Errors
    /// [`TrainError::Mismatch`].
    pub fn make(&self, state: &LearnerState) -> Result<Teacher, TrainError> {
        let nets = Nets::booster(&self.layout, &self.device, &state.dense)?;
        Ok(Teacher { nets, lookup: self.lookup.restored(&state.rows)? })
    }
}

/// The booster of an earlier state, frozen: what light imitates besides the one that learns. It reads embeddings of its own, as they were
/// then; rates of past clicks are those of now.
#[derive(Debug)]
pub struct Teacher {
    nets: Nets,
    lookup: Lookup,
}

impl Teacher {
    /// Its logits, `[rows]`.
    pub(super) fn logits(&self, layout: &InputLayout, click_counts: &ClickCounts, batch: &Batch) -> Option<Vec<f32>> {
        let mut inputs = self.lookup.peek(layout, batch);
        click_counts.read(&batch.click_rates, layout.width(), &mut inputs.shared);
        self.nets.predict(inputs, batch.rows()).booster
    }
}
