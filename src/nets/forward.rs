use std::ops::Range;

use burn::tensor::{Device, Gradients as Backward, Tensor, TensorData};

use super::attention::SequenceTensors;
use super::dense::Dense;
use super::layout::base_rate_bias;
use super::loss::loss;
use super::{
    Adam, Delays, DenseCopy, DenseError, DenseState, InputShape, Inputs, Layout, LogitGradients, Loss, Part, Rule, Scores, Sequence,
    Targets,
};
use crate::config::{ModelConfig, SharedGrad, TrainConfig};

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
    /// Σ flat².
    squares: f64,
    /// What is followed instead of trained: where it lies in the flat vector, and what it becomes.
    followed: Vec<(Range<usize>, Tensor<1>)>,
    inputs: Inputs,
}

impl Gradients {
    /// By the input vectors.
    #[must_use]
    pub fn inputs(&self) -> &Inputs {
        &self.inputs
    }

    /// By the dense parameters, `[parameters]`, copied to the host; cut it by [`Layout::range`].
    #[must_use]
    pub fn dense(&self) -> Vec<f32> {
        to_host(self.flat.clone())
    }

    /// Σ g² over the dense parameters.
    #[must_use]
    pub fn dense_squares(&self) -> f64 {
        self.squares
    }

    /// Scales what [`Nets::apply`] takes, the gradient by the dense parameters.
    #[must_use]
    pub fn scaled(self, by: f64) -> Self {
        Gradients { flat: self.flat.mul_scalar(by), squares: self.squares * by * by, ..self }
    }
}

/// Logits on the device, `[rows, 1]`; `None` for a head that is not there.
struct Logits {
    light: Option<Tensor<2>>,
    /// Light again with the trunk stopped, where cross-entropy and hint differ in what they may move.
    light_stopped: Option<Tensor<2>>,
    booster: Option<Tensor<2>>,
    control: Option<Tensor<2>>,
    /// On the stopped trunk like control; only where gradients are wanted.
    delays: Option<Delays<Tensor<2>>>,
}

/// Inputs on the device, matrices `[rows, inputs]`.
struct Matrices {
    shared: Tensor<2>,
    /// Light's own, where it shares nothing.
    light: Option<Tensor<2>>,
    /// The booster's.
    sequences: Vec<SequenceTensors>,
}

impl Nets {
    /// Fresh nets over input vectors of this shape: layers by `model`, heads and seed by `config`.
    #[must_use]
    pub fn new(model: &ModelConfig, config: &TrainConfig, inputs: impl Into<InputShape>, device: &Device) -> Self {
        Nets::over(Layout::new(model, config.heads, inputs), config, device)
    }

    /// Fresh nets of this layout: seed and base rate by `config`.
    #[must_use]
    pub fn over(layout: Layout, config: &TrainConfig, device: &Device) -> Self {
        let (params, zeros) = (layout.initial(config.seed, config.base_rate), vec![0.0; layout.len()]);
        Nets {
            params: to_device(params, device),
            m: to_device(zeros.clone(), device),
            v: to_device(zeros, device),
            layout,
            device: device.clone(),
            steps: 0,
        }
    }

    /// The booster of `state`, a state of nets of `layout`, with no head beside it.
    ///
    /// # Errors
    /// [`DenseError`] where `state` is of another layout.
    pub fn booster(layout: &Layout, device: &Device, state: &DenseState) -> Result<Self, DenseError> {
        state.check(layout)?;
        let parts = [Part::Shared, Part::Booster];
        let cut = |vector: &[f32]| to_device(parts.map(|part| &vector[layout.range(part)]).concat(), device);
        let [params, m, v] = [&state.params, &state.m, &state.v].map(|vector| cut(vector));
        Ok(Nets { layout: layout.only(&parts), device: device.clone(), params, m, v, steps: state.steps })
    }

    /// Where each tensor lies in the flat vectors.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Steps taken.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Scores of no rows: empty for every head that there is.
    #[must_use]
    pub fn no_scores(&self) -> Scores {
        let none = |part| (!self.layout.range(part).is_empty()).then(Vec::new);
        Scores { light: none(Part::Light), booster: none(Part::Booster), control: none(Part::Control), delays: None }
    }

    /// Logits of clicks.
    #[must_use]
    pub fn predict(&self, inputs: impl Into<Inputs>, rows: usize) -> Scores {
        let x = self.matrices(inputs.into(), rows);
        self.forward(&self.layers(false), &x, None).scores()
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
    /// Where light has inputs of its own there is no shared trunk, and light's is never stopped.
    ///
    /// # Shapes
    /// `inputs` has as many rows (at least one) as `targets`.
    #[must_use]
    pub fn gradients<'a>(&self, inputs: impl Into<Inputs>, targets: impl Into<Targets<'a>>, rule: &Rule) -> Pass {
        let targets = targets.into();
        let layers = self.layers(true);
        let x = self.matrices(inputs.into(), targets.labels.len()).tracked();
        let logits = self.forward(&layers, &x, Some(rule));
        let scores = logits.scores();
        let (loss, by_logit) = loss(rule, targets, &scores);
        if !loss.total.is_finite() {
            return Pass { scores, loss, gradients: None };
        }
        let mut backward = logits.surrogate(by_logit, &self.device).backward();
        let inputs = x.gradients(&mut backward);
        let flat = Tensor::cat(layers.iter().flat_map(|layer| layer.gradients(&mut backward)).collect(), 0);
        let followed: Vec<_> = layers.iter().flat_map(Dense::followed).collect();
        let squares = sum_of_squares(&flat);
        let finite = squares.is_finite() && followed.iter().all(|(_, values)| sum_of_squares(values).is_finite());
        Pass { scores, loss, gradients: finite.then_some(Gradients { flat, squares, followed, inputs }) }
    }

