use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::attention::Attention;
use super::interaction::FactorizationMachine;
use super::layer::{Kind, Layer, Part, Role};
use super::{InputShape, SequenceShape};
use crate::config::{Activation, Heads, HiddenConfig, ModelConfig};

/// Above zero: new embedding rows are zero, and on an input that is all zero a ReLU without it stands on its kink, where nothing is learnt,
/// neither weights nor rows. Far below what activations soon are.
const HIDDEN_BIAS: f32 = 1e-3;
/// Slope that PReLU starts from (He et al. 2015).
const PRELU_SLOPE: f32 = 0.25;

/// The bias at which a logit says the base rate p of everything: ln(p / (1 − p)).
pub(super) fn base_rate_bias(p: f64) -> f32 {
    (p / (1.0 - p)).ln() as f32
}

/// Name and shape of one tensor inside a flat vector.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorLayout {
    /// `shared.0.weight` `[in, out]`, `shared.0.bias` `[out]`, `light.…`, `booster.…` and so on by [`Part::name`]; the last layer of a head
    /// is its highest index, with out = 1. Cross layers are `booster.cross.0.weight` and so on, those of the attention unit of the first
    /// sequence `booster.attention.0.0.weight` and so on. Hidden layers have, as configured, `norm.scale`, `norm.shift`, `slope`, `mean` and
    /// `variance` besides, each `[out]`.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// The dense layers of all parts and their places in the flat parameter vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    pub(super) layers: Vec<Layer>,
    /// Of the booster; it has no parameters.
    pub(super) machine: Option<FactorizationMachine>,
    /// Of the booster, in the order of its units.
    pub(super) attention: Vec<Attention>,
    inputs: usize,
    len: usize,
}

impl Layout {
    /// The layers of `model` over input vectors of this shape, with the heads that `heads` says.
    #[must_use]
    pub fn new(model: &ModelConfig, heads: Heads, inputs: impl Into<InputShape>) -> Self {
        let shape = inputs.into();
        let inputs = shape.width;
        let machine = FactorizationMachine::new(model, &shape).filter(|_| heads != Heads::Light);
        let mut layout = Layout { layers: Vec::new(), machine, attention: Vec::new(), inputs, len: 0 };
        let (small, big) = (model.hidden, model.booster_hidden);
        let (shared, own) = if model.sharing { (model.shared.as_slice(), &[][..]) } else { (&[][..], model.shared.as_slice()) };
        let trunk = shared.last().copied().unwrap_or(inputs);
        layout.push_hidden(Part::Shared, small, inputs, shared);
        if heads != Heads::Booster {
            layout.push_head(Part::Light, small, trunk, &[own, &model.light].concat());
        }
        if heads != Heads::Light {
            let below = layout.push_hidden(Part::Booster, big, trunk, own);
            let crossed = below + layout.push_attention(&model.booster_attention.hidden, &shape.sequences);
            for index in 0..model.booster_cross.layers {
                layout.push(Part::Booster, Kind::Cross, index, crossed, crossed);
            }
            layout.push_head(Part::Booster, big, crossed, &model.booster);
        }
        if model.control {
            layout.push_head(Part::Control, small, trunk, &model.light);
        }
        layout
    }

    /// And the heads that weigh early labels by ES-DFM, of light's shape.
    #[must_use]
    pub fn with_delays(mut self, model: &ModelConfig) -> Self {
        let trunk = self.layers.iter().rfind(|layer| layer.part == Part::Shared).map_or(self.inputs, |layer| layer.outputs);
        for part in [Part::DelayedPositive, Part::FakeNegative] {
            self.push_head(part, model.hidden, trunk, &model.light);
        }
        self
    }

    fn push(&mut self, part: Part, kind: Kind, index: usize, inputs: usize, outputs: usize) {
        let layer = Layer { part, kind, index, inputs, outputs, offset: self.len };
        self.len = layer.end();
        self.layers.push(layer);
    }

    /// Hidden layers of these widths, numbered on from those that the part has; returns the width of their output.
    fn push_hidden(&mut self, part: Part, form: HiddenConfig, mut inputs: usize, widths: &[usize]) -> usize {
        for &outputs in widths {
            self.push(part, Kind::Hidden(form), self.hidden(part), inputs, outputs);
            inputs = outputs;
        }
        inputs
    }

