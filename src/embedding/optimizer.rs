use crate::config::{EmbeddingOptimizer, OptimizerConfig};

/// Added to the root of an Adagrad accumulator: keeps 0/0 out where both the gradient and the initial accumulator are 0. Too small to
/// be seen in any other step (PyTorch's default).
const EPSILON: f32 = 1e-10;

/// How a row follows its gradient. A row is `[weights; state]`; only rows of a batch are touched, and with them their L2.
///
/// The loss is a mean over the batch, so the gradient of a row that occurs in k of B samples is of the order k/B: with larger batches
/// gradients shrink, and an initial accumulator far above g² makes early steps small.
///
/// | rule | state per row | step, with g ← g + l2·w except for FTRL |
/// |---|---|---|
/// | `adagrad` (Duchi, Hazan, Singer 2011) | acc `[dim]` | `acc ← acc + g²;  w ← w − lr · g / (√acc + 1e-10)` |
/// | `rowwise_adagrad` (FBGEMM's, of DLRM) | acc `[1]` | as above with `acc ← acc + mean(g²)` |
/// | `adam` (Kingma, Ba 2015), lazy | m, v `[dim]`, t `[1]` | `t ← t + 1;  m ← β₁m + (1−β₁)g;  v ← β₂v + (1−β₂)g²;` `w ← w − lr · m/(1−β₁ᵗ) / (√(v/(1−β₂ᵗ)) + ε)` |
/// | `ftrl` (McMahan et al. 2013) | z, n `[dim]` | `z ← z + g − w · (√(n+g²) − √n)/lr;  n ← n + g²;` `w ← −sign(z) · max(0, \|z\| − l1) / (√n/lr + l2)` |
///
/// Adam's t counts the row's own steps (a rare row is not corrected for steps it never took) and stays at 2²⁴, where both corrections
/// are 1 long since. FTRL's β is 0: the initial accumulator n₀ takes its place, as in TensorFlow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowOptimizer {
    kind: EmbeddingOptimizer,
    lr: f32,
    l1: f32,
    l2: f32,
    accumulator: f32,
    beta1: f64,
    beta2: f64,
    epsilon: f32,
}

impl RowOptimizer {
    /// The rule that `config` names.
    #[must_use]
    pub fn new(config: &OptimizerConfig) -> Self {
        RowOptimizer {
            kind: config.embedding,
            lr: config.embedding_lr,
            l1: config.embedding_l1,
            l2: config.embedding_l2,
            accumulator: config.embedding_initial_accumulator,
            beta1: config.beta1,
            beta2: config.beta2,
            epsilon: config.epsilon as f32,
        }
    }

    /// Its name.
    #[must_use]
    pub fn kind(&self) -> EmbeddingOptimizer {
        self.kind
    }

    /// Floats of state of a row of `dim` weights.
    #[must_use]
    pub fn state_width(&self, dim: usize) -> usize {
        match self.kind {
            EmbeddingOptimizer::Adagrad => dim,
            EmbeddingOptimizer::RowwiseAdagrad => 1,
            EmbeddingOptimizer::Adam => 2 * dim + 1,
            EmbeddingOptimizer::Ftrl => 2 * dim,
        }
    }

    /// Fills `state` `[state_width]` for a row whose initial `weights` are `[dim]`.
    pub fn start(&self, weights: &[f32], state: &mut [f32]) {
        match self.kind {
            EmbeddingOptimizer::Adagrad | EmbeddingOptimizer::RowwiseAdagrad => state.fill(self.accumulator),
            EmbeddingOptimizer::Adam => state.fill(0.0),
            EmbeddingOptimizer::Ftrl => {
                let (z, n) = state.split_at_mut(weights.len());
                n.fill(self.accumulator);
                // The z from which the closed form gives the weight back.
                let scale = self.accumulator.sqrt() / self.lr + self.l2;
                z.iter_mut().zip(weights).for_each(|(z, w)| *z = if *w == 0.0 { 0.0 } else { -w * scale - self.l1.copysign(*w) });
            }
        }
    }

