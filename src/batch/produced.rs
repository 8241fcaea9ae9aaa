/// Moments closer than this are one: far below what freshness is counted in.
const FINEST_MS: i64 = 10;
/// Moments told apart. Where they span more time they are longer: a 255th of it at most.
const MOMENTS_MAX: usize = 512;

/// When samples were complete: how many in which moment of the wall clock. Its size is bounded, however many there are and however far apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Produced {
    /// A moment is `FINEST_MS << doublings` long.
    doublings: u32,
    /// Samples by the number of their moment, rising.
    counts: Vec<(i64, u64)>,
}

impl Produced {
    /// One more sample, complete at `at_ms`.
    pub fn add(&mut self, at_ms: i64) {
        self.count(at_ms.div_euclid(self.moment_ms()), 1);
    }

    /// Those of `other` too.
    pub fn merge(&mut self, other: &Self) {
        self.coarsen_to(other.doublings);
        for (moment, samples) in &other.counts {
            // Asked for each: counting the one before may have made moments longer.
            self.count(moment >> (self.doublings - other.doublings), *samples);
        }
    }

    /// Milliseconds from each moment's beginning to `now_ms`, none below zero, and how many samples are of that age.
    pub fn ages(&self, now_ms: i64) -> impl Iterator<Item = (i64, u64)> {
        let length = self.moment_ms();
        self.counts.iter().map(move |(moment, samples)| (now_ms.saturating_sub(moment.saturating_mul(length)).max(0), *samples))
    }

    fn moment_ms(&self) -> i64 {
        FINEST_MS << self.doublings
    }

    fn count(&mut self, moment: i64, samples: u64) {
        match self.counts.last_mut() {
            // As they mostly come.
            Some((last, count)) if *last == moment => *count += samples,
            _ => match self.counts.binary_search_by_key(&moment, |(known, _)| *known) {
                Ok(place) => self.counts[place].1 += samples,
                Err(place) => self.counts.insert(place, (moment, samples)),
            },
        }
        while self.counts.len() > MOMENTS_MAX {
            self.coarsen_to(self.doublings + 1);
        }
    }

    fn coarsen_to(&mut self, doublings: u32) {
        let Some(shift) = doublings.checked_sub(self.doublings).filter(|shift| *shift > 0) else { return };
        self.doublings = doublings;
        self.counts.iter_mut().for_each(|(moment, _)| *moment >>= shift);
        self.counts.dedup_by(|(moment, samples), (kept, count)| {
            let same = moment == kept;
            if same {
                *count += *samples;
            }
            same
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(times: &[i64]) -> Produced {
        let mut produced = Produced::default();
        times.iter().for_each(|at_ms| produced.add(*at_ms));
        produced
    }

    #[test]
    fn ages_are_exact_to_a_moment_and_never_negative() {
        let produced = of(&[1_000, 1_009, 1_010, 995, 2_000]);
        assert_eq!(produced.ages(1_500).collect::<Vec<_>>(), [(510, 1), (500, 2), (490, 1), (0, 1)]);
        assert_eq!(Produced::default().ages(0).count(), 0);
    }

    #[test]
    fn any_time_that_a_record_can_bear_is_counted() {
        let times: Vec<i64> = (-1_000..=1_000).map(|n| n * (i64::MAX / 1_000)).chain([i64::MIN, i64::MAX]).collect();
        let produced = of(&times);
        assert_eq!(produced.ages(0).map(|(_, samples)| samples).sum::<u64>(), 2_003);
        assert!(produced.counts.len() <= MOMENTS_MAX);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_age_is_off_by_more_than_a_part_of_the_span(
            times in prop::collection::vec(0i64..100_000_000, 1..3_000),
            cut in 0usize..3_000,
        ) {
            let cut = cut.min(times.len());
            let mut produced = of(&times[..cut]);
            produced.merge(&of(&times[cut..]));
            prop_assert!(produced.counts.len() <= MOMENTS_MAX);
            prop_assert!(produced.counts.is_sorted_by(|a, b| a.0 < b.0));

            let mut sorted = times.clone();
            sorted.sort_unstable();
            let span = sorted[sorted.len() - 1] - sorted[0];
            let now_ms = 100_000_000;
            let ages: Vec<i64> = produced.ages(now_ms).flat_map(|(age, samples)| std::iter::repeat_n(age, samples as usize)).collect();
            prop_assert_eq!(ages.len(), sorted.len());
            for (age, at_ms) in ages.iter().zip(sorted) {
                let late = age - (now_ms - at_ms);
                prop_assert!((0..FINEST_MS.max(span / 255)).contains(&late), "off by {} of {}", late, span);
            }
        }
    }
}
