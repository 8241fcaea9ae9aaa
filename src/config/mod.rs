//! The typed configuration: its tree, how it is loaded, what must hold across its fields.
//!
//! File first, then environment variables `ROCKET__SECTION__KEY`. Unknown names are errors in both.

mod load;
mod model;
mod runtime;
mod schema;
mod units;

pub use load::{ConfigError, load, parse};
pub use model::{EmbeddingConfig, HintConfig, ModelConfig, OptimizerConfig, SharedGrad, TrainConfig};
pub use runtime::{
    AdminConfig, CheckpointConfig, Emit, EvaluateConfig, JoinConfig, KafkaConfig, LogConfig, LogFormat, PublishConfig, StartAt, StateConfig,
    StreamMode, TopicsConfig,
};
pub use schema::{FeatureConfig, FeatureFault, FeatureKind, Pooling, SchemaConfig, TimeUnit};
pub use units::{ByteLength, Span};

use serde::{Deserialize, Serialize};

/// Everything the daemon is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Names state, topics and snapshots: letters, digits, `_` and `-`.
    pub name: String,
    /// Broker connection.
    #[serde(default)]
    pub kafka: KafkaConfig,
    /// Topic names and what they carry.
    #[serde(default)]
    pub topics: TopicsConfig,
    /// Impression ⋈ click.
    #[serde(default)]
    pub join: JoinConfig,
    /// Columns and features.
    pub schema: SchemaConfig,
    /// Shapes of the nets.
    #[serde(default)]
    pub model: ModelConfig,
    /// The learning rule and its device.
    #[serde(default)]
    pub train: TrainConfig,
    /// Metrics.
    #[serde(default)]
    pub evaluate: EvaluateConfig,
    /// Where state lies.
    #[serde(default)]
    pub state: StateConfig,
    /// When it is committed.
    #[serde(default)]
    pub checkpoint: CheckpointConfig,
    /// When and how snapshots are published.
    #[serde(default)]
    pub publish: PublishConfig,
    /// Admin socket and HTTP.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}
