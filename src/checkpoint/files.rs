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
use crate::train::{AdmissionState, DenseState, RowsState, SweepState, TensorLayout};

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
    /// Likewise: nothing was drawn.
    #[serde(default)]
    drawn: u64,
    /// Likewise: no row could leave.
    #[serde(default)]
    rows: Option<usize>,
    /// Likewise.
    #[serde(default)]
    sweep: SweepState,
}

/// Join memory and probes.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(super) struct Extra {
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
    pub(super) probes: Vec<ProbeSample>,
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
    let info = RowsInfo {
        dim: state.dim,
        full: state.full,
        optimizer: state.optimizer,
        drawn: state.admission.drawn,
        rows: state.rows,
        sweep: state.sweep.clone(),
    };
    let [keys, removed] = [&state.keys, &state.removed].map(|keys| keys.iter().flat_map(|key| key.to_le_bytes()).collect::<Vec<u8>>());
    let places: Vec<u8> = state.places.iter().flat_map(|place| place.to_le_bytes()).collect();
    let data = f32_bytes(&state.data);
    let mut tensors =
        vec![("keys", Dtype::U64, vec![state.keys.len()], &keys), ("data", Dtype::F32, vec![state.keys.len(), state.width], &data)];
    let optional = [
        ("places", Dtype::U32, state.places.len(), &places),
        ("removed", Dtype::U64, state.removed.len(), &removed),
        ("admission", Dtype::U8, state.admission.counters.len(), &state.admission.counters),
    ];
    tensors.extend(
        optional.into_iter().filter(|(_, _, length, _)| *length > 0).map(|(name, dtype, length, bytes)| (name, dtype, vec![length], bytes)),
    );
    encode(&info, &tensors)
}

pub(super) fn decode_rows(path: &Path, bytes: &[u8]) -> Result<RowsState, CheckpointError> {
    let (info, tensors): (RowsInfo, _) = decode(path, bytes)?;
    let shape = tensors.tensor("data").map_err(|e| CheckpointError::corrupt(path, e))?.shape().to_vec();
    let keys = u64_tensor(path, &tensors, "keys")?;
    let &[rows, width] = shape.as_slice() else {
        return Err(CheckpointError::corrupt(path, format_args!("tensor data is {shape:?}, not [rows, width]")));
    };
    if rows != keys.len() || width < info.dim {
        let why = format_args!("tensor data is {shape:?}, which does not fit {} keys of dim {}", keys.len(), info.dim);
        return Err(CheckpointError::corrupt(path, why));
    }
    let data = f32_tensor(path, &tensors, "data")?;
    let optional = |name| tensors.tensor(name).map_or_else(|_| Vec::new(), |tensor| tensor.data().to_vec());
    let places: Vec<u32> = optional("places").as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let total = info.rows.unwrap_or(usize::MAX);
    let placed = if info.full || info.rows.is_none() { places.is_empty() } else { places.len() == rows };
    if !placed || places.iter().any(|place| *place as usize >= total) || (info.full && total < rows) {
        return Err(CheckpointError::corrupt(path, format_args!("{} places do not fit {rows} of {total} rows", places.len())));
    }
    Ok(RowsState {
        dim: info.dim,
        width,
        optimizer: info.optimizer,
        keys,
        data,
        full: info.full,
        places,
        rows: info.rows,
        removed: u64s(&optional("removed")),
        admission: AdmissionState { drawn: info.drawn, counters: optional("admission") },
        sweep: info.sweep,
    })
}

/// Lays `touched` over `base`: its rows stand where it says, what is beyond its end is gone, and the rest is as of `touched`.
pub(super) fn overlay(base: &mut RowsState, mut touched: RowsState) {
    let width = base.width;
    let rows = touched.rows.unwrap_or_else(|| place_by_key(base, &mut touched));
    base.keys.resize(rows, 0);
    base.data.resize(rows * width, 0.0);
    for ((key, place), row) in touched.keys.into_iter().zip(touched.places).zip(touched.data.chunks_exact(width.max(1))) {
        let place = place as usize;
        base.keys[place] = key;
        base.data[place * width..(place + 1) * width].copy_from_slice(row);
    }
    (base.rows, base.admission, base.sweep) = (Some(rows), touched.admission, touched.sweep);
}

/// Places of an increment that does not say them: known keys stay, new ones are appended. Returns the rows there are then.
fn place_by_key(base: &RowsState, touched: &mut RowsState) -> usize {
    let mut places: HashMap<u64, u32> = base.keys.iter().copied().zip(0..).collect();
    for key in &touched.keys {
        let next = places.len() as u32;
        touched.places.push(*places.entry(*key).or_insert(next));
    }
    places.len()
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

fn u64_tensor(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<u64>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|e| CheckpointError::corrupt(path, e))?;
    if tensor.dtype() != Dtype::U64 {
        return Err(CheckpointError::corrupt(path, format_args!("tensor {name} is not U64")));
    }
    Ok(u64s(tensor.data()))
}

fn u64s(bytes: &[u8]) -> Vec<u64> {
    bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect()
}

fn f32_tensor(path: &Path, tensors: &SafeTensors<'_>, name: &str) -> Result<Vec<f32>, CheckpointError> {
    let tensor = tensors.tensor(name).map_err(|e| CheckpointError::corrupt(path, e))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(CheckpointError::corrupt(path, format_args!("tensor {name} is not F32")));
    }
    Ok(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::config::{EmbeddingConfig, ExpiryConfig, OptimizerConfig};
    use crate::embedding::Table;

    fn read_back(state: &RowsState) -> RowsState {
        decode_rows(Path::new("rows"), &encode_rows(state)).expect("whole")
    }

    #[test]
    fn increments_with_removed_rows_add_up_to_the_table_they_came_from() {
        let expiry = ExpiryConfig { rows_max: 64, ..ExpiryConfig::default() };
        let config = EmbeddingConfig { dim: 2, expiry, ..EmbeddingConfig::default() };
        let mut table = Table::new(&config, &OptimizerConfig::default(), 1);
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut base = read_back(&table.capture(true));
        let mut keys: BTreeSet<u64> = BTreeSet::new();
        let mut removed = 0;
        for batch in 1..200 {
            table.begin(Some(EventTime(batch * 3_600_000)));
            for _ in 0..8 {
                let key = random.random_range(0..150);
                table.update(key, table.find(key), &[random.random_range(-1.0..1.0), 0.5], 1);
            }
            table.end();
            if batch % 3 == 0 {
                let increment = read_back(&table.capture(false));
                removed += increment.removed.len();
                increment.removed.iter().for_each(|key| assert!(keys.remove(key) || !increment.keys.contains(key)));
                keys.extend(&increment.keys);
                overlay(&mut base, increment);
                let full = read_back(&table.capture(true));
                assert_eq!(base, RowsState { full: base.full, ..full }, "batch {batch}");
                assert_eq!(keys, base.keys.iter().copied().collect(), "batch {batch}");
            }
        }
        assert!(removed > 100, "{removed}");
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        let mut table = Table::new(&EmbeddingConfig { dim: 1, ..EmbeddingConfig::default() }, &OptimizerConfig::default(), 1);
        (0..3).for_each(|key| table.update(key, None, &[1.0], 1));
        let good = table.capture(false);
        for (places, rows) in [(vec![0, 1, 3], 3), (vec![0, 1], 3), (vec![0, 1, 2], 2)] {
            let bad = RowsState { places, rows: Some(rows), ..good.clone() };
            let error = decode_rows(Path::new("rows"), &encode_rows(&bad)).expect_err("no place");
            assert!(error.to_string().contains("places do not fit"), "{error}");
        }
    }
}
