use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView, serialize};

use serde_json::{Value, json};

use super::{Shape, TIME};
use crate::config::{FeatureConfig, FeatureKind};
use crate::domain::Version;
use crate::features::slot_key;
use crate::serving::ServedModel;
use crate::wire::snapshot::{Architecture, Artifact, Manifest, PROTOCOL, Probe, Provenance, Quality, TensorInfo, schema_hash};

/// Name of the model.
pub(super) const MODEL: &str = "bench";
/// Standard deviation of embedding rows, about what training leaves them with.
const ROW_SCALE: f32 = 0.1;
/// As many as the publisher takes unless told otherwise.
const PROBES: usize = 32;
const PROBE_TOLERANCE: f32 = 1e-4;

/// A model as it is published.
#[derive(Debug, Clone)]
pub(super) struct Published {
    pub(super) manifest: Manifest,
    pub(super) artifact: Vec<u8>,
}

/// A value of a feature, as probes bear it.
fn field(feature: &FeatureConfig, ids: usize, rng: &mut ChaCha8Rng) -> Value {
    match feature.kind {
        FeatureKind::Categorical => json!(rng.random_range(1..=ids.max(1)).to_string()),
        _ => json!(rng.random::<f64>()),
    }
}

struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Published {
    /// Random weights, another net for every version; `ids` rows for each slot.
    pub(super) fn random(shape: &Shape, ids: usize, version: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(version);
        let (schema, architecture) = (shape.schema(), shape.architecture());
        let tensors = tensors(shape, &architecture, ids, &mut rng);
        let views = tensors.iter().map(|tensor| {
            let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
            (&tensor.name, view.expect("as many bytes as the shape says"))
        });
        let artifact = serialize(views, None).expect("good tensors");
        let info = |tensor: &Tensor| TensorInfo { name: tensor.name.clone(), dtype: tensor.dtype.to_string(), shape: tensor.shape.clone() };
        let probe = |_| Probe {
            time_ms: TIME.0,
            fields: shape.features().map(|(feature, _)| field(&feature, ids, &mut rng)).collect(),
            logit: 0.0,
            tolerance: PROBE_TOLERANCE,
        };
        let mut manifest = Manifest {
            proto: PROTOCOL,
            model: MODEL.to_owned(),
            version: Version(version),
            seq: 0,
            epoch: 0,
            created_ms: 0,
            expires_ms: i64::MAX,
            artifact: Artifact {
                format: "safetensors".to_owned(),
                codec: "none".to_owned(),
                bytes: artifact.len() as u64,
                blake3: blake3::hash(&artifact).to_hex().to_string(),
                tensors: tensors.iter().map(info).collect(),
                ..Artifact::default()
            },
            delta: None,
            rows_loss: None,
            architecture,
            schema_hash: schema_hash(&schema),
            schema,
            provenance: Provenance { positions: Vec::new(), samples: 0, config_hash: String::new(), code: String::new() },
            quality: Quality::default(),
            probes: (0..PROBES).map(probe).collect(),
        };
        let model = ServedModel::open_unprobed(manifest.clone(), Arc::new(artifact.clone())).expect("a good model");
        for (probe, logit) in manifest.probes.iter_mut().zip(model.probed().expect("good probes")) {
            probe.logit = logit;
        }
        Published { manifest, artifact }
    }
}

fn tensors(shape: &Shape, architecture: &Architecture, ids: usize, rng: &mut ChaCha8Rng) -> Vec<Tensor> {
    let mut floats = |name: String, shape: Vec<usize>, scale: f32| {
        let count = shape.iter().product();
        let bytes = (0..count).flat_map(|_| (scale * rng.random_range(-1.0..1.0_f32)).to_le_bytes()).collect();
        Tensor { name, dtype: Dtype::F32, shape, bytes }
    };
    let mut keys: Vec<u64> =
        (0..shape.slots).flat_map(|slot| (1..=ids).map(move |id| slot_key(&format!("c{slot}"), &id.to_string()))).collect();
    keys.sort_unstable();
    let mut tensors = vec![
        floats("embedding.rows".to_owned(), vec![keys.len(), architecture.embedding_dim], ROW_SCALE),
        Tensor {
            name: "embedding.keys".to_owned(),
            dtype: Dtype::U64,
            shape: vec![keys.len()],
            bytes: keys.iter().flat_map(|key| key.to_le_bytes()).collect(),
        },
    ];
    let mut width = architecture.inputs;
    for (layer, outputs) in architecture.light.iter().copied().chain([1]).enumerate() {
        tensors.push(floats(format!("light.{layer}.weight"), vec![width, outputs], (3.0 / width as f32).sqrt()));
        tensors.push(floats(format!("light.{layer}.bias"), vec![outputs], ROW_SCALE));
        width = outputs;
    }
    tensors
}
