use super::*;
use crate::config::NegativesConfig;
use crate::domain::{Origin, PartitionIndex};

const LABELS: [Label; 3] = [true, false, true];
const KINDS: [Hint; 4] = [Hint::LogitsMse, Hint::ProbMse, Hint::Kd { temperature: 4.0 }, Hint::Kd { temperature: 0.5 }];

fn rule(hint: f64, kind: Hint, gradient_block: bool) -> Rule {
    Rule { light: 1.0, booster: 1.0, control: 1.0, hint, kind, gradient_block, ..Rule::new(&TrainConfig::default()) }
}

fn scores() -> Scores {
    Scores {
        light: Some(vec![0.5, -1.25, 2.0]),
        booster: Some(vec![1.5, 0.25, -0.75]),
        control: Some(vec![0.125, -0.5, 0.75]),
        delays: None,
    }
}

/// Central difference of the loss by one logit; `Scores` are f32, so the step is a power of two that f32 holds exactly.
fn difference(rule: &Rule, change: impl Fn(&mut Scores, f32)) -> f64 {
    let step = 1.0_f32 / 1024.0;
    let at = |step| {
        let mut scores = scores();
        change(&mut scores, step);
        loss(rule, &LABELS, &scores).0.total
    };
    (at(step) - at(-step)) / f64::from(2.0 * step)
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    for kind in KINDS {
        let rule = rule(0.3, kind, false);
        let (_, gradients) = loss(&rule, &LABELS, &scores());
        let [light_ce, light_hint, booster, control] =
            [gradients.light_ce, gradients.light_hint, gradients.booster, gradients.control].map(|g| g.expect("all heads are there"));
        for i in 0..LABELS.len() {
            let light = difference(&rule, |s, d| s.light.as_mut().expect("given")[i] += d);
            assert!((f64::from(light_ce[i]) + f64::from(light_hint[i]) - light).abs() < 1e-6, "{kind:?}");
            let slope = difference(&rule, |s, d| s.booster.as_mut().expect("given")[i] += d);
            assert!((f64::from(booster[i]) - slope).abs() < 1e-6, "{kind:?}");
            let slope = difference(&rule, |s, d| s.control.as_mut().expect("given")[i] += d);
            assert!((f64::from(control[i]) - slope).abs() < 1e-6, "{kind:?}");
        }
    }
}

#[test]
fn a_head_alone_has_the_cross_entropy_it_has_beside_the_other_and_no_hint() {
    let rule = rule(0.3, Hint::LogitsMse, true);
    let (_, both) = loss(&rule, &LABELS, &scores());
    let Scores { light, booster, .. } = scores();
    let (of_light, by_light) = loss(&rule, &LABELS, &Scores { light, ..Scores::default() });
    let (of_booster, by_booster) = loss(&rule, &LABELS, &Scores { booster, ..Scores::default() });
    assert_eq!(by_light, LogitGradients { light_ce: both.light_ce, ..LogitGradients::default() });
    assert_eq!(by_booster, LogitGradients { booster: both.booster, ..LogitGradients::default() });
    for alone in [of_light, of_booster] {
        assert!(alone.total > 0.0 && alone.hint_mse.is_none() && alone.hint_share.is_none());
    }
}

#[test]
fn hints_have_the_value_of_their_formula_and_are_zero_where_light_equals_booster() {
    let distance = |kind: Hint, l, z| kind.at(l, z)[0];
    let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (l, z) in [(0.5_f64, 1.5_f64), (-1.25, 0.25), (3.0, -4.0)] {
        assert!((distance(Hint::LogitsMse, l, z) - (l - z).powi(2)).abs() < 1e-12);
        assert!((distance(Hint::ProbMse, l, z) - (sigma(l) - sigma(z)).powi(2)).abs() < 1e-12);
        for t in [0.5, 4.0] {
            let (p, q) = (sigma(l / t), sigma(z / t));
            let divergence = q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln();
            assert!((distance(Hint::Kd { temperature: t }, l, z) - t * t * divergence).abs() < 1e-12);
        }
    }
    for kind in KINDS {
        assert_eq!(kind.at(1.75, 1.75), [0.0; 3], "{kind:?}");
    }
}

