use burn::tensor::Device;

use super::*;
use crate::config::{BoosterCrossConfig, EarlyLabels, Heads, ModelConfig, SharedGrad, TrainConfig};
use crate::domain::Stage;
use crate::nets::{Adam, Hint, InputShape, Nets};

const INPUTS: usize = 6;

/// In −1..1, without a pattern that layers could follow.
fn numbers(len: usize, salt: u64) -> Vec<f32> {
    let mixed = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..len as u64).map(|i| (mixed(i + (salt << 32)) >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
}

fn close(found: &[f32], expected: &[f32], of: &str) {
    assert_eq!(found.len(), expected.len(), "{of}");
    let scale = expected.iter().fold(1e-3_f32, |max, x| max.max(x.abs()));
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() <= 1e-5 * scale, "{of}: {found} at {at}, Burn's autodiff has {expected}");
    }
}

fn scores_close(found: &Scores, expected: &Scores, of: &str) {
    let all = |scores: &Scores| {
        let delays = scores.delays.clone().unwrap_or_default();
        let clicks = [&scores.light, &scores.booster, &scores.control].map(Clone::clone);
        clicks.map(Option::unwrap_or_default).into_iter().chain([delays.delayed_positive, delays.fake_negative]).collect::<Vec<_>>()
    };
    for (found, expected) in all(found).iter().zip(&all(expected)) {
        close(found, expected, of);
    }
}

/// Every form of model that has no other layers than these.
fn models() -> Vec<(&'static str, ModelConfig, Heads, bool)> {
    let plain = ModelConfig { light: vec![4], booster: vec![6, 5], control: true, ..ModelConfig::default() };
    let cross = || BoosterCrossConfig { layers: 2 };
    let trunk = ModelConfig { shared: vec![5, 7], ..plain.clone() };
    let apart = ModelConfig { sharing: false, control: false, ..trunk.clone() };
    let bare = ModelConfig { light: Vec::new(), booster: Vec::new(), ..plain.clone() };
    vec![
        ("plain", plain.clone(), Heads::Both, false),
        ("no hidden layers", bare, Heads::Both, false),
        ("trunk", trunk.clone(), Heads::Both, false),
        ("light alone", ModelConfig { control: false, ..trunk.clone() }, Heads::Light, false),
        ("booster alone", ModelConfig { control: false, ..trunk.clone() }, Heads::Booster, false),
        ("cross on inputs", ModelConfig { booster_cross: cross(), ..plain.clone() }, Heads::Both, false),
        ("cross on a trunk", ModelConfig { booster_cross: cross(), ..trunk.clone() }, Heads::Both, false),
        ("nothing shared", apart.clone(), Heads::Both, false),
        ("cross on own layers", ModelConfig { booster_cross: cross(), ..apart }, Heads::Both, false),
        ("delays", trunk, Heads::Both, true),
        ("delays on inputs", plain, Heads::Both, true),
    ]
}

#[test]
fn a_pass_is_that_of_burns_autodiff_for_every_form_of_model_and_every_rule() {
    for (name, model, heads, delays) in models() {
        let config = TrainConfig { heads, seed: 3, ..TrainConfig::default() };
        let layout = Layout::new(&model, heads, InputShape::from(INPUTS));
        let layout = if delays { layout.with_delays(&model) } else { layout };
        let towers = Nets::over(layout, &config, &Device::flex());
        assert!(Towers::can(towers.layout()), "{name}");
        let graph = Nets::over(towers.layout().clone(), &config, &Device::flex()).by_autodiff();
        // One row; one chunk; several, and a last one that is smaller.
        for rows in [1, 5, 299] {
            let labels: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
            let stages: Vec<Stage> = labels.iter().map(|_| Stage::default()).collect();
            let teacher = numbers(rows, 9);
            let inputs = || Inputs {
                shared: numbers(rows * INPUTS, 1),
                light: (!model.sharing).then(|| numbers(rows * INPUTS, 2)),
                sequences: Vec::new(),
            };
            scores_close(&towers.predict(inputs(), rows), &graph.predict(inputs(), rows), name);
            for shared_grad in [SharedGrad::All, SharedGrad::NoHint, SharedGrad::BoosterOnly] {
                for (gradient_block, hint, teaching) in [(true, 0.5, 0.0), (false, 0.5, 0.0), (true, 0.0, 0.0), (true, 0.5, 0.3)] {
                    let rule = Rule {
                        hint,
                        gradient_block,
                        shared_grad,
                        teacher: teaching,
                        kind: Hint::LogitsMse,
                        early: delays.then_some(EarlyLabels::EsDfm),
                        ..Rule::new(&config)
                    };
                    let targets = Targets { labels: &labels, stages: &stages, teacher: (teaching > 0.0).then_some(teacher.as_slice()) };
                    let of = format!("{name}, {rows} rows, {rule:?}");
                    let [found, expected] = [&towers, &graph].map(|nets| nets.gradients(inputs(), targets, &rule));
                    scores_close(&found.scores, &expected.scores, &of);
                    assert!((found.loss.total - expected.loss.total).abs() < 1e-5, "{of}");
                    let [found, expected] = [found, expected].map(|pass| pass.gradients.expect("finite"));
                    close(&found.dense(), &expected.dense(), &of);
                    close(&found.inputs().shared, &expected.inputs().shared, &of);
                    let own = |gradients: &Gradients| gradients.inputs().light.clone().unwrap_or_default();
                    close(&own(&found), &own(&expected), &of);
                    assert!((found.dense_squares() / expected.dense_squares() - 1.0).abs() < 1e-4, "{of}");
                }
            }
        }
    }
}

#[test]
fn steps_are_those_of_burns_autodiff_whatever_the_threads_and_the_same_bits_again_with_as_many() {
    let model = ModelConfig { shared: vec![5], light: vec![4], booster: vec![6, 5], control: true, ..ModelConfig::default() };
    let config = TrainConfig::default();
    let adam = Adam::new(&config.optimizer);
    let fresh = || Nets::new(&model, &config, INPUTS, &Device::flex());
    let rows = 600;
    let labels: Vec<bool> = (0..rows).map(|row| row % 3 == 0).collect();
    let trained = |mut nets: Nets| {
        for step in 0..20 {
            let pass = nets.gradients(numbers(rows * INPUTS, step), &labels, &Rule::new(&config));
            nets.apply(pass.gradients.expect("finite"), &adam, if step < 10 { &[Part::Booster] } else { &[] }, 0);
        }
        nets.capture()
    };
    let expected = trained(fresh().by_autodiff());
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let found = pool.install(|| trained(fresh()));
        assert_eq!(found, pool.install(|| trained(fresh())), "{threads} threads");
        for (found, expected) in found.params.iter().zip(&expected.params) {
            assert!((found - expected).abs() < 1e-4, "{threads} threads: {found}, Burn's autodiff has {expected}");
        }
    }
}
