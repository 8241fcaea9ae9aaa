use super::{FeatureSpec, Make};

/// Some of a schema's features, each list in the schema's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// Numbers of the features.
    pub features: Vec<usize>,
    /// Numbers of their slots.
    pub slots: Vec<usize>,
    /// Numbers of their numeric inputs.
    pub numbers: Vec<usize>,
    /// Numbers of their click rates.
    pub click_rates: Vec<usize>,
}

impl FeatureSpec {
    /// What the candidates of a request share, and what each has of its own: those features whose column `is_own`, and those made of them.
    #[must_use]
    pub fn sides(&self, is_own: impl Fn(usize) -> bool) -> [Side; 2] {
        let mut sides = [Side::default(), Side::default()];
        let mut own: Vec<bool> = Vec::with_capacity(self.steps.len());
        let (mut slots, mut numbers, mut click_rates) = (0.., 0.., 0..);
        for (feature, step) in self.steps.iter().enumerate() {
            own.push(match &step.make {
                Make::Cross { of, .. } | Make::ClickRate { of, .. } => of.iter().any(|part| own[*part]),
                _ => is_own(feature),
            });
            let side = &mut sides[usize::from(own[feature])];
            side.features.push(feature);
            match &step.make {
                Make::Log1p | Make::Standardise { .. } => side.numbers.extend(numbers.next()),
                Make::ClickRate { .. } => side.click_rates.extend(click_rates.next()),
                _ if step.embed => side.slots.extend(slots.next()),
                _ => {}
            }
        }
        sides
    }
}
