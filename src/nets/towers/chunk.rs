use std::ops::Range;

use super::plan::{Form, Plan, Step};
use crate::config::SharedGrad;
use crate::matrix::{Operand, multiply};
use crate::nets::layer::Role;
use crate::nets::{Inputs, LogitGradients, Part};

/// Rows of a batch, and what its layers make of them.
#[derive(Debug, Default)]
pub(super) struct Chunk {
    rows: Range<usize>,
    /// By layer.
    values: Vec<Values>,
    /// The loss's gradients by each layer's output at first, then by its product x · W + b; each `[rows, outputs]`.
    gradients: Vec<Vec<f32>>,
    /// The same again of what of light's may pass into what it reads, where that is neither all nor nothing.
    passing: Vec<Vec<f32>>,
    /// By x₀ of a part's cross layers.
    by_base: Vec<f32>,
}

/// Of one layer, each `[rows, outputs]`.
#[derive(Debug, Default)]
struct Values {
    output: Vec<f32>,
    /// x · W + b of a cross layer; empty for others, whose output says enough.
    product: Vec<f32>,
}

/// The loss's gradients by the logits of a batch, and how far they go.
#[derive(Debug)]
pub(super) struct Inward<'a> {
    /// All of each head's, `[rows]`; `None` where nothing moves it.
    heads: [(Part, Option<Vec<f32>>); 5],
    /// What of light's may pass into what it reads.
    light: Passing<'a>,
}

/// What passes from a head into what it reads.
#[derive(Debug, Clone, Copy)]
enum Passing<'a> {
    All,
    Nothing,
    /// This gradient by the logit, `[rows]`.
    Only(&'a [f32]),
}

impl<'a> Inward<'a> {
    /// `apart`: light reads inputs of its own, and moves them whatever `shared_grad` says.
    pub(super) fn new(by_logit: &'a LogitGradients, shared_grad: SharedGrad, apart: bool) -> Self {
        let LogitGradients { light_ce, light_hint, booster, control, delays } = by_logit;
        let delays = delays.as_ref();
        let heads = [
            (Part::Light, by_logit.light()),
            (Part::Booster, booster.clone()),
            (Part::Control, control.clone()),
            (Part::DelayedPositive, delays.map(|delays| delays.delayed_positive.clone())),
            (Part::FakeNegative, delays.map(|delays| delays.fake_negative.clone())),
        ];
        let light = match (shared_grad, light_ce, light_hint) {
            _ if apart => Passing::All,
            (SharedGrad::NoHint, Some(ce), Some(_)) => Passing::Only(ce),
            (SharedGrad::BoosterOnly, ..) => Passing::Nothing,
            _ => Passing::All,
        };
        Inward { heads, light }
    }

    fn passing(&self, part: Part) -> Passing<'a> {
        match part {
            Part::Light => self.light,
            Part::Booster => Passing::All,
            _ => Passing::Nothing,
        }
    }
}

/// What the layers are and hold, and what they have read.
#[derive(Clone, Copy)]
pub(super) struct Model<'a> {
    pub(super) plan: &'a Plan,
    pub(super) params: &'a [f32],
    pub(super) inputs: &'a Inputs,
}

impl Model<'_> {
    fn weight(&self, step: &Step) -> &[f32] {
        &self.params[step.layer.range(Role::Weight)]
    }

    /// What the part reads whose inputs are these rows of the input vectors.
    fn inputs(&self, part: Part, rows: &Range<usize>) -> &[f32] {
        let own = self.inputs.light.as_ref().filter(|_| part == Part::Light);
        let width = self.plan.inputs();
        &own.unwrap_or(&self.inputs.shared)[rows.start * width..rows.end * width]
    }
}

/// Where the gradients by what some parts read are summed up.
struct Below<'a> {
    sum: &'a mut [f32],
    /// It holds something already.
    begun: &'a mut bool,
}

impl Below<'_> {
    fn lent(&mut self) -> Below<'_> {
        Below { sum: self.sum, begun: self.begun }
    }
}

