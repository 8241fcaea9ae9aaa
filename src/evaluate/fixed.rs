//! Sums of real numbers in fixed point: exact, mergeable, the same in any order.

use serde::{Deserialize, Serialize};

/// One unit is 2⁻⁶⁴: a term is off by at most 2⁻⁶⁵, so a mean by no more.
const UNIT_INVERSE: f64 = 18_446_744_073_709_551_616.0;
/// A term's magnitude at most (2³²): 2³⁰ such terms still fit. A loss beyond it has long stopped to mean anything.
const TERM_MAX: f64 = 4_294_967_296.0;

/// Σ of real numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct FixedSum(#[serde(with = "exact")] i128);

impl FixedSum {
    /// Adds a finite number; one beyond ±2³² counts as that.
    pub(super) fn add(&mut self, term: f64) {
        let units = (term.clamp(-TERM_MAX, TERM_MAX) * UNIT_INVERSE).round() as i128;
        self.0 = self.0.saturating_add(units);
    }

    pub(super) fn value(self) -> f64 {
        self.0 as f64 / UNIT_INVERSE
    }

    /// Over `count` terms; `None` without any.
    pub(super) fn mean(self, count: u64) -> Option<f64> {
        (count > 0).then(|| self.value() / count as f64)
    }
}

/// 128-bit integers as decimal text: most JSON readers turn numbers beyond 2⁵³ into rounded ones.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(in crate::evaluate) fn serialize<S: Serializer>(value: &i128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(in crate::evaluate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i128, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(|e| serde::de::Error::custom(format!("\"{text}\" is no 128-bit integer: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_json_keeps_every_bit() {
        let terms = [1e-9, 0.1, 7e8, -0.3, 1.0 / 3.0, 1e-18];
        let (mut forward, mut backward) = (FixedSum::default(), FixedSum::default());
        terms.iter().for_each(|term| forward.add(*term));
        terms.iter().rev().for_each(|term| backward.add(*term));
        assert_eq!(forward, backward);
        assert!((forward.value() - terms.iter().sum::<f64>()).abs() < 1e-6);
        let json = serde_json::to_value(forward).unwrap();
        assert_eq!(serde_json::from_value::<FixedSum>(json).unwrap(), forward);
    }

    #[test]
    fn wild_terms_are_bounded() {
        let mut sum = FixedSum::default();
        sum.add(f64::MAX);
        assert!((sum.value() - TERM_MAX).abs() < f64::EPSILON);
        assert_eq!(FixedSum::default().mean(0), None);
    }
}