    /// A unit for each sequence; returns the width of all that they add.
    fn push_attention(&mut self, hidden: &[usize], sequences: &[SequenceShape]) -> usize {
        for (unit, sequence) in sequences.iter().enumerate() {
            let attention = Attention::new(sequence);
            let mut inputs = attention.inputs();
            for (index, &outputs) in hidden.iter().chain(&[1]).enumerate() {
                self.push(Part::Booster, Kind::Attention { unit, is_last: index == hidden.len() }, index, inputs, outputs);
                inputs = outputs;
            }
            self.attention.push(attention);
        }
        self.attention.iter().map(Attention::dim).sum()
    }

    fn push_head(&mut self, part: Part, form: HiddenConfig, inputs: usize, hidden: &[usize]) {
        let last = self.push_hidden(part, form, inputs, hidden);
        self.push(part, Kind::Output, self.hidden(part), last, 1);
    }

    fn hidden(&self, part: Part) -> usize {
        self.layers.iter().filter(|layer| layer.part == part && matches!(layer.kind, Kind::Hidden(_))).count()
    }

    /// These parts alone, one after the other in a vector of their own.
    pub(super) fn only(&self, parts: &[Part]) -> Self {
        let mut layout =
            Layout { layers: Vec::new(), machine: self.machine, attention: self.attention.clone(), inputs: self.inputs, len: 0 };
        for &Layer { part, kind, index, inputs, outputs, .. } in self.layers.iter().filter(|layer| parts.contains(&layer.part)) {
            layout.push(part, kind, index, inputs, outputs);
        }
        layout
    }

    /// Width of the input vector.
    #[must_use]
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Floats in the flat vector.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// No parameters (never so for a model with a head).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where the parameters of one part lie in the flat vector; empty for a part the model does not have.
    #[must_use]
    pub fn range(&self, part: Part) -> Range<usize> {
        let mut layers = self.layers.iter().filter(|layer| layer.part == part);
        let Some(first) = layers.next() else { return 0..0 };
        first.offset..layers.next_back().unwrap_or(first).end()
    }

    /// Where the bias of each head's logit lies.
    pub(super) fn logit_biases(&self) -> impl Iterator<Item = (Part, Range<usize>)> {
        self.layers.iter().filter(|layer| layer.kind == Kind::Output).map(|layer| (layer.part, layer.range(Role::Bias)))
    }

    /// Names and shapes, in the order of the flat vector.
    #[must_use]
    pub fn tensors(&self) -> Vec<TensorLayout> {
        let tensors = |layer: &Layer| {
            let (prefix, inputs, outputs) = (layer.name(), layer.inputs, layer.outputs);
            layer.tensors().map(move |(role, _)| TensorLayout {
                name: format!("{prefix}.{}", role.name()),
                shape: if role == Role::Weight { vec![inputs, outputs] } else { vec![outputs] },
            })
        };
        self.layers.iter().flat_map(tensors).collect()
    }

