use serde::{Deserialize, Serialize};

use super::units::Span;

/// Rows a batch closes at. A compromise of speed (bigger) and one-pass quality (smaller), see README.
const BATCH_ROWS: usize = 256;
/// A batch that is not full closes after this: bounds freshness on a thin stream.
const LINGER: Span = Span::from_millis(1000);
/// Below the squared gradients of a mean loss, (1/batch)² and less: a larger start freezes rare ids (KuaiRand, one pass: light AUC .722 at
/// 1e-8, .713 at 1e-3, .699 at 0.1).
const ACCUMULATOR: f32 = 1e-8;
/// λ on the margin of one logit, mean over the batch. The published CTR run has 0.3 on a softmax of two logits and passes its rows many
/// times; in one pass, while the booster is not ahead yet, that costs the light net more than it gives: on 300,000 events of the demo's
/// stream, light beside light alone, AUC −.0019 at 0.3, +.0019 ± .0008 at 0.01 (`rocketctl ablate`, README).
const HINT_WEIGHT: f32 = 0.01;
/// Steps of `decay`: 25 million samples at the default batch, a day of a busy stream.
const DECAY_STEPS: u64 = 100_000;
/// The published temperature of distillation (Zhou et al. 2018, from Hinton et al. 2015).
const TEMPERATURE: f64 = 4.0;

/// The learning rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainConfig {
    /// `cpu` (pure Rust), `tch-cpu`, or `cuda:N`; the latter two need `--features tch`.
    pub device: String,
    /// Threads of the CPU backend; 0: one per core.
    pub threads: usize,
    /// Seed of the initial weights.
    pub seed: u64,
    /// Share of clicks to expect, above 0 and below 1: each head starts from it, its last bias at ln(p / (1 − p)). None: from one half, and
    /// once the first batch is scored and trained from what that held, unless its labels were early.
    pub base_rate: Option<f64>,
    /// Rows a batch closes at.
    pub batch_rows: usize,
    /// A batch that is not full closes this long after its first row.
    pub linger: Span,
    /// Which unclicked impressions are trained.
    pub negatives: NegativesConfig,
    /// Which heads there are.
    pub heads: Heads,
    /// Booster first, then light from the frozen booster.
    pub booster_first: BoosterFirstConfig,
    /// The hint.
    pub hint: HintConfig,
    /// An earlier booster that light imitates besides.
    pub teacher: TeacherConfig,
    /// What the light path may do to the trunk.
    pub shared_grad: SharedGrad,
    /// Optimizers.
    pub optimizer: OptimizerConfig,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            device: "cpu".to_owned(),
            threads: 0,
            seed: 1,
            base_rate: None,
            batch_rows: BATCH_ROWS,
            linger: LINGER,
            negatives: NegativesConfig::default(),
            heads: Heads::Both,
            booster_first: BoosterFirstConfig::default(),
            hint: HintConfig::default(),
            teacher: TeacherConfig::default(),
            shared_grad: SharedGrad::All,
            optimizer: OptimizerConfig::default(),
        }
    }
}

/// Sampling of unclicked impressions. What is served stays calibrated to the whole stream; training and prequential metrics are those of
/// the sampled one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NegativesConfig {
    /// Share that is trained, above 0; clicked ones all are. 1: no sampling.
    pub keep: f64,
}

impl Default for NegativesConfig {
    fn default() -> Self {
        NegativesConfig { keep: 1.0 }
    }
}

/// Which heads a learner has. One alone is the baseline of the others: the same trunk, the same start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// Light and booster.
    #[default]
    Both,
    /// Light alone: no hint, nothing but labels.
    Light,
    /// The booster alone: nothing that could be served.
    Booster,
}

/// The arm in which the two are not trained together.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoosterFirstConfig {
    /// Samples that train booster and trunk alone; then both are frozen and light learns from them. A batch belongs to the phase in
    /// which it begins. 0: all train together from the start.
    pub samples: u64,
}

/// The hint: light imitates the booster, λ times a distance between what the two say of an example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HintConfig {
    /// Which distance.
    pub kind: HintKind,
    /// λ, on one logit per example, mean over the batch; 0 switches the hint off.
    pub weight: f32,
    /// How λ moves while training.
    pub schedule: HintSchedule,
    /// T of `kd`, and of no other kind; none: 4.
    pub temperature: Option<f64>,
    /// Stop the hint's gradient at the booster's logit. Off only for ablations.
    pub gradient_block: bool,
}

impl HintConfig {
    /// T of `kd`: as configured, or the default.
    #[must_use]
    pub fn kd_temperature(&self) -> f64 {
        self.temperature.unwrap_or(TEMPERATURE)
    }
}

impl Default for HintConfig {
    fn default() -> Self {
        HintConfig {
            kind: HintKind::default(),
            weight: HINT_WEIGHT,
            schedule: HintSchedule::default(),
            temperature: None,
            gradient_block: true,
        }
    }
}

