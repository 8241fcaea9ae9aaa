use crate::config::{Decay, OptimizerConfig};

/// Adam's learning rate by step.
///
/// lr(t) = `dense_lr` · min(1, t / `warmup_steps`) · d(t), t counted from 1, with d(t) = 1, √(S / max(t, S)) (Vaswani et al. 2017, without
/// their tie to the warm-up) or 2^(−t / S) by [`Decay`], S = `decay_steps`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LearningRate {
    whole: f64,
    warmup_steps: u64,
    decay: Decay,
    decay_steps: u64,
}

impl LearningRate {
    /// As configured.
    #[must_use]
    pub fn new(config: &OptimizerConfig) -> Self {
        let OptimizerConfig { dense_lr: whole, warmup_steps, decay, decay_steps, .. } = *config;
        LearningRate { whole, warmup_steps, decay, decay_steps }
    }

    /// At the step number `step`, counted from 1.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        let (t, s) = (step as f64, self.decay_steps as f64);
        let warm = if step < self.warmup_steps { t / self.warmup_steps as f64 } else { 1.0 };
        let decayed = match self.decay {
            Decay::None => 1.0,
            Decay::InverseSqrt => (s / t.max(s)).sqrt(),
            Decay::HalfLife => (-t / s).exp2(),
        };
        self.whole * warm * decayed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates<const N: usize>(warmup_steps: u64, decay: Decay, steps: [u64; N]) -> [f64; N] {
        let config = OptimizerConfig { dense_lr: 0.5, warmup_steps, decay, decay_steps: 100, ..OptimizerConfig::default() };
        steps.map(|step| LearningRate::new(&config).at(step))
    }

    #[test]
    fn rises_linearly_then_falls_by_its_formula() {
        assert_eq!(rates(0, Decay::None, [1, 10, 1_000_000]), [0.5; 3]);
        assert_eq!(rates(4, Decay::None, [1, 2, 3, 4, 5]), [0.125, 0.25, 0.375, 0.5, 0.5]);
        assert_eq!(rates(2, Decay::InverseSqrt, [1, 2, 100, 400, 10_000]), [0.25, 0.5, 0.5, 0.25, 0.05]);
        assert_eq!(rates(0, Decay::HalfLife, [100, 200, 300]), [0.25, 0.125, 0.0625]);
        assert_eq!(rates(200, Decay::HalfLife, [100]), [0.125]);
    }
}
