//! A learner's state → the light net's safetensors bytes.
//!
//! architecture invariant: no booster, no control head, no optimizer state. What servers do not need does not leave the trainer.

use std::borrow::Cow;

use safetensors::{Dtype, SafeTensorError, View};

use super::rows::{self, Loss};
use crate::config::{Activation, HiddenConfig, RowType};
use crate::train::{CountsState, DenseState, LearnerState, RowsState};
use crate::wire::snapshot::{Architecture, RowsLoss, TensorInfo};

/// Prefixes of the dense tensors that are served.
const SERVED_PREFIXES: [&str; 2] = ["shared.", "light."];

/// A checkpoint from which no artifact can be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ArtifactError {
    /// Flat vectors and layout, or keys and rows, differ in length.
    #[error("{what} holds {found} floats, expected {expected}")]
    Length { what: String, found: usize, expected: usize },
    /// The light head has no layer.
    #[error("the checkpoint holds no layer of the light head")]
    NoLight,
    /// No table.
    #[error("the checkpoint holds no embedding table")]
    NoTable,
    /// safetensors would not write it.
    #[error("safetensors: {0}")]
    Encode(#[from] SafeTensorError),
}

/// The bytes of a light net, and what is in them.
#[derive(Debug)]
pub(super) struct LightArtifact {
    /// safetensors.
    pub(super) bytes: Vec<u8>,
    /// Every tensor, by name.
    pub(super) tensors: Vec<TensorInfo>,
    /// Shapes, read off the tensors.
    pub(super) architecture: Architecture,
    /// What rows have lost, the probes still to be filled in.
    pub(super) rows_loss: Option<RowsLoss>,
}

/// One tensor, little-endian bytes.
pub(super) struct Tensor {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) bytes: Vec<u8>,
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        self.dtype
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }
    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// Encodes the light net of `learner`. Rows stand in the order of their keys, so that the same state gives the same bytes whatever
/// order its table knows them in.
///
/// # Shapes
/// `embedding.keys` U64 `[rows]`, `embedding.rows` `[rows, dim]` as `kind` says, `embedding.scales` F32 `[rows]` beside bytes, likewise of
/// further tables ([`Architecture::tables`]), `shared.*` and `light.*` F32 as in the learner's layout; where the schema has click rates, `click_rates.keys` U64 `[keys]` and `click_rates.counts` F32
/// `[keys, 2]`, the stream's own under key 0.
pub(super) fn encode(learner: &LearnerState, kind: RowType) -> Result<LightArtifact, ArtifactError> {
    let mut tensors = served_layers(&learner.dense)?;
    let tables = learner.served_rows();
    let architecture = architecture(&tensors, tables)?;
    let mut loss = Loss::default();
    for ((_, [keys_name, rows_name, scales_name]), RowsState { dim, width, keys, data, .. }) in architecture.tables().zip(tables) {
        let order = by_key(&rows_name, keys, data, *width)?;
        let rows = order.iter().map(|&row| &data[row * width..][..*dim]);
        tensors.extend(rows::encode(kind, [rows_name, scales_name], *dim, rows, &mut loss));
        tensors.push((keys_name, sorted(keys, &order)));
    }
    if let Some(CountsState { keys, data, .. }) = &learner.click_counts {
        let (counts, width) = ("click_rates.counts", CountsState::WIDTH);
        let order = by_key(counts, keys, data, width)?;
        let rows = order.iter().flat_map(|&row| &data[row * width..][..width]);
        tensors.push((counts.to_owned(), floats(vec![order.len(), width], rows)));
        tensors.push(("click_rates.keys".to_owned(), sorted(keys, &order)));
    }
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes = safetensors::serialize(tensors.iter().map(|(name, tensor)| (name, tensor)), None)?;
    let tensors =
        tensors.into_iter().map(|(name, tensor)| TensorInfo { name, dtype: format!("{:?}", tensor.dtype), shape: tensor.shape }).collect();
    Ok(LightArtifact { bytes, tensors, architecture, rows_loss: loss.said(kind) })
}

/// The dense tensors that are served, in the learner's order.
fn served_layers(dense: &DenseState) -> Result<Vec<(String, Tensor)>, ArtifactError> {
    let expected = dense.layout.iter().map(|layout| layout.shape.iter().product::<usize>()).sum();
    if dense.params.len() != expected {
        return Err(ArtifactError::Length { what: "the dense vector".to_owned(), found: dense.params.len(), expected });
    }
    let mut rest = dense.params.as_slice();
    let mut served = Vec::new();
    for layout in &dense.layout {
        let (values, tail) = rest.split_at(layout.shape.iter().product());
        rest = tail;
        if SERVED_PREFIXES.iter().any(|prefix| layout.name.starts_with(prefix)) {
            served.push((layout.name.clone(), floats(layout.shape.clone(), values.iter())));
        }
    }
    Ok(served)
}

