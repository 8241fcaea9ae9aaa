use crate::config::{SharedGrad, TrainConfig};
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
/// L = light·H(y, l) + booster·H(y, z) + hint·mean((l − sg(z))²) + control·H(y, c)
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
            gradient_block: config.hint.gradient_block,
            shared_grad: config.shared_grad,
        }
    }
}

/// The loss of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Loss {
    /// All terms, weighted; means over the batch.
    pub total: f64,
    /// mean((l − z)²), without λ.
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
/// `2λ(l − z)` by l and, where the gradient block is off, `−2λ(l − z)` by z; all divided by the number of rows.
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
    let (mut entropies, mut squares) = (0.0, 0.0);
    let (mut hint_norm, mut light_norm) = (0.0, 0.0);
    for ((&label, &l), &z) in labels.iter().zip(&scores.light).zip(&scores.booster) {
        let (l, z) = (f64::from(l), f64::from(z));
        let distance = l - z;
        let light = rule.light * mean * (sigmoid(l) - target(label));
        let hint = rule.hint * mean * 2.0 * distance;
        let booster = rule.booster * mean * (sigmoid(z) - target(label));
        entropies += rule.light * cross_entropy(l, label) + rule.booster * cross_entropy(z, label);
        squares += distance * distance;
        hint_norm += hint * hint;
        light_norm += light * light;
        gradients.light_ce.push(light as f32);
        gradients.light_hint.push(hint as f32);
        gradients.booster.push(if rule.gradient_block { booster } else { booster - hint } as f32);
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
        total: entropies * mean + rule.hint * squares * mean,
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

fn cross_entropy(x: f64, label: Label) -> f64 {
    x.max(0.0) - x * target(label) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [Label; 3] = [true, false, true];

    fn rule(hint: f64, gradient_block: bool) -> Rule {
        Rule { light: 1.0, booster: 1.0, control: 1.0, hint, gradient_block, shared_grad: SharedGrad::All }
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
        let rule = rule(0.3, false);
        let (_, gradients) = loss(&rule, &LABELS, &scores());
        let control = gradients.control.expect("control scores were given");
        for (i, by_control) in control.into_iter().enumerate() {
            let light = f64::from(gradients.light_ce[i]) + f64::from(gradients.light_hint[i]);
            assert!((light - difference(&rule, |s, d| s.light[i] += d)).abs() < 1e-6);
            assert!((f64::from(gradients.booster[i]) - difference(&rule, |s, d| s.booster[i] += d)).abs() < 1e-6);
            let slope = difference(&rule, |s, d| s.control.as_mut().expect("given")[i] += d);
            assert!((f64::from(by_control) - slope).abs() < 1e-6);
        }
    }

    #[test]
    fn the_block_takes_the_hint_off_the_booster_and_nothing_else() {
        let ((with, blocked), (without, open)) = (loss(&rule(0.3, true), &LABELS, &scores()), loss(&rule(0.3, false), &LABELS, &scores()));
        let (_, alone) = loss(&rule(0.0, false), &LABELS, &scores());
        assert_eq!(with, without);
        assert_eq!(blocked.booster, alone.booster);
        assert_ne!(open.booster, alone.booster);
        assert_eq!((&blocked.light_ce, &blocked.light_hint, &blocked.control), (&open.light_ce, &open.light_hint, &open.control));
    }

    #[test]
    fn hint_share_weighs_the_two_gradients_at_the_light_logit() {
        let (with, gradients) = loss(&rule(0.3, true), &LABELS, &scores());
        let norm = |g: &[f32]| g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let (hint, ce) = (norm(&gradients.light_hint), norm(&gradients.light_ce));
        assert!((with.hint_share - hint / (hint + ce)).abs() < 1e-6);
        assert!((with.hint_mse - (1.0 + 2.25 + 2.75 * 2.75) / 3.0).abs() < 1e-12);
        assert_eq!(loss(&rule(0.0, true), &LABELS, &scores()).0.hint_share, 0.0);
    }

    #[test]
    fn stays_finite_at_extreme_logits() {
        let scores = Scores { light: vec![1e4, -1e4, -1e4], booster: vec![-1e4, 1e4, 1e4], control: None };
        let (loss, gradients) = loss(&rule(0.0, true), &LABELS, &scores);
        assert!((loss.total - (1e4 + 1e4 + 1e4 + 0.0) / 3.0).abs() < 1e-9 * 1e4, "{}", loss.total);
        assert_eq!(gradients.light_ce, [0.0, 0.0, -1.0 / 3.0]);
    }
}
