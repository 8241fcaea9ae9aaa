use std::ops::Range;

use crate::config::HiddenConfig;
use crate::nets::layer::{Kind, Layer};
use crate::nets::{Layout, Part};

/// The layers, and what each reads.
#[derive(Debug)]
pub(super) struct Plan {
    steps: Vec<Step>,
    inputs: usize,
}

/// A layer.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) layer: Layer,
    pub(super) form: Form,
    /// The layer that it reads; none: the input vectors.
    pub(super) source: Option<usize>,
}

/// What a layer makes of its product y = x · W + b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// max(y, 0).
    Relu,
    /// x₀ ⊙ y + x, x₀ being what the first cross layer of its part reads.
    Cross {
        /// The layer that makes x₀; none: the input vectors.
        base: Option<usize>,
        /// It is that first one.
        is_first: bool,
    },
    /// y.
    Output,
}

impl Plan {
    /// `None` where a layer is of another form.
    pub(super) fn new(layout: &Layout) -> Option<Self> {
        if layout.machine.is_some() || !layout.attention.is_empty() {
            return None;
        }
        let trunk = layout.layers.iter().rposition(|layer| layer.part == Part::Shared);
        let mut steps: Vec<Step> = Vec::with_capacity(layout.layers.len());
        for (number, layer) in layout.layers.iter().enumerate() {
            let below = number.checked_sub(1).filter(|below| layout.layers[*below].part == layer.part);
            let source = below.or(trunk.filter(|_| layer.part != Part::Shared));
            let form = match layer.kind {
                Kind::Hidden(form) if form == HiddenConfig::default() => Form::Relu,
                Kind::Cross => match below.map(|below| steps[below].form) {
                    Some(Form::Cross { base, .. }) => Form::Cross { base, is_first: false },
                    _ => Form::Cross { base: source, is_first: true },
                },
                Kind::Output => Form::Output,
                Kind::Hidden(_) | Kind::Attention { .. } => return None,
            };
            steps.push(Step { layer: layer.clone(), form, source });
        }
        Some(Plan { steps, inputs: layout.inputs() })
    }

    /// Width of the input vectors.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    /// In the order of the flat vector.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.steps.iter().map(|step| &step.layer)
    }

    /// The numbers of a part's layers; empty where there is no such part.
    pub(super) fn part(&self, part: Part) -> Range<usize> {
        let start = self.steps.iter().position(|step| step.layer.part == part).unwrap_or(0);
        start..start + self.steps.iter().filter(|step| step.layer.part == part).count()
    }
}