    /// One step: `weights` and `gradient` are `[dim]`, `state` is `[state_width]`.
    pub fn update(&self, weights: &mut [f32], state: &mut [f32], gradient: &[f32]) {
        match self.kind {
            EmbeddingOptimizer::Adagrad => self.adagrad(weights, state, gradient),
            EmbeddingOptimizer::RowwiseAdagrad => self.rowwise_adagrad(weights, state, gradient),
            EmbeddingOptimizer::Adam => self.adam(weights, state, gradient),
            EmbeddingOptimizer::Ftrl => self.ftrl(weights, state, gradient),
        }
    }

    fn adagrad(&self, weights: &mut [f32], accumulators: &mut [f32], gradient: &[f32]) {
        for ((w, acc), g) in weights.iter_mut().zip(accumulators).zip(gradient) {
            let g = g + self.l2 * *w;
            *acc += g * g;
            *w -= self.lr * g / (acc.sqrt() + EPSILON);
        }
    }

    fn rowwise_adagrad(&self, weights: &mut [f32], accumulator: &mut [f32], gradient: &[f32]) {
        let squares: f32 = weights.iter().zip(gradient).map(|(w, g)| (g + self.l2 * w).powi(2)).sum();
        accumulator[0] += squares / weights.len() as f32;
        let step = self.lr / (accumulator[0].sqrt() + EPSILON);
        for (w, g) in weights.iter_mut().zip(gradient) {
            *w -= step * (g + self.l2 * *w);
        }
    }

    fn adam(&self, weights: &mut [f32], state: &mut [f32], gradient: &[f32]) {
        let (moments, t) = state.split_at_mut(2 * weights.len());
        let (m, v) = moments.split_at_mut(weights.len());
        t[0] += 1.0;
        let correction = |beta: f64| (1.0 - beta.powf(f64::from(t[0]))) as f32;
        let (step, root) = (self.lr / correction(self.beta1), correction(self.beta2).sqrt());
        let [(keep1, take1), (keep2, take2)] = [self.beta1, self.beta2].map(|beta| (beta as f32, (1.0 - beta) as f32));
        for (((w, m), v), g) in weights.iter_mut().zip(m).zip(v).zip(gradient) {
            let g = g + self.l2 * *w;
            *m = keep1 * *m + take1 * g;
            *v = keep2 * *v + take2 * g * g;
            *w -= step * *m / (v.sqrt() / root + self.epsilon);
        }
    }

