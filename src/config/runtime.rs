use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::gates::GatesConfig;
use super::units::{ByteLength, Span};

/// The chance of the paper's experiments, and of most implementations.
const DRIFT_DELTA: f64 = 0.002;

/// Fresher costs versions to go back to, evidence of gates, and an entry of the audit log each (ops/runbook.md, "How fresh what is served is").
const PUBLISH_EVERY: Span = Span::from_secs(60);

/// librdkafka settings that this program depends on and sets itself, each with what to do instead. Their synonyms are among them.
pub const OWNED_KAFKA_PROPERTIES: &[(&str, &str)] = &[
    ("bootstrap.servers", "set kafka.brokers instead"),
    ("metadata.broker.list", "set kafka.brokers instead"),
    ("group.id", "set kafka.group instead"),
    ("group.instance.id", "partitions are assigned by this program, not by a group"),
    ("group.protocol", "partitions are assigned by this program, not by a group"),
    ("socket.timeout.ms", "set kafka.timeout instead"),
    ("request.timeout.ms", "set kafka.timeout instead"),
    ("message.timeout.ms", "set kafka.timeout instead"),
    ("delivery.timeout.ms", "set kafka.timeout instead"),
    ("enable.auto.commit", "fixed to false: positions belong to the checkpoint"),
    ("auto.commit.enable", "fixed to false: positions belong to the checkpoint"),
    ("enable.auto.offset.store", "fixed to false: positions belong to the checkpoint"),
    ("auto.offset.reset", "fixed to error: a lost position must be seen; where a first start begins is topics.start"),
    ("check.crcs", "fixed to true: a corrupt record must not be learned from"),
    ("isolation.level", "fixed to read_committed: an aborted event never happened"),
    ("allow.auto.create.topics", "fixed to false: use `rocketctl topics create`"),
    ("enable.partition.eof", "fixed: the end of a log is told by it"),
    ("acks", "fixed to all: an acknowledged record must survive its broker"),
    ("request.required.acks", "fixed to all: an acknowledged record must survive its broker"),
    ("enable.idempotence", "fixed to true: a retry must not write a record twice"),
    ("transactional.id", "transactions are not used"),
    ("log.queue", "fixed to true: log lines go to this program's log"),
    ("test.mock.num.brokers", "it would give every client a cluster of its own; set kafka.brokers to the embedded broker's address"),
];

/// Most impressions that may be kept per user: the fixed-point sums of GAUC are exact up to here.
pub const USER_IMPRESSIONS_CAP: usize = 16_384;

/// What the value of a secret is shown as.
const REDACTED: &str = "***";
/// A property with one of these in its name holds a secret, or says where one is.
const SECRET_WORDS: [&str; 5] = ["password", "secret", "key", "token", "oauthbearer.config"];

/// Broker connection.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// `host:port`, comma-separated.
    pub brokers: String,
    /// Consumer group that advisory offsets are committed under, for lag tools.
    pub group: String,
    /// Further librdkafka settings, e.g. `security.protocol`. The ones this program depends on are refused here.
    pub properties: std::collections::BTreeMap<String, String>,
    /// How long a request to the broker may take before it is an error.
    pub timeout: Span,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        KafkaConfig {
            brokers: "127.0.0.1:9092".to_owned(),
            group: "rocket-launching".to_owned(),
            properties: std::collections::BTreeMap::new(),
            timeout: Span::from_secs(10),
        }
    }
}

impl KafkaConfig {
    /// The properties, secrets replaced.
    pub(super) fn redacted_properties(&self) -> std::collections::BTreeMap<String, String> {
        let shown = |key: &String, value: &String| if may_be_secret(key) { REDACTED.to_owned() } else { value.clone() };
        self.properties.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect()
    }
}

/// Whether the value of a setting of this name, or what else stands on its line, may not be shown.
#[must_use]
pub fn may_be_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("group", &self.group)
            .field("properties", &self.redacted_properties())
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// Topics. Names left empty are derived from the config's `name`: `<name>.events`, `.impressions`, `.clicks`, `.dlq`, `.snapshots`,
/// `.acks`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TopicsConfig {
    /// Labelled events, or impressions and clicks apart.
    pub mode: StreamMode,
    /// What events are written in.
    pub format: EventFormat,
    /// Labelled events.
    pub events: String,
    /// Impressions.
    pub impressions: String,
    /// Clicks.
    pub clicks: String,
    /// Dead letters.
    pub dead_letters: String,
    /// Snapshots.
    pub snapshots: String,
    /// Where servers tell how far they are.
    pub acks: String,
    /// Where a first start begins, when no checkpoint says.
    pub start: StartAt,
    /// An event dated later than its own record by more than this is a dead letter.
    pub ahead: Span,
}

