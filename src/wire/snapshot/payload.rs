use serde::{Deserialize, Serialize};

use super::{Artifact, Manifest};
use crate::domain::Version;

/// How bytes travel: encoded, then cut into chunks under their version's keys, or whole in an object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// `none` or `zstd`.
    pub codec: String,
    /// Length in bytes, decoded.
    pub bytes: u64,
    /// blake3 of the decoded bytes, hex.
    pub blake3: String,
    /// Length in bytes as sent.
    pub encoded_bytes: u64,
    /// Length in bytes of every chunk but the last, which may be shorter; absent in manifests of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk_bytes: Option<u64>,
    /// blake3 of each chunk, hex; none where an object store has the bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chunks: Vec<String>,
    /// blake3, hex, of the encoded bytes in an object store. Their name there follows from the version: a reader fetches from below its own
    /// prefix, wherever the writer may point.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// What makes a version's artifact out of another's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The version it is applied to; below its own.
    pub base: Version,
    /// blake3 of that version's artifact, hex.
    pub base_blake3: String,
    /// The bytes: safetensors, see [`super::delta`].
    pub payload: Payload,
}

impl Artifact {
    /// How it is sent whole; `None` where it is to be had by the delta alone.
    #[must_use]
    pub fn payload(&self) -> Option<Payload> {
        (!self.chunks.is_empty() || self.object.is_some()).then(|| Payload {
            codec: self.codec.clone(),
            bytes: self.bytes,
            blake3: self.blake3.clone(),
            encoded_bytes: self.encoded_bytes.unwrap_or(self.bytes),
            chunk_bytes: self.chunk_bytes,
            chunks: self.chunks.clone(),
            object: self.object.clone(),
        })
    }
}

impl Manifest {
    /// Hashes of the version's chunks in the order of their keys: those of the artifact, then those of the delta.
    pub fn chunks(&self) -> impl Iterator<Item = &String> {
        self.artifact.chunks.iter().chain(self.delta.iter().flat_map(|delta| &delta.payload.chunks))
    }

    /// Index of the delta's first chunk.
    #[must_use]
    pub fn delta_from(&self) -> u32 {
        u32::try_from(self.artifact.chunks.len()).unwrap_or(u32::MAX)
    }

    /// Bytes of the version on the topic and in the object store.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        let whole = self.artifact.payload().map_or(0, |payload| payload.encoded_bytes);
        whole.saturating_add(self.delta.as_ref().map_or(0, |delta| delta.payload.encoded_bytes))
    }
}
