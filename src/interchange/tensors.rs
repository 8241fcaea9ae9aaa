use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use super::{InterchangeError, metadata};
use crate::wire::snapshot::Manifest;

/// The artifact, every tensor as it is, with `model`, `version`, `schema_hash`, `created_ms` and the whole `manifest` (JSON: schema,
/// architecture, probes) in its metadata: all that a server needs, in one file.
///
/// # Errors
/// [`InterchangeError`].
pub fn to_safetensors(manifest: &Manifest, artifact: &[u8]) -> Result<Vec<u8>, InterchangeError> {
    let version = manifest.version;
    let failed = |source| InterchangeError::Format { version, source };
    let mut tensors: Vec<(String, TensorView<'_>)> = SafeTensors::deserialize(artifact).map_err(failed)?.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let json =
        serde_json::to_string(manifest).map_err(|error| InterchangeError::Artifact { version, why: format!("its manifest: {error}") })?;
    let facts = metadata(manifest).into_iter().chain([("manifest", json)]).map(|(key, value)| (key.to_owned(), value));
    safetensors::serialize(tensors, Some(facts.collect())).map_err(failed)
}
