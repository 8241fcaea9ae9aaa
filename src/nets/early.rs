//! Weights that undo what it does to labels to train an impression before its label is final.
//!
//! x is an example, y its final label, p = P(y = 1 | x). What is trained is not drawn from P but from a distribution Q, in which a clicked
//! impression may be a negative first and a positive later. Cross-entropy under Q with weights P(y | x) / Q(y | x) has its minimum where
//! cross-entropy under P has it (importance sampling); the weights hold models of what they need, and no gradient goes through them.
//!
//! **FNW** (Ktena et al. 2019, "Addressing Delayed Feedback for Continuous Training with Neural Networks in CTR prediction"): per impression
//! one negative, and a positive with probability p. So Q(1 | x) = p / (1 + p) and Q(0 | x) = 1 / (1 + p): positives weigh 1 + p, negatives
//! (1 − p)(1 + p). Each head has its own p, the probability that it predicts.
//!
//! **ES-DFM** (Yang et al. 2021, "Capturing Delayed Feedback in Conversion Rate Prediction via Elapsed-Time Sampling"): clicks within a wait
//! come first as positives. With `p_dp` the probability of a click after the wait, an impression is observed as negative first with
//! probability 1 − p + p_dp, and as positive, sooner or later, with p: 1 + p_dp samples. So Q(1 | x) = p / (1 + p_dp) and Q(0 | x) =
//! (1 − p + p_dp) / (1 + p_dp): positives weigh 1 + p_dp, negatives (1 + p_dp) · p_rn, where p_rn = (1 − p) / (1 − p + p_dp) is the
//! probability that an observed negative is a real one.
//!
//! Two heads more learn what ES-DFM needs, from the same samples. Their odds are ratios of how often two kinds of samples come:
//!
//! | head | 0 | 1 | odds |
//! |---|---|---|---|
//! | delayed positive | an impression's first sample: once | its second: p_dp times | p_dp |
//! | fake negative | an observed negative: 1 − p + p_dp times | the second sample: p_dp times | p_dp / (1 − p + p_dp) = 1 − p_rn |
//!
//! Neither can be above 1, so they are clipped there. Both heads stand on the stopped trunk: they move nothing but themselves.

use super::Targets;
use crate::config::EarlyLabels;
use crate::domain::Label;

/// Something of both heads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delays<T> {
    /// Of the head whose odds are p_dp.
    pub delayed_positive: T,
    /// Of the head whose odds are 1 − p_rn.
    pub fake_negative: T,
}

impl<T> Delays<T> {
    /// The same of both.
    #[must_use]
    pub fn map<U>(self, of: impl Fn(T) -> U) -> Delays<U> {
        Delays { delayed_positive: of(self.delayed_positive), fake_negative: of(self.fake_negative) }
    }
}

/// How much a row's cross-entropy counts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Importance {
    /// One like the other: every label is final.
    Equal,
    /// By what the head itself predicts.
    Fnw,
    /// By what the heads for it predict, `[rows]`.
    EsDfm(Vec<f64>),
}

impl Importance {
    /// `delays`: the logits of the heads that ES-DFM needs.
    pub(super) fn new(early: Option<EarlyLabels>, targets: &Targets<'_>, delays: Option<&Delays<Vec<f32>>>) -> Self {
        match (early, delays) {
            (None, _) | (Some(EarlyLabels::EsDfm), None) => Importance::Equal,
            (Some(EarlyLabels::Fnw), _) => Importance::Fnw,
            (Some(EarlyLabels::EsDfm), Some(Delays { delayed_positive, fake_negative })) => {
                let odds = delayed_positive.iter().zip(fake_negative).map(|(d, f)| [*d, *f].map(|x| f64::from(x).exp().min(1.0)));
                let weight = |(label, [p_dp, fake]): (&Label, [f64; 2])| (1.0 + p_dp) * if *label { 1.0 } else { 1.0 - fake };
                Importance::EsDfm(targets.labels.iter().zip(odds).map(weight).collect())
            }
        }
    }

    /// Of a row to which the head gives the probability `p`.
    pub(super) fn of(&self, row: usize, label: Label, p: f64) -> f64 {
        match self {
            Importance::Equal => 1.0,
            Importance::Fnw => (1.0 + p) * if label { 1.0 } else { 1.0 - p },
            Importance::EsDfm(weights) => weights[row],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LABELS: [Label; 2] = [true, false];

    /// By heads that know both, of a positive and a negative.
    fn es_dfm(p_dp: f64, p_rn: f64) -> [f64; 2] {
        let logits = |odds: f64| vec![odds.ln() as f32; 2];
        let delays = Delays { delayed_positive: logits(p_dp), fake_negative: logits(1.0 - p_rn) };
        let importance = Importance::new(Some(EarlyLabels::EsDfm), &Targets::from(&LABELS), Some(&delays));
        [importance.of(0, true, 0.9), importance.of(1, false, 0.1)]
    }

    #[test]
    fn weights_are_those_of_the_formulas() {
        let fnw = Importance::new(Some(EarlyLabels::Fnw), &Targets::from(&LABELS), None);
        assert_eq!([fnw.of(0, true, 0.25), fnw.of(1, false, 0.25)], [1.25, 1.25 * 0.75]);
        let [positive, negative] = es_dfm(0.3, 0.6);
        assert!((positive - 1.3).abs() < 1e-7 && (negative - 1.3 * 0.6).abs() < 1e-7, "{positive} {negative}");
        let plain = Importance::new(None, &Targets::from(&LABELS), None);
        assert_eq!([plain.of(0, true, 0.25), plain.of(1, false, 0.25)], [1.0, 1.0]);
    }

    #[test]
    fn odds_above_one_are_clipped() {
        assert_eq!(es_dfm(7.0, -2.0), [2.0, 0.0]);
        assert_eq!(es_dfm(f64::INFINITY, 1.0), [2.0, 2.0]);
    }

    #[test]
    fn weighted_odds_of_what_is_observed_are_the_true_odds() {
        for p in [0.02, 0.3, 0.9] {
            let (truth, fnw) = (p / (1.0 - p), Importance::Fnw);
            // Per impression: how often it comes as a positive, as a negative.
            let odds = |often: [f64; 2], [positive, negative]: [f64; 2]| often[0] * positive / (often[1] * negative);
            assert!((odds([p, 1.0], [fnw.of(0, true, p), fnw.of(0, false, p)]) / truth - 1.0).abs() < 1e-12);
            for share in [0.1, 0.8] {
                let p_dp = p * share;
                let weights = es_dfm(p_dp, (1.0 - p) / (1.0 - p + p_dp));
                assert!((odds([p, 1.0 - p + p_dp], weights) / truth - 1.0).abs() < 1e-5, "{p} {share}");
            }
        }
    }
}
