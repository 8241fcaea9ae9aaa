use super::Targets;
use super::early::{Delays, Importance};
use crate::config::{EarlyLabels, HintConfig, HintKind, SharedGrad, TrainConfig};
use crate::domain::{Head, Label, Stage};

/// Logits from the forward pass before the update, `[rows]` per head; `None` where the model does not have the head.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scores {
    /// Light.
    pub light: Option<Vec<f32>>,
    /// Booster.
    pub booster: Option<Vec<f32>>,
    /// Control.
    pub control: Option<Vec<f32>>,
    /// Of the heads that weigh early labels, which predict no click.
    pub delays: Option<Delays<Vec<f32>>>,
}

impl Scores {
    /// Every logit of a click moved by `shift`.
    #[must_use]
    pub fn shifted(self, shift: f64) -> Self {
        let moved = |logits: Option<Vec<f32>>| logits.map(|logits| logits.into_iter().map(|x| (f64::from(x) + shift) as f32).collect());
        Scores { light: moved(self.light), booster: moved(self.booster), control: moved(self.control), delays: self.delays }
    }

    /// Logits of one head.
    #[must_use]
    pub fn head(&self, head: Head) -> Option<&[f32]> {
        match head {
            Head::Light => self.light.as_deref(),
            Head::Booster => self.booster.as_deref(),
            Head::Control => self.control.as_deref(),
        }
    }
}

/// The learning rule: weights of the loss's terms, and what they may move.
///
/// L = light·H(y, l) + booster·H(y, z) + hint·mean(D(l, sg(z))) + teacher·mean(KD(l, t)) + control·H(y, c), with D by [`Hint`], t the logit
/// of a frozen booster and KD [`Hint::Kd`] (Zhou et al. 2018, rocket + KD); terms of heads that are not there fall away. Where light's
/// terms may go is said of the hint; what the teacher says goes the same way.
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
    /// Weight of the frozen teacher.
    pub teacher: f64,
    /// Its temperature T.
    pub teacher_temperature: f64,
    /// The sg above: the hint does not move the booster.
    pub gradient_block: bool,
    /// What light's terms may move of the trunk.
    pub shared_grad: SharedGrad,
    /// Added to every logit in the cross-entropies: −ln r where a share r of the negatives is trained ([`crate::batch::NegativeSampling`]).
    /// The hint compares what is served, logits without it.
    pub shift: f64,
    /// Labels that are trained before they are final, and how they are weighted.
    pub early: Option<EarlyLabels>,
}

impl Rule {
    /// Cross-entropies at weight 1, the hint as configured, every label final.
    #[must_use]
    pub fn new(config: &TrainConfig) -> Self {
        Rule {
            light: 1.0,
            booster: 1.0,
            control: 1.0,
            hint: f64::from(config.hint.weight),
            kind: Hint::new(&config.hint),
            teacher: config.teacher.weight,
            teacher_temperature: config.teacher.temperature,
            gradient_block: config.hint.gradient_block,
            shared_grad: config.shared_grad,
            shift: -config.negatives.keep.ln(),
            early: None,
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
    /// mean((l − z)²), without λ and whatever the hint in use: how far light is from the booster. `None` unless both are there.
    pub hint_mse: Option<f64>,
    /// ‖∂hint/∂l‖ / (‖∂hint/∂l‖ + ‖∂H(y, l)/∂l‖) over the batch, the teacher's term counted with the hint: 0 without them, near 1 where
    /// they are all that moves light. `None` unless both are there.
    pub hint_share: Option<f64>,
}

/// Gradient of the loss by each logit, `[rows]`; `None` for a head that is not there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogitGradients {
    /// Of light's cross-entropy.
    pub light_ce: Option<Vec<f32>>,
    /// Of hint and teacher by light's logit; `None` unless light and booster are there.
    pub light_hint: Option<Vec<f32>>,
    /// Of the booster's cross-entropy, and of the hint where the gradient block is off.
    pub booster: Option<Vec<f32>>,
    /// Of control's cross-entropy.
    pub control: Option<Vec<f32>>,
    /// Of those of the heads that weigh early labels.
    pub delays: Option<Delays<Vec<f32>>>,
}

impl LogitGradients {
    /// All of light's: of its cross-entropy, and of hint and teacher where there are such.
    pub(super) fn light(&self) -> Option<Vec<f32>> {
        let ce = self.light_ce.as_ref()?;
        Some(match &self.light_hint {
            Some(hint) => ce.iter().zip(hint).map(|(ce, hint)| ce + hint).collect(),
            None => ce.clone(),
        })
    }
}

/// Loss and its gradient by the logits, in f64.
///
/// H is binary cross-entropy on the shifted logit x, `max(x, 0) − x·y + ln(1 + e^−|x|)`, with gradient `σ(x) − y`; the hint's gradient is
/// λ·∂D/∂l by l and, where the gradient block is off, λ·∂D/∂z by z; all divided by the number of rows. Labels that are not final weigh H
/// of their row, value and gradient (`early.rs`), and not the hint.
#[must_use]
pub fn loss<'a>(rule: &Rule, targets: impl Into<Targets<'a>>, scores: &Scores) -> (Loss, LogitGradients) {
    let targets = targets.into();
    let importance = Importance::new(rule.early, &targets, scores.delays.as_ref());
    let entropy = |weight: f64, logits: &Option<Vec<f32>>| {
        let logits = logits.as_ref()?;
        let rows = targets.labels.iter().zip(logits).enumerate().map(|(row, (&label, &x))| {
            let x = f64::from(x) + rule.shift;
            (weight * importance.of(row, label, sigmoid(x)), label, x)
        });
        Some(entropy(rows))
    };
    let light = entropy(rule.light, &scores.light);
    let mut booster = entropy(rule.booster, &scores.booster);
    let control = entropy(rule.control, &scores.control);
    let delays = scores.delays.as_ref().map(|delays| delay_terms(&targets, delays));
    let clicks = [&light, &booster, &control].into_iter().flatten();
    let mut total: f64 = clicks.map(|term| term.value).sum();
    if let Some(Delays { delayed_positive, fake_negative }) = &delays {
        total += delayed_positive.value + fake_negative.value;
    }
    let mut light_hint = None;
    let (mut hint_mse, mut hint_share) = (None, None);
    if let ((Some(l), Some(z)), Some(light), Some(booster)) = ((&scores.light, &scores.booster), &light, &mut booster) {
        let mut hint = hint(rule, l, z);
        if let Some(teacher) = targets.teacher {
            hint.add_teacher(rule, l, teacher);
        }
        total += hint.value;
        if !rule.gradient_block {
            booster.gradient.iter_mut().zip(&hint.by_booster).for_each(|(sum, by_z)| *sum += by_z);
        }
        let (of_hint, of_light) = (norm(&hint.by_light), norm(&light.gradient));
        hint_mse = Some(hint.mse);
        hint_share = Some(if of_hint > 0.0 { of_hint / (of_hint + of_light) } else { 0.0 });
        light_hint = Some(narrow(&hint.by_light));
    }
    let gradient = |term: Option<Entropy>| term.map(|term| narrow(&term.gradient));
    let delays = delays.map(|delays| delays.map(|term| narrow(&term.gradient)));
    let gradients =
        LogitGradients { light_ce: gradient(light), light_hint, booster: gradient(booster), control: gradient(control), delays };
    (Loss { total, hint_mse, hint_share }, gradients)
}

