//! Trained impressions whose windows are open, kept so that a copy of them takes no time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::domain::OpenImpression;

/// Offsets per group: of a million impressions a copy clones some 4,000 pointers, and the first change of a group after that copies 256 of
/// them at most.
const OFFSETS_PER_GROUP: i64 = 256;

/// Impressions by offset. Copies share groups until one changes.
#[derive(Debug, Clone, Default)]
pub(super) struct Open {
    groups: BTreeMap<i64, Arc<BTreeMap<i64, OpenImpression>>>,
}

impl Open {
    pub(super) fn insert(&mut self, impression: OpenImpression) {
        let group = self.groups.entry(impression.offset.div_euclid(OFFSETS_PER_GROUP)).or_default();
        Arc::make_mut(group).insert(impression.offset, impression);
    }

    pub(super) fn remove(&mut self, offset: i64) -> Option<OpenImpression> {
        let number = offset.div_euclid(OFFSETS_PER_GROUP);
        let group = self.groups.get_mut(&number).filter(|group| group.contains_key(&offset))?;
        let group = Arc::make_mut(group);
        let removed = group.remove(&offset);
        if group.is_empty() {
            self.groups.remove(&number);
        }
        removed
    }

    pub(super) fn first_offset(&self) -> Option<i64> {
        self.iter().next().map(|impression| impression.offset)
    }

    /// By rising offset.
    pub(super) fn iter(&self) -> impl Iterator<Item = &OpenImpression> {
        self.groups.values().flat_map(|group| group.values())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

impl FromIterator<OpenImpression> for Open {
    fn from_iter<I: IntoIterator<Item = OpenImpression>>(impressions: I) -> Self {
        let mut open = Open::default();
        impressions.into_iter().for_each(|impression| open.insert(impression));
        open
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{EventTime, Head, ScoredSample, UserId};

    fn impression(offset: i64) -> OpenImpression {
        let sample = ScoredSample {
            user: UserId("u".into()),
            time: EventTime(offset),
            label: false,
            logits: Head::ALL.map(|_| None),
            hint_share: None,
        };
        OpenImpression { offset, impression: None, sample }
    }

    proptest! {
        #[test]
        fn is_an_ordered_map_whose_copies_stay_as_they_were(changes in proptest::collection::vec((-600i64..600, any::<bool>()), 0..300), cut in 0usize..300) {
            let (mut open, mut model) = (Open::default(), BTreeMap::new());
            let mut copy = (open.clone(), model.clone());
            for (at, (offset, insert)) in changes.into_iter().enumerate() {
                if insert {
                    open.insert(impression(offset));
                    model.insert(offset, impression(offset));
                } else {
                    prop_assert_eq!(open.remove(offset), model.remove(&offset));
                }
                if at == cut {
                    copy = (open.clone(), model.clone());
                }
            }
            for (open, model) in [(open, model), copy] {
                prop_assert_eq!(open.first_offset(), model.keys().next().copied());
                prop_assert_eq!(open.is_empty(), model.is_empty());
                prop_assert!(open.iter().eq(model.values()));
            }
        }
    }
}
