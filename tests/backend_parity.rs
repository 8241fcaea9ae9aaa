//! The promise of the backends: LibTorch computes what the pure-Rust backend computes.
#![cfg(feature = "tch")]

use rocket_launching::config::{ModelConfig, OptimizerConfig, TrainConfig};
use rocket_launching::domain::Head;
use rocket_launching::nets::{Adam, Nets, Rule};
use rocket_launching::train::Compute;

const INPUTS: usize = 24;
const ROWS: usize = 64;

fn model() -> ModelConfig {
    ModelConfig { shared: vec![16], light: vec![8], booster: vec![32, 16], ..ModelConfig::default() }
}

fn batch(number: usize) -> (Vec<f32>, Vec<bool>) {
    let inputs: Vec<f32> = (0..ROWS * INPUTS).map(|i| ((number * ROWS * INPUTS + i) as f32 * 0.37).sin()).collect();
    let labels = inputs.chunks_exact(INPUTS).map(|row| row[0] + row[5] > 0.0).collect();
    (inputs, labels)
}

fn nets(device: &str) -> Nets {
    let compute = Compute::new(device, 1).expect("the backend is in this build");
    Nets::new(&model(), &TrainConfig { seed: 5, ..TrainConfig::default() }, INPUTS, compute.device())
}

fn assert_close(what: &str, left: &[f32], right: &[f32], tolerance: f32) {
    assert_eq!(left.len(), right.len(), "{what}");
    for (i, (left, right)) in left.iter().zip(right).enumerate() {
        assert!((left - right).abs() <= tolerance * (1.0 + left.abs()), "{what} {i}: {left} against {right}");
    }
}

#[test]
fn both_start_from_the_same_bits() {
    assert_eq!(nets("cpu").capture(), nets("tch-cpu").capture());
}

#[test]
fn scores_gradients_and_training_agree() {
    let config = TrainConfig::default();
    let (rule, adam) = (Rule::new(&config), Adam::new(&OptimizerConfig::default()));
    let (mut flex, mut torch) = (nets("cpu"), nets("tch-cpu"));
    for number in 0..50 {
        let (inputs, labels) = batch(number);
        let [left, right] = [&flex, &torch].map(|nets| nets.gradients(inputs.clone(), &labels, &rule));
        for head in Head::ALL {
            let [left, right] = [&left.scores, &right.scores].map(|scores| scores.head(head).expect("all heads are there"));
            assert_close(head.name(), left, right, 1e-3);
        }
        let (left, right) = (left.gradients.expect("finite"), right.gradients.expect("finite"));
        if number == 0 {
            assert_close("dense gradient", &left.dense(), &right.dense(), 1e-6);
            assert_close("input gradient", &left.inputs().shared, &right.inputs().shared, 1e-6);
        }
        flex.apply(left, &adam, &[], 0);
        torch.apply(right, &adam, &[], 0);
    }
}

#[test]
fn a_state_moves_from_one_to_the_other() {
    let (rule, adam) = (Rule::new(&TrainConfig::default()), Adam::new(&OptimizerConfig::default()));
    let mut flex = nets("cpu");
    let (inputs, labels) = batch(0);
    let gradients = flex.gradients(inputs.clone(), &labels, &rule).gradients.expect("finite");
    flex.apply(gradients, &adam, &[], 0);
    let torch = nets("tch-cpu").restored(flex.capture()).expect("same model");
    assert_eq!(torch.capture(), flex.capture());
    let [left, right] = [&torch, &flex].map(|nets| nets.predict(inputs.clone(), ROWS).booster.expect("there is a booster"));
    assert_close("booster", &left, &right, 1e-5);
}