/// Row numbers of `data` `[rows, width]` by rising key.
fn by_key(name: &str, keys: &[u64], data: &[f32], width: usize) -> Result<Vec<usize>, ArtifactError> {
    let expected = keys.len() * width;
    if data.len() != expected {
        return Err(ArtifactError::Length { what: name.to_owned(), found: data.len(), expected });
    }
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_unstable_by_key(|&row| keys[row]);
    Ok(order)
}

fn sorted(keys: &[u64], order: &[usize]) -> Tensor {
    Tensor { dtype: Dtype::U64, shape: vec![order.len()], bytes: order.iter().flat_map(|&row| keys[row].to_le_bytes()).collect() }
}

pub(super) fn floats<'a>(shape: Vec<usize>, values: impl Iterator<Item = &'a f32>) -> Tensor {
    Tensor { dtype: Dtype::F32, shape, bytes: values.flat_map(|value| value.to_le_bytes()).collect() }
}

/// The shapes that the layers themselves have: a manifest then describes its artifact even if the configuration has changed since.
fn architecture(layers: &[(String, Tensor)], tables: &[RowsState]) -> Result<Architecture, ArtifactError> {
    let weights = |prefix: &str| -> Vec<(usize, usize)> {
        (0..)
            .map_while(|index| {
                let name = format!("{prefix}{index}.weight");
                let (_, tensor) = layers.iter().find(|(found, _)| *found == name)?;
                match tensor.shape.as_slice() {
                    &[input, output] => Some((input, output)),
                    _ => None,
                }
            })
            .collect()
    };
    let shared = weights("shared.");
    let light = weights("light.");
    let (_, hidden) = light.split_last().ok_or(ArtifactError::NoLight)?;
    let first = shared.first().or_else(|| light.first()).ok_or(ArtifactError::NoLight)?;
    let has = |tensor: &str| layers.iter().any(|(name, _)| name.ends_with(tensor));
    let activation = match (has(".slope"), has(".mean")) {
        (false, _) => Activation::Relu,
        (true, false) => Activation::Prelu,
        (true, true) => Activation::Dice,
    };
    let (table, further) = tables.split_first().ok_or(ArtifactError::NoTable)?;
    Ok(Architecture {
        hidden: HiddenConfig { layer_norm: has(".norm.scale"), activation },
        embedding_dim: table.dim,
        further_dims: further.iter().map(|rows| rows.dim).collect(),
        inputs: first.0,
        shared: shared.iter().map(|layer| layer.1).collect(),
        light: hidden.iter().map(|layer| layer.1).collect(),
    })
}

#[cfg(test)]
mod tests {
    use safetensors::SafeTensors;

    use super::*;
    use crate::config::EmbeddingOptimizer;
    use crate::train::{Course, TensorLayout};

    fn learner() -> LearnerState {
        let layout: Vec<TensorLayout> = [
            ("shared.0.weight", vec![3, 2]),
            ("shared.0.bias", vec![2]),
            ("light.0.weight", vec![2, 4]),
            ("light.0.bias", vec![4]),
            ("light.1.weight", vec![4, 1]),
            ("light.1.bias", vec![1]),
            ("booster.0.weight", vec![2, 1]),
            ("booster.0.bias", vec![1]),
            ("control.0.weight", vec![2, 1]),
            ("control.0.bias", vec![1]),
        ]
        .into_iter()
        .map(|(name, shape)| TensorLayout { name: name.to_owned(), shape })
        .collect();
        let length = layout.iter().map(|layout| layout.shape.iter().product::<usize>()).sum::<usize>();
        let params: Vec<f32> = (0..length).map(|i| i as f32).collect();
        LearnerState {
            dense: DenseState { layout, m: vec![-1.0; length], v: vec![-2.0; length], params, steps: 9 },
            rows: vec![RowsState {
                dim: 2,
                width: 3,
                optimizer: EmbeddingOptimizer::RowwiseAdagrad,
                keys: vec![70, 3],
                data: vec![0.1, 0.2, 9.0, 0.3, 0.4, 9.0],
                full: true,
                ..RowsState::default()
            }],
            light_rows: None,
            click_counts: None,
            course: Course::default(),
        }
    }

    fn read(bytes: &[u8], name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(bytes).unwrap();
        tensors.tensor(name).unwrap().data().chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    }

