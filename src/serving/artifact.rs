use std::collections::BTreeSet;
use std::sync::Arc;

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::net::{Hidden, Layer, Rows, Weights};
use super::{ModelError, click_rates};
use crate::domain::Version;
use crate::features::SlotSpec;
use crate::wire::snapshot::{Architecture, TensorInfo};

/// Longest header read. A light net has a dozen tensors of a hundred bytes each; the parser itself would take 100 MB.
pub const HEADER_BYTES_MAX: usize = 64 << 10;
/// Most dense layers: bounds the list of tensors before anything is read.
const LAYERS_MAX: usize = 64;
/// Length of the number that says how long the header is.
pub(super) const LENGTH_BYTES: usize = 8;
/// What embedding rows may be.
const ROW_DTYPES: [Dtype; 3] = [Dtype::F32, Dtype::F16, Dtype::I8];

/// What an artifact holds, checked.
pub(super) struct Parts {
    /// In the order of [`Architecture::tables`]: row keys `[rows]` and row weights `[rows, dim]`.
    pub(super) tables: Vec<(Vec<u64>, Rows)>,
    /// Shared layers, light layers, the logit's layer.
    pub(super) layers: Vec<Layer>,
}

/// The tensors that an architecture asks for: those of the tables and the dense ones, `slots` being those of the schema; the number of rows in
/// each table and their type are the artifact's own.
///
/// # Errors
/// [`ModelError::Artifact`] for shapes that no net can have.
fn expected(
    version: Version,
    architecture: &Architecture,
    slots: &[SlotSpec],
    rows: &[(usize, Dtype)],
) -> Result<[Vec<TensorInfo>; 2], ModelError> {
    let refuse = |why: String| ModelError::Artifact { version, why };
    let Architecture { embedding_dim, further_dims, inputs, shared, light, hidden } = architecture;
    let dims: Vec<usize> = slots.iter().map(|slot| slot.dim(*embedding_dim)).collect();
    let embedded = dims.iter().try_fold(0_usize, |sum, dim| sum.checked_add(*dim));
    if dims.contains(&0) || *inputs == 0 || embedded.is_none_or(|embedded| embedded > *inputs) {
        return Err(refuse(format!("architecture: slots of {dims:?} floats do not fit into {inputs} inputs")));
    }
    let own: BTreeSet<usize> = dims.into_iter().filter(|dim| dim != embedding_dim).collect();
    if own.iter().ne(further_dims) {
        return Err(refuse(format!("architecture: further tables of {further_dims:?} floats; the slots need {own:?}")));
    }
    if shared.len() + light.len() >= LAYERS_MAX || shared.iter().chain(light).any(|width| *width == 0) {
        return Err(refuse(format!("architecture: {} layers; at most {LAYERS_MAX}, none of width 0", shared.len() + light.len() + 1)));
    }
    let info = |name: String, dtype: Dtype, shape: Vec<usize>| TensorInfo { name, dtype: dtype.to_string(), shape };
    let table = |((dim, [keys, weights, scales]), (rows, dtype)): ((usize, [String; 3]), &(usize, Dtype))| {
        let tensors = [info(keys, Dtype::U64, vec![*rows]), info(weights, *dtype, vec![*rows, dim])];
        tensors.into_iter().chain((*dtype == Dtype::I8).then(|| info(scales, Dtype::F32, vec![*rows])))
    };
    let tables: Vec<TensorInfo> = architecture.tables().zip(rows).flat_map(table).collect();
    let mut dense: Vec<TensorInfo> = Vec::new();
    let mut width = *inputs;
    let shared = shared.iter().enumerate().map(|(index, out)| ("shared", index, *out));
    let logit = ("light", light.len(), 1);
    let light = light.iter().enumerate().map(|(index, out)| ("light", index, *out));
    let mut layer = |(part, index, out): (&str, usize, usize), rest: &mut dyn Iterator<Item = &'static str>| {
        dense.push(info(format!("{part}.{index}.weight"), Dtype::F32, vec![width, out]));
        dense.extend(["bias"].into_iter().chain(rest).map(|name| info(format!("{part}.{index}.{name}"), Dtype::F32, vec![out])));
        width = out;
    };
    shared.chain(light).for_each(|part| layer(part, &mut Hidden::tensors(*hidden)));
    layer(logit, &mut std::iter::empty());
    Ok([tables, dense])
}

/// Every tensor of an artifact, sorted by name. The header's length is checked before the header is parsed.
///
/// # Errors
/// [`ModelError::HeaderBomb`], [`ModelError::Artifact`].
pub(super) fn parse(version: Version, artifact: &[u8]) -> Result<SafeTensors<'_>, ModelError> {
    let refuse = |why: String| ModelError::Artifact { version, why };
    let Some((length, rest)) = artifact.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(refuse(format!("artifact of {} bytes is too short for a header", artifact.len())));
    };
    let length = u64::from_le_bytes(*length);
    match usize::try_from(length) {
        Ok(length) if length > HEADER_BYTES_MAX => return Err(ModelError::HeaderBomb { version, bytes: length as u64 }),
        Ok(length) if length <= rest.len() => {}
        _ => return Err(refuse(format!("header of {length} bytes in an artifact of {}", artifact.len()))),
    }
    SafeTensors::deserialize(artifact).map_err(|error| refuse(format!("not safetensors: {error}")))
}

