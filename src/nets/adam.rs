use burn::tensor::Tensor;

use super::LearningRate;
use crate::config::OptimizerConfig;
use crate::libtorch::{self, Moments};

/// Adam (Kingma & Ba 2015) on flat vectors:
///
/// `m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;  p ← p − lr · m̂ / (√v̂ + ε)`, with `m̂ = m / (1−β₁ᵗ)`, `v̂ = v / (1−β₂ᵗ)`,
/// and lr by [`LearningRate`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adam {
    rate: LearningRate,
    beta1: f64,
    beta2: f64,
    epsilon: f64,
}

impl Adam {
    /// As configured.
    #[must_use]
    pub fn new(config: &OptimizerConfig) -> Self {
        Adam { rate: LearningRate::new(config), beta1: config.beta1, beta2: config.beta2, epsilon: config.epsilon }
    }

    /// The step number `step`, counted from 1.
    pub(super) fn step(&self, step: u64) -> AdamStep {
        let t = step as f64;
        let (correction1, correction2) = (1.0 - self.beta1.powf(t), 1.0 - self.beta2.powf(t));
        let root = correction2.sqrt();
        AdamStep { beta1: self.beta1, beta2: self.beta2, epsilon: self.epsilon * root, rate: self.rate.at(step) * root / correction1 }
    }
}

/// The numbers of one step, with the corrections of m̂ and v̂ moved from the vectors into them:
/// lr · m̂ / (√v̂ + ε) = lr · √(1−β₂ᵗ) / (1−β₁ᵗ) · m / (√v + ε · √(1−β₂ᵗ)).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AdamStep {
    beta1: f64,
    beta2: f64,
    epsilon: f64,
    rate: f64,
}

impl AdamStep {
    /// All tensors are `[parameters]` on one device; returns parameters, m and v.
    pub(super) fn on_device(&self, params: Tensor<1>, m: Tensor<1>, v: Tensor<1>, gradient: Tensor<1>) -> [Tensor<1>; 3] {
        let [weight1, weight2] = [self.beta1, self.beta2].map(|beta| 1.0 - beta);
        let moments = Moments { weights: [weight1, weight2], epsilon: self.epsilon, rate: self.rate };
        if let Some(vectors) = libtorch::step([&params, &m, &v], &gradient, &moments) {
            return vectors;
        }
        let m = m.mul_scalar(self.beta1) + gradient.clone().mul_scalar(weight1);
        let v = v.mul_scalar(self.beta2) + (gradient.clone() * gradient).mul_scalar(weight2);
        let denominator = v.clone().sqrt().add_scalar(self.epsilon);
        let params = params - (m.clone() / denominator).mul_scalar(self.rate);
        [params, m, v]
    }

    /// All slices are `[parameters]`.
    pub(super) fn on_host(&self, params: &mut [f32], m: &mut [f32], v: &mut [f32], gradient: &[f32]) {
        let [beta1, beta2, epsilon, rate] = [self.beta1, self.beta2, self.epsilon, self.rate].map(|x| x as f32);
        let [rest1, rest2] = [self.beta1, self.beta2].map(|beta| (1.0 - beta) as f32);
        for (((p, m), v), g) in params.iter_mut().zip(m).zip(v).zip(gradient) {
            *m = beta1 * *m + rest1 * g;
            *v = beta2 * *v + rest2 * (g * g);
            *p -= rate * (*m / (v.sqrt() + epsilon));
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::config::Decay;

    #[test]
    fn follows_an_f64_reference() {
        let (warmup_steps, decay, decay_steps) = (20, Decay::InverseSqrt, 100);
        let config = OptimizerConfig { dense_lr: 0.01, warmup_steps, decay, decay_steps, ..OptimizerConfig::default() };
        let adam = Adam::new(&config);
        let device = Device::flex();
        let start = [0.5_f32, -0.25, 0.0, 3.0];
        let [mut p, mut m, mut v] = [start, [0.0; 4], [0.0; 4]].map(|x| Tensor::<1>::from_floats(x, &device));
        let mut host = [start, [0.0; 4], [0.0; 4]];
        let (mut p64, mut m64, mut v64) = (start.map(f64::from), [0.0; 4], [0.0; 4]);
        for step in 1..=300_u64 {
            let g: [f32; 4] = std::array::from_fn(|i| (step as f32 * 0.1 * (i as f32 + 1.0)).cos() * 10_f32.powi(i as i32 - 3));
            [p, m, v] = adam.step(step).on_device(p, m, v, Tensor::from_floats(g, &device));
            let [p, m, v] = &mut host;
            adam.step(step).on_host(p, m, v, &g);
            for i in 0..4 {
                let g = f64::from(g[i]);
                m64[i] = 0.9 * m64[i] + 0.1 * g;
                v64[i] = 0.999 * v64[i] + 0.001 * g * g;
                let (m_hat, v_hat): (f64, f64) = (m64[i] / (1.0 - 0.9_f64.powf(step as f64)), v64[i] / (1.0 - 0.999_f64.powf(step as f64)));
                let rate = 0.01 * (step as f64 / 20.0).min(1.0) * (100.0 / (step as f64).max(100.0)).sqrt();
                p64[i] -= rate * m_hat / (v_hat.sqrt() + 1e-8);
            }
        }
        let p = p.try_into_vec_as::<f32>().expect("f32");
        for i in 0..4 {
            for p in [p[i], host[0][i]] {
                assert!((f64::from(p) - p64[i]).abs() < 1e-4, "parameter {i}: {p} against {}", p64[i]);
            }
        }
    }
}
