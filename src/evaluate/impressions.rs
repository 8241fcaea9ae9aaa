//! The newest impressions of a user.

use super::PerHead;

/// One impression with its prequential scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Impression {
    /// Event time, milliseconds.
    pub(super) time: i64,
    pub(super) label: bool,
    /// By head; NaN where there is none.
    pub(super) logits: PerHead<f32>,
}

/// Impressions in order of arrival, by column, each in one piece: those that have left stay in front until there are as many of them as
/// of the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Impressions {
    left: usize,
    times: Vec<i64>,
    labels: Vec<bool>,
    logits: PerHead<Vec<f32>>,
}

impl Impressions {
    /// Of columns of one length.
    pub(super) fn new(times: Vec<i64>, labels: Vec<bool>, logits: PerHead<Vec<f32>>) -> Self {
        Impressions { left: 0, times, labels, logits }
    }

    pub(super) fn len(&self) -> usize {
        self.times.len() - self.left
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn times(&self) -> &[i64] {
        &self.times[self.left..]
    }

    pub(super) fn labels(&self) -> &[bool] {
        &self.labels[self.left..]
    }

    /// By head; NaN where there is none.
    pub(super) fn logits(&self) -> PerHead<&[f32]> {
        self.logits.each_ref().map(|column| &column[self.left..])
    }

    pub(super) fn push(&mut self, new: &Impression) {
        self.times.push(new.time);
        self.labels.push(new.label);
        for (column, logit) in self.logits.iter_mut().zip(new.logits) {
            column.push(logit);
        }
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Impression> {
        let logits = self.logits();
        let oldest = Impression { time: *self.times().first()?, label: *self.labels().first()?, logits: logits.map(|column| column[0]) };
        self.left += 1;
        if self.left >= self.len() {
            self.times.drain(..self.left);
            self.labels.drain(..self.left);
            self.logits.iter_mut().for_each(|column| drop(column.drain(..self.left)));
            self.left = 0;
        }
        Some(oldest)
    }
}

/// Of those that have not left.
impl PartialEq for Impressions {
    fn eq(&self, other: &Self) -> bool {
        (self.times(), self.labels(), self.logits()) == (other.times(), other.labels(), other.logits())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_oldest_leaves_first_and_the_others_stay_in_order(steps in prop::collection::vec(prop::option::of(any::<bool>()), 0..200)) {
            let (mut impressions, mut expected) = (Impressions::default(), std::collections::VecDeque::new());
            for (time, step) in (0..).zip(steps) {
                match step {
                    Some(label) => {
                        impressions.push(&Impression { time, label, logits: [time as f32, -(time as f32), 0.5] });
                        expected.push_back((time, label));
                    }
                    None => {
                        let oldest = impressions.pop_oldest();
                        prop_assert_eq!(oldest.map(|one| (one.time, one.label, one.logits[1])), expected.pop_front().map(|(time, label)| (time, label, -(time as f32))));
                    }
                }
                let [first, second, third] = impressions.logits();
                let kept: Vec<_> = impressions.times().iter().copied().zip(impressions.labels().iter().copied()).collect();
                prop_assert!(kept.iter().eq(&expected) && impressions.len() == expected.len() && third.len() == expected.len());
                prop_assert!(kept.iter().zip(first).zip(second).all(|(((time, _), a), b)| *a == *time as f32 && *b == -a));
                prop_assert!(impressions.left <= impressions.len());
            }
        }
    }
}
