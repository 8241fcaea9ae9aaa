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

/// A schema's features by what they depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sides {
    /// On what all candidates of a request share.
    pub context: Side,
    /// On a candidate's own columns alone.
    pub candidate: Side,
    /// On both: crosses and click rates of features of either side.
    pub joint: Side,
}

/// What a feature depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum On {
    Context,
    Candidate,
    Both,
}

impl FeatureSpec {
    /// What depends on what, where those features depend on a candidate whose column `is_own`.
    #[must_use]
    pub fn sides(&self, is_own: impl Fn(usize) -> bool) -> Sides {
        let mut sides = Sides::default();
        let mut on: Vec<On> = Vec::with_capacity(self.steps.len());
        let (mut slots, mut numbers, mut click_rates) = (0.., 0.., 0..);
        for (feature, step) in self.steps.iter().enumerate() {
            on.push(match &step.make {
                Make::Cross { of, .. } | Make::ClickRate { of, .. } => {
                    of.iter().map(|part| on[*part]).reduce(|all, part| if all == part { all } else { On::Both }).unwrap_or(On::Context)
                }
                _ if is_own(feature) => On::Candidate,
                _ => On::Context,
            });
            let side = match on[feature] {
                On::Context => &mut sides.context,
                On::Candidate => &mut sides.candidate,
                On::Both => &mut sides.joint,
            };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{FeatureConfig, FeatureKind, SchemaConfig};

    #[test]
    fn what_is_made_of_both_sides_is_on_neither() {
        let cross = |of: [&str; 2]| FeatureKind::Cross { of: of.map(str::to_owned).to_vec() };
        let rate = |of: &str| FeatureKind::ClickRate { of: vec![of.to_owned()], prior: 2.0 };
        let features = [
            ("user", FeatureKind::Categorical),
            ("item", FeatureKind::Categorical),
            ("brand", FeatureKind::Categorical),
            ("price", FeatureKind::Log1p),
            ("hour", FeatureKind::Hour),
            ("age", FeatureKind::Log1p),
            ("user_hour", cross(["user", "hour"])),
            ("item_user", cross(["item", "user"])),
            ("item_brand", cross(["item", "brand"])),
            ("item_rate", rate("item")),
            ("both_rate", rate("item_user")),
            ("hour_rate", rate("user_hour")),
        ];
        let schema = SchemaConfig::labelled(features.into_iter().map(|(name, kind)| FeatureConfig::new(name, kind)).collect());
        let spec = FeatureSpec::new(&schema).expect("a good schema");
        let sides = spec.sides(|feature| (1..=3).contains(&feature));
        let side = |features: &[usize], slots: &[usize], numbers: &[usize], click_rates: &[usize]| Side {
            features: features.to_vec(),
            slots: slots.to_vec(),
            numbers: numbers.to_vec(),
            click_rates: click_rates.to_vec(),
        };
        let expected = Sides {
            context: side(&[0, 4, 5, 6, 11], &[0, 3, 4], &[1], &[2]),
            candidate: side(&[1, 2, 3, 8, 9], &[1, 2, 6], &[0], &[0]),
            joint: side(&[7, 10], &[5], &[], &[1]),
        };
        assert_eq!(sides, expected);
    }
}
