use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::domain::Sample;

/// Which unclicked impressions are trained where there are more than needed: each is kept with probability r, drawn from what it is and a
/// seed, so that a replay keeps the same ones. Clicked ones are all kept.
///
/// The odds of a click among what is kept are 1/r times those of the stream: `P(1|x) / (r · P(0|x))`. So nets that are trained on their
/// logit − ln r have the stream's own odds in the logit itself, which is what is served (He et al. 2014, "Practical Lessons from Predicting
/// Clicks on Ads at Facebook", section 6.3; there the served probability is corrected instead).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NegativeSampling {
    /// r.
    keep: f64,
    seed: u64,
}

impl NegativeSampling {
    /// Keeps a share of `keep` of the negatives.
    #[must_use]
    pub fn new(keep: f64, seed: u64) -> Self {
        NegativeSampling { keep, seed }
    }

    /// Drawn from the impression id; where there is none, from where the impression was read.
    pub(crate) fn keeps(&self, sample: &Sample) -> bool {
        if sample.label || self.keep >= 1.0 {
            return true;
        }
        let hash = match (sample.impression, sample.origins.first()) {
            (Some(impression), _) => xxh3_64_with_seed(&impression.0.to_le_bytes(), self.seed),
            (None, Some(origin)) => {
                let place = (u128::from(origin.partition.0) << 64) | u128::from(origin.offset.unsigned_abs());
                xxh3_64_with_seed(&place.to_le_bytes(), self.seed)
            }
            (None, None) => return true,
        };
        // The upper 53 bits fill an f64's mantissa exactly.
        ((hash >> 11) as f64) < self.keep * (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{EventTime, ImpressionId, Origin, PartitionIndex, Stage, UserId};

    fn sample(number: u64, impression: Option<u128>, label: bool) -> Sample {
        Sample {
            origins: vec![Origin { partition: PartitionIndex((number % 3) as u32), offset: number as i64 }],
            time: EventTime(number as i64),
            impression: impression.map(ImpressionId),
            user: UserId("u".into()),
            label,
            stage: Stage::Final,
            fields: Box::default(),
        }
    }

    fn kept(keep: f64, seed: u64, with_id: bool) -> Vec<u64> {
        let sampling = NegativeSampling::new(keep, seed);
        (0..20_000).filter(|n| sampling.keeps(&sample(*n, with_id.then_some(u128::from(*n)), false))).collect()
    }

    #[test]
    fn the_share_is_kept_and_the_same_ones_again() {
        for with_id in [true, false] {
            for keep in [0.02, 0.3, 0.9] {
                let first = kept(keep, 7, with_id);
                let expected = 20_000.0 * keep;
                assert!((first.len() as f64 - expected).abs() < 5.0 * (expected * (1.0 - keep)).sqrt(), "{} of {expected}", first.len());
                assert_eq!(first, kept(keep, 7, with_id));
                assert_ne!(first, kept(keep, 8, with_id));
            }
            assert_eq!(kept(1.0, 7, with_id).len(), 20_000);
        }
    }

    #[test]
    fn an_impression_is_kept_or_not_wherever_it_is_read_and_a_click_always_is() {
        let sampling = NegativeSampling::new(0.5, 1);
        for id in 0..200 {
            let keeps = |offset| sampling.keeps(&sample(offset, Some(id), false));
            assert_eq!(keeps(5), keeps(11));
            assert!(NegativeSampling::new(1e-12, 1).keeps(&sample(id as u64, Some(id), true)));
        }
    }
}
