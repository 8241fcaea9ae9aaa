use std::ops::Range;

use burn::tensor::activation::relu;
use burn::tensor::module::linear;
use burn::tensor::{Device, Tensor, TensorData};

use super::loss::loss;
use super::{Adam, DenseError, DenseState, Layout, LogitGradients, Loss, Part, Rule, Scores};
use crate::config::{ModelConfig, SharedGrad};
use crate::domain::Label;

/// Trunk and heads: their parameters and Adam's moments, each one flat vector on the device.
#[derive(Debug)]
pub struct Nets {
    layout: Layout,
    device: Device,
    params: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
    steps: u64,
}

/// What a pass over a batch found. Nothing has changed yet.
#[derive(Debug)]
pub struct Pass {
    /// Logits with the current parameters.
    pub scores: Scores,
    /// The loss at those logits.
    pub loss: Loss,
    /// The gradients; `None` where the loss or a gradient is not finite.
    pub gradients: Option<Gradients>,
}

/// Gradients of one batch's loss.
#[derive(Debug)]
pub struct Gradients {
    /// By the dense parameters, in the order of [`Layout`].
    flat: Tensor<1>,
    /// By the input matrix: `[rows, inputs]`, row-major.
    inputs: Vec<f32>,
}

impl Gradients {
    /// By the input matrix, `[rows, inputs]`, row-major.
    #[must_use]
    pub fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    /// By the dense parameters, `[parameters]`, copied to the host; cut it by [`Layout::range`].
    #[must_use]
    pub fn dense(&self) -> Vec<f32> {
        to_host(self.flat.clone())
    }
}

/// A layer's parameters as tensors of their own, cut from the flat vector: weight `[in, out]`, bias `[out]`.
struct Dense {
    part: Part,
    weight: Tensor<2>,
    bias: Tensor<1>,
}

/// Logits on the device, `[rows, 1]`.
struct Logits {
    light: Tensor<2>,
    /// Light again with the trunk stopped, where cross-entropy and hint differ in what they may move.
    light_stopped: Option<Tensor<2>>,
    booster: Tensor<2>,
    control: Option<Tensor<2>>,
}

impl Nets {
    /// Fresh nets over input vectors of `inputs` floats.
    #[must_use]
    pub fn new(model: &ModelConfig, inputs: usize, seed: u64, device: &Device) -> Self {
        let layout = Layout::new(model, inputs);
        let (params, zeros) = (layout.initial(seed), vec![0.0; layout.len()]);
        Nets {
            params: to_device(params, device),
            m: to_device(zeros.clone(), device),
            v: to_device(zeros, device),
            layout,
            device: device.clone(),
            steps: 0,
        }
    }

    /// Where each tensor lies in the flat vectors.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether there is a control head.
    #[must_use]
    pub fn has_control(&self) -> bool {
        !self.layout.range(Part::Control).is_empty()
    }

    /// Logits.
    ///
    /// # Shapes
    /// `inputs` is `[rows, layout.inputs()]`, row-major.
    #[must_use]
    pub fn predict(&self, inputs: Vec<f32>, rows: usize) -> Scores {
        let x = to_matrix(inputs, rows, &self.device);
        forward(&self.layers(false), x, None).scores()
    }