    /// Initial parameters: in hidden layers, those of attention units too, He uniform (± √(6 / in)) and biases and LayerNorm's β of 0.001;
    /// before the logit or the weight of a row and in a cross layer, Glorot uniform (± √(6 / (in + out))) and biases 0, but that of each
    /// logit at ln(p / (1 − p)) where a base rate p is given. The heads that weigh early labels start from odds of p / 2, half of the
    /// clicks being late; p is one half where it is not given. γ is 1, the slope of PReLU 0.25, that of Dice 0 with a running mean of 0 and
    /// a variance of 1.
    ///
    /// Drawn on the host by ChaCha8, so that every backend starts from the same bits. Each part draws from its own stream: the width of
    /// one head does not change another's start. Control draws light's stream: what sets them apart later is what they were trained on.
    #[must_use]
    pub fn initial(&self, seed: u64, base_rate: Option<f64>) -> Vec<f32> {
        let mut flat = vec![0.0; self.len];
        for part in Part::ALL {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(match part {
                Part::Shared => 0,
                Part::Light | Part::Control => 1,
                Part::Booster => 2,
                Part::DelayedPositive => 3,
                Part::FakeNegative => 4,
            });
            for layer in self.layers.iter().filter(|layer| layer.part == part) {
                let (fan, bias) = match (layer.kind, base_rate) {
                    (Kind::Hidden(_) | Kind::Attention { is_last: false, .. }, _) => (layer.inputs, HIDDEN_BIAS),
                    (Kind::Output, p) if part.weighs_early_labels() => (layer.inputs + layer.outputs, (p.unwrap_or(0.5) / 2.0).ln() as f32),
                    (Kind::Output, Some(p)) => (layer.inputs + layer.outputs, base_rate_bias(p)),
                    _ => (layer.inputs + layer.outputs, 0.0),
                };
                let bound = (6.0 / fan as f32).sqrt();
                let prelu = matches!(layer.kind, Kind::Hidden(HiddenConfig { activation: Activation::Prelu, .. }));
                for (role, range) in layer.tensors() {
                    match role {
                        Role::Weight => flat[range].fill_with(|| (2.0 * random.random::<f32>() - 1.0) * bound),
                        Role::Bias | Role::Shift => flat[range].fill(bias),
                        Role::Scale | Role::Variance => flat[range].fill(1.0),
                        Role::Slope => flat[range].fill(if prelu { PRELU_SLOPE } else { 0.0 }),
                        Role::Mean => flat[range].fill(0.0),
                    }
                }
            }
        }
        flat
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BoosterCrossConfig;

    fn model(shared: &[usize], booster: &[usize]) -> ModelConfig {
        ModelConfig { shared: shared.to_vec(), light: vec![3], booster: booster.to_vec(), control: true, ..ModelConfig::default() }
    }

    #[test]
    fn names_shapes_and_ranges_tile_the_vector() {
        let layout = Layout::new(&model(&[5], &[4, 2]), Heads::Both, 7);
        let names: Vec<String> = layout.tensors().iter().map(|t| format!("{} {:?}", t.name, t.shape)).collect();
        #[rustfmt::skip]
        assert_eq!(names, [
            "shared.0.weight [7, 5]", "shared.0.bias [5]",
            "light.0.weight [5, 3]", "light.0.bias [3]", "light.1.weight [3, 1]", "light.1.bias [1]",
            "booster.0.weight [5, 4]", "booster.0.bias [4]", "booster.1.weight [4, 2]", "booster.1.bias [2]",
            "booster.2.weight [2, 1]", "booster.2.bias [1]",
            "control.0.weight [5, 3]", "control.0.bias [3]", "control.1.weight [3, 1]", "control.1.bias [1]",
        ]);
        let ranges: Vec<Range<usize>> = Part::ALL.iter().map(|part| layout.range(*part)).collect();
        assert_eq!(ranges, [0..40, 40..62, 62..99, 99..121, 0..0, 0..0]);
        let floats: usize = layout.tensors().iter().map(|t| t.shape.iter().product::<usize>()).sum();
        assert_eq!(floats, layout.len());
        assert_eq!(Layout::new(&model(&[], &[]), Heads::Both, 7).range(Part::Shared), 0..0);
    }

    #[test]
    fn a_head_that_is_not_there_has_no_parameters_and_the_others_start_the_same() {
        let model = ModelConfig { control: false, ..model(&[5], &[4]) };
        let [both, light, booster] = [Heads::Both, Heads::Light, Heads::Booster].map(|heads| Layout::new(&model, heads, 7));
        assert!(light.range(Part::Booster).is_empty() && booster.range(Part::Light).is_empty());
        assert_eq!(light.len() + booster.len(), both.len() + both.range(Part::Shared).len());
        let part = |layout: &Layout, part| layout.initial(3, None)[layout.range(part)].to_vec();
        for kept in [Part::Shared, Part::Light] {
            assert_eq!(part(&light, kept), part(&both, kept));
        }
        assert_eq!(part(&booster, Part::Booster), part(&both, Part::Booster));
    }

    #[test]
    fn without_sharing_each_head_has_the_shared_layers_to_itself() {
        let model = ModelConfig { sharing: false, control: false, ..model(&[5], &[4]) };
        let layout = Layout::new(&model, Heads::Both, 7);
        let weights: Vec<String> =
            layout.tensors().iter().filter(|t| t.shape.len() == 2).map(|t| format!("{} {:?}", t.name, t.shape)).collect();
        #[rustfmt::skip]
        assert_eq!(weights, [
            "light.0.weight [7, 5]", "light.1.weight [5, 3]", "light.2.weight [3, 1]",
            "booster.0.weight [7, 5]", "booster.1.weight [5, 4]", "booster.2.weight [4, 1]",
        ]);
    }

    #[test]
    fn cross_layers_lie_between_trunk_and_hidden_layers_of_the_booster() {
        let model = ModelConfig { booster_cross: BoosterCrossConfig { layers: 2 }, control: false, ..model(&[5], &[4]) };
        let weights = |sharing| {
            let layout = Layout::new(&ModelConfig { sharing, ..model.clone() }, Heads::Booster, 7);
            let weights = layout.tensors().into_iter().filter(|t| t.shape.len() == 2);
            weights.map(|t| format!("{} {:?}", t.name, t.shape)).collect::<Vec<_>>()
        };
        let [first, second] = ["booster.cross.0.weight [5, 5]", "booster.cross.1.weight [5, 5]"];
        assert_eq!(weights(true), ["shared.0.weight [7, 5]", first, second, "booster.0.weight [5, 4]", "booster.1.weight [4, 1]"]);
        assert_eq!(weights(false), ["booster.0.weight [7, 5]", first, second, "booster.1.weight [5, 4]", "booster.2.weight [4, 1]"]);
    }

    #[test]
    fn hidden_layers_have_the_tensors_of_their_form_and_start_from_its_values() {
        let hidden = HiddenConfig { layer_norm: true, activation: Activation::Dice };
        let booster_hidden = HiddenConfig { layer_norm: false, activation: Activation::Prelu };
        let layout = Layout::new(&ModelConfig { hidden, booster_hidden, control: false, ..model(&[], &[4]) }, Heads::Both, 7);
        let (flat, mut start) = (layout.initial(1, None), 0);
        let mut vectors = Vec::new();
        for tensor in layout.tensors() {
            let values = &flat[start..start + tensor.shape.iter().product::<usize>()];
            start += values.len();
            if tensor.shape.len() == 1 {
                assert!(values.iter().all(|value| *value == values[0]));
                vectors.push((tensor.name, tensor.shape[0], values[0]));
            }
        }
        let expected = [
            ("light.0.bias", 3, HIDDEN_BIAS),
            ("light.0.norm.scale", 3, 1.0),
            ("light.0.norm.shift", 3, HIDDEN_BIAS),
            ("light.0.slope", 3, 0.0),
            ("light.0.mean", 3, 0.0),
            ("light.0.variance", 3, 1.0),
            ("light.1.bias", 1, 0.0),
            ("booster.0.bias", 4, HIDDEN_BIAS),
            ("booster.0.slope", 4, PRELU_SLOPE),
            ("booster.1.bias", 1, 0.0),
        ];
        assert_eq!(vectors, expected.map(|(name, width, value)| (name.to_owned(), width, value)));
    }

    #[test]
    fn a_head_starts_the_same_whatever_the_others_are() {
        let (small, big) = (Layout::new(&model(&[], &[4]), Heads::Both, 7), Layout::new(&model(&[], &[9, 9]), Heads::Both, 7));
        let part = |layout: &Layout, part, seed| layout.initial(seed, None)[layout.range(part)].to_vec();
        assert_eq!(part(&small, Part::Light, 1), part(&big, Part::Light, 1));
        assert_eq!(part(&small, Part::Light, 1), part(&small, Part::Control, 1));
        assert_ne!(part(&small, Part::Light, 1), part(&small, Part::Light, 2));
        assert_ne!(part(&small, Part::Light, 1)[..20], part(&small, Part::Booster, 1)[..20]);
    }

    #[test]
    fn a_base_rate_sets_the_bias_of_each_logit_and_nothing_else() {
        let layout = Layout::new(&model(&[5], &[4]), Heads::Both, 7);
        let (without, with) = (layout.initial(1, None), layout.initial(1, Some(0.02)));
        let outputs: Vec<usize> = layout.logit_biases().map(|(_, range)| range.start).collect();
        assert_eq!(outputs.len(), 3);
        for (i, (without, with)) in without.iter().zip(&with).enumerate() {
            assert_eq!(*with, if outputs.contains(&i) { base_rate_bias(0.02) } else { *without });
        }
    }

    #[test]
    fn initial_weights_keep_their_bounds() {
        let layout = Layout::new(&model(&[], &[]), Heads::Both, 7);
        let flat = layout.initial(3, None);
        let hidden = &layout.layers[0];
        let bound = (6.0_f32 / 7.0).sqrt();
        assert!(flat[hidden.range(Role::Weight)].iter().all(|w| w.abs() <= bound && *w != 0.0));
        assert!(flat[hidden.range(Role::Bias)].iter().all(|b| *b == HIDDEN_BIAS));
        let output = &layout.layers[1];
        assert!(flat[output.range(Role::Weight)].iter().all(|w| w.abs() <= (6.0_f32 / 4.0).sqrt()));
    }
}
