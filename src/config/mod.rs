//! The typed configuration: its tree, how it is loaded, what must hold across its fields.
//!
//! File first, then environment variables `ROCKET__SECTION__KEY`. Unknown names are errors in both.

mod feature;
mod gates;
mod load;
mod model;
mod place;
mod runtime;
mod schema;
mod train;
mod units;
mod validate;

pub use feature::{FeatureConfig, FeatureKind, Pooling};
pub use gates::GatesConfig;
pub use load::{ConfigError, load, parse};
pub use model::{
    Activation, AdmissionConfig, AttentionPair, BoosterAttentionConfig, BoosterCrossConfig, EmbeddingConfig, ExpiryConfig, HiddenConfig,
    ModelConfig,
};
pub use runtime::{
    AdminConfig, CanaryConfig, CheckpointConfig, Codec, EarlyLabels, Emit, EvaluateConfig, EventFormat, JoinConfig, KafkaConfig,
    KeysConfig, LogConfig, LogFormat, Mismatch, OWNED_KAFKA_PROPERTIES, PublishConfig, RowType, StartAt, StateConfig, StreamMode,
    TopicsConfig, USER_IMPRESSIONS_CAP, may_be_secret,
};
pub use schema::{FeatureFault, SchemaConfig, TimeUnit};
pub use train::{
    BoosterFirstConfig, Decay, EmbeddingOptimizer, Heads, HintConfig, HintKind, HintSchedule, NegativesConfig, OptimizerConfig, SharedGrad,
    TeacherConfig, TrainConfig,
};
pub use units::{ByteLength, Span};

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the environment variables begin with that are laid over the file.
pub const ENVIRONMENT_PREFIX: &str = "ROCKET__";

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
    /// Who may write to the snapshot topic.
    #[serde(default)]
    pub keys: KeysConfig,
    /// Admin socket and HTTP.
    #[serde(default)]
    pub admin: AdminConfig,
    /// Logs.
    #[serde(default)]
    pub log: LogConfig,
}

impl Config {
    /// Everything by default but the name and the columns.
    #[must_use]
    pub fn new(name: &str, schema: SchemaConfig) -> Self {
        Config {
            name: name.to_owned(),
            kafka: KafkaConfig::default(),
            topics: TopicsConfig::default(),
            join: JoinConfig::default(),
            schema,
            model: ModelConfig::default(),
            train: TrainConfig::default(),
            evaluate: EvaluateConfig::default(),
            state: StateConfig::default(),
            checkpoint: CheckpointConfig::default(),
            publish: PublishConfig::default(),
            keys: KeysConfig::default(),
            admin: AdminConfig::default(),
            log: LogConfig::default(),
        }
    }

    /// Topic of labelled events.
    #[must_use]
    pub fn events_topic(&self) -> String {
        self.topic(&self.topics.events, "events")
    }

    /// Topic of impressions.
    #[must_use]
    pub fn impressions_topic(&self) -> String {
        self.topic(&self.topics.impressions, "impressions")
    }

    /// Topic of clicks.
    #[must_use]
    pub fn clicks_topic(&self) -> String {
        self.topic(&self.topics.clicks, "clicks")
    }

    /// Topic of dead letters.
    #[must_use]
    pub fn dead_letters_topic(&self) -> String {
        self.topic(&self.topics.dead_letters, "dlq")
    }

    /// Topic of snapshots.
    #[must_use]
    pub fn snapshots_topic(&self) -> String {
        self.topic(&self.topics.snapshots, "snapshots")
    }

    /// Topic of what servers report.
    #[must_use]
    pub fn acks_topic(&self) -> String {
        self.topic(&self.topics.acks, "acks")
    }

    /// How early labels are weighted; `None` where every label is final when it is trained.
    #[must_use]
    pub fn early_labels(&self) -> Option<EarlyLabels> {
        (self.topics.mode == StreamMode::Joined && self.join.emit == Emit::Early).then_some(self.join.early)
    }

    fn topic(&self, given: &str, suffix: &str) -> String {
        if given.is_empty() { format!("{}.{suffix}", self.name) } else { given.to_owned() }
    }

