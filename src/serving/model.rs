use serde_json::{Map, Value};

use crate::domain::{EventTime, Version};
use crate::features::Features;
use crate::wire::snapshot::{Architecture, Manifest};

/// Why a snapshot cannot be served. Each variant is a value of `snapshot_rejected_total{reason}`.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// Bytes differ from what the manifest says.
    #[error("version {version}: {what} does not hash to what its manifest says")]
    Hash {
        /// Version.
        version: Version,
        /// `chunk 3` or `artifact`.
        what: String,
    },
    /// The artifact breaks a cap, or holds other tensors than the manifest and architecture say.
    #[error("version {version}: {why}")]
    Artifact {
        /// Version.
        version: Version,
        /// Why.
        why: String,
    },
    /// A weight is NaN or infinite.
    #[error("version {version}: tensor {tensor} holds a weight that is not finite")]
    NotFinite {
        /// Version.
        version: Version,
        /// Tensor name.
        tensor: String,
    },
    /// A probe came out wrong.
    #[error("version {version}: probe {index} gives {found}, expected {expected} ± {tolerance}")]
    Probe {
        /// Version.
        version: Version,
        /// Which.
        index: usize,
        /// Our logit.
        found: f32,
        /// The trainer's.
        expected: f32,
        /// Allowed distance.
        tolerance: f32,
    },
}

/// Dense layers and embedding rows of the light net, with a hand-written f32 forward pass.
#[derive(Debug, Clone)]
pub struct LightNet {}

impl LightNet {
    /// Reads a safetensors artifact: `embedding.keys` U64 `[rows]`, `embedding.rows` F32 `[rows, dim]`,
    /// `shared.{i}.weight` F32 `[in, out]`, `shared.{i}.bias` F32 `[out]`, `light.{i}.weight`, `light.{i}.bias` likewise.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn from_artifact(version: Version, architecture: &Architecture, slots: usize, artifact: &[u8]) -> Result<Self, ModelError> {
        let _ = (version, architecture, slots, artifact);
        todo!()
    }

    /// Logits `[examples]`.
    #[must_use]
    pub fn logits(&self, pooling: &[crate::config::Pooling], examples: &[Features]) -> Vec<f32> {
        let _ = (pooling, examples);
        todo!()
    }
}

/// One candidate: the columns that differ from the request's context.
pub type Candidate = Map<String, Value>;

/// A verified model with all it needs to score raw columns.
#[derive(Debug, Clone)]
pub struct ServedModel {}

impl ServedModel {
    /// Verifies everything: hashes, caps, tensors, finiteness, probes.
    ///
    /// # Errors
    /// [`ModelError`].
    pub fn open(manifest: Manifest, artifact: &[u8]) -> Result<Self, ModelError> {
        let _ = (manifest, artifact);
        todo!()
    }

    /// Its manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        todo!()
    }

    /// Probabilities of click `[candidates]`.
    ///
    /// # Errors
    /// [`crate::wire::DecodeError`] for columns of a wrong type; the index is the candidate's.
    pub fn score(&self, time: EventTime, context: &Map<String, Value>, candidates: &[Candidate]) -> Result<Vec<f32>, (usize, crate::wire::DecodeError)> {
        let _ = (time, context, candidates);
        todo!()
    }
}
