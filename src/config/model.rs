use serde::{Deserialize, Serialize};

use super::units::{ByteLength, Span};

/// Counts two million ids at a time, at which an id is admitted too early once in forty; small beside the table it keeps small.
const ADMISSION_FILTER: ByteLength = ByteLength(16 << 20);
/// The published attention unit's hidden width (Zhou et al. 2018).
const ATTENTION_WIDTH: usize = 36;

/// Shapes of the nets; each head ends in one logit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Embedding tables.
    pub embedding: EmbeddingConfig,
    /// Widths of the dense layers shared by all heads; none by default.
    pub shared: Vec<usize>,
    /// Hidden widths of the light head.
    pub light: Vec<usize>,
    /// Hidden widths of the booster head.
    pub booster: Vec<usize>,
    /// What follows each hidden product of the light, control and shared layers.
    pub hidden: HiddenConfig,
    /// What follows each hidden product of the booster.
    pub booster_hidden: HiddenConfig,
    /// Cross layers below the booster's hidden ones.
    pub booster_cross: BoosterCrossConfig,
    /// Attention beside the trunk, below the booster's cross layers.
    pub booster_attention: BoosterAttentionConfig,
    /// Factorization machine beside the booster's layers (DeepFM, Guo et al. 2017): Σ over pairs of slots ⟨vᵢ, vⱼ⟩ added to its logit, read
    /// from the embeddings below the shared layers. All slots need one `dim`.
    pub booster_fm: bool,
    /// Train a control head of light's shape on labels alone.
    pub control: bool,
    /// Light and booster read the same embedding rows and shared layers. False: light has its own of both, an ablation.
    pub sharing: bool,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            embedding: EmbeddingConfig::default(),
            shared: Vec::new(),
            light: vec![64, 32],
            booster: vec![256, 128, 64],
            hidden: HiddenConfig::default(),
            booster_hidden: HiddenConfig::default(),
            booster_cross: BoosterCrossConfig::default(),
            booster_attention: BoosterAttentionConfig::default(),
            booster_fm: false,
            control: true,
            sharing: true,
        }
    }
}

/// What follows y = x · W + b in a hidden layer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HiddenConfig {
    /// LayerNorm (Ba et al. 2016) before the activation, over the layer's outputs of one example.
    pub layer_norm: bool,
    /// The activation.
    pub activation: Activation,
}

impl HiddenConfig {
    /// ε of LayerNorm and of Dice: a variance far below it counts as none.
    pub const EPSILON: f64 = 1e-5;

    /// ReLU and nothing else.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == HiddenConfig::default()
    }
}

/// What makes a layer more than a product.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// max(y, 0).
    #[default]
    Relu,
    /// y above zero, a·y below, with a trained per output (He et al. 2015).
    Prelu,
    /// p·y + (1 − p)·a·y, p = σ((y − μ) / √(σ² + ε)), with a trained per output (Zhou et al. 2018, DIN). Mean μ and variance σ² are running
    /// ones of the batches before, in training as in serving: a score does not depend on what else is in its batch.
    Dice,
}

/// Cross layers (DCN-v2, Wang et al. 2021): x₍ₗ₊₁₎ = x₀ ⊙ (W xₗ + b) + xₗ, products of features that a ReLU layer has to approximate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoosterCrossConfig {
    /// How many; each is as wide as its input, so its cost is the square of that. 0: none.
    pub layers: usize,
}

/// Target attention (DIN, Zhou et al. 2018, "Deep Interest Network"): the booster weighs each row of a behaviour sequence by how it goes
/// with the example's target, where the pooled slot has them all weigh the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoosterAttentionConfig {
    /// Hidden widths of the attention unit; each pair has a unit of its own.
    pub hidden: Vec<usize>,
    /// The pairs; none by default.
    pub of: Vec<AttentionPair>,
}

impl Default for BoosterAttentionConfig {
    fn default() -> Self {
        BoosterAttentionConfig { hidden: vec![ATTENTION_WIDTH], of: Vec::new() }
    }
}

/// A behaviour sequence and what it is looked at with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionPair {
    /// Name of a bag with `last`.
    pub sequence: String,
    /// Name of a feature with at most one id.
    pub target: String,
}

/// Embedding tables: one of `dim`, and one for each other dim that features have. What follows holds for each by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddingConfig {
    /// Floats per row, in slots whose feature has no `dim` of its own.
    pub dim: usize,
    /// A new row is uniform in ±init_scale, from its key; 0 makes an unseen id the zero vector, which is what servers use.
    pub init_scale: f32,
    /// Which new ids get a row.
    pub admission: AdmissionConfig,
    /// Which rows leave again.
    pub expiry: ExpiryConfig,
}

impl Default for EmbeddingConfig {
    fn default() -> Self {
        EmbeddingConfig { dim: 16, init_scale: 0.0, admission: AdmissionConfig::default(), expiry: ExpiryConfig::default() }
    }
}

/// Which new ids get a row; by default all. An id without a row reads as the initial vector and is not trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdmissionConfig {
    /// Occurrences that bring an id its row, at most 255; 0 and 1: the first.
    pub min_count: u8,
    /// Bytes of the counting Bloom filter behind `min_count`, one counter each. Ids counted at a time: an eighth of them.
    pub filter: ByteLength,
    /// Chance of every occurrence to bring the id its row; 1: the first does.
    pub probability: f32,
}

impl Default for AdmissionConfig {
    fn default() -> Self {
        AdmissionConfig { min_count: 0, filter: ADMISSION_FILTER, probability: 1.0 }
    }
}

/// Which rows leave again; by default none. An id that comes back starts from its initial vector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExpiryConfig {
    /// Rows not updated for this long, in event time and within five minutes.
    pub after: Option<Span>,
    /// Rows kept, the oldest leaving first; a batch may exceed it for the length of a step. 0: no limit.
    pub rows_max: usize,
}