/// Rocket + KD: light also imitates the booster of the last promoted checkpoint, which is kept frozen, embeddings and all, beside the one
/// that learns. In a pass over a file, where nothing is promoted, the booster as it was every `publish.every_samples` samples.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherConfig {
    /// Weight of T² · KL(σ(t/T) ‖ σ(l/T)), mean over the batch, t being the teacher's logit: the paper's 2α. 0: no teacher.
    pub weight: f64,
    /// T.
    pub temperature: f64,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        TeacherConfig { weight: 0.0, temperature: TEMPERATURE }
    }
}

/// The distance that the hint makes small; l and z are the logits of light and booster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HintKind {
    /// (l − z)²: the paper's, and SNN-MIMIC's.
    #[default]
    LogitsMse,
    /// (σ(l) − σ(z))².
    ProbMse,
    /// T² · KL(σ(z/T) ‖ σ(l/T)): Hinton's distillation.
    Kd,
}

/// How λ moves while training.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HintSchedule {
    /// It stays what it is.
    #[default]
    Constant,
    /// It falls towards 0 as the booster's lead in logloss over light vanishes, and rises again with it.
    Health,
}

/// What the light path may do to the shared trunk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SharedGrad {
    /// Cross-entropy and hint both reach it (the paper).
    #[default]
    All,
    /// Cross-entropy alone.
    NoHint,
    /// Neither.
    BoosterOnly,
}

/// How Adam's learning rate falls with the step t, S being `decay_steps`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// It does not: an endless stream changes, and has to be followed.
    #[default]
    None,
    /// Times √(S / max(t, S)): whole for S steps, then ever more slowly towards 0.
    InverseSqrt,
    /// Times 2^(−t / S): learning ends. For a finite stream.
    HalfLife,
}

/// Optimizer of touched embedding rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmbeddingOptimizer {
    /// An accumulator per weight.
    #[default]
    Adagrad,
    /// One accumulator per row: about half the memory.
    RowwiseAdagrad,
    /// Adam, each row counting its own steps.
    Adam,
    /// FTRL-proximal: with L1, weak weights are exactly zero.
    Ftrl,
}

impl EmbeddingOptimizer {
    /// All of them.
    pub const ALL: [EmbeddingOptimizer; 4] =
        [EmbeddingOptimizer::Adagrad, EmbeddingOptimizer::RowwiseAdagrad, EmbeddingOptimizer::Adam, EmbeddingOptimizer::Ftrl];
}

impl std::fmt::Display for EmbeddingOptimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            EmbeddingOptimizer::Adagrad => "adagrad",
            EmbeddingOptimizer::RowwiseAdagrad => "rowwise_adagrad",
            EmbeddingOptimizer::Adam => "adam",
            EmbeddingOptimizer::Ftrl => "ftrl",
        })
    }
}

/// Optimizers: Adam on dense parameters, a choice of them on touched embedding rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Adam's learning rate.
    pub dense_lr: f64,
    /// Adam's β₁.
    pub beta1: f64,
    /// Adam's β₂.
    pub beta2: f64,
    /// Adam's ε.
    pub epsilon: f64,
    /// Bound of the gradient's norm over all dense parameters and embedding rows of a batch: above it the whole gradient is scaled down
    /// to it. 0: no bound.
    pub clip_norm: f64,
    /// Adam's rate rises linearly from 0 over this many steps; 0: it starts whole.
    pub warmup_steps: u64,
    /// How Adam's rate falls after it.
    pub decay: Decay,
    /// The steps in the formula of `decay`.
    pub decay_steps: u64,
    /// Optimizer of embedding rows; Adam takes `beta1`, `beta2` and `epsilon` from above.
    pub embedding: EmbeddingOptimizer,
    /// Learning rate of embedding rows. Neither warmed up nor decayed: accumulators do that for each row by itself, and an id that is new
    /// late in the stream has to be learnt as fast as an early one.
    pub embedding_lr: f32,
    /// Initial accumulator of Adagrad and FTRL, in squared gradients.
    pub embedding_initial_accumulator: f32,
    /// L1 of FTRL, in units of the gradient of the mean loss.
    pub embedding_l1: f32,
    /// L2 of embedding rows: its gradient is l2 · weight, felt when a row is touched.
    pub embedding_l2: f32,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        OptimizerConfig {
            dense_lr: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            embedding: EmbeddingOptimizer::Adagrad,
            clip_norm: 0.0,
            warmup_steps: 0,
            decay: Decay::None,
            decay_steps: DECAY_STEPS,
            embedding_lr: 0.05,
            embedding_initial_accumulator: ACCUMULATOR,
            embedding_l1: 0.0,
            embedding_l2: 0.0,
        }
    }
}
