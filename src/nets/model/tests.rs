use super::*;
use crate::config::{Activation, Heads, HiddenConfig};

/// Heads without hidden layers.
fn zero_model() -> ModelConfig {
    ModelConfig { shared: Vec::new(), light: Vec::new(), booster: Vec::new(), ..ModelConfig::default() }
}

/// Logistic regressions of two inputs, all weights zero.
fn zero_nets(heads: Heads) -> Nets {
    let model = ModelConfig { control: heads == Heads::Both, ..zero_model() };
    let nets = Nets::new(&model, &TrainConfig { heads, ..TrainConfig::default() }, 2, &Device::flex());
    let mut state = nets.capture();
    state.params.fill(0.0);
    nets.restored(state).expect("same model")
}

#[test]
fn a_head_without_hidden_layers_is_a_logistic_regression() {
    let pass = zero_nets(Heads::Both).gradients(vec![3.0, -2.0], &[true], &Rule::new(&TrainConfig::default()));
    let zero = Some(vec![0.0]);
    assert_eq!(pass.scores, Scores { light: zero.clone(), booster: zero.clone(), control: zero, delays: None });
    assert!((pass.loss.total - 3.0 * 2.0_f64.ln()).abs() < 1e-12);
    let gradients = pass.gradients.expect("finite");
    assert_eq!(gradients.dense(), [-1.5, 1.0, -0.5].repeat(3));
    assert_eq!(gradients.inputs().shared, [0.0, 0.0]);
}

#[test]
fn a_head_alone_scores_learns_and_costs_alone() {
    for (heads, light, booster) in [(Heads::Light, true, false), (Heads::Booster, false, true)] {
        let nets = zero_nets(heads);
        let pass = nets.gradients(vec![3.0, -2.0], &[true], &Rule::new(&TrainConfig::default()));
        let zero = |there: bool| there.then(|| vec![0.0]);
        assert_eq!(pass.scores, Scores { light: zero(light), booster: zero(booster), ..Scores::default() });
        assert_eq!(nets.predict(vec![3.0, -2.0], 1), pass.scores);
        assert!((pass.loss.total - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(pass.gradients.expect("finite").dense(), [-1.5, 1.0, -0.5]);
    }
}

#[test]
fn a_dense_gradient_whose_square_overflows_is_refused_though_all_else_is_finite() {
    let pass = zero_nets(Heads::Both).gradients(vec![1e25, 1.0], &[true], &Rule::new(&TrainConfig::default()));
    assert!(pass.loss.total.is_finite());
    assert!(pass.gradients.is_none());
}

#[test]
fn a_step_without_a_gradient_moves_nothing() {
    let model = ModelConfig { control: false, ..ModelConfig::default() };
    let config = TrainConfig::default();
    let mut nets = Nets::new(&model, &config, 3, &Device::flex());
    let before = nets.capture();
    let rule = Rule { light: 0.0, booster: 0.0, hint: 0.0, ..Rule::new(&config) };
    let gradients = nets.gradients(vec![0.5; 6], &[true, false], &rule).gradients.expect("finite");
    nets.apply(gradients, &Adam::new(&config.optimizer), &[], 0);
    assert_eq!(nets.capture(), DenseState { steps: 1, ..before });
}

#[test]
fn frozen_parts_keep_every_bit_and_the_others_count_their_own_steps() {
    let (model, config) = (ModelConfig { shared: vec![4], ..ModelConfig::default() }, TrainConfig::default());
    let adam = Adam::new(&config.optimizer);
    let fresh = || Nets::new(&model, &config, 3, &Device::flex());
    let gradients = |nets: &Nets| nets.gradients(vec![0.5; 6], &[true, false], &Rule::new(&config)).gradients.expect("finite");
    let (mut froze, mut all) = (fresh(), fresh());
    froze.steps = 7;
    froze.apply(gradients(&froze), &adam, &[Part::Shared, Part::Booster], 7);
    all.apply(gradients(&all), &adam, &[], 0);
    let (before, froze, all) = (fresh().capture(), froze.capture(), all.capture());
    let layout = fresh().layout;
    for (part, like) in [(Part::Shared, &before), (Part::Booster, &before), (Part::Light, &all), (Part::Control, &all)] {
        let cut = |vector: &[f32]| vector[layout.range(part)].to_vec();
        let vectors = |state: &DenseState| [&state.params, &state.m, &state.v].map(|vector| cut(vector));
        assert_eq!(vectors(&froze), vectors(like), "{part:?}");
    }
    assert_ne!(all.params, before.params);
}
#[test]
fn running_moments_follow_the_batch_unless_their_part_is_frozen_and_a_prediction_does_not_move_them() {
    let dice = HiddenConfig { activation: Activation::Dice, layer_norm: false };
    let model = ModelConfig { light: vec![2], booster: vec![2], hidden: dice, booster_hidden: dice, control: false, ..zero_model() };
    let config = TrainConfig::default();
    let mut nets = Nets::new(&model, &config, 1, &Device::flex());
    let (x, labels) = ([1.0_f32, -2.0, 4.0], [true, false, true]);
    let before = nets.capture();
    let _ = nets.predict(x.to_vec(), 3);
    assert_eq!(nets.capture(), before);
    let gradients = nets.gradients(x.to_vec(), &labels, &Rule::new(&config)).gradients.expect("finite");
    nets.apply(gradients, &Adam::new(&config.optimizer), &[Part::Booster], 0);
    let after = nets.capture();
    let tensor = |state: &DenseState, name: &str| {
        let at = state.layout.iter().position(|tensor| tensor.name == name).expect("it has this tensor");
        let start: usize = state.layout[..at].iter().map(|tensor| tensor.shape.iter().product::<usize>()).sum();
        state.params[start..start + 2].to_vec()
    };
    for o in 0..2 {
        let [weight, bias] = ["light.0.weight", "light.0.bias"].map(|name| tensor(&before, name)[o]);
        let y = x.map(|x| f64::from(x * weight + bias));
        let mean = y.iter().sum::<f64>() / 3.0;
        let variance = y.iter().map(|y| (y - mean).powi(2)).sum::<f64>() / 3.0;
        assert!((f64::from(tensor(&after, "light.0.mean")[o]) - 0.01 * mean).abs() < 1e-6);
        assert!((f64::from(tensor(&after, "light.0.variance")[o]) - (0.99 + 0.01 * variance)).abs() < 1e-6);
    }
    assert_eq!((tensor(&after, "booster.0.mean"), tensor(&after, "booster.0.variance")), (vec![0.0; 2], vec![1.0; 2]));
}
