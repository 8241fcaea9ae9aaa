//! A snapshot as files that other programs read: safetensors with the manifest inside, or the dense part as ONNX.
//!
//! What stands between raw columns and these files is specified in `ops/FEATURES.md`; `ops/interchange` serves from them in Python.

mod onnx;
mod tensors;

use safetensors::SafeTensorError;

use crate::domain::Version;
use crate::wire::snapshot::Manifest;

pub use onnx::to_onnx;
pub use tensors::to_safetensors;

/// A snapshot that cannot be written in the other format.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InterchangeError {
    /// The artifact is no safetensors, or none of the manifest's architecture.
    #[error("version {version}: {why}; `rocketctl snapshot verify {version}` says what is wrong with it")]
    Artifact {
        /// Version.
        version: Version,
        /// Why.
        why: String,
    },
    /// safetensors would not read or write it.
    #[error("version {version}: safetensors: {source}")]
    Format {
        /// Version.
        version: Version,
        /// Why.
        source: SafeTensorError,
    },
}

/// What every file says of where it comes from; text, as both formats have it.
fn metadata(manifest: &Manifest) -> [(&'static str, String); 4] {
    [
        ("model", manifest.model.clone()),
        ("version", manifest.version.to_string()),
        ("schema_hash", manifest.schema_hash.clone()),
        ("created_ms", manifest.created_ms.to_string()),
    ]
}