    /// One step of Adam on the dense parameters but those of the `frozen` parts, whose parameters and moments keep every bit; what is
    /// followed instead of trained moves with it. `since` is the number of steps taken before the parts that learn began to: Adam counts
    /// from there.
    pub fn apply(&mut self, gradients: Gradients, adam: &Adam, frozen: &[Part], since: u64) {
        self.steps += 1;
        let kept = frozen.iter().map(|part| self.layout.range(*part)).filter(|range| !range.is_empty());
        let kept: Vec<_> = kept.map(|range| (range.clone(), self.vectors().map(|vector| vector.clone().slice([range.clone()])))).collect();
        // Moved out, not cloned, so that the backend may reuse their memory.
        let (params, m, v) = (self.params.extract(), self.m.extract(), self.v.extract());
        let mut vectors = adam.update(params, m, v, gradients.flat, self.steps - since);
        for (range, values) in kept {
            let mut values = values.into_iter();
            vectors = vectors.map(|vector| match values.next() {
                Some(values) => vector.slice_assign([range.clone()], values),
                None => vector,
            });
        }
        [self.params, self.m, self.v] = vectors;
        let is_frozen = |range: &Range<usize>| frozen.iter().any(|part| self.layout.range(*part).contains(&range.start));
        for (range, values) in gradients.followed.into_iter().filter(|(range, _)| !is_frozen(range)) {
            self.params = self.params.extract().slice_assign([range], values);
        }
    }

    /// Sets the bias of the logits of clicks of all but the `frozen` parts to that of a base rate p, ln(p / (1 − p)).
    pub fn start_from(&mut self, base_rate: f64, frozen: &[Part]) {
        let bias = base_rate_bias(base_rate);
        let heads = self.layout.logit_biases().filter(|(part, _)| !part.weighs_early_labels() && !frozen.contains(part));
        for (_, range) in heads {
            let value = to_device(vec![bias; range.len()], &self.device);
            self.params = self.params.extract().slice_assign([range], value);
        }
    }

    fn vectors(&self) -> [&Tensor<1>; 3] {
        [&self.params, &self.m, &self.v]
    }

    /// A copy of parameters and moments.
    #[must_use]
    pub fn capture(&self) -> DenseState {
        self.copy().state()
    }

