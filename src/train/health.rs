use crate::domain::Label;
use crate::nets::{Scores, logloss};

/// Samples after which what was seen counts half: the noise of a lead over that many is well below [`FULL_LEAD`], and a drift of hours
/// is followed within hours on a stream of a few events a second.
const HALF_LIFE: f64 = 50_000.0;
/// Share of light's logloss that the booster has to save for the whole λ. Published gains of better click nets begin at about this.
const FULL_LEAD: f64 = 0.002;
/// Samples to see before the lead is believed.
const EVIDENCE: f64 = HALF_LIFE / 2.0;

/// What the hint is worth now: how much of light's logloss the booster saves, over a fading past.
///
/// After a batch of n samples with mean prequential loglosses h_L and h_B, with d = 2^(−n / 50 000):
///
/// W ← d·W + n;  L ← d·L + n·h_L;  B ← d·B + n·h_B
///
/// λ of the next batch is `weight · min(1, max(0, (L − B) / L) / 0.002)`, and `weight` while W < 25 000.
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Health {
    samples: f64,
    light: f64,
    booster: f64,
}

impl Health {
    /// Takes a batch's prequential scores; without both heads there is nothing to compare.
    pub(super) fn observe(&mut self, labels: &[Label], scores: &Scores) {
        let (Some(light), Some(booster)) = (&scores.light, &scores.booster) else { return };
        let rows = labels.len() as f64;
        let fade = (-rows / HALF_LIFE).exp2();
        self.samples = fade * self.samples + rows;
        self.light = fade * self.light + rows * logloss(labels, light);
        self.booster = fade * self.booster + rows * logloss(labels, booster);
    }

    /// What λ is multiplied by, 0 to 1.
    pub(super) fn factor(&self) -> f64 {
        if self.samples < EVIDENCE {
            return 1.0;
        }
        let saved = self.light - self.booster;
        if saved > 0.0 { (saved / self.light / FULL_LEAD).min(1.0) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 1000;

    /// Batches of one click in two, light at logit 0, the booster at ±`logit` on the right side.
    fn observe(health: &mut Health, batches: usize, logit: f32) {
        let labels: Vec<bool> = (0..ROWS).map(|row| row % 2 == 0).collect();
        let booster = labels.iter().map(|label| if *label { logit } else { -logit }).collect();
        let scores = Scores { light: Some(vec![0.0; ROWS]), booster: Some(booster), ..Scores::default() };
        (0..batches).for_each(|_| health.observe(&labels, &scores));
    }

    #[test]
    fn lambda_is_whole_until_there_is_evidence() {
        let mut health = Health::default();
        observe(&mut health, 20, -1.0);
        assert_eq!(health.factor(), 1.0);
        observe(&mut health, 20, -1.0);
        assert_eq!(health.factor(), 0.0);
    }

    #[test]
    fn it_falls_when_the_lead_goes_and_rises_when_it_comes_back() {
        let mut health = Health::default();
        observe(&mut health, 100, 0.5);
        assert_eq!(health.factor(), 1.0);
        let mut before = 1.0;
        for _ in 0..20 {
            observe(&mut health, 50, 0.0);
            assert!(health.factor() <= before);
            before = health.factor();
        }
        assert!(before < 0.01, "without a lead it came only to {before}");
        observe(&mut health, 200, -0.5);
        assert_eq!(health.factor(), 0.0, "light is better than the booster");
        observe(&mut health, 1000, 0.5);
        assert_eq!(health.factor(), 1.0);
    }

    #[test]
    fn a_small_lead_is_worth_its_share() {
        // ln(1 + e^−x) at a small x is ln 2 − x/2: a lead of x / (2 ln 2).
        let mut health = Health::default();
        let half = FULL_LEAD / 2.0 * 2.0 * 2.0_f64.ln();
        observe(&mut health, 300, half as f32);
        assert!((health.factor() - 0.5).abs() < 1e-3, "{}", health.factor());
    }

    #[test]
    fn a_light_net_without_loss_needs_no_hint() {
        let mut health = Health::default();
        let perfect = Scores { light: Some(vec![1e4; ROWS]), booster: Some(vec![1e4; ROWS]), ..Scores::default() };
        (0..100).for_each(|_| health.observe(&[true; ROWS], &perfect));
        assert_eq!(health.factor(), 0.0);
    }
}
