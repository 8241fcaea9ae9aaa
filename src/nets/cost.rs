use super::interaction::FactorizationMachine;
use super::layer::Kind;
use super::{Layout, Part};
use crate::domain::Head;

impl Layout {
    /// Multiplications of one example's logit: Σ inputs · outputs over the dense layers that it passes, shared ones included, the width
    /// once more for a cross layer, and the factorization machine's. Lookups, pooling, biases, normalisation and activations are not
    /// counted. `None` for a head that is not there.
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
                let product = if layer.kind == Kind::Cross { layer.outputs } else { 0 };
                layer.inputs * layer.outputs + product
            })
        };
        of(part).next()?;
        let machine = self.machine.filter(|_| part == Part::Booster).map_or(0, FactorizationMachine::multiplications);
        Some(of(Part::Shared).chain(of(part)).sum::<usize>() + machine)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BoosterCrossConfig, Heads, ModelConfig};
    use crate::nets::InputShape;

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
        let machine =
            Layout::new(&ModelConfig { booster_fm: true, ..model.clone() }, Heads::Both, InputShape { width: 7, slots: vec![3, 3] });
        assert_eq!(machine.multiplications(Head::Booster), booster.map(|count| count + 2 * 3 + 3 + 1));
        assert_eq!(machine.multiplications(Head::Light), light);
        assert_eq!(count(&ModelConfig { control: true, ..model }, Heads::Both), [light, booster, light]);
    }
}
