//! The layers of a light net as an ONNX graph.

mod proto;

use prost::Message;
use safetensors::SafeTensors;

use super::{InterchangeError, metadata};
use crate::config::{Activation, HiddenConfig};
use crate::wire::snapshot::Manifest;
use proto::{Attribute, Dimension, Graph, Model, Node, OperatorSet, Property, Tensor, ValueInfo};

/// The first with LayerNormalization, from ONNX 1.12 of 2022: what reads it is in use everywhere.
const OPERATOR_SET: i64 = 17;
/// The format of files that came with it.
const IR_VERSION: i64 = 8;
const PRODUCER: &str = "rocket-launching";
/// Names of what goes in and comes out.
const INPUT: &str = "inputs";
const LOGIT: &str = "logit";
const PROBABILITY: &str = "probability";

/// The dense part: `inputs` F32 `[N, inputs]` → `logit` F32 `[N]` and `probability` F32 `[N]`, with `model`, `version`, `schema_hash` and
/// `created_ms` as metadata. Embedding rows and click rates stay outside: what makes the inputs of raw columns is not ONNX's.
///
/// # Errors
/// [`InterchangeError`].
pub fn to_onnx(manifest: &Manifest, artifact: &[u8]) -> Result<Vec<u8>, InterchangeError> {
    let version = manifest.version;
    let tensors = SafeTensors::deserialize(artifact).map_err(|source| InterchangeError::Format { version, source })?;
    let architecture = &manifest.architecture;
    let mut writer = Writer { manifest, tensors, graph: Graph { name: manifest.model.clone(), ..Graph::default() } };
    let shared = (0..architecture.shared.len()).map(|index| format!("shared.{index}"));
    let light = (0..architecture.light.len()).map(|index| format!("light.{index}"));
    let mut at = INPUT.to_owned();
    for layer in shared.chain(light) {
        at = writer.product(&layer, at)?;
        at = writer.hidden(&layer, at, architecture.hidden)?;
    }
    let last = format!("light.{}", architecture.light.len());
    at = writer.product(&last, at)?;
    writer.constant("logit.axes", Tensor::integers("logit.axes", &[1]));
    writer.node("Squeeze", LOGIT, &[&at, "logit.axes"], Vec::new());
    writer.node("Sigmoid", PROBABILITY, &[LOGIT], Vec::new());

    let rows = || Dimension::named("N");
    let mut graph = writer.graph;
    graph.input = vec![ValueInfo::floats(INPUT, vec![rows(), Dimension::of(architecture.inputs)])];
    graph.output = [LOGIT, PROBABILITY].map(|name| ValueInfo::floats(name, vec![rows()])).to_vec();
    let model = Model {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSet { domain: String::new(), version: OPERATOR_SET }],
        producer_name: PRODUCER.to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        model_version: i64::try_from(version.0).unwrap_or(i64::MAX),
        graph: Some(graph),
        metadata_props: metadata(manifest).into_iter().map(|(key, value)| Property { key: key.to_owned(), value }).collect(),
    };
    Ok(model.encode_to_vec())
}

/// A graph that grows; each step takes the name of what it reads and gives the name of what it makes.
struct Writer<'a> {
    manifest: &'a Manifest,
    tensors: SafeTensors<'a>,
    graph: Graph,
}

impl Writer<'_> {
    /// x · W + b.
    fn product(&mut self, layer: &str, x: String) -> Result<String, InterchangeError> {
        let (weight, bias) = (self.weights(layer, "weight")?, self.weights(layer, "bias")?);
        Ok(self.node("Gemm", &format!("{layer}.product"), &[&x, &weight, &bias], Vec::new()))
    }

    /// LayerNorm where there is one, then the activation.
    fn hidden(&mut self, layer: &str, mut y: String, hidden: HiddenConfig) -> Result<String, InterchangeError> {
        if hidden.layer_norm {
            let (scale, shift) = (self.weights(layer, "norm.scale")?, self.weights(layer, "norm.shift")?);
            let attributes = vec![Attribute::integer("axis", -1), Attribute::float("epsilon", HiddenConfig::EPSILON as f32)];
            y = self.node("LayerNormalization", &format!("{layer}.norm"), &[&y, &scale, &shift], attributes);
        }
        match hidden.activation {
            Activation::Relu => Ok(self.node("Relu", &format!("{layer}.relu"), &[&y], Vec::new())),
            Activation::Prelu => {
                let slope = self.weights(layer, "slope")?;
                Ok(self.node("PRelu", &format!("{layer}.prelu"), &[&y, &slope], Vec::new()))
            }
            Activation::Dice => self.dice(layer, &y),
        }
    }

    /// y · (slope + p · (1 − slope)), p = σ((y − mean) / √(variance + ε)).
    fn dice(&mut self, layer: &str, y: &str) -> Result<String, InterchangeError> {
        let (mean, slope) = (self.weights(layer, "mean")?, self.weights(layer, "slope")?);
        let deviation = self.derived(layer, "variance", "deviation", |variance| (variance + HiddenConfig::EPSILON as f32).sqrt())?;
        let rise = self.derived(layer, "slope", "rise", |slope| 1.0 - slope)?;
        let name = |step: &str| format!("{layer}.dice.{step}");
        let mut step = |operator: &str, step: &str, of: &[&str]| self.node(operator, &name(step), of, Vec::new());
        let centred = step("Sub", "centred", &[y, &mean]);
        let scaled = step("Div", "scaled", &[&centred, &deviation]);
        let p = step("Sigmoid", "p", &[&scaled]);
        let risen = step("Mul", "risen", &[&p, &rise]);
        let factor = step("Add", "factor", &[&slope, &risen]);
        Ok(step("Mul", "out", &[y, &factor]))
    }

    fn node(&mut self, operator: &str, output: &str, inputs: &[&str], attribute: Vec<Attribute>) -> String {
        self.graph.node.push(Node {
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: vec![output.to_owned()],
            name: output.to_owned(),
            op_type: operator.to_owned(),
            attribute,
        });
        output.to_owned()
    }

    /// A tensor of the artifact as a constant of the graph, under its own name.
    fn weights(&mut self, layer: &str, tensor: &str) -> Result<String, InterchangeError> {
        let name = format!("{layer}.{tensor}");
        let (shape, floats) = self.floats(&name)?;
        self.constant(&name, Tensor::floats(&name, &shape, &floats));
        Ok(name)
    }

    /// What is made of each number of a tensor of the artifact.
    fn derived(&mut self, layer: &str, from: &str, to: &str, make: impl Fn(f32) -> f32) -> Result<String, InterchangeError> {
        let name = format!("{layer}.{to}");
        let (shape, mut floats) = self.floats(&format!("{layer}.{from}"))?;
        floats.iter_mut().for_each(|float| *float = make(*float));
        self.constant(&name, Tensor::floats(&name, &shape, &floats));
        Ok(name)
    }

    /// Once, however often it is asked for.
    fn constant(&mut self, name: &str, tensor: Tensor) {
        if self.graph.initializer.iter().all(|held| held.name != name) {
            self.graph.initializer.push(tensor);
        }
    }

    fn floats(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>), InterchangeError> {
        let version = self.manifest.version;
        let refuse = |why: String| InterchangeError::Artifact { version, why };
        let view = self.tensors.tensor(name).map_err(|_| refuse(format!("tensor {name} is missing")))?;
        if view.dtype() != safetensors::Dtype::F32 {
            return Err(refuse(format!("tensor {name} is {}, expected F32", view.dtype())));
        }
        let (chunks, _) = view.data().as_chunks::<4>();
        Ok((view.shape().to_vec(), chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()))
    }
}
