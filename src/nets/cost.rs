use super::attention::Attention;
use super::interaction::FactorizationMachine;
use super::layer::Kind;
use super::{Layout, Part};
use crate::domain::Head;

impl Layout {
    /// Multiplications of one example's logit: Σ inputs · outputs over the dense layers that it passes, shared ones included, the width
    /// once more for a cross layer, the factorization machine's, and attention's over sequences of full length. Lookups, pooling, biases,
    /// normalisation and activations are not counted. `None` for a head that is not there.
    ///
    /// The paper counts likewise, but its last layer has two outputs (a softmax) where ours has one: with w the width of the last hidden
    /// layer, its count is ours + w.
    #[must_use]
    pub fn multiplications(&self, head: Head) -> Option<usize> {
        let part = match head {
            Head::Light => Part::Light,
            Head::Booster => Part::Booster,
            Head::Control => Part::Control,
        };
        let of = |part| {
            self.layers.iter().filter(move |layer| layer.part == part).map(|layer| {
                let product = layer.inputs * layer.outputs;
                match layer.kind {
                    Kind::Cross => product + layer.outputs,
                    Kind::Attention { unit, .. } => product * self.attention[unit].length(),
                    Kind::Hidden(_) | Kind::Output => product,
                }
            })
        };
        of(part).next()?;
        let machine = self.machine.map_or(0, FactorizationMachine::multiplications);
        let beside = machine + self.attention.iter().map(Attention::multiplications).sum::<usize>();
        Some(of(Part::Shared).chain(of(part)).sum::<usize>() + if part == Part::Booster { beside } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BoosterAttentionConfig, BoosterCrossConfig, Heads, ModelConfig};
    use crate::nets::{InputShape, SequenceShape};

    #[test]
    fn counts_what_a_logit_passes() {
        let model = ModelConfig { shared: vec![5], light: vec![3], booster: vec![4, 2], control: false, ..ModelConfig::default() };
        let count = |model: &ModelConfig, heads| {
            let layout = Layout::new(model, heads, 7);
            Head::ALL.map(|head| layout.multiplications(head))
        };
        let (light, booster) = (Some(7 * 5 + 5 * 3 + 3), Some(7 * 5 + 5 * 4 + 4 * 2 + 2));
        assert_eq!(count(&model, Heads::Both), [light, booster, None]);
        assert_eq!(count(&model, Heads::Light), [light, None, None]);
        assert_eq!(count(&model, Heads::Booster), [None, booster, None]);
        assert_eq!(count(&ModelConfig { sharing: false, ..model.clone() }, Heads::Both), [light, booster, None]);
        let crossed = ModelConfig { booster_cross: BoosterCrossConfig { layers: 2 }, ..model.clone() };
        assert_eq!(count(&crossed, Heads::Both), [light, booster.map(|count| count + 2 * (5 * 5 + 5)), None]);
        let shape = InputShape { width: 7, ..InputShape::default() };
        let machine =
            Layout::new(&ModelConfig { booster_fm: true, ..model.clone() }, Heads::Both, InputShape { slots: vec![3, 3], ..shape.clone() });
        assert_eq!(machine.multiplications(Head::Booster), booster.map(|count| count + 2 * 3 + 3 + 1));
        assert_eq!(machine.multiplications(Head::Light), light);
        let sequences = vec![SequenceShape { length: 6, target: 2..4 }];
        let attention = ModelConfig { booster_attention: BoosterAttentionConfig { hidden: vec![9], of: Vec::new() }, ..model.clone() };
        let attentive = Layout::new(&attention, Heads::Both, InputShape { sequences, ..shape });
        // The first layer of the booster is two inputs wider.
        assert_eq!(attentive.multiplications(Head::Booster), booster.map(|count| count + 2 * 4 + 6 * (8 * 9 + 9 + 2 + 2)));
        assert_eq!(attentive.multiplications(Head::Light), light);
        assert_eq!(count(&ModelConfig { control: true, ..model }, Heads::Both), [light, booster, light]);
    }
}
