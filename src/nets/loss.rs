use crate::config::{HintConfig, HintKind, SharedGrad, TrainConfig};
use crate::domain::{Head, Label};

/// Logits from the forward pass before the update, `[rows]` per head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Light.
    pub light: Vec<f32>,
    /// Booster.
    pub booster: Vec<f32>,
    /// Control, if the model has one.
    pub control: Option<Vec<f32>>,
}

impl Scores {
    /// Logits of one head.
    #[must_use]
    pub fn head(&self, head: Head) -> Option<&[f32]> {
        match head {
            Head::Light => Some(&self.light),
            Head::Booster => Some(&self.booster),
            Head::Control => self.control.as_deref(),
        }
    }
}

/// The learning rule: weights of the loss's terms, and what they may move.
///
/// L = light·H(y, l) + booster·H(y, z) + hint·mean(D(l, sg(z))) + control·H(y, c), with D by [`Hint`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Weight of light's cross-entropy.
    pub light: f64,
    /// Weight of the booster's cross-entropy.
    pub booster: f64,
    /// Weight of control's cross-entropy.
    pub control: f64,
    /// λ: weight of the hint, on one logit per example, mean over the batch.
    pub hint: f64,
    /// D: what the hint makes small.
    pub kind: Hint,
    /// The sg above: the hint does not move the booster.
    pub gradient_block: bool,
    /// What light's terms may move of the trunk.
    pub shared_grad: SharedGrad,
}

impl Rule {
    /// Cross-entropies at weight 1, the hint as configured.
    #[must_use]
    pub fn new(config: &TrainConfig) -> Self {
        Rule {
            light: 1.0,
            booster: 1.0,
            control: 1.0,
            hint: f64::from(config.hint.weight),
            kind: Hint::new(&config.hint),
            gradient_block: config.hint.gradient_block,
            shared_grad: config.shared_grad,
        }
    }
}

/// D of the hint, between light's logit l and the booster's logit z; σ is the logistic function.
///
/// | kind | D | ∂D/∂l | ∂D/∂z |
/// |---|---|---|---|
/// | `LogitsMse` | (l − z)² | 2(l − z) | −2(l − z) |
/// | `ProbMse` | (σ(l) − σ(z))² | 2(σ(l) − σ(z))·σ(l)(1 − σ(l)) | −2(σ(l) − σ(z))·σ(z)(1 − σ(z)) |
/// | `Kd`, q = σ(z/T), p = σ(l/T) | T²·(q·ln(q/p) + (1 − q)·ln((1 − q)/(1 − p))) | T(p − q) | q(1 − q)(z − l) |
///
/// The first is Zhou et al. 2018 (SNN-MIMIC's), the second their "MSE after softmax", the third Hinton et al. 2015 for two classes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hint {
    /// Squared distance of the logits.
    LogitsMse,
    /// Squared distance of the probabilities.
    ProbMse,
    /// Bernoulli KL at temperature T, times T² so that its gradient keeps its size whatever T is.
    Kd {
        /// T.
        temperature: f64,
    },
}

impl Hint {
    /// As configured.
    #[must_use]
    pub fn new(config: &HintConfig) -> Self {
        match config.kind {
            HintKind::LogitsMse => Hint::LogitsMse,
            HintKind::ProbMse => Hint::ProbMse,
            HintKind::Kd => Hint::Kd { temperature: config.kd_temperature() },
        }
    }

    /// D, ∂D/∂l and ∂D/∂z.
    fn at(self, l: f64, z: f64) -> [f64; 3] {
        match self {
            Hint::LogitsMse => {
                let distance = l - z;
                [distance * distance, 2.0 * distance, -2.0 * distance]
            }
            Hint::ProbMse => {
                let (p, q) = (sigmoid(l), sigmoid(z));
                let distance = p - q;
                [distance * distance, 2.0 * distance * p * (1.0 - p), -2.0 * distance * q * (1.0 - q)]
            }
            Hint::Kd { temperature } => {
                let (by_l, by_z) = (l / temperature, z / temperature);
                let (p, q) = (sigmoid(by_l), sigmoid(by_z));
                // ln q − ln p and the like, written by ln(1 + eˣ): finite where a probability rounds to 0.
                let divergence = q * (by_z - by_l) + softplus(by_l) - softplus(by_z);
                [temperature * temperature * divergence, temperature * (p - q), q * (1.0 - q) * (z - l)]
            }
        }
    }
}