/// A weighted cross-entropy, mean over the batch.
struct Entropy {
    value: f64,
    /// `[rows]`.
    gradient: Vec<f64>,
}

/// Of (weight, label, logit) of each row.
fn entropy(rows: impl ExactSizeIterator<Item = (f64, Label, f64)>) -> Entropy {
    let count = rows.len();
    let mut sum = Entropy { value: 0.0, gradient: Vec::with_capacity(count) };
    for (weight, label, x) in rows {
        let weight = weight / count as f64;
        sum.value += weight * cross_entropy(x, label);
        sum.gradient.push(weight * (sigmoid(x) - target(label)));
    }
    sum
}

/// Cross-entropies of the heads that weigh early labels, each over the samples that its table in `early.rs` names.
fn delay_terms(targets: &Targets<'_>, delays: &Delays<Vec<f32>>) -> Delays<Entropy> {
    let term = |logits: &[f32], takes: fn(Stage) -> bool| {
        entropy(logits.iter().enumerate().map(|(row, &x)| {
            let stage = targets.stage(row);
            (f64::from(u8::from(takes(stage))), matches!(stage, Stage::Delayed(_)), f64::from(x))
        }))
    };
    Delays {
        delayed_positive: term(&delays.delayed_positive, |_| true),
        fake_negative: term(&delays.fake_negative, |stage| stage != Stage::Final),
    }
}

/// λ·mean(D), and the teacher's term.
struct HintTerm {
    value: f64,
    mse: f64,
    /// `[rows]`.
    by_light: Vec<f64>,
    /// `[rows]`.
    by_booster: Vec<f64>,
}

impl HintTerm {
    fn add_teacher(&mut self, rule: &Rule, light: &[f32], teacher: &[f32]) {
        let (kind, mean) = (Hint::Kd { temperature: rule.teacher_temperature }, 1.0 / light.len() as f64);
        for ((&l, &t), by_light) in light.iter().zip(teacher).zip(&mut self.by_light) {
            let [distance, by_l, _] = kind.at(f64::from(l), f64::from(t)).map(|d| rule.teacher * mean * d);
            self.value += distance;
            *by_light += by_l;
        }
    }
}

fn hint(rule: &Rule, light: &[f32], booster: &[f32]) -> HintTerm {
    let rows = light.len();
    let mean = 1.0 / rows as f64;
    let mut sum = HintTerm { value: 0.0, mse: 0.0, by_light: Vec::with_capacity(rows), by_booster: Vec::with_capacity(rows) };
    for (&l, &z) in light.iter().zip(booster) {
        let (l, z) = (f64::from(l), f64::from(z));
        let [distance, by_l, by_z] = rule.kind.at(l, z).map(|d| rule.hint * mean * d);
        sum.value += distance;
        sum.mse += mean * (l - z) * (l - z);
        sum.by_light.push(by_l);
        sum.by_booster.push(by_z);
    }
    sum
}

fn norm(gradient: &[f64]) -> f64 {
    gradient.iter().map(|g| g * g).sum::<f64>().sqrt()
}

fn narrow(gradient: &[f64]) -> Vec<f32> {
    gradient.iter().map(|g| *g as f32).collect()
}

/// Mean cross-entropy of `logits` `[rows]`, nats; 0 without rows.
#[must_use]
pub fn logloss(labels: &[Label], logits: &[f32]) -> f64 {
    let sum: f64 = labels.iter().zip(logits).map(|(&label, &x)| cross_entropy(f64::from(x), label)).sum();
    sum / labels.len().max(1) as f64
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
mod tests;
