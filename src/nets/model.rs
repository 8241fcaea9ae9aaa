use std::ops::Range;

use burn::tensor::{Device, Tensor};

use super::graph::Graph;
use super::layout::base_rate_bias;
use super::towers::Towers;
use super::vector::Vector;
use super::{Adam, DenseCopy, DenseError, DenseState, InputShape, Inputs, Layout, Loss, Part, Rule, Scores, Targets};
use crate::config::{ModelConfig, TrainConfig};

/// Trunk and heads: their parameters and Adam's moments, each one flat vector.
#[derive(Debug)]
pub struct Nets {
    layout: Layout,
    engine: Engine,
    steps: u64,
}

/// What computes.
#[derive(Debug)]
enum Engine {
    Graph(Box<Graph>),
    Towers(Box<Towers>),
}

/// What is followed instead of trained: where it lies in the flat vector, and what it becomes.
pub(super) type Followed = Vec<(Range<usize>, Tensor<1>)>;

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
    pub(super) flat: Vector,
    /// Σ flat².
    pub(super) squares: f64,
    pub(super) followed: Followed,
    pub(super) inputs: Inputs,
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
        self.flat.clone().into_host()
    }

    /// Σ g² over the dense parameters.
    #[must_use]
    pub fn dense_squares(&self) -> f64 {
        self.squares
    }

    /// Scales what [`Nets::apply`] takes, the gradient by the dense parameters.
    #[must_use]
    pub fn scaled(self, by: f64) -> Self {
        Gradients { flat: self.flat.scaled(by), squares: self.squares * by * by, ..self }
    }
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
        let engine = Engine::new(&layout, [params, zeros.clone(), zeros], device);
        Nets { layout, engine, steps: 0 }
    }

    /// The booster of `state`, a state of nets of `layout`, with no head beside it.
    ///
    /// # Errors
    /// [`DenseError`] where `state` is of another layout.
    pub fn booster(layout: &Layout, device: &Device, state: &DenseState) -> Result<Self, DenseError> {
        state.check(layout)?;
        let parts = [Part::Shared, Part::Booster];
        let cut = |vector: &Vec<f32>| parts.map(|part| &vector[layout.range(part)]).concat();
        let vectors = [&state.params, &state.m, &state.v].map(cut);
        let layout = layout.only(&parts);
        Ok(Nets { engine: Engine::new(&layout, vectors, device), layout, steps: state.steps })
    }

    /// The same nets with Burn's autodiff, also where a faster step is at hand: what that is held against.
    #[must_use]
    pub fn by_autodiff(self) -> Self {
        let engine = match self.engine {
            Engine::Graph(graph) => graph,
            Engine::Towers(towers) => Graph::new(towers.vectors().map(Vector::into_host), &Device::flex()).into(),
        };
        Nets { engine: Engine::Graph(engine), ..self }
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
        match &self.engine {
            Engine::Graph(graph) => graph.predict(&self.layout, inputs.into(), rows),
            Engine::Towers(towers) => towers.predict(&inputs.into(), rows),
        }
    }

    /// Forward, loss and backward of one batch; changes nothing.
    ///
    /// The loss's gradient by each logit is known in closed form ([`super::loss`]), so backward starts from Σ logit · gradient with the
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
        match &self.engine {
            Engine::Graph(graph) => graph.gradients(&self.layout, inputs.into(), targets.into(), rule),
            Engine::Towers(towers) => towers.gradients(&inputs.into(), targets.into(), rule),
        }
    }

    /// One step of Adam on the dense parameters but those of the `frozen` parts, whose parameters and moments keep every bit; what is
    /// followed instead of trained moves with it. `since` is the number of steps taken before the parts that learn began to: Adam counts
    /// from there.
    pub fn apply(&mut self, gradients: Gradients, adam: &Adam, frozen: &[Part], since: u64) {
        self.steps += 1;
        let step = adam.step(self.steps - since);
        let kept: Vec<_> = frozen.iter().map(|part| self.layout.range(*part)).filter(|range| !range.is_empty()).collect();
        let Gradients { flat, mut followed, .. } = gradients;
        match &mut self.engine {
            Engine::Towers(towers) => towers.apply(&flat.into_host(), &step, &kept),
            Engine::Graph(graph) => {
                followed.retain(|(range, _)| !kept.iter().any(|kept| kept.contains(&range.start)));
                let flat = flat.into_device(graph.device());
                graph.apply(flat, &step, &kept, followed);
            }
        }
    }

    /// Sets the bias of the logits of clicks of all but the `frozen` parts to that of a base rate p, ln(p / (1 − p)).
    pub fn start_from(&mut self, base_rate: f64, frozen: &[Part]) {
        let bias = base_rate_bias(base_rate);
        let heads = self.layout.logit_biases().filter(|(part, _)| !part.weighs_early_labels() && !frozen.contains(part));
        for (_, range) in heads {
            match &mut self.engine {
                Engine::Graph(graph) => graph.set(range, bias),
                Engine::Towers(towers) => towers.set(range, bias),
            }
        }
    }

    /// A copy of parameters and moments.
    #[must_use]
    pub fn capture(&self) -> DenseState {
        self.copy().state()
    }

    /// Parameters and moments as they are now, to be copied to the host when there is time.
    #[must_use]
    pub fn copy(&self) -> DenseCopy {
        let vectors = match &self.engine {
            Engine::Graph(graph) => graph.vectors(),
            Engine::Towers(towers) => towers.vectors(),
        };
        DenseCopy { layout: self.layout.tensors(), vectors, steps: self.steps }
    }

    /// Nets of this layout, computed as these, with the parameters and moments of `state`.
    ///
    /// # Errors
    /// [`DenseError`] where `state` is of another layout.
    pub fn restored(&self, state: DenseState) -> Result<Self, DenseError> {
        state.check(&self.layout)?;
        let vectors = [state.params, state.m, state.v];
        let engine = match &self.engine {
            Engine::Graph(graph) => Engine::Graph(Graph::new(vectors, graph.device()).into()),
            Engine::Towers(_) => Engine::Towers(Towers::new(&self.layout, vectors).into()),
        };
        Ok(Nets { layout: self.layout.clone(), engine, steps: state.steps })
    }
}

impl Engine {
    fn new(layout: &Layout, vectors: [Vec<f32>; 3], device: &Device) -> Self {
        if *device == Device::flex() && Towers::can(layout) {
            return Engine::Towers(Towers::new(layout, vectors).into());
        }
        Engine::Graph(Graph::new(vectors, device).into())
    }
}

#[cfg(test)]
mod tests;
