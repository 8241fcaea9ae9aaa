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
mod tests {
    use super::*;
    use crate::config::NegativesConfig;
    use crate::domain::{Origin, PartitionIndex};

    const LABELS: [Label; 3] = [true, false, true];
    const KINDS: [Hint; 4] = [Hint::LogitsMse, Hint::ProbMse, Hint::Kd { temperature: 4.0 }, Hint::Kd { temperature: 0.5 }];

    fn rule(hint: f64, kind: Hint, gradient_block: bool) -> Rule {
        Rule { light: 1.0, booster: 1.0, control: 1.0, hint, kind, gradient_block, ..Rule::new(&TrainConfig::default()) }
    }

    fn scores() -> Scores {
        Scores {
            light: Some(vec![0.5, -1.25, 2.0]),
            booster: Some(vec![1.5, 0.25, -0.75]),
            control: Some(vec![0.125, -0.5, 0.75]),
            delays: None,
        }
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
            let [light_ce, light_hint, booster, control] =
                [gradients.light_ce, gradients.light_hint, gradients.booster, gradients.control].map(|g| g.expect("all heads are there"));
            for i in 0..LABELS.len() {
                let light = difference(&rule, |s, d| s.light.as_mut().expect("given")[i] += d);
                assert!((f64::from(light_ce[i]) + f64::from(light_hint[i]) - light).abs() < 1e-6, "{kind:?}");
                let slope = difference(&rule, |s, d| s.booster.as_mut().expect("given")[i] += d);
                assert!((f64::from(booster[i]) - slope).abs() < 1e-6, "{kind:?}");
                let slope = difference(&rule, |s, d| s.control.as_mut().expect("given")[i] += d);
                assert!((f64::from(control[i]) - slope).abs() < 1e-6, "{kind:?}");
            }
        }
    }

    #[test]
    fn a_head_alone_has_the_cross_entropy_it_has_beside_the_other_and_no_hint() {
        let rule = rule(0.3, Hint::LogitsMse, true);
        let (_, both) = loss(&rule, &LABELS, &scores());
        let Scores { light, booster, .. } = scores();
        let (of_light, by_light) = loss(&rule, &LABELS, &Scores { light, ..Scores::default() });
        let (of_booster, by_booster) = loss(&rule, &LABELS, &Scores { booster, ..Scores::default() });
        assert_eq!(by_light, LogitGradients { light_ce: both.light_ce, ..LogitGradients::default() });
        assert_eq!(by_booster, LogitGradients { booster: both.booster, ..LogitGradients::default() });
        for alone in [of_light, of_booster] {
            assert!(alone.total > 0.0 && alone.hint_mse.is_none() && alone.hint_share.is_none());
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
            let [hint, ce] = [gradients.light_hint, gradients.light_ce].map(|g| norm(&g.expect("light is there")));
            assert!((with.hint_share.expect("both are there") - hint / (hint + ce)).abs() < 1e-6, "{kind:?}");
            assert!((with.hint_mse.expect("both are there") - (1.0 + 2.25 + 2.75 * 2.75) / 3.0).abs() < 1e-12, "{kind:?}");
            assert_eq!(loss(&rule(0.0, kind, true), &LABELS, &scores()).0.hint_share, Some(0.0));
        }
    }

    #[test]
    fn a_teacher_adds_distillation_to_light_and_nothing_to_the_booster() {
        let taught = [0.25_f32, -1.0, 3.0];
        for gradient_block in [true, false] {
            let rule = Rule { teacher: 1.8, teacher_temperature: 4.0, ..rule(0.3, Hint::LogitsMse, gradient_block) };
            let (without, plain) = loss(&rule, &LABELS, &scores());
            let (with, gradients) = loss(&rule, Targets { teacher: Some(&taught), ..Targets::from(&LABELS) }, &scores());
            let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
            let (mut term, light) = (0.0, scores().light.expect("there"));
            for (i, (l, t)) in light.iter().zip(taught).enumerate() {
                let (p, q) = (sigma(f64::from(*l) / 4.0), sigma(f64::from(t) / 4.0));
                term += 1.8 * 16.0 * (q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln()) / 3.0;
                let [with, without] = [&gradients, &plain].map(|gradients| gradients.light_hint.as_ref().expect("both are there")[i]);
                assert!((f64::from(with - without) - 1.8 * 4.0 * (p - q) / 3.0).abs() < 1e-6);
            }
            assert!((with.total - without.total - term).abs() < 1e-12);
            assert_eq!((gradients.booster, gradients.light_ce, gradients.control), (plain.booster, plain.light_ce, plain.control));
            assert_eq!(with.hint_mse, without.hint_mse);
        }
    }

    #[test]
    fn a_shift_moves_the_logits_of_the_cross_entropies_and_leaves_the_hint() {
        for kind in KINDS {
            let (shift, rule) = (1.75, rule(0.3, kind, false));
            let (_, shifted) = loss(&Rule { shift, ..rule }, &LABELS, &scores());
            let (_, moved) = loss(&rule, &LABELS, &scores().shifted(shift));
            let (_, plain) = loss(&rule, &LABELS, &scores());
            assert_eq!((&shifted.light_ce, &shifted.control), (&moved.light_ce, &moved.control), "{kind:?}");
            assert_eq!(shifted.light_hint, plain.light_hint, "{kind:?}");
            assert_ne!(shifted.light_ce, plain.light_ce);
        }
        let config = TrainConfig { negatives: NegativesConfig { keep: 0.25 }, ..TrainConfig::default() };
        assert_eq!(Rule::new(&config).shift, 4.0_f64.ln());
    }

    #[test]
    fn early_labels_weigh_the_cross_entropies_of_their_rows_and_not_the_hint() {
        let origin = Origin { partition: PartitionIndex(0), offset: 0 };
        let stages = [Stage::Final, Stage::Open, Stage::Delayed(origin)];
        let targets = Targets { stages: &stages, ..Targets::from(&LABELS) };
        let sigma = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
        let (d, f) = ([-1.0_f32, -2.0, 0.5], [-0.5_f32, -1.5, 1.0]);
        let delays = Some(Delays { delayed_positive: d.to_vec(), fake_negative: f.to_vec() });
        let scores = Scores { delays, ..scores() };
        let plain = rule(0.3, Hint::LogitsMse, true);
        let (_, unweighted) = loss(&plain, &LABELS, &self::scores());
        for early in [EarlyLabels::Fnw, EarlyLabels::EsDfm] {
            let (found, gradients) = loss(&Rule { early: Some(early), ..plain }, targets, &scores);
            let mut total = 0.0;
            let heads =
                [(&scores.light, &gradients.light_ce), (&scores.booster, &gradients.booster), (&scores.control, &gradients.control)];
            for (logits, gradient) in heads {
                let (logits, gradient) = (logits.as_ref().expect("given"), gradient.as_ref().expect("given"));
                for row in 0..3 {
                    let (p, y) = (sigma(logits[row]), f64::from(u8::from(LABELS[row])));
                    let odds = |x: f32| f64::from(x).exp().min(1.0);
                    let weight = match early {
                        EarlyLabels::Fnw => (1.0 + p) * if LABELS[row] { 1.0 } else { 1.0 - p },
                        EarlyLabels::EsDfm => (1.0 + odds(d[row])) * if LABELS[row] { 1.0 } else { 1.0 - odds(f[row]) },
                    };
                    assert!((f64::from(gradient[row]) - weight * (p - y) / 3.0).abs() < 1e-7, "{early:?} row {row}");
                    total -= weight * (y * p.ln() + (1.0 - y) * (1.0 - p).ln()) / 3.0;
                }
            }
            assert_eq!(gradients.light_hint, unweighted.light_hint);
            let of = gradients.delays.expect("given");
            for (row, (delayed, is_theirs)) in [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)].into_iter().enumerate() {
                let (by_d, by_f) = ((sigma(d[row]) - delayed) / 3.0, is_theirs * (sigma(f[row]) - delayed) / 3.0);
                assert!((f64::from(of.delayed_positive[row]) - by_d).abs() < 1e-7, "row {row}");
                assert!((f64::from(of.fake_negative[row]) - by_f).abs() < 1e-7, "row {row}");
                let cross_entropy = |x: f32| -(delayed * sigma(x).ln() + (1.0 - delayed) * (1.0 - sigma(x)).ln()) / 3.0;
                total += cross_entropy(d[row]) + is_theirs * cross_entropy(f[row]);
            }
            let mse = found.hint_mse.expect("both are there");
            assert!((found.total - total - 0.3 * mse).abs() < 1e-9, "{early:?}: {} against {total}", found.total);
        }
    }

    #[test]
    fn logloss_is_that_of_the_loss() {
        let Scores { light, .. } = scores();
        let (alone, _) = loss(&rule(0.0, Hint::LogitsMse, true), &LABELS, &Scores { light: light.clone(), ..Scores::default() });
        assert!((logloss(&LABELS, &light.expect("given")) - alone.total).abs() < 1e-12);
        assert_eq!(logloss(&[], &[]), 0.0);
    }

    #[test]
    fn stays_finite_at_extreme_logits() {
        let scores = Scores { light: Some(vec![1e4, -1e4, -1e4]), booster: Some(vec![-1e4, 1e4, 1e4]), ..Scores::default() };
        for kind in KINDS {
            let (found, gradients) = loss(&rule(0.0, kind, true), &LABELS, &scores);
            assert!((found.total - 1e4).abs() < 1e-5, "{}", found.total);
            assert_eq!(gradients.light_ce, Some(vec![0.0, 0.0, -1.0 / 3.0]));
            let (found, gradients) = loss(&rule(0.3, kind, false), &LABELS, &scores);
            let mut found_gradients = [gradients.light_hint, gradients.booster].into_iter().flatten().flatten();
            assert!(found.total.is_finite() && found_gradients.all(|g| g.is_finite()), "{kind:?}");
        }
    }
}