impl Default for TopicsConfig {
    fn default() -> Self {
        TopicsConfig {
            mode: StreamMode::Labelled,
            format: EventFormat::Json,
            events: String::new(),
            impressions: String::new(),
            clicks: String::new(),
            dead_letters: String::new(),
            snapshots: String::new(),
            acks: String::new(),
            start: StartAt::Earliest,
            ahead: Span::from_secs(300),
        }
    }
}

/// How labels come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamMode {
    /// The event bears its label.
    #[default]
    Labelled,
    /// Impressions and clicks are joined on the impression id.
    Joined,
}

/// What events are written in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventFormat {
    /// A JSON object.
    #[default]
    Json,
    /// A `rocket.v1.Columns` message.
    Protobuf,
}

/// Where a first start begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At the oldest event kept.
    #[default]
    Earliest,
    /// At the next event to come.
    Latest,
}

/// Impression ⋈ click, in event time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JoinConfig {
    /// A click counts up to this long after its impression.
    pub window: Span,
    /// How much later than the watermark an event may still come.
    pub grace: Span,
    /// When a sample leaves.
    pub emit: Emit,
    /// What undoes the bias of samples that leave early.
    pub early: EarlyLabels,
    /// How long an impression waits for its click before it leaves early as unclicked. None: it does not.
    pub wait: Option<Span>,
    /// How long closed impressions are remembered, to tell late and duplicate events from unknown ones.
    pub memory: Span,
    /// A partition without events for this long no longer holds the watermark back.
    pub idle: Span,
}

impl Default for JoinConfig {
    fn default() -> Self {
        JoinConfig {
            window: Span::from_secs(600),
            grace: Span::from_secs(30),
            emit: Emit::InOrder,
            early: EarlyLabels::default(),
            wait: None,
            memory: Span::from_secs(3600),
            idle: Span::from_secs(10),
        }
    }
}

/// When a sample leaves the join.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Emit {
    /// When its window closes, in the order of impression times: the same stream gives the same samples in the same order.
    #[default]
    InOrder,
    /// At its click, else when its window closes: fresher, order depends on arrival.
    OnClick,
    /// As unclicked before its window closes, and once more at its click: freshest. In the order of event times.
    Early,
}

/// Importance weights that undo the bias of labels that are trained before they are final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EarlyLabels {
    /// Fake negative weighted: every impression leaves as soon as it is settled.
    #[default]
    Fnw,
    /// Elapsed-time sampling: an impression leaves `wait` later.
    EsDfm,
}

/// Metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvaluateConfig {
    /// Lengths of the tumbling windows, in event time.
    pub windows: Vec<Span>,
    /// Newest impressions kept per user; beyond it the oldest leave and the user counts as truncated.
    pub user_impressions_max: usize,
    /// Closed windows kept for listing.
    pub windows_kept: usize,
    /// Chance that ADWIN may take for a rise of the log loss what is none, at a time; 0 switches it off.
    pub drift_delta: f64,
    /// Ignore impressions before this time for metrics (training covers all): RFC 3339.
    pub from: Option<String>,
}

impl Default for EvaluateConfig {
    fn default() -> Self {
        EvaluateConfig {
            windows: vec![Span::from_secs(3600), Span::from_secs(86_400)],
            user_impressions_max: 1024,
            windows_kept: 48,
            drift_delta: DRIFT_DELTA,
            from: None,
        }
    }
}

/// Where state lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateConfig {
    /// Directory of checkpoints, commits and sled. Owned by one daemon at a time.
    pub dir: PathBuf,
    /// sled's page cache: at most; it grows as it is needed.
    pub sled_cache: ByteLength,
    /// How old the newest export of the per-user store may get before another is made, right after a commit.
    pub export_every: Span,
}

impl Default for StateConfig {
    fn default() -> Self {
        StateConfig { dir: PathBuf::from("state"), sled_cache: ByteLength(512 << 20), export_every: Span::from_secs(3600) }
    }
}

/// When state is committed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckpointConfig {
    /// After this many trained samples ...
    pub every_samples: u64,
    /// ... or this long, whichever comes first and only if something was done.
    pub every: Span,
    /// Every n-th checkpoint writes all rows, the others only those touched since the one before.
    pub full_every: u64,
    /// Commits kept, besides those of versions that somebody may want to go back to.
    pub keep: usize,
    /// What becomes of a checkpoint of another schema or other shapes.
    pub mismatch: Mismatch,
}

