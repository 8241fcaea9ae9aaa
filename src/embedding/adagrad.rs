/// Added to the root of the accumulator: keeps 0/0 out where both the gradient and the initial accumulator are 0. Too small to be
/// seen in any other step (PyTorch's default).
const EPSILON: f32 = 1e-10;

/// Adagrad (Duchi, Hazan, Singer 2011), per float of a row:
///
/// `acc ← acc + g²;  w ← w − lr · g / (√acc + 1e-10)`
///
/// The loss is a mean over the batch, so the gradient of a row that occurs in k of B samples is of the order k/B: with larger
/// batches gradients shrink, and an initial accumulator far above g² makes early steps small.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adagrad {
    /// Learning rate.
    pub lr: f32,
}

impl Adagrad {
    /// One step on one row: `weights`, `accumulators` and `gradient` are all `[dim]`.
    pub fn update(&self, weights: &mut [f32], accumulators: &mut [f32], gradient: &[f32]) {
        for ((w, acc), g) in weights.iter_mut().zip(accumulators).zip(gradient) {
            *acc += g * g;
            *w -= self.lr * g / (acc.sqrt() + EPSILON);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_an_f64_reference() {
        let rule = Adagrad { lr: 0.05 };
        let (mut w, mut acc) = ([0.3_f32, -0.2, 0.0], [0.1_f32; 3]);
        let (mut w64, mut acc64) = ([0.3_f64, -0.2, 0.0], [0.1_f64; 3]);
        for step in 1..=200 {
            let g: [f32; 3] = std::array::from_fn(|i| ((step * (i + 1)) as f32 * 0.37).sin() * 0.5);
            rule.update(&mut w, &mut acc, &g);
            for i in 0..3 {
                let g = f64::from(g[i]);
                acc64[i] += g * g;
                w64[i] -= 0.05 * g / acc64[i].sqrt();
            }
        }
        for i in 0..3 {
            assert!((f64::from(w[i]) - w64[i]).abs() < 1e-5, "weight {i}: {} against {}", w[i], w64[i]);
            assert!((f64::from(acc[i]) / acc64[i] - 1.0).abs() < 1e-5, "accumulator {i}: {} against {}", acc[i], acc64[i]);
        }
    }

    #[test]
    fn zero_gradient_on_an_empty_accumulator_stays_finite() {
        let (mut w, mut acc) = ([1.0_f32], [0.0_f32]);
        Adagrad { lr: 0.1 }.update(&mut w, &mut acc, &[0.0]);
        assert_eq!((w, acc), ([1.0], [0.0]));
    }
}
