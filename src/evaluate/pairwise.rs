//! Pairs that an impression makes with others.

use pulp::{Simd, WithSimd};

use super::PerHead;
use super::impressions::{Impression, Impressions};
use super::windows::Live;
use crate::vectors::dispatch;

/// Counts pairs won, and the memory for it: one number or mask per impression kept.
#[derive(Debug, Default)]
pub(super) struct Pairwise {
    /// All bits where the label is the other one.
    other: Vec<u32>,
    /// By head: 2·\[s⁺ > s⁻\] + \[s⁺ = s⁻\] of the pair with this impression, 0 where that is none.
    won: PerHead<Vec<u32>>,
    /// By window: all bits where the time lies in it.
    inside: Vec<Vec<u32>>,
}

impl Pairwise {
    /// Finds out which impressions lie in which windows, for [`Pairwise::twice_won_in`].
    pub(super) fn look(&mut self, windows: &[Option<Live>], kept: &Impressions) {
        self.inside.resize_with(windows.len(), Vec::new);
        for (inside, live) in self.inside.iter_mut().zip(windows) {
            if let Some(live) = live {
                dispatch(Look { inside, live, times: kept.times() });
            }
        }
    }

    /// Σ of 2·\[s⁺ > s⁻\] + \[s⁺ = s⁻\] over the pairs that `one` makes with those kept, by head; NaN neither wins nor ties.
    pub(super) fn twice_won(&mut self, one: &Impression, kept: &Impressions) -> PerHead<u32> {
        dispatch(All { memory: self, one, kept })
    }

    /// Over those of the pairs [`Pairwise::twice_won`] was asked for last whose other impression lies in the window of this place. Of the
    /// impressions that were looked at, the oldest may have left.
    pub(super) fn twice_won_in(&self, window: usize) -> PerHead<u32> {
        let inside = &self.inside[window];
        let left = inside.len() - self.other.len();
        dispatch(Within { won: &self.won, inside: &inside[left..] })
    }
}

// There is no branch within the loops below, so that the compiler makes vector code of them. They are loops since it does not always
// take an iterator's closure into them.

struct All<'a> {
    memory: &'a mut Pairwise,
    one: &'a Impression,
    kept: &'a Impressions,
}

impl WithSimd for All<'_> {
    type Output = PerHead<u32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PerHead<u32> {
        let All { memory: Pairwise { other, won, .. }, one, kept } = self;
        let labels = kept.labels();
        other.resize(labels.len(), 0);
        for (other, label) in other.iter_mut().zip(labels) {
            *other = u32::from(*label == one.label).wrapping_sub(1);
        }
        let (mut sums, logits) = ([0; _], kept.logits());
        for (head, won) in won.iter_mut().enumerate() {
            let (logit, logits) = (one.logits[head], logits[head]);
            won.resize(if logit.is_nan() { 0 } else { labels.len() }, 0);
            let pairs = won.iter_mut().zip(logits).zip(&*other);
            if one.label {
                for ((won, kept), other) in pairs {
                    *won = (u32::from(logit > *kept) + u32::from(logit >= *kept)) & other;
                    sums[head] += *won;
                }
            } else {
                for ((won, kept), other) in pairs {
                    *won = (u32::from(*kept > logit) + u32::from(*kept >= logit)) & other;
                    sums[head] += *won;
                }
            }
        }
        sums
    }
}

struct Look<'a> {
    inside: &'a mut Vec<u32>,
    live: &'a Live,
    times: &'a [i64],
}

impl WithSimd for Look<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Look { inside, live, times } = self;
        inside.resize(times.len(), 0);
        for (inside, time) in inside.iter_mut().zip(times) {
            *inside = u32::from(!live.contains(*time)).wrapping_sub(1);
        }
    }
}

struct Within<'a> {
    won: &'a PerHead<Vec<u32>>,
    inside: &'a [u32],
}

impl WithSimd for Within<'_> {
    type Output = PerHead<u32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> PerHead<u32> {
        let mut sums = [0; _];
        for (sum, won) in sums.iter_mut().zip(self.won) {
            for (won, inside) in won.iter().zip(self.inside) {
                *sum += won & inside;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn impressions() -> impl Strategy<Value = Vec<Impression>> {
        // Few scores and times, so that ties and edges of windows come up.
        let logit = || prop_oneof![4 => (-3_i8..3).prop_map(f32::from), 1 => Just(f32::NAN)];
        let one = (-20_i64..20, any::<bool>(), [logit(), logit(), logit()]);
        prop::collection::vec(one.prop_map(|(time, label, logits)| Impression { time, label, logits }), 1..70)
    }

    proptest! {
        #[test]
        fn pairs_are_those_that_one_by_one_would_find(mut kept in impressions(), id in -3_i64..3, len_ms in 1_i64..15, leaving in 0_usize..3) {
            let one = kept.pop().unwrap();
            let mut columns = Impressions::default();
            kept.iter().for_each(|kept| columns.push(kept));
            let mut pairwise = Pairwise::default();
            pairwise.look(&[None, Some(Live { id, len_ms })], &columns);
            for _ in 0..=leaving {
                let expected = |counts: &dyn Fn(&Impression) -> bool| -> PerHead<u32> {
                    std::array::from_fn(|head| {
                        let others = kept.iter().filter(|kept| kept.label != one.label && counts(kept));
                        let [pos, neg] = if one.label { [0, 1] } else { [1, 0] };
                        let pairs = others.map(|other| [one.logits[head], other.logits[head]]);
                        pairs.map(|pair| if pair[pos] > pair[neg] { 2 } else { u32::from(pair[pos] == pair[neg]) }).sum()
                    })
                };
                prop_assert_eq!(pairwise.twice_won(&one, &columns), expected(&|_| true));
                prop_assert_eq!(pairwise.twice_won_in(1), expected(&|kept| kept.time.div_euclid(len_ms) == id));
                if columns.pop_oldest().is_none() {
                    break;
                }
                kept.remove(0);
            }
        }
    }
}
