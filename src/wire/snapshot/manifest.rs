use serde::{Deserialize, Serialize};

use super::Delta;
use crate::config::{HiddenConfig, SchemaConfig};
use crate::domain::{PartitionPosition, Version};

/// What a snapshot is, how to verify it, and how good it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`super::PROTOCOL`], or [`super::PROTOCOL_MAX`] where the artifact is not on the topic whole, in chunks.
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
    /// The artifact out of another version's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta: Option<Delta>,
    /// What the rows have lost; absent where they are the trainer's own, F32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows_loss: Option<RowsLoss>,
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

/// Bytes and hashes of the artifact: the same whichever way it is had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// `safetensors`.
    pub format: String,
    /// How it is encoded where it is sent whole: `none` or `zstd`.
    pub codec: String,
    /// Length in bytes, decoded.
    pub bytes: u64,
    /// blake3 of the whole, hex.
    pub blake3: String,
    /// Length in bytes as sent; absent where that is the decoded length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoded_bytes: Option<u64>,
    /// As in [`super::Payload`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_bytes: Option<u64>,
    /// blake3 of each chunk, hex; none where it is not sent whole, or as an object.
    pub chunks: Vec<String>,
    /// As in [`super::Payload`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Every tensor in it: name, dtype, shape.
    pub tensors: Vec<TensorInfo>,
}

/// One tensor of the artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorInfo {
    /// Name.
    pub name: String,
    /// `F32`, `U64`, and of embedding rows also `F16` and `I8`.
    pub dtype: String,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// Shapes of the light net: inputs → shared layers → light layers → one logit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Architecture {
    /// Floats per embedding row, in slots whose feature has no `dim` of its own.
    pub embedding_dim: usize,
    /// The dims that features have of their own, each once, rising: those of further tables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further_dims: Vec<usize>,
    /// Width of the input vector: the slots' dims, then the numbers, then two for each click rate.
    pub inputs: usize,
    /// Widths of the shared layers.
    pub shared: Vec<usize>,
    /// Hidden widths of the light head.
    pub light: Vec<usize>,
    /// What follows every product but the last; ReLU alone where it is left out.
    #[serde(default, skip_serializing_if = "HiddenConfig::is_plain")]
    pub hidden: HiddenConfig,
}

impl Architecture {
    /// Of every table its floats per row, and the names of its tensors: keys U64 `[rows]`; rows `[rows, dim]`, F32, F16 or I8; scales F32
    /// `[rows]`, which are there beside rows of I8 alone.
    pub fn tables(&self) -> impl Iterator<Item = (usize, [String; 3])> {
        let tensors = |table: String| ["keys", "rows", "scales"].map(|tensor| format!("{table}.{tensor}"));
        let first = (self.embedding_dim, tensors("embedding".to_owned()));
        std::iter::once(first).chain(self.further_dims.iter().map(move |dim| (*dim, tensors(format!("embedding.{dim}")))))
    }
}

/// What embedding rows have lost by being made smaller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RowsLoss {
    /// `F16`, or `I8` with a scale per row.
    pub dtype: String,
    /// Largest distance of a weight from the trainer's.
    pub error_max: f32,
    /// Mean distance.
    pub error_mean: f32,
    /// Largest distance of a probe's logit from the trainer's.
    pub probe_change_max: f32,
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

/// Prequential quality since start, and what the gates found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// By head name.
    pub heads: std::collections::BTreeMap<String, HeadQuality>,
    /// The version that was served when the gates were asked, and that this one was compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared_with: Option<Version>,
    /// What every gate found that had enough to go by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Verdict>,
}

/// What one gate found of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// `logloss`, `gauc`, `calibration`, `forgetting` or `change`.
    pub gate: String,
    /// Whether the version may be promoted.
    pub passed: bool,
    /// The version's figure.
    pub found: f64,
    /// The served version's on the same samples, where the gate compares the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub served: Option<f64>,
    /// What the figure had to be.
    pub allowed: String,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:.5}", self.gate, self.found)?;
        if let Some(served) = self.served {
            write!(f, " (served {served:.5})")?;
        }
        write!(f, ", allowed {}", self.allowed)
    }
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
    /// The trainer's logit, from the weights of this version; where rows have lost something, what servers must make of what is left.
    pub logit: f32,
    /// Allowed distance.
    pub tolerance: f32,
}

/// Hash of a schema: blake3 of its JSON, hex. Two programs agree on a schema when this agrees.
///
/// # Panics
/// Never: a schema is plain data with string keys.
#[must_use]
pub fn schema_hash(schema: &SchemaConfig) -> String {
    let json = serde_json::to_vec(schema).expect("a schema is plain data with string keys");
    blake3::hash(&json).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_artifact_of_earlier_programs_is_read_as_whole_and_written_as_it_was() {
        let chunks = ["aa", "bb"];
        let written = serde_json::json!({
            "format": "safetensors", "codec": "none", "bytes": 300, "blake3": "cc", "chunks": chunks,
            "tensors": [{ "name": "light.0.bias", "dtype": "F32", "shape": [1] }],
        });
        let artifact: Artifact = serde_json::from_value(written.clone()).unwrap();
        let payload = artifact.payload().unwrap();
        assert_eq!(
            (payload.codec.as_str(), payload.encoded_bytes, payload.chunks.as_slice()),
            ("none", 300, &chunks.map(str::to_owned)[..])
        );
        assert_eq!(serde_json::to_value(&artifact).unwrap(), written);
    }
}