impl Chunk {
    /// For these rows of a batch.
    pub(super) fn reset(&mut self, plan: &Plan, rows: Range<usize>) {
        let count = rows.len();
        self.values.resize_with(plan.steps().len(), Values::default);
        for (values, Step { layer, form, .. }) in self.values.iter_mut().zip(plan.steps()) {
            let floats = count * layer.outputs;
            values.output.resize(floats, 0.0);
            values.product.resize(if matches!(form, Form::Cross { .. }) { floats } else { 0 }, 0.0);
        }
        self.rows = rows;
    }

    pub(super) fn rows(&self) -> usize {
        self.rows.len()
    }

    /// What layer `number` made.
    pub(super) fn output(&self, number: usize) -> &[f32] {
        &self.values[number].output
    }

    /// All layers.
    pub(super) fn forward(&mut self, model: Model<'_>) {
        let rows = self.rows.len();
        for (number, step) in model.plan.steps().iter().enumerate() {
            let (below, this) = self.values.split_at_mut(number);
            let read = |source: Option<usize>| match source {
                Some(number) => below[number].output.as_slice(),
                None => model.inputs(step.layer.part, &self.rows),
            };
            let (layer, x, Values { output, product }) = (&step.layer, read(step.source), &mut this[0]);
            let is_cross = matches!(step.form, Form::Cross { .. });
            let into = if is_cross { &mut *product } else { &mut *output };
            multiply([rows, layer.inputs, layer.outputs], Operand::Plain(x), Operand::Plain(model.weight(step)), into, false);
            let bias = &model.params[layer.range(Role::Bias)];
            for y in into.chunks_exact_mut(layer.outputs) {
                let each = y.iter_mut().zip(bias);
                match step.form {
                    Form::Relu => each.for_each(|(y, bias)| *y = (*y + bias).max(0.0)),
                    Form::Output | Form::Cross { .. } => each.for_each(|(y, bias)| *y += bias),
                }
            }
            if let Form::Cross { base, .. } = step.form {
                let terms = read(base).iter().zip(&*product).zip(x);
                output.iter_mut().zip(terms).for_each(|(output, ((base, y), x))| *output = base * y + x);
            }
        }
    }

    /// Leaves the gradients by every layer's product in the chunk, and writes those by the input vectors, of the chunk's rows each
    /// `[rows, inputs]` and zero before: by those that are shared, and by light's own where it has such.
    pub(super) fn backward(&mut self, model: Model<'_>, inward: &Inward<'_>, by_shared: &mut [f32], by_own: Option<&mut [f32]>) {
        let plan = model.plan;
        self.gradients.resize_with(plan.steps().len(), Vec::new);
        let mut begun = [false; 3];
        let [of_shared, of_own, of_trunk] = &mut begun;
        let by_shared = Below { sum: by_shared, begun: of_shared };
        let by_own = by_own.map(|sum| Below { sum, begun: of_own });
        let Some(trunk) = plan.part(Part::Shared).next_back() else { return self.heads(model, inward, by_shared, by_own) };
        let mut by_trunk = std::mem::take(&mut self.gradients[trunk]);
        by_trunk.resize(self.rows.len() * plan.steps()[trunk].layer.outputs, 0.0);
        self.heads(model, inward, Below { sum: &mut by_trunk, begun: of_trunk }, by_own);
        if !*of_trunk {
            by_trunk.fill(0.0);
        }
        self.gradients[trunk] = by_trunk;
        Self::descend(model, Part::Shared, &self.rows, &self.values, &mut self.gradients, &mut self.by_base, Some(by_shared));
    }

    /// Backward through all heads, into what stands below them.
    fn heads(&mut self, model: Model<'_>, inward: &Inward<'_>, mut trunk: Below<'_>, mut own: Option<Below<'_>>) {
        let (plan, rows) = (model.plan, self.rows.clone());
        for (part, gradient) in inward.heads.iter().filter(|(part, _)| !plan.part(*part).is_empty()) {
            let of_rows = |gradient: &[f32]| gradient[rows.clone()].to_vec();
            let gradient = gradient.as_ref().map_or_else(|| vec![0.0; rows.len()], |gradient| of_rows(gradient));
            let mut below = match &mut own {
                Some(own) if *part == Part::Light => own.lent(),
                _ => trunk.lent(),
            };
            let passing = inward.passing(*part);
            Self::start(plan, *part, gradient, &mut self.gradients);
            let all = matches!(passing, Passing::All).then(|| below.lent());
            Self::descend(model, *part, &rows, &self.values, &mut self.gradients, &mut self.by_base, all);
            if let Passing::Only(gradient) = passing {
                self.passing.resize_with(plan.steps().len(), Vec::new);
                Self::start(plan, *part, of_rows(gradient), &mut self.passing);
                Self::descend(model, *part, &rows, &self.values, &mut self.passing, &mut self.by_base, Some(below));
            }
        }
    }

