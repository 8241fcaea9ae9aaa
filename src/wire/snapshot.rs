//! Records of the snapshot topic: keys, envelope, manifest, pointer, pin, lease, audit entry.
//!
//! | key | value | life |
//! |---|---|---|
//! | `c/<version:020>/<index:06>` | raw chunk | until collected |
//! | `m/<version:020>` | [`Manifest`] in an [`Envelope`], sent after every chunk is acknowledged | until collected |
//! | `a/current` | [`Pointer`] | latest wins |
//! | `p/all` | [`Pin`]; unpin is a pin to null | latest wins |
//! | `e/publisher` | [`Lease`] | latest wins |
//! | `h/<seq:020>` | [`AuditEntry`] | kept |

use serde::{Deserialize, Serialize};

use crate::config::SchemaConfig;
use crate::domain::{Field, PartitionPosition, Version};

/// Version of this protocol; a reader refuses a higher one.
pub const PROTOCOL: u32 = 1;
/// Largest record value a reader looks at.
pub const RECORD_BYTES_MAX: usize = 1 << 20;

/// A parsed record key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A chunk of a version's artifact.
    Chunk(Version, u32),
    /// A version's manifest.
    Manifest(Version),
    /// Which version is served.
    Current,
    /// Which version is served regardless of `current`.
    PinAll,
    /// Who publishes.
    Lease,
    /// One act of an operator or the trainer.
    Audit(u64),
}

impl Key {
    /// The record key's bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        todo!()
    }

    /// Parses a record key; `None` for keys of other kinds, which readers skip.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Key> {
        let _ = bytes;
        todo!()
    }
}

/// What every record but a chunk is wrapped in; `sigs` is empty until records are signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Base64 of the JSON payload.
    pub payload_b64: String,
    /// Signatures over the payload bytes.
    pub sigs: Vec<Signature>,
}

/// One signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// Which key.
    pub keyid: String,
    /// `ed25519`.
    pub alg: String,
    /// Base64.
    pub sig: String,
}

/// Why a record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Larger than [`RECORD_BYTES_MAX`].
    #[error("record of {0} bytes is above the limit of {RECORD_BYTES_MAX}")]
    TooLarge(usize),
    /// Not an envelope, or not the payload its key says.
    #[error("malformed {what}: {why}")]
    Malformed {
        /// Kind of record.
        what: &'static str,
        /// The parser's words.
        why: String,
    },
    /// Written by a newer program.
    #[error("protocol {found} is newer than this reader's {PROTOCOL}: update it")]
    Protocol {
        /// The record's protocol.
        found: u32,
    },
}

/// Wraps a payload.
#[must_use]
pub fn seal<T: Serialize>(payload: &T) -> Vec<u8> {
    let _ = payload;
    todo!()
}

/// Unwraps and parses a payload; `what` names it in errors.
///
/// # Errors
/// [`RecordError`].
pub fn open<T: for<'de> Deserialize<'de>>(what: &'static str, bytes: &[u8]) -> Result<T, RecordError> {
    let _ = (what, bytes);
    todo!()
}

/// What a snapshot is, how to verify it, and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`PROTOCOL`] of the writer.
    pub proto: u32,
    /// The config's `name`.
    pub model: String,
    /// Number of the checkpoint it came from.
    pub version: Version,
    /// Rises on every record of the model but chunks.
    pub seq: u64,
    /// The publisher's epoch.
    pub epoch: u64,
    /// Milliseconds since the epoch.
    pub created_ms: i64,
    /// Stale after this; served on all the same.
    pub expires_ms: i64,
    /// Bytes and hashes.
    pub artifact: Artifact,
    /// Shapes.
    pub architecture: Architecture,
    /// Columns and features, so that a server needs no config.
    pub schema: SchemaConfig,
    /// blake3 of the schema's JSON, hex.
    pub schema_hash: String,
    /// Where the model comes from.
    pub provenance: Provenance,
    /// How good it is, by head: prequential, since start.
    pub quality: Quality,
    /// Inputs and what must come out.
    pub probes: Vec<Probe>,
}

/// Bytes and hashes of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `safetensors`.
    pub format: String,
    /// `none`.
    pub codec: String,
    /// Length in bytes.
    pub bytes: u64,
    /// blake3 of the whole, hex.
    pub blake3: String,
    /// blake3 of each chunk, hex.
    pub chunks: Vec<String>,
    /// Every tensor in it: name, dtype, shape.
    pub tensors: Vec<TensorInfo>,
}

/// One tensor of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// `F32` or `U64`.
    pub dtype: String,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// Shapes of the light net: inputs → shared layers → light layers → one logit, ReLU between layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// Floats per embedding row.
    pub embedding_dim: usize,
    /// Width of the input vector: slots × dim + numbers.
    pub inputs: usize,
    /// Widths of the shared layers.
    pub shared: Vec<usize>,
    /// Hidden widths of the light head.
    pub light: Vec<usize>,
}

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// Input that is in it, by partition.
    pub positions: Vec<PartitionPosition>,
    /// Samples trained.
    pub samples: u64,
    /// blake3 of the config, hex.
    pub config_hash: String,
    /// Program version.
    pub code: String,
}

/// Prequential quality since start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// By head name.
    pub heads: std::collections::BTreeMap<String, HeadQuality>,
}

/// Quality of one head; `None` where it is not defined (yet).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadQuality {
    /// Area under the ROC curve.
    pub auc: Option<f64>,
    /// Impression-weighted mean of per-user AUC.
    pub gauc: Option<f64>,
    /// Mean negative log likelihood, nats.
    pub logloss: Option<f64>,
    /// Predicted over observed clicks.
    pub calibration: Option<f64>,
}

/// A self-test: columns of an event and the light net's logit for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// One per feature of the schema, as JSON.
    pub fields: Vec<serde_json::Value>,
    /// The trainer's logit, from the weights of this version.
    pub logit: f32,
    /// Allowed distance.
    pub tolerance: f32,
}

/// A field as JSON, for probes.
#[must_use]
pub fn field_to_json(field: &Field) -> serde_json::Value {
    let _ = field;
    todo!()
}

/// The inverse of [`field_to_json`]; `None` for what no field can be.
#[must_use]
pub fn field_from_json(value: &serde_json::Value) -> Option<Field> {
    let _ = value;
    todo!()
}

/// Which version is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// The publisher's epoch the writer saw.
    pub epoch: u64,
    /// Target.
    pub version: Version,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// Overrides `current` until unpinned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// The publisher's epoch the writer saw.
    pub epoch: u64,
    /// Target; `None` unpins.
    pub version: Option<Version>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// Who publishes: the highest epoch does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// Rises with every publisher start.
    pub epoch: u64,
    /// Host, process and start time.
    pub instance: String,
    /// When, milliseconds.
    pub at_ms: i64,
}

/// What an audit entry records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// The trainer made a version current.
    Promote,
    /// An operator went back.
    Rollback,
    /// An operator pinned.
    Pin,
    /// An operator unpinned.
    Unpin,
}

/// One act of an operator or the trainer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Protocol of the writer.
    pub proto: u32,
    /// Model name.
    pub model: String,
    /// Rises on every record.
    pub seq: u64,
    /// What.
    pub act: Act,
    /// What was served before.
    pub from: Option<Version>,
    /// What is served now.
    pub to: Option<Version>,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// When, milliseconds.
    pub at_ms: i64,
}
