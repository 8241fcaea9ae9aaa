use std::ops::Range;

use burn::tensor::{Device, Gradients as Backward, Tensor, TensorData};

use super::adam::AdamStep;
use super::attention::SequenceTensors;
use super::dense::Dense;
use super::loss::loss;
use super::model::{Followed, Gradients, Pass};
use super::vector::Vector;
use super::{Delays, Inputs, Layout, LogitGradients, Part, Rule, Scores, Sequence, Targets};
use crate::config::SharedGrad;

/// Parameters and Adam's moments as tensors, gradients by Burn's autodiff: every kind of layer, on every device.
#[derive(Debug)]
pub(super) struct Graph {
    device: Device,
    params: Tensor<1>,
    m: Tensor<1>,
    v: Tensor<1>,
}

/// Something of each logit that there is: of light, of light again with the trunk stopped where cross-entropy and hint differ in what they may
/// move, of booster and control, and, only where gradients are wanted, of the two heads that weigh early labels, on the stopped trunk like
/// control.
type ByLogit<T> = [Option<T>; 6];

/// Logits on the device, one head's under another's: they come to the host, and their gradients to the device, in one copy.
struct Logits {
    /// How many each has.
    rows: ByLogit<usize>,
    /// `[rows of all, 1]`.
    stacked: Tensor<2>,
}

/// Inputs on the device, matrices `[rows, inputs]`.
struct Matrices {
    shared: Tensor<2>,
    /// Light's own, where it shares nothing.
    light: Option<Tensor<2>>,
    /// The booster's.
    sequences: Vec<SequenceTensors>,
}

impl Graph {
    /// From numbers on the host, each vector as long as the layout.
    pub(super) fn new([params, m, v]: [Vec<f32>; 3], device: &Device) -> Self {
        let [params, m, v] = [params, m, v].map(|vector| to_device(vector, device));
        Graph { params, m, v, device: device.clone() }
    }

    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// Parameters and moments.
    pub(super) fn vectors(&self) -> [Vector; 3] {
        [&self.params, &self.m, &self.v].map(|vector| Vector::Device(vector.clone().into()))
    }

    /// See [`super::Nets::predict`].
    pub(super) fn predict(&self, layout: &Layout, inputs: Inputs, rows: usize) -> Scores {
        let x = self.matrices(layout, inputs, rows);
        self.forward(layout, &self.layers(layout, false), &x, None).scores()
    }

    /// See [`super::Nets::gradients`].
    pub(super) fn gradients(&self, layout: &Layout, inputs: Inputs, targets: Targets<'_>, rule: &Rule) -> Pass {
        let layers = self.layers(layout, true);
        let x = self.matrices(layout, inputs, targets.labels.len()).tracked();
        let logits = self.forward(layout, &layers, &x, Some(rule));
        let scores = logits.scores();
        let (loss, by_logit) = loss(rule, targets, &scores);
        if !loss.total.is_finite() {
            return Pass { scores, loss, gradients: None };
        }
        let mut backward = logits.backward(by_logit, &self.device);
        let inputs = x.gradients(&mut backward);
        let flat = Tensor::cat(layers.iter().flat_map(|layer| layer.gradients(&mut backward)).collect(), 0);
        let followed: Vec<_> = layers.iter().flat_map(Dense::followed).collect();
        let squares = sum_of_squares(&flat);
        let finite = squares.is_finite() && followed.iter().all(|(_, values)| sum_of_squares(values).is_finite());
        let gradients = Gradients { flat: Vector::Device(flat.into()), squares, followed, inputs };
        Pass { scores, loss, gradients: finite.then_some(gradients) }
    }

    /// One step along `gradient`, but in the `kept` ranges; `followed` says what ranges become that are not trained.
    pub(super) fn apply(&mut self, gradient: Tensor<1>, step: &AdamStep, kept: &[Range<usize>], followed: Followed) {
        let vectors = [&self.params, &self.m, &self.v];
        let kept: Vec<_> = kept.iter().map(|range| (range.clone(), vectors.map(|vector| vector.clone().slice([range.clone()])))).collect();
        // Moved out, not cloned, so that the backend may reuse their memory.
        let (params, m, v) = (self.params.extract(), self.m.extract(), self.v.extract());
        let mut vectors = step.on_device(params, m, v, gradient);
        for (range, values) in kept {
            let mut values = values.into_iter();
            vectors = vectors.map(|vector| match values.next() {
                Some(values) => vector.slice_assign([range.clone()], values),
                None => vector,
            });
        }
        [self.params, self.m, self.v] = vectors;
        for (range, values) in followed {
            self.params = self.params.extract().slice_assign([range], values);
        }
    }

    /// Sets parameters.
    pub(super) fn set(&mut self, range: Range<usize>, value: f32) {
        let value = to_device(vec![value; range.len()], &self.device);
        self.params = self.params.extract().slice_assign([range], value);
    }

