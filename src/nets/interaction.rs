use burn::tensor::Tensor;

use super::InputShape;
use crate::config::ModelConfig;

/// Pairwise products of slot vectors (factorization machine, Rendle 2010; beside a deep net as in DeepFM, Guo et al. 2017):
///
/// Σᵢ<ⱼ ⟨vᵢ, vⱼ⟩ = ½ Σ_d ((Σᵢ v_id)² − Σᵢ v_id²)
///
/// Without first-order terms: the layers beside it have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FactorizationMachine {
    slots: usize,
    dim: usize,
}

impl FactorizationMachine {
    /// Over the slots of `shape`, which are as wide as one another; `None` where the model has none.
    pub(super) fn new(model: &ModelConfig, shape: &InputShape) -> Option<Self> {
        let dim = shape.slots.first().copied().unwrap_or(0);
        (model.booster_fm && dim > 0).then_some(FactorizationMachine { slots: shape.slots.len(), dim })
    }

    /// What it adds to the logit.
    ///
    /// # Shapes
    /// `x [rows, width]`, slots first → `[rows, 1]`.
    pub(super) fn logit(self, x: &Tensor<2>) -> Tensor<2> {
        let rows = x.dims()[0];
        let vectors = x.clone().slice([0..rows, 0..self.slots * self.dim]).reshape([rows, self.slots, self.dim]);
        let sum = vectors.clone().sum_dim(1);
        let products = sum.clone() * sum - (vectors.clone() * vectors).sum_dim(1);
        products.sum_dim(2).mul_scalar(0.5).reshape([rows, 1])
    }

    /// Multiplications per example: the squares, and the half.
    pub(super) fn multiplications(self) -> usize {
        (self.slots + 1) * self.dim + 1
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    #[test]
    fn is_the_sum_of_the_products_of_all_pairs() {
        let (rows, slots, dim) = (3, 4, 2);
        let shape = InputShape { width: slots * dim + 1, slots: vec![dim; slots], ..InputShape::default() };
        let model = ModelConfig { booster_fm: true, ..ModelConfig::default() };
        let machine = FactorizationMachine::new(&model, &shape).expect("it is switched on");
        let x: Vec<f32> = (0..rows * shape.width).map(|i| (i as f32 * 0.7).sin()).collect();
        let logits = machine.logit(&Tensor::from_data(TensorData::new(x.clone(), [rows, shape.width]), &Device::flex()));
        let found = logits.try_into_vec_as::<f32>().expect("f32");
        for (row, found) in x.chunks_exact(shape.width).zip(found) {
            let vector = |slot: usize| row[slot * dim..(slot + 1) * dim].iter().map(|v| f64::from(*v));
            let pairs = (0..slots).flat_map(|i| (i + 1..slots).map(move |j| (i, j)));
            let expected: f64 = pairs.map(|(i, j)| vector(i).zip(vector(j)).map(|(a, b)| a * b).sum::<f64>()).sum();
            assert!((f64::from(found) - expected).abs() < 1e-5, "{found} against {expected}");
        }
        assert_eq!(FactorizationMachine::new(&ModelConfig::default(), &shape), None);
    }
}