/// The loss of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// All terms, weighted; means over the batch.
    pub total: f64,
    /// mean((l − z)²), without λ and whatever the hint in use: how far light is from the booster.
    pub hint_mse: f64,
    /// ‖∂hint/∂l‖ / (‖∂hint/∂l‖ + ‖∂H(y, l)/∂l‖) over the batch: 0 without a hint, near 1 where the hint is all that moves light.
    pub hint_share: f64,
}

/// Gradient of the loss by each logit, `[rows]`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitGradients {
    /// Of light's cross-entropy.
    pub light_ce: Vec<f32>,
    /// Of the hint by light's logit.
    pub light_hint: Vec<f32>,
    /// Of the booster's cross-entropy, and of the hint where the gradient block is off.
    pub booster: Vec<f32>,
    /// Of control's cross-entropy.
    pub control: Option<Vec<f32>>,
}

/// Loss and its gradient by the logits, in f64.
///
/// H is binary cross-entropy on the logit x, `max(x, 0) − x·y + ln(1 + e^−|x|)`, with gradient `σ(x) − y`; the hint's gradient is
/// λ·∂D/∂l by l and, where the gradient block is off, λ·∂D/∂z by z; all divided by the number of rows.
#[must_use]
pub fn loss(rule: &Rule, labels: &[Label], scores: &Scores) -> (Loss, LogitGradients) {
    let rows = labels.len();
    let mean = 1.0 / rows as f64;
    let mut gradients = LogitGradients {
        light_ce: Vec::with_capacity(rows),
        light_hint: Vec::with_capacity(rows),
        booster: Vec::with_capacity(rows),
        control: None,
    };
    let (mut entropies, mut hints, mut squares) = (0.0, 0.0, 0.0);
    let (mut hint_norm, mut light_norm) = (0.0, 0.0);
    for ((&label, &l), &z) in labels.iter().zip(&scores.light).zip(&scores.booster) {
        let (l, z) = (f64::from(l), f64::from(z));
        let [distance, by_l, by_z] = rule.kind.at(l, z).map(|d| rule.hint * d);
        let light = rule.light * mean * (sigmoid(l) - target(label));
        let hint = mean * by_l;
        let booster = rule.booster * mean * (sigmoid(z) - target(label));
        entropies += rule.light * cross_entropy(l, label) + rule.booster * cross_entropy(z, label);
        hints += distance;
        squares += (l - z) * (l - z);
        hint_norm += hint * hint;
        light_norm += light * light;
        gradients.light_ce.push(light as f32);
        gradients.light_hint.push(hint as f32);
        gradients.booster.push(if rule.gradient_block { booster } else { booster + mean * by_z } as f32);
    }
    if let Some(control) = &scores.control {
        let by_logit = |(&label, &c): (&Label, &f32)| {
            let c = f64::from(c);
            entropies += rule.control * cross_entropy(c, label);
            (rule.control * mean * (sigmoid(c) - target(label))) as f32
        };
        gradients.control = Some(labels.iter().zip(control).map(by_logit).collect());
    }
    let (hint_norm, light_norm) = (hint_norm.sqrt(), light_norm.sqrt());
    let loss = Loss {
        total: (entropies + hints) * mean,
        hint_mse: squares * mean,
        hint_share: if hint_norm > 0.0 { hint_norm / (hint_norm + light_norm) } else { 0.0 },
    };
    (loss, gradients)
}