    /// All heads that there are on `x`; `rule` decides where the trunk is stopped, `None` where no gradient is wanted.
    fn forward(&self, layout: &Layout, layers: &[Dense<'_>], x: &Matrices, rule: Option<&Rule>) -> Logits {
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
        let booster = part(Part::Booster).next().map(|_| booster_logit(layout, layers, &trunk, x));
        let delay = |which| rule.and_then(|_| head(which, &stopped));
        let control = head(Part::Control, &stopped);
        Logits::stack([light, light_stopped, booster, control, delay(Part::DelayedPositive), delay(Part::FakeNegative)])
    }

    fn matrices(&self, layout: &Layout, inputs: Inputs, rows: usize) -> Matrices {
        let matrix = |values| to_matrix(values, rows, &self.device);
        let sequences = layout.attention.iter().zip(inputs.sequences);
        Matrices {
            shared: matrix(inputs.shared),
            light: inputs.light.map(matrix),
            sequences: sequences.map(|(attention, sequence)| SequenceTensors::new(sequence, attention.length(), &self.device)).collect(),
        }
    }

    fn layers<'a>(&self, layout: &'a Layout, tracked: bool) -> Vec<Dense<'a>> {
        layout.layers.iter().map(|layer| Dense::cut(layer, &self.params, tracked)).collect()
    }
}

/// The booster's logit: its copy of the shared layers where nothing is shared, attention beside their output, its layers, and beside
/// those the factorization machine.
fn booster_logit(layout: &Layout, layers: &[Dense<'_>], trunk: &Tensor<2>, x: &Matrices) -> Tensor<2> {
    let own: Vec<&Dense<'_>> = layers.iter().filter(|layer| layer.part() == Part::Booster).collect();
    let is_attention = |layer: &&&Dense<'_>| layer.unit().is_some();
    let below = own.iter().take_while(|layer| !is_attention(layer)).count();
    let above = below + own.iter().filter(is_attention).count();
    let through = |layers: &[&Dense<'_>], x: Tensor<2>| {
        let mut crossed = None;
        layers.iter().fold(x, |x, layer| layer.apply(x, &mut crossed))
    };
    let mut beside = vec![through(&own[..below], trunk.clone())];
    for (unit, (attention, sequence)) in layout.attention.iter().zip(&x.sequences).enumerate() {
        beside.push(attention.vector(&x.shared, sequence, own.iter().copied().filter(|layer| layer.unit() == Some(unit))));
    }
    let logit = through(&own[above..], Tensor::cat(beside, 1));
    match layout.machine {
        Some(machine) => logit + machine.logit(&x.shared),
        None => logit,
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
    fn stack(logits: ByLogit<Tensor<2>>) -> Self {
        let rows = logits.each_ref().map(|logits| logits.as_ref().map(|logits| logits.dims()[0]));
        Logits { rows, stacked: Tensor::cat(logits.into_iter().flatten().collect(), 0) }
    }

    fn scores(&self) -> Scores {
        let mut values = to_host(self.stacked.clone().inner()).into_iter();
        let read = self.rows.map(|rows| rows.map(|rows| values.by_ref().take(rows).collect()));
        let [light, _, booster, control, delayed_positive, fake_negative] = read;
        let delays = delayed_positive.zip(fake_negative);
        let delays = delays.map(|(delayed_positive, fake_negative)| Delays { delayed_positive, fake_negative });
        Scores { light, booster, control, delays }
    }

    /// Backward of Σ logit · gradient, whose gradient by every parameter is the loss's. Burn begins with ones, which is the sum's gradient by
    /// its terms: the sum itself need not be made.
    fn backward(self, by_logit: LogitGradients, device: &Device) -> Backward {
        let light = by_logit.light();
        let LogitGradients { light_ce, light_hint, booster, control, delays } = by_logit;
        let [_, light_stopped, ..] = self.rows;
        let (light, light_stopped) = if light_stopped.is_some() { (light_ce, light_hint) } else { (light, None) };
        let (delayed_positive, fake_negative) = delays.map(|delays| (delays.delayed_positive, delays.fake_negative)).unzip();
        let gradients = [light, light_stopped, booster, control, delayed_positive, fake_negative];
        let of_rows = |(rows, gradient): (Option<usize>, Option<Vec<f32>>)| {
            let rows = rows?;
            Some(gradient.unwrap_or_else(|| vec![0.0; rows]))
        };
        let stacked: Vec<f32> = self.rows.into_iter().zip(gradients).filter_map(of_rows).flatten().collect();
        let rows = stacked.len();
        (self.stacked * to_matrix(stacked, rows, device)).backward()
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

/// Numbers as a tensor.
pub(super) fn to_device(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let len = values.len();
    Tensor::from_data(TensorData::new(values, [len]), device)
}

fn to_matrix(values: Vec<f32>, rows: usize, device: &Device) -> Tensor<2> {
    let columns = values.len() / rows.max(1);
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// A tensor's numbers.
pub(super) fn to_host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().expect("an f32 tensor reads as f32")
}