    /// Parameters and moments as they are now, to be copied to the host when there is time.
    #[must_use]
    pub fn copy(&self) -> DenseCopy {
        DenseCopy { layout: self.layout.tensors(), params: self.params.clone(), m: self.m.clone(), v: self.v.clone(), steps: self.steps }
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

    /// All heads that there are on `x`; `rule` decides where the trunk is stopped, `None` where no gradient is wanted.
    fn forward(&self, layers: &[Dense<'_>], x: &Matrices, rule: Option<&Rule>) -> Logits {
        let part = |part| layers.iter().filter(move |layer| layer.part() == part);
        let through = |which, x: &Tensor<2>| {
            let mut crossed = None;
            part(which).fold(x.clone(), |x, layer| layer.apply(x, &mut crossed))
        };
        let trunk = through(Part::Shared, &x.shared);
        let head = |which, x: &Tensor<2>| part(which).next().map(|_| through(which, x));
        let stopped = rule.map_or_else(|| trunk.clone(), |_| trunk.clone().detach());
        let hint = rule.filter(|rule| rule.hint != 0.0 || rule.teacher != 0.0);
        let (light, light_stopped) = match (&x.light, rule.map_or(SharedGrad::All, |rule| rule.shared_grad)) {
            (Some(own), _) => (head(Part::Light, own), None),
            (None, SharedGrad::All) => (head(Part::Light, &trunk), None),
            (None, SharedGrad::NoHint) => (head(Part::Light, &trunk), hint.and_then(|_| head(Part::Light, &stopped))),
            (None, SharedGrad::BoosterOnly) => (head(Part::Light, &stopped), None),
        };
        let booster = part(Part::Booster).next().map(|_| self.booster_logit(layers, &trunk, x));
        let delay = |which| rule.and_then(|_| head(which, &stopped));
        let delays = delay(Part::DelayedPositive).zip(delay(Part::FakeNegative));
        let delays = delays.map(|(delayed_positive, fake_negative)| Delays { delayed_positive, fake_negative });
        Logits { light, light_stopped, booster, control: head(Part::Control, &stopped), delays }
    }

    /// The booster's logit: its copy of the shared layers where nothing is shared, attention beside their output, its layers, and beside
    /// those the factorization machine.
    fn booster_logit(&self, layers: &[Dense<'_>], trunk: &Tensor<2>, x: &Matrices) -> Tensor<2> {
        let own: Vec<&Dense<'_>> = layers.iter().filter(|layer| layer.part() == Part::Booster).collect();
        let is_attention = |layer: &&&Dense<'_>| layer.unit().is_some();
        let below = own.iter().take_while(|layer| !is_attention(layer)).count();
        let above = below + own.iter().filter(is_attention).count();
        let through = |layers: &[&Dense<'_>], x: Tensor<2>| {
            let mut crossed = None;
            layers.iter().fold(x, |x, layer| layer.apply(x, &mut crossed))
        };
        let mut beside = vec![through(&own[..below], trunk.clone())];
        for (unit, (attention, sequence)) in self.layout.attention.iter().zip(&x.sequences).enumerate() {
            beside.push(attention.vector(&x.shared, sequence, own.iter().copied().filter(|layer| layer.unit() == Some(unit))));
        }
        let logit = through(&own[above..], Tensor::cat(beside, 1));
        match self.layout.machine {
            Some(machine) => logit + machine.logit(&x.shared),
            None => logit,
        }
    }

    fn matrices(&self, inputs: Inputs, rows: usize) -> Matrices {
        let matrix = |values| to_matrix(values, rows, &self.device);
        let sequences = self.layout.attention.iter().zip(inputs.sequences);
        Matrices {
            shared: matrix(inputs.shared),
            light: inputs.light.map(matrix),
            sequences: sequences.map(|(attention, sequence)| SequenceTensors::new(sequence, attention.length(), &self.device)).collect(),
        }
    }

    fn layers(&self, tracked: bool) -> Vec<Dense<'_>> {
        self.layout.layers.iter().map(|layer| Dense::cut(layer, &self.params, tracked)).collect()
    }
}

impl Matrices {
    fn tracked(self) -> Self {
        let tracked = |x: Tensor<2>| x.autodiff().require_grad();
        let sequences = self.sequences.into_iter().map(SequenceTensors::tracked).collect();
        Matrices { shared: tracked(self.shared), light: self.light.map(tracked), sequences }
    }

    fn gradients(self, backward: &mut Backward) -> Inputs {
        let sequence = |SequenceTensors { rows, lengths, .. }, backward: &mut _| Sequence { rows: gradient(&rows, backward), lengths };
        Inputs {
            shared: gradient(&self.shared, backward),
            light: self.light.map(|x| gradient(&x, backward)),
            sequences: self.sequences.into_iter().map(|tensors| sequence(tensors, backward)).collect(),
        }
    }
}

impl Logits {
    fn scores(&self) -> Scores {
        let read = |logits: &Option<Tensor<2>>| logits.clone().map(|logits| to_host(logits.inner()));
        let delays = self.delays.clone().map(|delays| delays.map(|logits| to_host(logits.inner())));
        Scores { light: read(&self.light), booster: read(&self.booster), control: read(&self.control), delays }
    }

    /// Σ logit · gradient, a scalar whose gradient by every parameter is the loss's.
    fn surrogate(self, by_logit: LogitGradients, device: &Device) -> Tensor<1> {
        let LogitGradients { light_ce, light_hint, booster, control, delays } = by_logit;
        let of_delays = self.delays.map(|logits| [logits.delayed_positive, logits.fake_negative].map(Some)).unwrap_or_default();
        let by_delays = delays.map(|gradients| [gradients.delayed_positive, gradients.fake_negative].map(Some)).unwrap_or_default();
        let hinted = self.light_stopped.or_else(|| self.light.clone());
        let pairs = [(self.light, light_ce), (hinted, light_hint), (self.booster, booster), (self.control, control)];
        let along = |(logits, gradient): (Option<Tensor<2>>, Option<Vec<f32>>)| {
            let (logits, gradient) = logits.zip(gradient)?;
            let rows = gradient.len();
            Some((logits * to_matrix(gradient, rows, device)).sum())
        };
        pairs
            .into_iter()
            .chain(of_delays.into_iter().zip(by_delays))
            .filter_map(along)
            .reduce(|sum, term| sum + term)
            .unwrap_or_else(|| Tensor::zeros([1], device))
    }
}

/// By `x`, of its shape; zero where nothing reached it.
fn gradient<const D: usize>(x: &Tensor<D>, backward: &mut Backward) -> Vec<f32> {
    x.grad_remove(backward).map_or_else(|| vec![0.0; x.shape().num_elements()], to_host)
}

/// Not finite where any number or its square is not: squares go into Adam's second moment, and an infinite one would stop its parameter for
/// ever.
fn sum_of_squares(flat: &Tensor<1>) -> f64 {
    to_host((flat.clone() * flat.clone()).sum()).into_iter().map(f64::from).sum()
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
mod tests;
