use super::bytes::{ByteWeights, Bytes};
use super::panel::{Lanes, PANEL, Panels, Product, Run, in_lanes, room};
use crate::config::{Activation, HiddenConfig};

/// One dense layer.
#[derive(Debug, Clone)]
pub(in crate::serving) struct Layer {
    outputs: usize,
    inputs: [Run; 1],
    pub(super) weight: Panels,
    /// The same in 8 bits, where they are to be multiplied with.
    bytes: Option<ByteWeights>,
    /// `[panels]`.
    pub(super) bias: Vec<Lanes>,
    /// What follows the product; `None`: nothing, it is the logit.
    hidden: Option<Hidden>,
}

/// LayerNorm where there is one, then the activation.
#[derive(Debug, Clone)]
pub(in crate::serving) struct Hidden {
    norm: Option<Norm>,
    curve: Curve,
}

/// (y − mean) / √(variance + ε) · scale + shift over the outputs of one example.
#[derive(Debug, Clone)]
struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// The activation, each list `[outputs]`.
#[derive(Debug, Clone)]
enum Curve {
    Relu,
    Prelu {
        slope: Vec<f32>,
    },
    Dice {
        slope: Vec<f32>,
        mean: Vec<f32>,
        /// √(variance + ε).
        deviation: Vec<f32>,
    },
}

impl Hidden {
    /// Names of its tensors beside weight and bias, each `[outputs]`, in the order in which [`Hidden::new`] takes them.
    pub(in crate::serving) fn tensors(config: HiddenConfig) -> impl Iterator<Item = &'static str> {
        let norm: &[_] = if config.layer_norm { &["norm.scale", "norm.shift"] } else { &[] };
        let curve: &[_] = match config.activation {
            Activation::Relu => &[],
            Activation::Prelu => &["slope"],
            Activation::Dice => &["slope", "mean", "variance"],
        };
        norm.iter().chain(curve).copied()
    }

    /// From the values of its tensors; `None` where one is missing, or a variance below zero.
    pub(in crate::serving) fn new(config: HiddenConfig, mut values: impl Iterator<Item = Vec<f32>>) -> Option<Self> {
        let norm = if config.layer_norm { Some(Norm { scale: values.next()?, shift: values.next()? }) } else { None };
        let curve = match config.activation {
            Activation::Relu => Curve::Relu,
            Activation::Prelu => Curve::Prelu { slope: values.next()? },
            Activation::Dice => {
                let (slope, mean, variance) = (values.next()?, values.next()?, values.next()?);
                if variance.iter().any(|variance| *variance < 0.0) {
                    return None;
                }
                let deviation = variance.iter().map(|variance| (variance + HiddenConfig::EPSILON as f32).sqrt()).collect();
                Curve::Dice { slope, mean, deviation }
            }
        };
        Some(Hidden { norm, curve })
    }

    /// In place, `[outputs]`.
    fn apply(&self, y: &mut [f32]) {
        if let Some(norm) = &self.norm {
            norm.apply(y);
        }
        match &self.curve {
            Curve::Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
            Curve::Prelu { slope } => y.iter_mut().zip(slope).filter(|(y, _)| **y < 0.0).for_each(|(y, slope)| *y *= slope),
            Curve::Dice { slope, mean, deviation } => {
                for (((y, slope), mean), deviation) in y.iter_mut().zip(slope).zip(mean).zip(deviation) {
                    let p = 1.0 / (1.0 + (-(*y - mean) / deviation).exp());
                    *y *= slope + p * (1.0 - slope);
                }
            }
        }
    }
}

impl Norm {
    fn apply(&self, y: &mut [f32]) {
        let share = 1.0 / y.len() as f32;
        let mean = y.iter().sum::<f32>() * share;
        let variance = y.iter().map(|y| (y - mean) * (y - mean)).sum::<f32>() * share;
        let by = 1.0 / (variance + HiddenConfig::EPSILON as f32).sqrt();
        for ((y, scale), shift) in y.iter_mut().zip(&self.scale).zip(&self.shift) {
            *y = (*y - mean) * by * scale + shift;
        }
    }
}

impl Layer {
    /// Of weights `[inputs, outputs]`, row-major, and biases `[outputs]`.
    pub(in crate::serving) fn new(weight: &[f32], bias: &[f32], hidden: Option<Hidden>) -> Self {
        let outputs = bias.len();
        let inputs = Run { column: 0, inputs: 0..weight.len() / outputs };
        Layer { outputs, inputs: [inputs], weight: Panels::new(outputs, weight), bytes: None, bias: in_lanes(bias), hidden }
    }

    /// Floats of a row of outputs: what fills up the last panel is zero.
    pub(super) fn width(&self) -> usize {
        self.bias.len() * PANEL
    }

    /// Whether the activation is a ReLU and nothing else, which is done while multiplying.
    fn is_relu(&self) -> bool {
        matches!(self.hidden, Some(Hidden { norm: None, curve: Curve::Relu }))
    }

    /// Whether [`Layer::apply`] multiplies in 8 bits from here on.
    pub(super) fn set_eight_bits(&mut self, eight_bits: bool) {
        self.bytes = eight_bits.then(|| ByteWeights::new(self.inputs[0].inputs.len(), &self.weight));
    }

    /// What it makes of `x [examples, stride]`, into the first of `into`: `[examples, width]`.
    pub(super) fn apply(&self, examples: usize, x: &[f32], stride: usize, memory: &mut Bytes, into: &mut Vec<f32>) {
        let width = self.width();
        let into = room(into, examples * width);
        if let Some(bytes) = &self.bytes {
            memory.take(examples, x, stride, self.inputs[0].inputs.len());
            bytes.write(memory, &self.bias, self.is_relu(), into);
        } else {
            for (panel, start) in self.bias.iter().enumerate() {
                let product =
                    Product { x, stride, runs: &self.inputs, weights: self.weight.get(panel), start: *start, relu: self.is_relu() };
                product.write(examples, into, width, panel * PANEL);
            }
        }
        if !self.is_relu() {
            self.activate(into);
        }
    }

    /// LayerNorm and activation of sums `[examples, width]`.
    pub(super) fn activate(&self, sums: &mut [f32]) {
        if let Some(hidden) = &self.hidden {
            sums.chunks_exact_mut(self.width()).for_each(|sums| hidden.apply(&mut sums[..self.outputs]));
        }
    }
}
