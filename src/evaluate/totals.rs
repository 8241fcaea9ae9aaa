//! Sums over impressions and users of one stretch of time, and the figures made of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::fixed::FixedSum;
use super::gauc::{GaucSums, Part};
use super::histogram::LogitHistogram;
use super::impressions::Impression;
use super::user::Sums;
use super::{HeadReport, HintReport, PerHead};
use crate::domain::Head;

/// What a user is in a stretch of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Standing {
    seen: bool,
    one_class: bool,
    parts: PerHead<Option<Part>>,
}

impl Standing {
    /// `None`: not in it.
    pub(super) fn of(sums: Option<&Sums>) -> Standing {
        sums.map_or_else(Standing::default, |sums| {
            let parts = sums.heads.each_ref().map(Part::of);
            Standing { seen: true, one_class: parts.iter().all(Option::is_none), parts }
        })
    }
}

/// What a head's score of an impression adds to its sums: worked out once, for every stretch of time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Costs {
    /// Negative log likelihood, nats.
    loss: f64,
    /// Predicted probability.
    predicted: f64,
}

impl Costs {
    /// `None` for heads without a score.
    pub(super) fn of(impression: &Impression) -> PerHead<Option<Costs>> {
        impression.logits.map(|logit| {
            let x = f64::from(logit);
            (!x.is_nan()).then(|| Costs { loss: negative_log_likelihood(x, impression.label), predicted: sigmoid(x) })
        })
    }
}

/// One stretch of time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Totals {
    pub(super) rows: u64,
    pub(super) clicks: u64,
    pub(super) users: u64,
    pub(super) users_skipped: u64,
    heads: PerHead<HeadTotals>,
}

impl Totals {
    /// `costs` are those of the impression.
    pub(super) fn add(&mut self, impression: &Impression, costs: &PerHead<Option<Costs>>) {
        self.rows += 1;
        self.clicks += u64::from(impression.label);
        for ((head, logit), costs) in self.heads.iter_mut().zip(impression.logits).zip(costs) {
            if let Some(costs) = costs {
                head.add(logit, impression.label, costs);
            }
        }
    }

    /// A user's standing changes.
    pub(super) fn replace(&mut self, old: &Standing, new: &Standing) {
        self.users = (self.users + u64::from(new.seen)).saturating_sub(u64::from(old.seen));
        self.users_skipped = (self.users_skipped + u64::from(new.one_class)).saturating_sub(u64::from(old.one_class));
        for ((head, old), new) in self.heads.iter_mut().zip(old.parts).zip(new.parts) {
            head.gauc.replace(old, new);
        }
    }

    /// Figures of the heads that have any scores.
    pub(super) fn heads(&self) -> BTreeMap<String, HeadReport> {
        let scored = Head::ALL.iter().zip(&self.heads).filter(|(_, totals)| totals.rows > 0);
        scored.map(|(head, totals)| (head.name().to_owned(), totals.report())).collect()
    }
}

/// One head's sums.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct HeadTotals {
    rows: u64,
    clicks: u64,
    /// Σ negative log likelihood, nats.
    loss: FixedSum,
    /// Σ predicted probability.
    predicted: FixedSum,
    histogram: LogitHistogram,
    gauc: GaucSums,
}

impl HeadTotals {
    fn add(&mut self, logit: f32, label: bool, costs: &Costs) {
        self.rows += 1;
        self.clicks += u64::from(label);
        self.loss.add(costs.loss);
        self.predicted.add(costs.predicted);
        self.histogram.add(logit, label);
    }

    fn report(&self) -> HeadReport {
        let logloss = self.loss.mean(self.rows);
        HeadReport {
            auc: self.histogram.auc(),
            gauc: self.gauc.gauc(),
            gauc_users: self.gauc.users,
            gauc_stderr: self.gauc.stderr(),
            logloss,
            calibration: self.predicted.mean(self.clicks),
            ne: logloss.zip(entropy(self.clicks, self.rows)).map(|(loss, entropy)| loss / entropy),
        }
    }
}

/// Sums of hint health.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct HintTotals {
    rows: u64,
    /// Σ (l − z)².
    squares: FixedSum,
    /// Σ rows · share of the hint in the light head's gradient norm.
    share: FixedSum,
    share_rows: u64,
}

impl HintTotals {
    pub(super) fn add(&mut self, impression: &Impression, share: Option<f64>) {
        let distance = f64::from(impression.logits[Head::Light.index()]) - f64::from(impression.logits[Head::Booster.index()]);
        if !distance.is_nan() {
            self.rows += 1;
            self.squares.add(distance * distance);
        }
        if let Some(share) = share.filter(|share| share.is_finite()) {
            self.share_rows += 1;
            self.share.add(share);
        }
    }

    pub(super) fn report(&self) -> HintReport {
        HintReport { mse: self.squares.mean(self.rows), gradient_share: self.share.mean(self.share_rows) }
    }
}

/// −ln P(label) from the logit x: max(x, 0) − x·y + ln(1 + e^−|x|), which neither overflows nor cancels.
pub(super) fn negative_log_likelihood(logit: f64, label: bool) -> f64 {
    let linear = if label { (-logit).max(0.0) } else { logit.max(0.0) };
    linear + (-logit.abs()).exp().ln_1p()
}

/// 1 / (1 + e^−x), without overflow.
fn sigmoid(logit: f64) -> f64 {
    let e = (-logit.abs()).exp();
    if logit >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// Entropy of the base rate, nats; `None` where it is zero.
fn entropy(clicks: u64, rows: u64) -> Option<f64> {
    (clicks > 0 && clicks < rows).then(|| {
        let rate = clicks as f64 / rows as f64;
        -rate * rate.ln() - (1.0 - rate) * (-rate).ln_1p()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_stable_at_both_ends() {
        assert!((negative_log_likelihood(0.0, true) - std::f64::consts::LN_2).abs() < 1e-15);
        assert_eq!((negative_log_likelihood(1000.0, false), negative_log_likelihood(-1000.0, false)), (1000.0, 0.0));
        assert_eq!((sigmoid(-1000.0), sigmoid(1000.0)), (0.0, 1.0));
        assert!((sigmoid(0.3) + sigmoid(-0.3) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn one_class_leaves_calibration_and_entropy_undefined() {
        let mut totals = Totals::default();
        let impression = Impression { time: 0, label: false, logits: [0.0, f32::NAN, f32::NAN] };
        totals.add(&impression, &Costs::of(&impression));
        let heads = totals.heads();
        let light = &heads["light"];
        assert_eq!((light.auc, light.gauc, light.calibration, light.ne), (None, None, None, None));
        assert!(light.logloss.is_some());
        assert_eq!(heads.len(), 1, "a head without scores is not in the report");
    }
}