    fn ftrl(&self, weights: &mut [f32], state: &mut [f32], gradient: &[f32]) {
        let (z, n) = state.split_at_mut(weights.len());
        for (((w, z), n), g) in weights.iter_mut().zip(z).zip(n).zip(gradient) {
            let (before, after) = (n.sqrt(), (*n + g * g).sqrt());
            *z += g - (after - before) / self.lr * *w;
            *n += g * g;
            let (over, scale) = (z.abs() - self.l1, after / self.lr + self.l2);
            // Where nothing was ever seen and nothing regularises, 0/0 is no movement.
            *w = if over <= 0.0 || scale <= 0.0 { 0.0 } else { -over.copysign(*z) / scale };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIM: usize = 3;
    const STEPS: usize = 400;
    const L2: f32 = 0.01;

    fn optimizer(kind: EmbeddingOptimizer, l1: f32, l2: f32) -> RowOptimizer {
        let config = OptimizerConfig { embedding: kind, embedding_l1: l1, embedding_l2: l2, ..OptimizerConfig::default() };
        RowOptimizer::new(&OptimizerConfig { embedding_initial_accumulator: 0.1, ..config })
    }

    fn gradient(step: usize) -> [f32; DIM] {
        std::array::from_fn(|i| ((step * (i + 1)) as f32 * 0.37).sin() * 0.5)
    }

    /// Runs the rule and a reference in f64 (weights, all state, gradient, step from 1) over the same gradients.
    fn assert_follows<const STATE: usize>(
        optimizer: &RowOptimizer,
        start: [f64; STATE],
        reference: impl Fn(&mut [f64; DIM], &mut [f64; STATE], [f64; DIM], i32),
    ) {
        let mut weights = [0.3_f32, -0.2, 0.0];
        assert_eq!(optimizer.state_width(DIM), STATE);
        let mut state = [f32::NAN; STATE];
        optimizer.start(&weights, &mut state);
        let (mut w64, mut s64) = (weights.map(f64::from), start);
        for step in 1..=STEPS {
            optimizer.update(&mut weights, &mut state, &gradient(step));
            reference(&mut w64, &mut s64, gradient(step).map(f64::from), step as i32);
        }
        for i in 0..DIM {
            assert!((f64::from(weights[i]) - w64[i]).abs() < 1e-5, "weight {i}: {} against {}", weights[i], w64[i]);
        }
        for i in 0..STATE {
            let error = (f64::from(state[i]) - s64[i]).abs();
            assert!(error < 1e-4 * s64[i].abs().max(1.0), "state {i}: {} against {}", state[i], s64[i]);
        }
    }

    #[test]
    fn adagrad_follows_an_f64_reference() {
        assert_follows(&optimizer(EmbeddingOptimizer::Adagrad, 0.0, L2), [0.1; DIM], |w, acc, g, _| {
            for i in 0..DIM {
                let g = g[i] + 0.01 * w[i];
                acc[i] += g * g;
                w[i] -= 0.05 * g / acc[i].sqrt();
            }
        });
    }

    #[test]
    fn rowwise_adagrad_follows_an_f64_reference() {
        assert_follows(&optimizer(EmbeddingOptimizer::RowwiseAdagrad, 0.0, L2), [0.1], |w, acc, g, _| {
            let g: [f64; DIM] = std::array::from_fn(|i| g[i] + 0.01 * w[i]);
            acc[0] += g.iter().map(|g| g * g).sum::<f64>() / DIM as f64;
            (0..DIM).for_each(|i| w[i] -= 0.05 * g[i] / acc[0].sqrt());
        });
    }

    #[test]
    fn adam_follows_an_f64_reference() {
        assert_follows(&optimizer(EmbeddingOptimizer::Adam, 0.0, L2), [0.0; 2 * DIM + 1], |w, s, g, t| {
            s[2 * DIM] += 1.0;
            for i in 0..DIM {
                let g = g[i] + 0.01 * w[i];
                s[i] = 0.9 * s[i] + 0.1 * g;
                s[DIM + i] = 0.999 * s[DIM + i] + 0.001 * g * g;
                let (m, v) = (s[i] / (1.0 - 0.9_f64.powi(t)), s[DIM + i] / (1.0 - 0.999_f64.powi(t)));
                w[i] -= 0.05 * m / (v.sqrt() + 1e-8);
            }
        });
    }

    #[test]
    fn ftrl_follows_an_f64_reference() {
        let (l1, scale) = (0.02, 0.1_f64.sqrt() / 0.05 + 0.01);
        let start = [-0.3 * scale - l1, 0.2 * scale + l1, 0.0, 0.1, 0.1, 0.1];
        assert_follows(&optimizer(EmbeddingOptimizer::Ftrl, 0.02, L2), start, |w, s, g, _| {
            for i in 0..DIM {
                let (n, next) = (s[DIM + i], s[DIM + i] + g[i] * g[i]);
                s[i] += g[i] - (next.sqrt() - n.sqrt()) / 0.05 * w[i];
                s[DIM + i] = next;
                w[i] = if s[i].abs() <= l1 { 0.0 } else { -(s[i] - s[i].signum() * l1) / (next.sqrt() / 0.05 + 0.01) };
            }
        });
    }

    #[test]
    fn ftrl_keeps_weak_weights_at_exactly_zero() {
        let optimizer = optimizer(EmbeddingOptimizer::Ftrl, 1.0, 0.0);
        let (mut weights, mut state) = ([0.0; DIM], [0.0; 2 * DIM]);
        optimizer.start(&[0.0; DIM], &mut state);
        (0..10).for_each(|_| optimizer.update(&mut weights, &mut state, &[0.05, -0.05, 0.5]));
        assert_eq!(weights[..2], [0.0, 0.0]);
        assert!(weights[2] < 0.0);
    }

    #[test]
    fn zero_gradient_on_an_empty_state_stays_finite() {
        for kind in EmbeddingOptimizer::ALL {
            let mut optimizer = optimizer(kind, 0.0, 0.0);
            optimizer.accumulator = 0.0;
            let mut weights = [0.0; DIM];
            let mut state = vec![f32::NAN; optimizer.state_width(DIM)];
            optimizer.start(&weights, &mut state);
            optimizer.update(&mut weights, &mut state, &[0.0; DIM]);
            assert_eq!(weights, [0.0; DIM], "{kind}");
            assert!(state.iter().all(|s| s.is_finite()), "{kind}");
        }
    }
}