    #[test]
    fn holds_the_light_net_and_nothing_else() {
        let artifact = encode(&learner(), RowType::F32).unwrap();
        let tensors = SafeTensors::deserialize(&artifact.bytes).unwrap();
        let mut names = tensors.names();
        names.sort_unstable();
        let expected = [
            "embedding.keys",
            "embedding.rows",
            "light.0.bias",
            "light.0.weight",
            "light.1.bias",
            "light.1.weight",
            "shared.0.bias",
            "shared.0.weight",
        ];
        assert_eq!(names, expected);
        assert_eq!(artifact.tensors.iter().map(|tensor| tensor.name.as_str()).collect::<Vec<_>>(), expected);
        assert_eq!(read(&artifact.bytes, "shared.0.bias"), [6.0, 7.0]);
        assert_eq!(read(&artifact.bytes, "light.1.weight"), [20.0, 21.0, 22.0, 23.0]);
    }

    #[test]
    fn rows_are_sorted_and_bear_weights_without_optimizer_state() {
        let artifact = encode(&learner(), RowType::F32).unwrap();
        let tensors = SafeTensors::deserialize(&artifact.bytes).unwrap();
        assert_eq!(tensors.tensor("embedding.keys").unwrap().data(), [3u64.to_le_bytes(), 70u64.to_le_bytes()].concat());
        assert_eq!(read(&artifact.bytes, "embedding.rows"), [0.3, 0.4, 0.1, 0.2]);
    }

    #[test]
    fn rows_of_light_alone_are_the_ones_that_leave() {
        let mut apart = learner();
        apart.light_rows = Some(vec![RowsState { keys: vec![70], data: vec![0.5, 0.6, 9.0], ..apart.rows[0].clone() }]);
        let artifact = encode(&apart, RowType::F32).unwrap();
        assert_eq!(read(&artifact.bytes, "embedding.rows"), [0.5, 0.6]);
    }

    #[test]
    fn further_tables_bear_their_dim() {
        let mut several = learner();
        several.rows.push(RowsState { dim: 1, width: 2, keys: vec![3], data: vec![0.7, 9.0], ..several.rows[0].clone() });
        let artifact = encode(&several, RowType::F32).unwrap();
        let Architecture { embedding_dim, further_dims, .. } = artifact.architecture;
        assert_eq!((embedding_dim, further_dims), (2, vec![1]));
        assert_eq!(read(&artifact.bytes, "embedding.1.rows"), [0.7]);
        let tensors = SafeTensors::deserialize(&artifact.bytes).unwrap();
        assert_eq!(tensors.tensor("embedding.1.keys").unwrap().data(), 3u64.to_le_bytes());
    }

    #[test]
    fn bears_the_counts_behind_click_rates() {
        let counts = CountsState { keys: vec![9, 0], data: vec![3.0, 1.0, 8.0, 2.0], full: true };
        let artifact = encode(&LearnerState { click_counts: Some(counts), ..learner() }, RowType::F32).unwrap();
        let tensors = SafeTensors::deserialize(&artifact.bytes).unwrap();
        assert_eq!(tensors.tensor("click_rates.keys").unwrap().data(), [0u64.to_le_bytes(), 9u64.to_le_bytes()].concat());
        assert_eq!(read(&artifact.bytes, "click_rates.counts"), [8.0, 2.0, 3.0, 1.0]);
    }

    #[test]
    fn the_order_of_the_table_does_not_change_the_bytes() {
        let mut turned = learner();
        turned.rows[0].keys.reverse();
        turned.rows[0].data.rotate_left(3);
        assert_eq!(encode(&learner(), RowType::F32).unwrap().bytes, encode(&turned, RowType::F32).unwrap().bytes);
    }

    #[test]
    fn architecture_is_read_off_the_layers() {
        let artifact = encode(&learner(), RowType::F32).unwrap();
        assert_eq!(
            artifact.architecture,
            Architecture {
                embedding_dim: 2,
                further_dims: Vec::new(),
                inputs: 3,
                shared: vec![2],
                light: vec![4],
                hidden: HiddenConfig::default()
            }
        );
    }

    #[test]
    fn refuses_a_state_that_contradicts_itself() {
        let mut short = learner();
        short.rows[0].data.pop();
        assert!(
            matches!(encode(&short, RowType::F32), Err(ArtifactError::Length { what, found: 5, expected: 6 }) if what == "embedding.rows")
        );
        let mut short = learner();
        short.dense.params.pop();
        assert!(matches!(encode(&short, RowType::F32), Err(ArtifactError::Length { what, .. }) if what == "the dense vector"));
        let mut headless = learner();
        headless.dense.layout.iter_mut().for_each(|layout| layout.name = layout.name.replace("light.", "heavy."));
        assert!(matches!(encode(&headless, RowType::F32), Err(ArtifactError::NoLight)));
    }
}