#[test]
fn the_block_takes_the_hint_off_the_booster_and_nothing_else() {
    for kind in KINDS {
        let run = |hint, gradient_block| loss(&rule(hint, kind, gradient_block), &LABELS, &scores());
        let ((with, blocked), (without, open), (_, alone)) = (run(0.3, true), run(0.3, false), run(0.0, false));
        assert_eq!(with, without);
        assert_eq!(blocked.booster, alone.booster);
        assert_ne!(open.booster, alone.booster);
        assert_eq!((&blocked.light_ce, &blocked.light_hint, &blocked.control), (&open.light_ce, &open.light_hint, &open.control));
    }
}

#[test]
fn hint_share_weighs_the_two_gradients_at_the_light_logit_and_hint_mse_is_that_of_the_logits() {
    let norm = |g: &[f32]| g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    for kind in KINDS {
        let (with, gradients) = loss(&rule(0.3, kind, true), &LABELS, &scores());
        let [hint, ce] = [gradients.light_hint, gradients.light_ce].map(|g| norm(&g.expect("light is there")));
        assert!((with.hint_share.expect("both are there") - hint / (hint + ce)).abs() < 1e-6, "{kind:?}");
        assert!((with.hint_mse.expect("both are there") - (1.0 + 2.25 + 2.75 * 2.75) / 3.0).abs() < 1e-12, "{kind:?}");
        assert_eq!(loss(&rule(0.0, kind, true), &LABELS, &scores()).0.hint_share, Some(0.0));
    }
}

#[test]
fn a_teacher_adds_distillation_to_light_and_nothing_to_the_booster() {
    let taught = [0.25_f32, -1.0, 3.0];
    for gradient_block in [true, false] {
        let rule = Rule { teacher: 1.8, teacher_temperature: 4.0, ..rule(0.3, Hint::LogitsMse, gradient_block) };
        let (without, plain) = loss(&rule, &LABELS, &scores());
        let (with, gradients) = loss(&rule, Targets { teacher: Some(&taught), ..Targets::from(&LABELS) }, &scores());
        let sigma = |x: f64| 1.0 / (1.0 + (-x).exp());
        let (mut term, light) = (0.0, scores().light.expect("there"));
        for (i, (l, t)) in light.iter().zip(taught).enumerate() {
            let (p, q) = (sigma(f64::from(*l) / 4.0), sigma(f64::from(t) / 4.0));
            term += 1.8 * 16.0 * (q * (q / p).ln() + (1.0 - q) * ((1.0 - q) / (1.0 - p)).ln()) / 3.0;
            let [with, without] = [&gradients, &plain].map(|gradients| gradients.light_hint.as_ref().expect("both are there")[i]);
            assert!((f64::from(with - without) - 1.8 * 4.0 * (p - q) / 3.0).abs() < 1e-6);
        }
        assert!((with.total - without.total - term).abs() < 1e-12);
        assert_eq!((gradients.booster, gradients.light_ce, gradients.control), (plain.booster, plain.light_ce, plain.control));
        assert_eq!(with.hint_mse, without.hint_mse);
    }
}

#[test]
fn a_shift_moves_the_logits_of_the_cross_entropies_and_leaves_the_hint() {
    for kind in KINDS {
        let (shift, rule) = (1.75, rule(0.3, kind, false));
        let (_, shifted) = loss(&Rule { shift, ..rule }, &LABELS, &scores());
        let (_, moved) = loss(&rule, &LABELS, &scores().shifted(shift));
        let (_, plain) = loss(&rule, &LABELS, &scores());
        assert_eq!((&shifted.light_ce, &shifted.control), (&moved.light_ce, &moved.control), "{kind:?}");
        assert_eq!(shifted.light_hint, plain.light_hint, "{kind:?}");
        assert_ne!(shifted.light_ce, plain.light_ce);
    }
    let config = TrainConfig { negatives: NegativesConfig { keep: 0.25 }, ..TrainConfig::default() };
    assert_eq!(Rule::new(&config).shift, 4.0_f64.ln());
}

