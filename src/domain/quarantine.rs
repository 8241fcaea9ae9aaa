use serde::{Deserialize, Serialize};

use super::EventTime;

/// Input that is skipped for good: events whose time lies in one of these ranges `[from, to)`, milliseconds; the ranges rise and are apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(i64, i64)>", into = "Vec<(i64, i64)>")]
pub struct Quarantine(Vec<(i64, i64)>);

impl Quarantine {
    /// Nothing is skipped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what another one holds.
    pub fn extend(&mut self, other: &Quarantine) {
        *self = self.0.iter().chain(&other.0).copied().collect::<Vec<_>>().into();
    }

    /// Whether an event of this time is skipped.
    #[must_use]
    pub fn holds(&self, time: EventTime) -> bool {
        let after = self.0.partition_point(|(from, _)| *from <= time.0);
        after.checked_sub(1).and_then(|place| self.0.get(place)).is_some_and(|(_, to)| time.0 < *to)
    }

    /// The ranges.
    #[must_use]
    pub fn ranges(&self) -> &[(i64, i64)] {
        &self.0
    }
}

/// Empty ranges are left out, those that overlap or touch become one.
impl From<Vec<(i64, i64)>> for Quarantine {
    fn from(mut ranges: Vec<(i64, i64)>) -> Self {
        ranges.retain(|(from, to)| from < to);
        ranges.sort_unstable();
        let mut apart: Vec<(i64, i64)> = Vec::with_capacity(ranges.len());
        for (from, to) in ranges {
            match apart.last_mut() {
                Some((_, end)) if from <= *end => *end = to.max(*end),
                _ => apart.push((from, to)),
            }
        }
        Quarantine(apart)
    }
}

impl From<Quarantine> for Vec<(i64, i64)> {
    fn from(quarantine: Quarantine) -> Self {
        quarantine.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn holds_what_any_of_its_ranges_holds(
            one in prop::collection::vec((-20i64..20, -20i64..20), 0..5),
            other in prop::collection::vec((-20i64..20, -20i64..20), 0..5),
        ) {
            let mut both = Quarantine::from(one.clone());
            both.extend(&other.clone().into());
            for time in -25..25 {
                let expected = one.iter().chain(&other).any(|(from, to)| (*from..*to).contains(&time));
                prop_assert_eq!(both.holds(EventTime(time)), expected);
            }
            prop_assert!(both.ranges().windows(2).all(|pair| pair[0].1 < pair[1].0));
            let text = serde_json::to_string(&both).unwrap();
            prop_assert_eq!(serde_json::from_str::<Quarantine>(&text).unwrap(), both);
        }
    }
}
