use serde::{Deserialize, Serialize};

use super::adwin::{Adwin, Change};
use super::impressions::Impression;
use super::report::{DriftReport, Rise};
use super::totals::negative_log_likelihood;
use crate::domain::Head;

/// A loss above it counts as it: ADWIN needs a bound. In nats; the loss of a click that was given one chance in three thousand.
const LOSS_MAX: f64 = 8.0;

/// Watches the log loss of the head that is served (the booster's where there is no light).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Drift {
    window: Adwin,
    rises: u64,
    last: Option<Rise>,
}

impl Drift {
    /// Takes an impression; says when the loss has risen. A fall moves the window and is no event: models get better.
    pub(super) fn add(&mut self, impression: &Impression, delta: f64) -> Option<Rise> {
        let logits = [Head::Light, Head::Booster].map(|head| impression.logits[head.index()]);
        let logit = logits.into_iter().find(|logit| !logit.is_nan()).filter(|_| delta > 0.0)?;
        let loss = negative_log_likelihood(f64::from(logit), impression.label).min(LOSS_MAX);
        let Change { before, after } = self.window.add(loss / LOSS_MAX, delta)?;
        if after <= before {
            return None;
        }
        self.rises += 1;
        self.last = Some(Rise { time_ms: impression.time, before: before * LOSS_MAX, after: after * LOSS_MAX });
        self.last
    }

    pub(super) fn report(&self) -> DriftReport {
        DriftReport { rises: self.rises, last: self.last }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every fourth impression is clicked; the model says so, or the opposite.
    fn impression(number: i64, right: bool) -> Impression {
        let label = number % 4 == 0;
        let logit = if label == right { 1.0 } else { -1.0 };
        Impression { time: number, label, logits: [logit, f32::NAN, f32::NAN] }
    }

    #[test]
    fn a_model_that_goes_wrong_is_one_event_and_one_that_gets_better_none() {
        let mut drift = Drift::default();
        let rises: Vec<Rise> = (0..30_000).filter_map(|n| drift.add(&impression(n, !(10_000..20_000).contains(&n)), 0.002)).collect();
        let first = rises.first().expect("it went wrong");
        assert!((10_000..10_100).contains(&first.time_ms), "{first:?}");
        let [right, wrong] = [-1.0_f64, 1.0].map(|x| (1.0 + x.exp()).ln());
        assert!((first.before - right).abs() < 0.01 && first.after > right && rises.iter().all(|rise| rise.time_ms < 20_000), "{rises:?}");
        assert!(rises[rises.len() - 1].after <= wrong);
        assert_eq!(drift.report(), DriftReport { rises: rises.len() as u64, last: rises.last().copied() });
    }

    #[test]
    fn without_light_the_booster_is_watched_and_without_a_delta_nothing() {
        let of_booster = |n| Impression { logits: [f32::NAN, impression(n, n < 5000).logits[0], f32::NAN], ..impression(n, true) };
        let rises = |delta| {
            let mut drift = Drift::default();
            (0..10_000).filter(|n| drift.add(&of_booster(*n), delta).is_some()).count()
        };
        assert!(rises(0.002) > 0);
        assert_eq!(rises(0.0), 0);
    }
}
