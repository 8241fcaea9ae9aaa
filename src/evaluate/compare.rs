//! Two models on the same samples: is one better than the other by more than chance?
//!
//! Everything is paired: both have scored each sample, and what is looked at is the difference, whose standard error is that of the
//! difference and so much smaller than that of either figure.

use std::collections::BTreeMap;

/// A sample that two models, `a` and `b`, have scored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Paired<'a> {
    /// Who saw it.
    pub user: &'a str,
    /// Clicked or not.
    pub label: bool,
    /// Samples of the stream that it stands for; above 0.
    pub weight: f64,
    /// Logits of `a` and of `b`, finite.
    pub logits: [f64; 2],
}

/// A figure of each, and how sure their difference is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Of `a` and of `b`.
    pub of: [f64; 2],
    /// Standard error of `of[0] − of[1]`.
    pub stderr: f64,
}

impl Comparison {
    /// `of[0] − of[1]`.
    #[must_use]
    pub fn difference(&self) -> f64 {
        self.of[0] - self.of[1]
    }
}

/// Mean negative log likelihood, nats: with weights w and the losses' difference d, D = Σwd / Σw and its standard error √(Σw²(d − D)²) / Σw.
/// `None` without samples.
#[must_use]
pub fn logloss(samples: &[Paired<'_>]) -> Option<Comparison> {
    let lines = samples.iter().map(|sample| (sample.weight, sample.logits.map(|logit| loss(logit, sample.label))));
    weighted_mean(&lines.collect::<Vec<_>>())
}

/// Area under the ROC curve, and the standard error of the difference of two correlated ones by DeLong, DeLong and Clarke-Pearson 1988, in
/// the form of Sun and Xu 2014 (ranks instead of pairs). `None` unless each class has two samples.
#[must_use]
pub fn auc(samples: &[Paired<'_>]) -> Option<Comparison> {
    let split = |class: bool, model: usize| -> Vec<f64> {
        samples.iter().filter(|sample| sample.label == class).map(|sample| sample.logits[model]).collect()
    };
    let [a, b] = [0, 1].map(|model| placements(&split(true, model), &split(false, model)));
    let ((a_clicked, a_others), (b_clicked, b_others)) = (a, b);
    let variance = variance_of_difference(&a_clicked, &b_clicked)? / a_clicked.len() as f64
        + variance_of_difference(&a_others, &b_others)? / a_others.len() as f64;
    Some(Comparison { of: [mean(&a_clicked), mean(&b_clicked)], stderr: variance.sqrt() })
}

/// GAUC = Σwa / Σw over users with both classes, w the user's samples, a the user's AUC (weights of samples play no part in it: they are
/// the same within a class). The error is that of [`logloss`] over users. `None` unless two users have both classes.
#[must_use]
pub fn gauc(samples: &[Paired<'_>]) -> Option<Comparison> {
    let mut users: BTreeMap<&str, Vec<&Paired<'_>>> = BTreeMap::new();
    for sample in samples {
        users.entry(sample.user).or_default().push(sample);
    }
    let lines: Vec<(f64, [f64; 2])> = users
        .values()
        .filter(|samples| samples.iter().any(|sample| sample.label) && samples.iter().any(|sample| !sample.label))
        .map(|samples| {
            let of = [0, 1].map(|model| {
                let split =
                    |class: bool| samples.iter().filter(|sample| sample.label == class).map(|sample| sample.logits[model]).collect();
                let (clicked, others): (Vec<f64>, Vec<f64>) = (split(true), split(false));
                mean(&placements(&clicked, &others).0)
            });
            (samples.len() as f64, of)
        })
        .collect();
    if lines.len() < 2 { None } else { weighted_mean(&lines) }
}

/// Clicks that model `a` predicts over those that happened, and the standard error of that as if `a` were right: √(Σw²p(1 − p)) over the
/// clicks. `None` without a click.
#[must_use]
pub fn calibration(samples: &[Paired<'_>]) -> Option<(f64, f64)> {
    let (mut predicted, mut clicks, mut variance) = (0.0, 0.0, 0.0);
    for sample in samples {
        let p = 1.0 / (1.0 + (-sample.logits[0]).exp());
        predicted += sample.weight * p;
        clicks += if sample.label { sample.weight } else { 0.0 };
        variance += sample.weight * sample.weight * p * (1.0 - p);
    }
    (clicks > 0.0).then(|| (predicted / clicks, variance.sqrt() / clicks))
}

/// Root of the mean squared difference of the two logits; `None` without samples.
#[must_use]
pub fn change(samples: &[Paired<'_>]) -> Option<f64> {
    let squares = samples.iter().map(|sample| (sample.logits[0] - sample.logits[1]).powi(2));
    (!samples.is_empty()).then(|| (squares.sum::<f64>() / samples.len() as f64).sqrt())
}

/// −ln P(label), without overflow.
fn loss(logit: f64, label: bool) -> f64 {
    let against = if label { -logit } else { logit };
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

fn weighted_mean(lines: &[(f64, [f64; 2])]) -> Option<Comparison> {
    let total: f64 = lines.iter().map(|(weight, _)| weight).sum();
    let of = [0, 1].map(|model| lines.iter().map(|(weight, of)| weight * of[model]).sum::<f64>() / total);
    let difference = of[0] - of[1];
    let squares: f64 = lines.iter().map(|(weight, of)| (weight * (of[0] - of[1] - difference)).powi(2)).sum();
    (total > 0.0).then(|| Comparison { of, stderr: squares.sqrt() / total })
}

/// Of each clicked sample the share of the others that it is ranked above, of each other the share of the clicked ones that are ranked above
/// it; ties count half. The mean of either is the AUC.
fn placements(clicked: &[f64], others: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let all: Vec<f64> = clicked.iter().chain(others).copied().collect();
    let among_all = midranks(&all);
    let (of_clicked, of_others) = among_all.split_at(clicked.len());
    let below = of_clicked.iter().zip(midranks(clicked)).map(|(all, own)| (all - own) / others.len() as f64);
    let above = of_others.iter().zip(midranks(others)).map(|(all, own)| 1.0 - (all - own) / clicked.len() as f64);
    (below.collect(), above.collect())
}

/// Rank of each, from 1 on; those that are equal share the mean of theirs.
fn midranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*a].total_cmp(&values[*b]));
    let mut ranks = vec![0.0; values.len()];
    let mut before = 0;
    for equal in order.chunk_by(|a, b| values[*a] == values[*b]) {
        let rank = before as f64 + (equal.len() as f64 + 1.0) / 2.0;
        equal.iter().for_each(|index| ranks[*index] = rank);
        before += equal.len();
    }
    ranks
}

/// Of the sample; `None` for fewer than two.
fn variance_of_difference(a: &[f64], b: &[f64]) -> Option<f64> {
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let centre = mean(&differences);
    (differences.len() > 1).then(|| differences.iter().map(|value| (value - centre).powi(2)).sum::<f64>() / (differences.len() - 1) as f64)
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paired(user: &str, label: bool, weight: f64, logits: [f64; 2]) -> Paired<'_> {
        Paired { user, label, weight, logits }
    }

    /// Share of pairs won.
    fn auc_of_pairs(samples: &[Paired<'_>], model: usize) -> Option<f64> {
        let (mut won, mut pairs) = (0.0, 0.0);
        for clicked in samples.iter().filter(|sample| sample.label) {
            for other in samples.iter().filter(|sample| !sample.label) {
                won += psi(clicked.logits[model], other.logits[model]);
                pairs += 1.0;
            }
        }
        (pairs > 0.0).then(|| won / pairs)
    }

    fn psi(clicked: f64, other: f64) -> f64 {
        if clicked > other {
            1.0
        } else if clicked == other {
            0.5
        } else {
            0.0
        }
    }

    /// DeLong as it was published: the matrix of all pairs.
    fn delong_of_pairs(samples: &[Paired<'_>]) -> f64 {
        let (clicked, others): (Vec<&Paired<'_>>, Vec<&Paired<'_>>) = samples.iter().partition(|sample| sample.label);
        let d = |c: &Paired<'_>, o: &Paired<'_>| psi(c.logits[0], o.logits[0]) - psi(c.logits[1], o.logits[1]);
        let rows: Vec<f64> = clicked.iter().map(|c| others.iter().map(|o| d(c, o)).sum::<f64>() / others.len() as f64).collect();
        let columns: Vec<f64> = others.iter().map(|o| clicked.iter().map(|c| d(c, o)).sum::<f64>() / clicked.len() as f64).collect();
        let part = |values: &[f64]| {
            let centre = values.iter().sum::<f64>() / values.len() as f64;
            values.iter().map(|v| (v - centre) * (v - centre)).sum::<f64>() / (values.len() - 1) as f64 / values.len() as f64
        };
        (part(&rows) + part(&columns)).sqrt()
    }

    fn any_samples() -> impl Strategy<Value = Vec<(u8, bool, f64, [i8; 2])>> {
        proptest::collection::vec((0..4_u8, any::<bool>(), 0.5..4.0_f64, [-6..6_i8, -6..6_i8]), 4..60)
    }

    proptest! {
        #[test]
        fn areas_and_their_error_are_those_of_all_pairs(rows in any_samples()) {
            let samples: Vec<_> =
                rows.iter().map(|(_, label, weight, logits)| paired("", *label, *weight, logits.map(f64::from))).collect();
            let clicks = samples.iter().filter(|sample| sample.label).count();
            let found = auc(&samples);
            prop_assert_eq!(found.is_some(), clicks > 1 && samples.len() - clicks > 1);
            if let Some(found) = found {
                for model in [0, 1] {
                    prop_assert!((found.of[model] - auc_of_pairs(&samples, model).unwrap()).abs() < 1e-12);
                }
                prop_assert!((found.stderr - delong_of_pairs(&samples)).abs() < 1e-12);
            }
        }

        #[test]
        fn gauc_weighs_each_user_by_samples(rows in any_samples()) {
            let names = ["a", "b", "c", "d"];
            let samples: Vec<_> = rows
                .iter()
                .map(|(user, label, weight, logits)| paired(names[usize::from(*user)], *label, *weight, logits.map(f64::from)))
                .collect();
            let users: Vec<(f64, [f64; 2])> = names
                .iter()
                .filter_map(|name| {
                    let own: Vec<_> = samples.iter().filter(|sample| sample.user == *name).copied().collect();
                    Some((own.len() as f64, [auc_of_pairs(&own, 0)?, auc_of_pairs(&own, 1)?]))
                })
                .collect();
            let found = gauc(&samples);
            prop_assert_eq!(found.is_some(), users.len() > 1);
            if let Some(found) = found {
                let total: f64 = users.iter().map(|(weight, _)| weight).sum();
                for model in [0, 1] {
                    let expected = users.iter().map(|(weight, of)| weight * of[model]).sum::<f64>() / total;
                    prop_assert!((found.of[model] - expected).abs() < 1e-12);
                }
            }
        }
    }

    #[test]
    fn logloss_is_that_of_the_formula() {
        let samples = [paired("", true, 1.0, [2.0, -800.0]), paired("", false, 3.0, [-1.0, 0.0])];
        let found = logloss(&samples).unwrap();
        let a = [(1.0 + (-2.0_f64).exp()).ln(), (1.0 + (-1.0_f64).exp()).ln()];
        let b = [800.0, 2.0_f64.ln()];
        assert!((found.of[0] - (a[0] + 3.0 * a[1]) / 4.0).abs() < 1e-12);
        assert!((found.of[1] - (b[0] + 3.0 * b[1]) / 4.0).abs() < 1e-12);
        let (d, mean) = ([a[0] - b[0], a[1] - b[1]], found.difference());
        let expected = ((d[0] - mean).powi(2) + 9.0 * (d[1] - mean).powi(2)).sqrt() / 4.0;
        assert!((found.stderr - expected).abs() < 1e-9);
        assert_eq!(logloss(&[]), None);
    }

    #[test]
    fn the_error_of_a_difference_is_what_samples_of_the_same_kind_scatter_by() {
        // A model and a noisier copy of it, drawn again and again.
        let mut state = 9_u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        };
        let mut differences = [Vec::new(), Vec::new()];
        let mut errors = [0.0, 0.0];
        for _ in 0..200 {
            let samples: Vec<_> = (0..300)
                .map(|_| {
                    let a = 4.0 * uniform() - 2.0;
                    let label = uniform() < 1.0 / (1.0 + (-a).exp());
                    paired("", label, 1.0, [a, a + 2.0 * uniform() - 1.0])
                })
                .collect();
            for (place, found) in [logloss(&samples).unwrap(), auc(&samples).unwrap()].into_iter().enumerate() {
                differences[place].push(found.difference());
                errors[place] += found.stderr / 200.0;
            }
        }
        for (differences, said) in differences.iter().zip(errors) {
            let centre = mean(differences);
            let scatter = (differences.iter().map(|d| (d - centre).powi(2)).sum::<f64>() / 199.0).sqrt();
            assert!((0.8..1.25).contains(&(said / scatter)), "said {said}, found {scatter}");
        }
    }

    #[test]
    fn calibration_is_predicted_over_happened() {
        let samples = [paired("", true, 1.0, [0.0, 9.0]), paired("", false, 3.0, [0.0, 9.0])];
        let (ratio, stderr) = calibration(&samples).unwrap();
        assert!((ratio - 2.0).abs() < 1e-12);
        assert!((stderr - (10.0_f64 * 0.25).sqrt()).abs() < 1e-12);
        assert_eq!(calibration(&samples[1..]), None, "nothing was clicked");
    }

    #[test]
    fn change_is_the_root_of_the_mean_square() {
        let samples = [paired("", true, 1.0, [1.0, 4.0]), paired("", false, 1.0, [0.0, -4.0])];
        assert!((change(&samples).unwrap() - 12.5_f64.sqrt()).abs() < 1e-12);
        assert_eq!(change(&[]), None);
    }
}
