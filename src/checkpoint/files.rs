//! One file each for dense parameters, embedding rows, and the rest; written beside the old ones and renamed into place.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::{CheckpointError, Evidence, FileEntry, ProbeSample};
use crate::config::SchemaConfig;
use crate::domain::{EventTime, ImpressionId, OpenImpression, TopicPartition};
use crate::failpoint;
use crate::train::{Course, DenseState, TensorLayout};

/// Metadata key of the safetensors files. One key, so that the same state gives the same bytes.
const INFO: &str = "rocket";

/// What a dense file says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct DenseInfo {
    layout: Vec<TensorLayout>,
    steps: u64,
}

/// What is neither weights nor rows.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Extra {
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
    /// Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub(super) open: Vec<(TopicPartition, Vec<OpenImpression>)>,
    pub(super) probes: Vec<ProbeSample>,
    /// Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub(super) schema: Option<SchemaConfig>,
    /// Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub(super) evidence: Evidence,
    /// Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub(super) course: Course,
}

/// What a file is called until it is whole.
const TEMPORARY: &str = ".tmp";

/// Writes `bytes` under `dir/name` so that after a crash the file is whole or absent: temporary file, fsync, rename, fsync of the directory.
pub(crate) fn write_durable(dir: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}{TEMPORARY}"));
    let kind = name.split('-').next().unwrap_or(name);
    let at = |stage: &str| failpoint::reach(format_args!("{kind}.{stage}"));
    let write = || {
        let mut file = at("create").and_then(|()| File::create(&temporary)).map_err(CheckpointError::io("creating", &temporary))?;
        at("write").and_then(|()| file.write_all(bytes)).map_err(CheckpointError::io("writing", &temporary))?;
        at("sync").and_then(|()| file.sync_all()).map_err(CheckpointError::io("syncing", &temporary))?;
        at("rename").and_then(|()| fs::rename(&temporary, &path)).map_err(CheckpointError::io("renaming to", &path))
    };
    if let Err(error) = write() {
        // A disk that is full needs the room; what cannot be removed now is removed at the next start.
        let _best_effort = fs::remove_file(&temporary);
        return Err(error);
    }
    at("sync_dir").map_err(CheckpointError::io("syncing directory", dir))?;
    sync_dir(dir)?;
    at("durable").map_err(CheckpointError::io("writing", &path))?;
    Ok(FileEntry { name: name.to_owned(), bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() })
}

/// Whether a file is one that was not whole when its writer was killed.
pub(super) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY)
}

/// Makes renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), CheckpointError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(CheckpointError::io("syncing directory", dir))
}

/// Reads a file and checks it against its entry.
pub(crate) fn read_verified(dir: &Path, entry: &FileEntry) -> Result<Vec<u8>, CheckpointError> {
    let path = dir.join(&entry.name);
    let bytes = fs::read(&path).map_err(CheckpointError::io("reading", &path))?;
    if bytes.len() as u64 != entry.bytes {
        return Err(CheckpointError::corrupt(path, format_args!("{} bytes long, its commit record says {}", bytes.len(), entry.bytes)));
    }
    if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
        return Err(CheckpointError::corrupt(path, "its hash differs from what its commit record says"));
    }
    Ok(bytes)
}

/// Made from numbers alone.
pub(super) fn name(kind: &str, number: u64, extension: &str) -> String {
    format!("{kind}-{number:020}.{extension}")
}

/// Writes what is neither weights nor rows.
pub(super) fn write_extra(dir: &Path, number: u64, extra: &Extra) -> Result<FileEntry, CheckpointError> {
    write_durable(dir, &name("extra", number, "json"), &serde_json::to_vec(extra).expect("plain structs serialise"))
}

/// Reads it back, its hash checked.
pub(super) fn read_extra(dir: &Path, entry: &FileEntry) -> Result<Extra, CheckpointError> {
    serde_json::from_slice(&read_verified(dir, entry)?).map_err(|e| CheckpointError::corrupt(dir.join(&entry.name), e))
}

pub(super) fn encode_dense(state: &DenseState) -> Vec<u8> {
    let info = DenseInfo { layout: state.layout.clone(), steps: state.steps };
    let length = state.params.len();
    let [params, m, v] = [&state.params, &state.m, &state.v].map(|values| f32_bytes(values));
    encode(
        &info,
        &[("params", Dtype::F32, vec![length], &params), ("m", Dtype::F32, vec![length], &m), ("v", Dtype::F32, vec![length], &v)],
    )
}

pub(super) fn decode_dense(path: &Path, bytes: &[u8]) -> Result<DenseState, CheckpointError> {
    let (info, tensors): (DenseInfo, _) = decode(path, bytes)?;
    let [params, m, v] = ["params", "m", "v"].map(|name| f32_tensor(path, &tensors, name));
    Ok(DenseState { layout: info.layout, params: params?, m: m?, v: v?, steps: info.steps })
}

pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn encode<I: serde::Serialize>(info: &I, tensors: &[(&str, Dtype, Vec<usize>, &Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("shape and bytes were made from the same vector"))
    });
    let info = serde_json::to_string(info).expect("plain structs serialise");
    serialize(views, Some(HashMap::from([(INFO.to_owned(), info)]))).expect("names are distinct and views are valid")
}

pub(super) fn decode<'a, I: serde::de::DeserializeOwned>(path: &Path, bytes: &'a [u8]) -> Result<(I, SafeTensors<'a>), CheckpointError> {
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| CheckpointError::corrupt(path, e))?;
    let info = metadata
        .metadata()
        .as_ref()
        .and_then(|map| map.get(INFO))
        .ok_or_else(|| CheckpointError::corrupt(path, format_args!("metadata `{INFO}` is missing")))?;
    let info = serde_json::from_str(info).map_err(|e| CheckpointError::corrupt(path, e))?;
    let tensors = SafeTensors::deserialize(bytes).map_err(|e| CheckpointError::corrupt(path, e))?;
    Ok((info, tensors))
}

pub(super) fn u64_tensor(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<u64>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|e| CheckpointError::corrupt(path, e))?;
    if tensor.dtype() != Dtype::U64 {
        return Err(CheckpointError::corrupt(path, format_args!("tensor {name} is not U64")));
    }
    Ok(u64s(tensor.data()))
}

pub(super) fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
}

pub(super) fn f32_tensor(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|e| CheckpointError::corrupt(path, e))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(CheckpointError::corrupt(path, format_args!("tensor {name} is not F32")));
    }
    Ok(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