    /// A part's last layer has this gradient.
    fn start(plan: &Plan, part: Part, gradient: Vec<f32>, gradients: &mut [Vec<f32>]) {
        if let Some(last) = plan.part(part).next_back() {
            gradients[last] = gradient;
        }
    }

    /// Backward through a part, from the gradient by its last layer's output; into what it reads only where `below` says.
    fn descend(
        model: Model<'_>,
        part: Part,
        rows: &Range<usize>,
        values: &[Values],
        gradients: &mut [Vec<f32>],
        by_base: &mut Vec<f32>,
        mut below: Option<Below<'_>>,
    ) {
        let numbers = model.plan.part(part);
        let mut is_crossed = false;
        for number in numbers.clone().rev() {
            let step = &model.plan.steps()[number];
            let [inputs, outputs] = [step.layer.inputs, step.layer.outputs];
            let (lower, this) = gradients.split_at_mut(number);
            let gradient = this[0].as_mut_slice();
            // Where the gradient by x goes, to the layer below or out of the part, and whether it is added to what is there.
            let (mut into, mut add) = if number > numbers.start {
                lower[number - 1].resize(rows.len() * inputs, 0.0);
                (Some(lower[number - 1].as_mut_slice()), false)
            } else {
                below.as_mut().map_or((None, false), |below| (Some(&mut *below.sum), std::mem::replace(below.begun, true)))
            };
            match step.form {
                Form::Output => {}
                Form::Relu => {
                    gradient.iter_mut().zip(&values[number].output).for_each(|(g, y)| *g = if *y > 0.0 { *g } else { 0.0 });
                }
                Form::Cross { base, is_first } => {
                    if !std::mem::replace(&mut is_crossed, true) {
                        by_base.clear();
                        by_base.resize(gradient.len(), 0.0);
                    }
                    let terms = gradient.iter().zip(&values[number].product);
                    by_base.iter_mut().zip(terms).for_each(|(sum, (g, y))| *sum += g * y);
                    // x is a term of the output itself, and the first x is x₀ too.
                    if let Some(into) = &mut into {
                        if add {
                            sum(into, gradient)
                        } else {
                            into.copy_from_slice(gradient)
                        }
                        if is_first {
                            sum(into, by_base);
                        }
                        add = true;
                    }
                    let base = base.map_or_else(|| model.inputs(part, rows), |base| &values[base].output);
                    gradient.iter_mut().zip(base).for_each(|(g, x)| *g *= x);
                }
            }
            if let Some(into) = into {
                let weight = Operand::transposed(model.weight(step), outputs);
                multiply([rows.len(), outputs, inputs], Operand::Plain(gradient), weight, into, add);
            }
        }
    }

    /// The gradient by rows `from..` of layer `number`'s weights, `into` `[some, outputs]`, or added to it.
    pub(super) fn by_weights(&self, model: Model<'_>, number: usize, from: usize, into: &mut [f32], add: bool) {
        let step = &model.plan.steps()[number];
        let [inputs, outputs] = [step.layer.inputs, step.layer.outputs];
        let x = step.source.map_or_else(|| model.inputs(step.layer.part, &self.rows), |source| &self.values[source].output);
        let x = Operand::Transposed { values: x, width: inputs, from };
        multiply([into.len() / outputs, self.rows.len(), outputs], x, Operand::Plain(&self.gradients[number]), into, add);
    }

    /// Adds the gradient by layer `number`'s biases, `into` `[outputs]`.
    pub(super) fn add_by_bias(&self, number: usize, into: &mut [f32]) {
        self.gradients[number].chunks_exact(into.len()).for_each(|gradient| sum(into, gradient));
    }
}

fn sum(into: &mut [f32], terms: &[f32]) {
    into.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
}