    /// Forward, loss and backward of one batch; changes nothing.
    ///
    /// The loss's gradient by each logit is known in closed form ([`loss`]), so backward starts from Σ logit · gradient with the
    /// gradients held constant. Which terms reach the booster is decided there; which of light's terms reach the trunk is decided by
    /// what light's logit was computed from:
    ///
    /// | `shared_grad` | cross-entropy | hint |
    /// |---|---|---|
    /// | `all` | trunk | trunk |
    /// | `no_hint` | trunk | stopped trunk |
    /// | `booster_only` | stopped trunk | stopped trunk |
    ///
    /// # Shapes
    /// `inputs` is `[rows, layout.inputs()]`, row-major, with as many rows (at least one) as `labels`.
    #[must_use]
    pub fn gradients(&self, inputs: Vec<f32>, labels: &[Label], rule: &Rule) -> Pass {
        let layers = self.layers(true);
        let x = to_matrix(inputs, labels.len(), &self.device).autodiff().require_grad();
        let logits = forward(&layers, x.clone(), Some(rule));
        let scores = logits.scores();
        let (loss, by_logit) = loss(rule, labels, &scores);
        if !loss.total.is_finite() {
            return Pass { scores, loss, gradients: None };
        }
        let mut backward = logits.surrogate(by_logit, &self.device).backward();
        let inputs = x.grad_remove(&mut backward).map_or_else(|| vec![0.0; labels.len() * self.layout.inputs()], to_host);
        let mut flat = Vec::with_capacity(2 * layers.len());
        for Dense { weight, bias, .. } in layers {
            let (weights, biases) = (weight.dims().iter().product(), bias.dims()[0]);
            let zeros = |len: usize| Tensor::<1>::zeros([len], &self.device);
            flat.push(weight.grad_remove(&mut backward).map_or_else(|| zeros(weights), |g| g.reshape([weights])));
            flat.push(bias.grad_remove(&mut backward).unwrap_or_else(|| zeros(biases)));
        }
        let flat = Tensor::cat(flat, 0);
        let gradients = has_finite_squares(&flat).then_some(Gradients { flat, inputs });
        Pass { scores, loss, gradients }
    }

    /// One step of Adam on the dense parameters.
    pub fn apply(&mut self, gradients: Gradients, adam: &Adam) {
        self.steps += 1;
        // Moved out, not cloned, so that the backend may reuse their memory.
        let (params, m, v) = (self.params.extract(), self.m.extract(), self.v.extract());
        [self.params, self.m, self.v] = adam.update(params, m, v, gradients.flat, self.steps);
    }

    /// A copy of parameters and moments.
    #[must_use]
    pub fn capture(&self) -> DenseState {
        DenseState {
            layout: self.layout.tensors(),
            params: to_host(self.params.clone()),
            m: to_host(self.m.clone()),
            v: to_host(self.v.clone()),
            steps: self.steps,
        }
    }

    /// Nets of this layout on this device with the parameters and moments of `state`.
    ///
    /// # Errors
    /// [`DenseError`] where `state` is of another layout.
    pub fn restored(&self, state: DenseState) -> Result<Self, DenseError> {
        state.check(&self.layout)?;
        Ok(Nets {
            layout: self.layout.clone(),
            device: self.device.clone(),
            params: to_device(state.params, &self.device),
            m: to_device(state.m, &self.device),
            v: to_device(state.v, &self.device),
            steps: state.steps,
        })
    }

    fn layers(&self, tracked: bool) -> Vec<Dense> {
        let cut = |range: Range<usize>| self.params.clone().slice([range]);
        let layer = |layer: &super::layout::Layer| {
            let (weight, bias) = (cut(layer.weights()).reshape([layer.inputs, layer.outputs]), cut(layer.biases()));
            let part = layer.part;
            if tracked {
                Dense { part, weight: weight.autodiff().require_grad(), bias: bias.autodiff().require_grad() }
            } else {
                Dense { part, weight, bias }
            }
        };
        self.layout.layers.iter().map(layer).collect()
    }
}

impl Logits {
    fn scores(&self) -> Scores {
        let read = |logits: &Tensor<2>| to_host(logits.clone().inner());
        Scores { light: read(&self.light), booster: read(&self.booster), control: self.control.as_ref().map(read) }
    }

    /// Σ logit · gradient, a scalar whose gradient by every parameter is the loss's.
    fn surrogate(self, by_logit: LogitGradients, device: &Device) -> Tensor<1> {
        let along = |logits: Tensor<2>, gradient: Vec<f32>| {
            let rows = gradient.len();
            (logits * to_matrix(gradient, rows, device)).sum()
        };
        let LogitGradients { light_ce, light_hint, booster, control } = by_logit;
        let light = match self.light_stopped {
            Some(stopped) => along(self.light, light_ce) + along(stopped, light_hint),
            None => along(self.light, light_ce.iter().zip(&light_hint).map(|(ce, hint)| ce + hint).collect()),
        };
        let sum = light + along(self.booster, booster);
        match self.control.zip(control) {
            Some((logits, gradient)) => sum + along(logits, gradient),
            None => sum,
        }
    }
}