#[test]
fn early_labels_weigh_the_cross_entropies_of_their_rows_and_not_the_hint() {
    let origin = Origin { partition: PartitionIndex(0), offset: 0 };
    let stages = [Stage::Final, Stage::Open, Stage::Delayed(origin)];
    let targets = Targets { stages: &stages, ..Targets::from(&LABELS) };
    let sigma = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
    let (d, f) = ([-1.0_f32, -2.0, 0.5], [-0.5_f32, -1.5, 1.0]);
    let delays = Some(Delays { delayed_positive: d.to_vec(), fake_negative: f.to_vec() });
    let scores = Scores { delays, ..scores() };
    let plain = rule(0.3, Hint::LogitsMse, true);
    let (_, unweighted) = loss(&plain, &LABELS, &self::scores());
    for early in [EarlyLabels::Fnw, EarlyLabels::EsDfm] {
        let (found, gradients) = loss(&Rule { early: Some(early), ..plain }, targets, &scores);
        let mut total = 0.0;
        let heads = [(&scores.light, &gradients.light_ce), (&scores.booster, &gradients.booster), (&scores.control, &gradients.control)];
        for (logits, gradient) in heads {
            let (logits, gradient) = (logits.as_ref().expect("given"), gradient.as_ref().expect("given"));
            for row in 0..3 {
                let (p, y) = (sigma(logits[row]), f64::from(u8::from(LABELS[row])));
                let odds = |x: f32| f64::from(x).exp().min(1.0);
                let weight = match early {
                    EarlyLabels::Fnw => (1.0 + p) * if LABELS[row] { 1.0 } else { 1.0 - p },
                    EarlyLabels::EsDfm => (1.0 + odds(d[row])) * if LABELS[row] { 1.0 } else { 1.0 - odds(f[row]) },
                };
                assert!((f64::from(gradient[row]) - weight * (p - y) / 3.0).abs() < 1e-7, "{early:?} row {row}");
                total -= weight * (y * p.ln() + (1.0 - y) * (1.0 - p).ln()) / 3.0;
            }
        }
        assert_eq!(gradients.light_hint, unweighted.light_hint);
        let of = gradients.delays.expect("given");
        for (row, (delayed, is_theirs)) in [(0.0, 0.0), (0.0, 1.0), (1.0, 1.0)].into_iter().enumerate() {
            let (by_d, by_f) = ((sigma(d[row]) - delayed) / 3.0, is_theirs * (sigma(f[row]) - delayed) / 3.0);
            assert!((f64::from(of.delayed_positive[row]) - by_d).abs() < 1e-7, "row {row}");
            assert!((f64::from(of.fake_negative[row]) - by_f).abs() < 1e-7, "row {row}");
            let cross_entropy = |x: f32| -(delayed * sigma(x).ln() + (1.0 - delayed) * (1.0 - sigma(x)).ln()) / 3.0;
            total += cross_entropy(d[row]) + is_theirs * cross_entropy(f[row]);
        }
        let mse = found.hint_mse.expect("both are there");
        assert!((found.total - total - 0.3 * mse).abs() < 1e-9, "{early:?}: {} against {total}", found.total);
    }
}

#[test]
fn logloss_is_that_of_the_loss() {
    let Scores { light, .. } = scores();
    let (alone, _) = loss(&rule(0.0, Hint::LogitsMse, true), &LABELS, &Scores { light: light.clone(), ..Scores::default() });
    assert!((logloss(&LABELS, &light.expect("given")) - alone.total).abs() < 1e-12);
    assert_eq!(logloss(&[], &[]), 0.0);
}

#[test]
fn stays_finite_at_extreme_logits() {
    let scores = Scores { light: Some(vec![1e4, -1e4, -1e4]), booster: Some(vec![-1e4, 1e4, 1e4]), ..Scores::default() };
    for kind in KINDS {
        let (found, gradients) = loss(&rule(0.0, kind, true), &LABELS, &scores);
        assert!((found.total - 1e4).abs() < 1e-5, "{}", found.total);
        assert_eq!(gradients.light_ce, Some(vec![0.0, 0.0, -1.0 / 3.0]));
        let (found, gradients) = loss(&rule(0.3, kind, false), &LABELS, &scores);
        let mut found_gradients = [gradients.light_hint, gradients.booster].into_iter().flatten().flatten();
        assert!(found.total.is_finite() && found_gradients.all(|g| g.is_finite()), "{kind:?}");
    }
}
