use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};

use super::dense::Dense;
use super::{Sequence, SequenceShape};

/// Parts of what an attention unit reads of a row k beside the target q: q, k, q − k, q ⊙ k.
const READ: usize = 4;

/// Target attention over a behaviour sequence (DIN, Zhou et al. 2018):
///
/// Σⱼ wⱼ · kⱼ, wⱼ = unit([q, kⱼ, q − kⱼ, q ⊙ kⱼ])
///
/// The weights are not normalised, as in the paper: what a sequence says the more strongly the more of it goes with the target stays so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attention {
    length: usize,
    target: Range<usize>,
}

/// A sequence on the device.
#[derive(Debug, Clone)]
pub(super) struct SequenceTensors {
    /// `[rows, length, dim]`.
    pub(super) rows: Tensor<3>,
    /// 1 where there is a row, 0 behind: `[rows, length, 1]`.
    mask: Tensor<3>,
    pub(super) lengths: Vec<u32>,
}

impl SequenceTensors {
    pub(super) fn new(Sequence { rows, lengths }: Sequence, length: usize, device: &Device) -> Self {
        let examples = lengths.len();
        let dim = rows.len() / (examples * length).max(1);
        let mask = lengths.iter().flat_map(|&held| (0..length).map(move |place| f32::from(place < held as usize))).collect();
        let tensor = |values: Vec<f32>, width| Tensor::from_data(TensorData::new(values, [examples, length, width]), device);
        SequenceTensors { rows: tensor(rows, dim), mask: tensor(mask, 1), lengths }
    }

    pub(super) fn tracked(self) -> Self {
        SequenceTensors { rows: self.rows.autodiff().require_grad(), ..self }
    }
}

impl Attention {
    pub(super) fn new(sequence: &SequenceShape) -> Self {
        Attention { length: sequence.length, target: sequence.target.clone() }
    }

    /// Rows of an example, at most.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Width of a row, and of what comes out.
    pub(super) fn dim(&self) -> usize {
        self.target.len()
    }

    /// Width of what the unit reads.
    pub(super) fn inputs(&self) -> usize {
        READ * self.dim()
    }

    /// The rows' weighted sum; the zero vector for an empty sequence.
    ///
    /// # Shapes
    /// `x [rows, width]` holds the target, `unit` are the layers of the attention unit → `[rows, dim]`.
    pub(super) fn vector<'a>(&self, x: &Tensor<2>, sequence: &SequenceTensors, unit: impl Iterator<Item = &'a Dense<'a>>) -> Tensor<2> {
        let (examples, length, dim) = (x.dims()[0], self.length, self.dim());
        let k = sequence.rows.clone();
        let q = x.clone().slice([0..examples, self.target.clone()]).reshape([examples, 1, dim]).expand([examples, length, dim]);
        let read = Tensor::cat(vec![q.clone(), k.clone(), q.clone() - k.clone(), q * k.clone()], 2);
        let weights = unit.fold(read.reshape([examples * length, self.inputs()]), |y, layer| layer.apply(y, &mut None));
        let weights = weights.reshape([examples, length, 1]) * sequence.mask.clone();
        (weights * k).sum_dim(1).reshape([examples, dim])
    }

    /// Multiplications per example beside those of the unit's layers: the products in what it reads, and the weighing.
    pub(super) fn multiplications(&self) -> usize {
        2 * self.length * self.dim()
    }
}