/// What becomes of a checkpoint that does not fit the configured schema and shapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mismatch {
    /// The daemon does not start: a slip in a configuration costs nothing.
    #[default]
    Refuse,
    /// It goes on with what fits, and says what does not.
    WarmStart,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig { every_samples: 200_000, every: Span::from_secs(60), full_every: 16, keep: 3, mismatch: Mismatch::Refuse }
    }
}

/// When and how snapshots are published.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PublishConfig {
    /// Publish at all.
    pub enabled: bool,
    /// After this many trained samples ...
    pub every_samples: u64,
    /// ... or this long, whichever comes first and only if something was trained.
    pub every: Span,
    /// Bytes per chunk record.
    pub chunk: ByteLength,
    /// Every n-th version is sent whole, the others only as what has changed since the one before.
    pub full_every: u64,
    /// How what is sent is encoded.
    pub codec: Codec,
    /// What servers get of embedding rows.
    pub rows: RowType,
    /// Prefix in an object store for what is too large for the topic, like `s3://bucket/prefix` or `file:///directory`; empty: none.
    pub claim_check: String,
    /// What is longer goes there.
    pub claim_check_above: ByteLength,
    /// Versions kept on the topic, besides those pointed at or pinned.
    pub keep: usize,
    /// Probes in each manifest.
    pub probes: usize,
    /// Subscribers report a version stale after this long; they keep serving it.
    pub expires: Span,
    /// A share of the servers tries a version first.
    pub canary: CanaryConfig,
    /// What a version has to show before it is promoted.
    pub gates: GatesConfig,
}

/// A version is served by a share of the servers first. It becomes current for all once `delay` has passed and `reports` of them serve it,
/// and is taken back as soon as `rejects` of them have refused it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryConfig {
    /// Share of the servers, by a hash of their names; 0: no canary, every version becomes current at once.
    pub share: f64,
    /// A version is tried for so long at least.
    pub delay: Span,
    /// So many servers have to report that they serve it; 0: the delay alone counts.
    pub reports: usize,
    /// So many refusals take it back.
    pub rejects: usize,
}

impl Default for CanaryConfig {
    fn default() -> Self {
        CanaryConfig { share: 0.0, delay: Span::from_secs(600), reports: 1, rejects: 1 }
    }
}

impl Default for PublishConfig {
    fn default() -> Self {
        PublishConfig {
            enabled: true,
            every_samples: 1_000_000,
            every: PUBLISH_EVERY,
            chunk: ByteLength(768 << 10),
            full_every: 16,
            codec: Codec::default(),
            rows: RowType::default(),
            claim_check: String::new(),
            claim_check_above: ByteLength(64 << 20),
            keep: 8,
            probes: 32,
            expires: Span::from_secs(86_400),
            canary: CanaryConfig::default(),
            gates: GatesConfig::default(),
        }
    }
}

/// How bytes on the snapshot topic are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Codec {
    /// As they are: trained floats hardly get smaller.
    #[default]
    None,
    /// Zstandard.
    Zstd,
}

impl Codec {
    /// Its name in manifests.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Zstd => "zstd",
        }
    }
}

/// What a served embedding row is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowType {
    /// The trainer's own floats.
    #[default]
    F32,
    /// 16-bit floats: half as much, to 3 digits.
    F16,
    /// Bytes with one scale per row: little more than a quarter, to a hundredth of the row's largest weight.
    I8,
}

/// Keys of the snapshot topic. An empty path stands for none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// Trusted public keys with their roles: records signed by nobody of them do not count. None: every record counts.
    pub trusted: PathBuf,
    /// The daemon's private key, PKCS#8 PEM, mode 0600.
    pub trainer: PathBuf,
    /// The operator's private key, for rocketctl.
    pub operator: PathBuf,
}

/// Admin socket and HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Unix socket that rocketctl talks to; relative to the state directory. Mode 0600.
    pub socket: PathBuf,
    /// `/metrics`, `/livez`, `/readyz`. Empty switches it off.
    pub http: String,
    /// SIGTERM to exit, at most.
    pub shutdown_deadline: Span,
    /// A training loop without progress for this long is not live.
    pub stall: Span,
}

impl Default for AdminConfig {
    fn default() -> Self {
        AdminConfig {
            socket: PathBuf::from("admin.sock"),
            http: "127.0.0.1:9464".to_owned(),
            shutdown_deadline: Span::from_secs(30),
            stall: Span::from_secs(60),
        }
    }
}

/// Logs, to standard error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// EnvFilter directives; `RUST_LOG` wins.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig { filter: "info".to_owned(), format: LogFormat::Human }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Human,
    /// For machines.
    Json,
}
