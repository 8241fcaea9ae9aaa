//! One file each for dense parameters, embedding rows, and the rest; written beside the old ones and renamed into place.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::{CheckpointError, FileEntry, ProbeSample};
use crate::config::EmbeddingOptimizer;
use crate::domain::{EventTime, ImpressionId};
use crate::train::{CountsState, Course, DenseState, RowsState, TensorLayout};

/// Floats per key of the click counts: impressions, clicks.
pub(super) const COUNTS_WIDTH: usize = 2;
/// Metadata key of the safetensors files. One key, so that the same state gives the same bytes.
const INFO: &str = "rocket";

/// What a dense file says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct DenseInfo {
    layout: Vec<TensorLayout>,
    steps: u64,
}

/// What a rows file says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct RowsInfo {
    dim: usize,
    full: bool,
    /// Files from before there was a choice do not say it: theirs is the default.
    #[serde(default)]
    optimizer: EmbeddingOptimizer,
}

/// What a file of click counts says beside its tensors.
#[derive(serde::Serialize, serde::Deserialize)]
struct CountsInfo {
    full: bool,
}

/// What is neither weights nor rows.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Extra {
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
    pub(super) probes: Vec<ProbeSample>,
    /// Absent in checkpoints of earlier versions.
    #[serde(default)]
    pub(super) course: Course,
}

/// Writes `bytes` under `dir/name` so that after a crash the file is whole or absent: temporary file, fsync, rename, fsync of the directory.
pub(super) fn write_durable(dir: &Path, name: &str, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    let path = dir.join(name);
    let temporary = dir.join(format!("{name}.tmp"));
    let mut file = File::create(&temporary).map_err(CheckpointError::io("creating", &temporary))?;
    file.write_all(bytes).map_err(CheckpointError::io("writing", &temporary))?;
    file.sync_all().map_err(CheckpointError::io("syncing", &temporary))?;
    fs::rename(&temporary, &path).map_err(CheckpointError::io("renaming to", &path))?;
    sync_dir(dir)?;
    Ok(FileEntry { name: name.to_owned(), bytes: bytes.len() as u64, blake3: blake3::hash(bytes).to_hex().to_string() })
}

/// Makes renames and removals in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), CheckpointError> {
    File::open(dir).and_then(|handle| handle.sync_all()).map_err(CheckpointError::io("syncing directory", dir))
}

/// Reads a file and checks it against its entry.
pub(super) fn read_verified(dir: &Path, entry: &FileEntry) -> Result<Vec<u8>, CheckpointError> {
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

pub(super) fn encode_rows(state: &RowsState) -> Vec<u8> {
    let info = RowsInfo { dim: state.dim, full: state.full, optimizer: state.optimizer };
    encode_keyed(&info, &state.keys, &state.data, state.width)
}

pub(super) fn encode_counts(state: &CountsState) -> Vec<u8> {
    encode_keyed(&CountsInfo { full: state.full }, &state.keys, &state.data, COUNTS_WIDTH)
}

pub(super) fn decode_rows(path: &Path, bytes: &[u8]) -> Result<RowsState, CheckpointError> {
    let (info, tensors): (RowsInfo, _) = decode(path, bytes)?;
    let (keys, data, width) = decode_keyed(path, &tensors)?;
    if width < info.dim {
        return Err(CheckpointError::corrupt(path, format_args!("rows of {width} floats do not hold {} weights", info.dim)));
    }
    Ok(RowsState { dim: info.dim, width, optimizer: info.optimizer, keys, data, full: info.full })
}

pub(super) fn decode_counts(path: &Path, bytes: &[u8]) -> Result<CountsState, CheckpointError> {
    let (info, tensors): (CountsInfo, _) = decode(path, bytes)?;
    match decode_keyed(path, &tensors)? {
        (keys, data, COUNTS_WIDTH) => Ok(CountsState { keys, data, full: info.full }),
        (_, _, width) => Err(CheckpointError::corrupt(path, format_args!("counts of {width} floats, not {COUNTS_WIDTH}"))),
    }
}

fn encode_keyed(info: &impl serde::Serialize, keys: &[u64], data: &[f32], width: usize) -> Vec<u8> {
    let rows = keys.len();
    let keys: Vec<u8> = keys.iter().flat_map(|key| key.to_le_bytes()).collect();
    encode(info, &[("keys", Dtype::U64, vec![rows], &keys), ("data", Dtype::F32, vec![rows, width], &f32_bytes(data))])
}

/// Keys `[rows]`, data `[rows, width]`, and that width.
fn decode_keyed(path: &Path, tensors: &SafeTensors<'_>) -> Result<(Vec<u64>, Vec<f32>, usize), CheckpointError> {
    let keys = tensors.tensor("keys").map_err(|e| CheckpointError::corrupt(path, e))?;
    if keys.dtype() != Dtype::U64 {
        return Err(CheckpointError::corrupt(path, "tensor keys is not U64"));
    }
    let keys: Vec<u64> = keys.data().as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
    let shape = tensors.tensor("data").map_err(|e| CheckpointError::corrupt(path, e))?.shape().to_vec();
    let &[rows, width] = shape.as_slice() else {
        return Err(CheckpointError::corrupt(path, format_args!("tensor data is {shape:?}, not [rows, width]")));
    };
    if rows != keys.len() {
        return Err(CheckpointError::corrupt(path, format_args!("tensor data is {shape:?}, which does not fit {} keys", keys.len())));
    }
    let data = f32_tensor(path, tensors, "data")?;
    Ok((keys, data, width))
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn encode<I: serde::Serialize>(info: &I, tensors: &[(&str, Dtype, Vec<usize>, &Vec<u8>)]) -> Vec<u8> {
    let views = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (*name, TensorView::new(*dtype, shape.clone(), bytes).expect("shape and bytes were made from the same vector"))
    });
    let info = serde_json::to_string(info).expect("plain structs serialise");
    serialize(views, Some(HashMap::from([(INFO.to_owned(), info)]))).expect("names are distinct and views are valid")
}

fn decode<'a, I: serde::de::DeserializeOwned>(path: &Path, bytes: &'a [u8]) -> Result<(I, SafeTensors<'a>), CheckpointError> {
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

fn f32_tensor(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|e| CheckpointError::corrupt(path, e))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(CheckpointError::corrupt(path, format_args!("tensor {name} is not F32")));
    }
    Ok(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}