/// Name, type and shape of every tensor, sorted by name.
pub(super) fn listing(tensors: &SafeTensors<'_>) -> Vec<TensorInfo> {
    let mut infos: Vec<TensorInfo> = tensors
        .iter()
        .map(|(name, view)| TensorInfo { name: name.to_owned(), dtype: view.dtype().to_string(), shape: view.shape().to_vec() })
        .collect();
    infos.sort_by(|a, b| a.name.cmp(&b.name));
    infos
}

/// Reads and checks an artifact against an architecture: exactly its tensors, types and shapes, finite weights, each key once. Those of
/// click rates are read apart ([`click_rates`]).
///
/// # Errors
/// [`ModelError::HeaderBomb`], [`ModelError::Artifact`], [`ModelError::NotFinite`].
pub(super) fn read(
    version: Version,
    architecture: &Architecture,
    slots: &[SlotSpec],
    artifact: &Arc<Vec<u8>>,
) -> Result<Parts, ModelError> {
    let refuse = |why: String| ModelError::Artifact { version, why };
    let tensors = parse(version, artifact)?;
    let view = |name: &str| tensors.tensor(name).map_err(|_| refuse(format!("tensor {name} is missing")));
    let rows = architecture.tables().map(|(_, [keys, weights, _])| {
        let dtype = view(&weights)?.dtype();
        let rows = view(&keys)?.shape().first().copied().unwrap_or(0);
        Ok((rows, if ROW_DTYPES.contains(&dtype) { dtype } else { Dtype::F32 }))
    });
    let [in_tables, dense] = expected(version, architecture, slots, &rows.collect::<Result<Vec<_>, ModelError>>()?)?;
    for found in listing(&tensors).into_iter().filter(|info| !info.name.starts_with(click_rates::PREFIX)) {
        match in_tables.iter().chain(&dense).find(|info| info.name == found.name) {
            None => return Err(refuse(format!("tensor {} is not one of the architecture's", found.name))),
            Some(info) if *info != found => {
                let (name, dtype, shape) = (found.name, found.dtype, found.shape);
                return Err(refuse(format!("tensor {name} is {dtype} {shape:?}; the architecture says {} {:?}", info.dtype, info.shape)));
            }
            Some(_) => {}
        }
    }

    let mut tables = Vec::new();
    for (_, [key_name, row_name, scale_name]) in architecture.tables() {
        let tensor = view(&row_name)?;
        let weights = match tensor.dtype() {
            Dtype::F16 => Weights::F16,
            Dtype::I8 => Weights::I8(floats(version, &scale_name, &view(&scale_name)?)?),
            _ => Weights::F32,
        };
        if !is_finite(&weights, tensor.data()) {
            return Err(ModelError::NotFinite { version, tensor: row_name });
        }
        let start = tensor.data().as_ptr().addr() - artifact.as_ptr().addr();
        let rows = Rows::new(Arc::clone(artifact), start..start + tensor.data().len(), weights);
        tables.push((keys(&view(&key_name)?).collect(), rows));
    }
    let mut numbers = Vec::with_capacity(dense.len());
    for info in &dense {
        numbers.push(floats(version, &info.name, &view(&info.name)?)?);
    }
    let mut numbers = numbers.into_iter();
    let depth = architecture.shared.len() + architecture.light.len();
    let mut layers = Vec::with_capacity(depth + 1);
    while let (Some(weight), Some(bias)) = (numbers.next(), numbers.next()) {
        let hidden = if layers.len() < depth {
            let hidden = Hidden::new(architecture.hidden, &mut numbers);
            Some(hidden.ok_or_else(|| refuse(format!("layer {}: a running variance is below zero", layers.len())))?)
        } else {
            None
        };
        layers.push(Layer::new(&weight, &bias, hidden));
    }
    Ok(Parts { tables, layers })
}

/// The numbers of a U64 tensor.
pub(super) fn keys<'a>(view: &TensorView<'a>) -> impl Iterator<Item = u64> + use<'a> {
    view.data().as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes))
}

/// The numbers of an F32 tensor.
pub(super) fn floats(version: Version, name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, ModelError> {
    let (chunks, _) = view.data().as_chunks::<4>();
    let floats: Vec<f32> = chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    if floats.iter().all(|float| float.is_finite()) {
        return Ok(floats);
    }
    Err(ModelError::NotFinite { version, tensor: name.to_owned() })
}

/// Whether every weight is a number that is finite, those of bytes by nature.
fn is_finite(weights: &Weights, data: &[u8]) -> bool {
    match weights {
        Weights::F32 => data.as_chunks().0.iter().all(|weight| f32::from_le_bytes(*weight).is_finite()),
        Weights::F16 => data.as_chunks().0.iter().all(|weight| f16::from_le_bytes(*weight).is_finite()),
        Weights::I8(_) => true,
    }
}