    /// Path of the admin socket; a relative one lies in the state directory.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.state.dir.join(&self.admin.socket)
    }

    /// The configuration as JSON for logs and listings, secrets among `kafka.properties` replaced by `***`.
    #[must_use]
    pub fn redacted(&self) -> serde_json::Value {
        let mut shown = self.clone();
        shown.kafka.properties = shown.kafka.redacted_properties();
        serde_json::to_value(shown).expect("keys are text, and paths come from TOML, which is UTF-8")
    }

    /// blake3 of the configuration's JSON, hex: equal configurations have equal hashes. Secrets are left out, so that a changed password is
    /// no other configuration and nothing about it can be told from a published hash.
    #[must_use]
    pub fn hash(&self) -> String {
        blake3::hash(self.redacted().to_string().as_bytes()).to_hex().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal(more: &str) -> Config {
        let schema = "[schema]\ntime = \"ts\"\nuser = \"u\"\nitem = \"i\"\nfeatures = [{ name = \"i\", kind = \"categorical\" }]\n";
        parse(&format!("name = \"ads\"\n{schema}{more}"), "test.toml", std::iter::empty()).expect("a good config")
    }

    #[test]
    fn topics_are_derived_from_the_name_unless_given() {
        let config = minimal("[topics]\nclicks = \"raw-clicks\"\n");
        assert_eq!(config.events_topic(), "ads.events");
        assert_eq!(config.impressions_topic(), "ads.impressions");
        assert_eq!(config.clicks_topic(), "raw-clicks");
        assert_eq!(config.dead_letters_topic(), "ads.dlq");
        assert_eq!(config.snapshots_topic(), "ads.snapshots");
        assert_eq!(config.acks_topic(), "ads.acks");
    }

    #[test]
    fn the_socket_lies_in_the_state_directory_unless_absolute() {
        assert_eq!(minimal("[state]\ndir = \"/var/lib/r\"\n").admin_socket(), PathBuf::from("/var/lib/r/admin.sock"));
        assert_eq!(minimal("[admin]\nsocket = \"/run/r.sock\"\n").admin_socket(), PathBuf::from("/run/r.sock"));
    }

    #[test]
    fn secrets_are_neither_shown_nor_hashed() {
        let with = |password: &str| {
            minimal(&format!(
                "[kafka.properties]\n\"sasl.password\" = \"{password}\"\n\"ssl.key.location\" = \"{password}\"\n\"client.id\" = \"c7\"\n"
            ))
        };
        let config = with("hunter2");
        for shown in [config.redacted().to_string(), format!("{config:?}")] {
            assert!(!shown.contains("hunter2"), "{shown}");
            assert!(shown.contains("sasl.password") && shown.contains("c7"), "{shown}");
        }
        assert_eq!(config.kafka.properties["sasl.password"], "hunter2");
        assert_eq!(config.hash(), with("changed").hash());
        assert_ne!(config.hash(), minimal("").hash());
        assert_eq!(config.hash().len(), 64);
    }

    #[test]
    fn a_line_with_a_secret_is_not_shown_in_the_error_about_it() {
        let base = "name = \"a\"\n[kafka.properties]\n";
        for line in
            ["\"sasl.password\" = hunter2", "\"sasl.password\" = 4711", "\"ssl.key.pem\" = \"hunter2", "\"client.secret\" = [\"hunter2\"]"]
        {
            let error = parse(&format!("{base}{line}\n"), "test.toml", std::iter::empty()).expect_err(line).to_string();
            assert!(!error.contains("hunter2") && !error.contains("4711"), "{error}");
            assert!(error.contains("line 3") && error.contains("not shown"), "{error}");
        }
        let variable = ("ROCKET__KAFKA__PROPERTIES".to_owned(), "{ \"sasl.password\" = 4711 }".to_owned());
        let error = parse("name = \"a\"\n", "test.toml", std::iter::once(variable)).expect_err("no schema").to_string();
        assert!(!error.contains("4711"), "{error}");
    }

    #[test]
    fn written_and_read_back_it_is_the_same() {
        let config = minimal("[model]\nlight = [7]\n");
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), config);
    }
}
