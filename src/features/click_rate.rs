/// Numbers that a click rate feeds to the nets.
pub const CLICK_RATE_INPUTS: usize = 2;
/// Counts are halved when they reach this: old ones fade, and f32 goes on counting by ones, which it does up to 2²⁴.
const IMPRESSIONS_MAX: f32 = 8_388_608.0;

/// Impressions, and the clicks among them, counted under one key.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Impressions.
    pub impressions: f32,
    /// Of them clicked.
    pub clicks: f32,
}

impl Counts {
    /// One more impression.
    pub fn add(&mut self, clicked: bool) {
        if self.impressions >= IMPRESSIONS_MAX {
            self.impressions /= 2.0;
            self.clicks /= 2.0;
        }
        self.impressions += 1.0;
        self.clicks += f32::from(u8::from(clicked));
    }

    /// The click of an impression counted before; never more clicks than impressions.
    pub fn add_click(&mut self) {
        self.clicks = (self.clicks + 1.0).min(self.impressions);
    }

    /// Laplace's estimate, `(clicks + 1) / (impressions + 2)`: above 0 and below 1.
    fn rate(self) -> f32 {
        (self.clicks + 1.0) / (self.impressions + 2.0)
    }
}

/// What the nets are told of a past click rate: how far it is from the stream's own, and how much is known of it.
///
/// With p the rate of the whole stream and r the rate of `counts` drawn towards p as by `prior` impressions at that rate,
/// `r = (clicks + prior·p) / (impressions + prior)`:
/// `[ln(r / (1 − r)) − ln(p / (1 − p)), ln(1 + impressions / prior)]`. Nothing counted gives `[0, 0]`.
///
/// Target encoding with an empirical prior (Micci-Barreca 2001), from counts that are older than the example.
#[must_use]
pub fn click_rate_inputs(counts: Counts, stream: Counts, prior: f32) -> [f32; CLICK_RATE_INPUTS] {
    if counts.impressions <= 0.0 {
        return [0.0; CLICK_RATE_INPUTS];
    }
    let p = stream.rate();
    let clicks = counts.clicks + prior * p;
    let others = counts.impressions - counts.clicks + prior * (1.0 - p);
    [(clicks / others).ln() - (p / (1.0 - p)).ln(), (counts.impressions / prior).ln_1p()]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(impressions: u32, clicks: u32) -> Counts {
        Counts { impressions: impressions as f32, clicks: clicks as f32 }
    }

    #[test]
    fn says_how_far_from_the_stream_and_how_sure() {
        let stream = counts(998, 99);
        assert_eq!(click_rate_inputs(Counts::default(), stream, 20.0), [0.0, 0.0]);
        let [same, _] = click_rate_inputs(counts(1000, 100), stream, 20.0);
        assert!(same.abs() < 1e-5, "{same}");
        let [often, sure] = click_rate_inputs(counts(20, 20), stream, 20.0);
        // r = (20 + 2) / 40.
        let expected = (22.0_f64 / 18.0).ln() - (0.1_f64 / 0.9).ln();
        assert!((f64::from(often) - expected).abs() < 1e-5, "{often} against {expected}");
        assert!((sure - 2_f32.ln()).abs() < 1e-6);
        assert!(click_rate_inputs(counts(20, 0), stream, 20.0)[0] < 0.0);
    }

    #[test]
    fn counts_fade_where_f32_would_stop_counting() {
        let mut counts = Counts { impressions: IMPRESSIONS_MAX, clicks: IMPRESSIONS_MAX / 4.0 };
        counts.add(true);
        assert_eq!(counts, Counts { impressions: IMPRESSIONS_MAX / 2.0 + 1.0, clicks: IMPRESSIONS_MAX / 8.0 + 1.0 });
        counts.add(false);
        assert_eq!(counts.impressions, IMPRESSIONS_MAX / 2.0 + 2.0);
    }

    proptest! {
        #[test]
        fn is_finite_and_rises_with_clicks(
            impressions in 1u32..8_000_000, share in 0.0..1.0_f64, seen in 0u32..8_000_000, clicked in 0.0..1.0_f64, prior in 0.01..1e4_f32
        ) {
            let part = |whole: u32, share: f64| (f64::from(whole) * share) as u32;
            let stream = counts(seen, part(seen, clicked));
            let clicks = part(impressions, share);
            let few = click_rate_inputs(counts(impressions, clicks), stream, prior);
            prop_assert!(few.iter().all(|x| x.is_finite()), "{:?}", few);
            if clicks < impressions {
                let more = click_rate_inputs(counts(impressions, clicks + 1), stream, prior);
                prop_assert!(more[0] >= few[0] && more[1] == few[1]);
            }
        }
    }
}