/// All heads on `x` `[rows, inputs]`; `rule` decides where the trunk is stopped, `None` where no gradient is wanted.
fn forward(layers: &[Dense], x: Tensor<2>, rule: Option<&Rule>) -> Logits {
    let part = |part| layers.iter().filter(move |layer| layer.part == part);
    let trunk = part(Part::Shared).fold(x, |x, layer| relu(layer.apply(x)));
    let head = |which, x: Tensor<2>| {
        let mut layers = part(which).peekable();
        let mut x = x;
        while let Some(layer) = layers.next() {
            x = layer.apply(x);
            if layers.peek().is_some() {
                x = relu(x);
            }
        }
        x
    };
    let stopped = rule.map_or_else(|| trunk.clone(), |_| trunk.clone().detach());
    let hint = rule.filter(|rule| rule.hint != 0.0);
    let (light, light_stopped) = match rule.map_or(SharedGrad::All, |rule| rule.shared_grad) {
        SharedGrad::All => (head(Part::Light, trunk.clone()), None),
        SharedGrad::NoHint => (head(Part::Light, trunk.clone()), hint.map(|_| head(Part::Light, stopped.clone()))),
        SharedGrad::BoosterOnly => (head(Part::Light, stopped.clone()), None),
    };
    let control = part(Part::Control).next().is_some().then(|| head(Part::Control, stopped));
    Logits { light, light_stopped, booster: head(Part::Booster, trunk), control }
}

impl Dense {
    fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        linear(x, self.weight.clone(), Some(self.bias.clone()))
    }
}

/// Squares too: they go into Adam's second moment, and an infinite one would stop its parameter for ever. Multiplied by zero, every
/// finite number adds nothing and anything else makes the sum NaN, so one number tells it all.
fn has_finite_squares(flat: &Tensor<1>) -> bool {
    let probe = (flat.clone() * flat.clone()).mul_scalar(0.0).sum();
    to_host(probe).iter().all(|sum| sum.is_finite())
}

fn to_device(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn to_matrix(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let columns = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("an f32 tensor reads as f32")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TrainConfig;

    /// Logistic regressions of two inputs, all weights zero.
    fn zero_nets() -> Nets {
        let model = ModelConfig { shared: Vec::new(), light: Vec::new(), booster: Vec::new(), control: true, ..ModelConfig::default() };
        let nets = Nets::new(&model, 2, 1, &Device::flex());
        let mut state = nets.capture();
        state.params.fill(0.0);
        nets.restored(state).expect("same model")
    }

    #[test]
    fn a_head_without_hidden_layers_is_a_logistic_regression() {
        let pass = zero_nets().gradients(vec![3.0, -2.0], &[true], &Rule::new(&TrainConfig::default()));
        assert_eq!(pass.scores, Scores { light: vec![0.0], booster: vec![0.0], control: Some(vec![0.0]) });
        assert!((pass.loss.total - 3.0 * 2.0_f64.ln()).abs() < 1e-12);
        let gradients = pass.gradients.expect("finite");
        assert_eq!(gradients.dense(), [-1.5, 1.0, -0.5].repeat(3));
        assert_eq!(gradients.inputs(), [0.0, 0.0]);
    }

    #[test]
    fn a_dense_gradient_whose_square_overflows_is_refused_though_all_else_is_finite() {
        let pass = zero_nets().gradients(vec![1e25, 1.0], &[true], &Rule::new(&TrainConfig::default()));
        assert!(pass.loss.total.is_finite());
        assert!(pass.gradients.is_none());
    }

    #[test]
    fn a_step_without_a_gradient_moves_nothing() {
        let model = ModelConfig { control: false, ..ModelConfig::default() };
        let mut nets = Nets::new(&model, 3, 1, &Device::flex());
        let before = nets.capture();
        let rule = Rule { light: 0.0, booster: 0.0, hint: 0.0, ..Rule::new(&TrainConfig::default()) };
        let gradients = nets.gradients(vec![0.5; 6], &[true, false], &rule).gradients.expect("finite");
        nets.apply(gradients, &Adam::new(&TrainConfig::default().optimizer));
        assert_eq!(nets.capture(), DenseState { steps: 1, ..before });
        assert!(!nets.has_control());
    }
}
