//! GAUC = Σ w·a / Σ w over users with both classes; w: the user's impressions, a: the user's AUC.
//!
//! The AUC is a fixed-point number of 40 bits, A = round(a·2⁴⁰), and every sum over users is an exact integer function of w and A. So a
//! user's old part is taken away without a trace when a new one is added. The rounding moves a by at most 2⁻⁴¹ ≈ 5·10⁻¹³, and GAUC, a
//! weighted mean, by no more. The largest sum is Σ w²·A² ≤ Σ w² · 2⁸⁰ with Σ w² ≤ impressions · w: 10⁹ impressions at
//! w = 10⁴ make 2¹²⁴, and at [`crate::config::USER_IMPRESSIONS_CAP`] 2³² impressions make 2¹²⁶ of the 2¹²⁷ that an `i128` holds.

use serde::{Deserialize, Serialize};

use super::fixed::exact;
use super::user::Pairs;

/// Fractional bits of a user's AUC.
const AUC_BITS: u32 = 40;

/// One user's part in a GAUC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    weight: i128,
    auc: i128,
}

impl Part {
    /// `None` for a user with one class only.
    pub(super) fn of(pairs: &Pairs) -> Option<Part> {
        let twice_pairs = 2 * u128::from(pairs.pos) * u128::from(pairs.neg);
        (twice_pairs > 0).then(|| Part {
            weight: i128::from(pairs.rows()),
            auc: (((u128::from(pairs.twice_won) << AUC_BITS) + twice_pairs / 2) / twice_pairs) as i128,
        })
    }
}

/// Sums over users; A is the AUC · 2⁴⁰.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GaucSums {
    /// Users with both classes.
    pub(super) users: u64,
    /// Σ w.
    #[serde(with = "exact")]
    w: i128,
    /// Σ w·A.
    #[serde(with = "exact")]
    wa: i128,
    /// Σ w².
    #[serde(with = "exact")]
    w2: i128,
    /// Σ w²·A.
    #[serde(with = "exact")]
    w2a: i128,
    /// Σ w²·A².
    #[serde(with = "exact")]
    w2a2: i128,
}

impl GaucSums {
    /// A user's part changes.
    pub(super) fn replace(&mut self, old: Option<Part>, new: Option<Part>) {
        if old == new {
            return;
        }
        if let Some(part) = old {
            self.add(part, -1);
            self.users = self.users.saturating_sub(1);
        }
        if let Some(part) = new {
            self.add(part, 1);
            self.users += 1;
        }
    }

    fn add(&mut self, Part { weight, auc }: Part, sign: i128) {
        self.w += sign * weight;
        self.wa += sign * weight * auc;
        self.w2 += sign * weight * weight;
        self.w2a += sign * weight * weight * auc;
        self.w2a2 += sign * weight * weight * auc * auc;
    }

    /// `None` without users.
    pub(super) fn gauc(&self) -> Option<f64> {
        (self.users > 0).then(|| self.wa as f64 / self.w as f64 / unit_inverse())
    }

    /// Standard error of the ratio estimator: sqrt(Σ w²·(a − g)²) / Σ w. `None` without users.
    pub(super) fn stderr(&self) -> Option<f64> {
        (self.users > 0).then(|| {
            // g rounded to an integer keeps the whole sum exact: near a constant AUC its terms cancel almost wholly.
            let g = (self.wa + self.w / 2) / self.w;
            let spread = (self.w2a2 - g * self.w2a) - g * (self.w2a - g * self.w2);
            (spread as f64).sqrt() / unit_inverse() / self.w as f64
        })
    }
}

fn unit_inverse() -> f64 {
    (1_u64 << AUC_BITS) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::USER_IMPRESSIONS_CAP;

    fn part(pos: u32, neg: u32, twice_won: u32) -> Option<Part> {
        Part::of(&Pairs { pos, neg, twice_won })
    }

    #[test]
    fn what_was_added_leaves_without_a_trace() {
        let mut sums = GaucSums::default();
        sums.replace(None, part(3, 7, 11));
        let before = sums;
        for won in 0..1000 {
            sums.replace(None, part(20, 25, won));
            sums.replace(part(20, 25, won), part(21, 25, won + 7));
            sums.replace(part(21, 25, won + 7), None);
        }
        assert_eq!(sums, before);
    }

    #[test]
    fn one_user_has_no_spread_and_one_class_no_part() {
        let mut sums = GaucSums::default();
        sums.replace(None, part(1, 2, 1));
        assert!((sums.gauc().unwrap() - 0.25).abs() < 1e-12);
        assert_eq!(sums.stderr(), Some(0.0));
        assert_eq!(part(0, 5, 0), None);
        assert_eq!((GaucSums::default().gauc(), GaucSums::default().stderr()), (None, None));
    }

    #[test]
    fn the_largest_sums_fit() {
        let half = (USER_IMPRESSIONS_CAP / 2) as u32;
        let widest = part(half, half, 2 * half * half).unwrap();
        let users = (1_i128 << 32) / USER_IMPRESSIONS_CAP as i128;
        let mut sums = GaucSums { users: users as u64, ..GaucSums::default() };
        sums.add(widest, users);
        assert_eq!(sums.gauc(), Some(1.0));
        assert_eq!(sums.stderr(), Some(0.0));
    }
}