fn target(label: Label) -> f64 {
    f64::from(u8::from(label))
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// ln(1 + eˣ).
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn cross_entropy(x: f64, label: Label) -> f64 {
    softplus(x) - x * target(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [Label; 3] = [true, false, true];
    const KINDS: [Hint; 4] = [Hint::LogitsMse, Hint::ProbMse, Hint::Kd { temperature: 4.0 }, Hint::Kd { temperature: 0.5 }];

    fn rule(hint: f64, kind: Hint, gradient_block: bool) -> Rule {
        Rule { light: 1.0, booster: 1.0, control: 1.0, hint, kind, gradient_block, shared_grad: SharedGrad::All }
    }

    fn scores() -> Scores {
        Scores { light: vec![0.5, -1.25, 2.0], booster: vec![1.5, 0.25, -0.75], control: Some(vec![0.125, -0.5, 0.75]) }
    }

    /// Central difference of the loss by one logit; `Scores` are f32, so the step is a power of two that f32 holds exactly.
    fn difference(rule: &Rule, change: impl Fn(&mut Scores, f32)) -> f64 {
        let step = 1.0_f32 / 1024.0;
        let at = |step| {
            let mut scores = scores();
            change(&mut scores, step);
            loss(rule, &LABELS, &scores).0.total
        };
        (at(step) - at(-step)) / f64::from(2.0 * step)
    }

    #[test]
    fn gradients_are_the_slopes_of_the_loss() {
        for kind in KINDS {
            let rule = rule(0.3, kind, false);
            let (_, gradients) = loss(&rule, &LABELS, &scores());
            let control = gradients.control.expect("control scores were given");
            for (i, by_control) in control.into_iter().enumerate() {
                let light = f64::from(gradients.light_ce[i]) + f64::from(gradients.light_hint[i]);
                assert!((light - difference(&rule, |s, d| s.light[i] += d)).abs() < 1e-6, "{kind:?}");
                assert!((f64::from(gradients.booster[i]) - difference(&rule, |s, d| s.booster[i] += d)).abs() < 1e-6, "{kind:?}");
                let slope = difference(&rule, |s, d| s.control.as_mut().expect("given")[i] += d);
                assert!((f64::from(by_control) - slope).abs() < 1e-6, "{kind:?}");
            }
        }
    }

    #[test]
    fn hints_have_the_value_of_their_formula_and_are_zero_where_light_equals_booster() {
        let distance = |kind: Hint, l, z| kind.at(l, z)[0];
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (l, z) in [(0.5_f64, 1.5_f64), (-1.25, 0.25), (3.0, -4.0)] {
            assert!((distance(Hint::LogitsMse, l, z) - (l - z).powi(2)).abs() < 1e-12);
            assert!((distance(Hint::ProbMse, l, z) - (sigma(l) - sigma(z)).powi(2)).abs() < 1e-12);
            for t in [0.5, 4.0] {
                let (p, q) = (sigma(l / t), sigma(z / t));
                let divergence = q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln();
                assert!((distance(Hint::Kd { temperature: t }, l, z) - t * t * divergence).abs() < 1e-12);
            }
        }
        for kind in KINDS {
            assert_eq!(kind.at(1.75, 1.75), [0.0; 3], "{kind:?}");
        }
    }

    #[test]
    fn the_block_takes_the_hint_off_the_booster_and_nothing_else() {
        for kind in KINDS {
            let run = |hint, gradient_block| loss(&rule(hint, kind, gradient_block), &LABELS, &scores());
            let ((with, blocked), (without, open), (_, alone)) = (run(0.3, true), run(0.3, false), run(0.0, false));
            assert_eq!(with, without);
            assert_eq!(blocked.booster, alone.booster);
            assert_ne!(open.booster, alone.booster);
            assert_eq!((&blocked.light_ce, &blocked.light_hint, &blocked.control), (&open.light_ce, &open.light_hint, &open.control));
        }
    }

    #[test]
    fn hint_share_weighs_the_two_gradients_at_the_light_logit_and_hint_mse_is_that_of_the_logits() {
        let norm = |g: &[f32]| g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        for kind in KINDS {
            let (with, gradients) = loss(&rule(0.3, kind, true), &LABELS, &scores());
            let (hint, ce) = (norm(&gradients.light_hint), norm(&gradients.light_ce));
            assert!((with.hint_share - hint / (hint + ce)).abs() < 1e-6, "{kind:?}");
            assert!((with.hint_mse - (1.0 + 2.25 + 2.75 * 2.75) / 3.0).abs() < 1e-12, "{kind:?}");
            assert_eq!(loss(&rule(0.0, kind, true), &LABELS, &scores()).0.hint_share, 0.0);
        }
    }

    #[test]
    fn stays_finite_at_extreme_logits() {
        let scores = Scores { light: vec![1e4, -1e4, -1e4], booster: vec![-1e4, 1e4, 1e4], control: None };
        for kind in KINDS {
            let (found, gradients) = loss(&rule(0.0, kind, true), &LABELS, &scores);
            assert!((found.total - 1e4).abs() < 1e-5, "{}", found.total);
            assert_eq!(gradients.light_ce, [0.0, 0.0, -1.0 / 3.0]);
            let (found, gradients) = loss(&rule(0.3, kind, false), &LABELS, &scores);
            assert!(found.total.is_finite() && gradients.light_hint.iter().chain(&gradients.booster).all(|g| g.is_finite()), "{kind:?}");
        }
    }
}
