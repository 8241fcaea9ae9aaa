use std::ops::Range;

use crate::config::{Activation, HiddenConfig};

/// A part of the model that a term of the loss may or may not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Dense layers shared by all heads: W_S without the embeddings. Empty where nothing is shared.
    Shared,
    /// W_L; where nothing is shared, light's own copy of the shared layers comes first.
    Light,
    /// W_B; likewise.
    Booster,
    /// The control head.
    Control,
    /// Of early labels: how many delayed positives come per impression.
    DelayedPositive,
    /// Of early labels: how many of the observed negatives are fake.
    FakeNegative,
}

impl Part {
    /// Every part, in the order of the flat vector.
    pub const ALL: [Part; 6] = [Part::Shared, Part::Light, Part::Booster, Part::Control, Part::DelayedPositive, Part::FakeNegative];

    /// First word of the names of its tensors.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Part::Shared => "shared",
            Part::Light => "light",
            Part::Booster => "booster",
            Part::Control => "control",
            Part::DelayedPositive => "delayed_positive",
            Part::FakeNegative => "fake_negative",
        }
    }

    /// Its logit is not that of a click.
    pub(super) const fn weighs_early_labels(self) -> bool {
        matches!(self, Part::DelayedPositive | Part::FakeNegative)
    }
}

/// One dense layer and where it lies in the flat vector: its tensors one after the other, in the order of [`Layer::tensors`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) part: Part,
    pub(super) kind: Kind,
    /// Number of the layer among those of its part, cross layers and attention units counted apart.
    pub(super) index: usize,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
    pub(super) offset: usize,
}

/// What a layer makes of its input x, with y = x · W + b.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// f(y), or f(LayerNorm(y)), by [`HiddenConfig`].
    Hidden(HiddenConfig),
    /// x₀ ⊙ y + x, x₀ being the input of the first cross layer.
    Cross,
    /// max(y, 0) in the attention unit of this number, or y where it is the last, the weight of a row.
    Attention { unit: usize, is_last: bool },
    /// y, the logit.
    Output,
}

/// What a tensor of a layer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// W, `[inputs, outputs]`, row-major.
    Weight,
    /// b.
    Bias,
    /// γ of LayerNorm.
    Scale,
    /// β of LayerNorm.
    Shift,
    /// a of PReLU and Dice.
    Slope,
    /// Running mean of Dice's input: followed, not trained.
    Mean,
    /// Running variance, likewise.
    Variance,
}

impl Role {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Role::Weight => "weight",
            Role::Bias => "bias",
            Role::Scale => "norm.scale",
            Role::Shift => "norm.shift",
            Role::Slope => "slope",
            Role::Mean => "mean",
            Role::Variance => "variance",
        }
    }

    /// False for what is followed instead.
    pub(super) const fn is_trained(self) -> bool {
        !matches!(self, Role::Mean | Role::Variance)
    }
}

impl Layer {
    /// First words of the names of its tensors.
    pub(super) fn name(&self) -> String {
        let (part, index) = (self.part.name(), self.index);
        match self.kind {
            Kind::Hidden(_) | Kind::Output => format!("{part}.{index}"),
            Kind::Cross => format!("{part}.cross.{index}"),
            Kind::Attention { unit, .. } => format!("{part}.attention.{unit}.{index}"),
        }
    }

    /// Its tensors in their order, and where each lies.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (Role, Range<usize>)> + use<> {
        let (norm, activation) = match self.kind {
            Kind::Hidden(HiddenConfig { layer_norm, activation }) => (layer_norm, activation),
            Kind::Cross | Kind::Attention { .. } | Kind::Output => (false, Activation::Relu),
        };
        let norm: &[Role] = if norm { &[Role::Scale, Role::Shift] } else { &[] };
        let activation: &[Role] = match activation {
            Activation::Relu => &[],
            Activation::Prelu => &[Role::Slope],
            Activation::Dice => &[Role::Slope, Role::Mean, Role::Variance],
        };
        let (mut end, inputs, outputs) = (self.offset, self.inputs, self.outputs);
        [Role::Weight, Role::Bias].iter().chain(norm).chain(activation).map(move |&role| {
            let start = end;
            end += if role == Role::Weight { inputs * outputs } else { outputs };
            (role, start..end)
        })
    }

    /// Where one of them lies; empty where the layer has none such.
    pub(super) fn range(&self, role: Role) -> Range<usize> {
        self.tensors().find(|(found, _)| *found == role).map_or(0..0, |(_, range)| range)
    }

    /// Where the layer after it begins.
    pub(super) fn end(&self) -> usize {
        self.tensors().last().map_or(self.offset, |(_, range)| range.end)
    }
}
