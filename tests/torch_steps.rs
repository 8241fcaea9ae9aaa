//! Promise: one training step of every arm of the learning rule is PyTorch's: logits, loss, each gradient, each updated parameter and
//! embedding row. tests/fixtures/torch_steps.py computes them, tests/fixtures/torch_steps.json holds them.
#![cfg(feature = "trainer")]

use std::collections::BTreeMap;

use rocket_launching::batch::Batch;
use rocket_launching::config::{EarlyLabels, FeatureConfig, FeatureKind, ModelConfig, Pooling, SchemaConfig, TrainConfig};
use rocket_launching::domain::{Head, Origin, PartitionIndex, Stage};
use rocket_launching::features::FeatureSpec;
use rocket_launching::train::{DenseState, Learner, RowsState};
use serde::Deserialize;

const FIXTURE: &str = include_str!("fixtures/torch_steps.json");
/// Every backend in the build.
const DEVICES: &[&str] = if cfg!(feature = "tch") { &["cpu", "tch-cpu"] } else { &["cpu"] };
/// Rounding of f32 over a few layers; LayerNorm over three values magnifies it.
const TOLERANCE: f32 = 1e-5;
/// Floats per embedding row.
const DIM: usize = 2;

#[derive(Deserialize)]
struct Fixture {
    keys: Keys,
    batch: Examples,
    arms: Vec<Arm>,
}

#[derive(Deserialize)]
struct Keys {
    /// Ids with a row before the step.
    known: Vec<u64>,
    /// Ids with a row after it.
    all: Vec<u64>,
}

#[derive(Deserialize)]
struct Examples {
    /// By example and slot.
    ids: Vec<Vec<Vec<u64>>>,
    numbers: Vec<f32>,
    labels: Vec<bool>,
    /// What each sample is of its impression's, by way of early labelling.
    stages: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Arm {
    name: String,
    config: ArmConfig,
    loss: f64,
    logits: BTreeMap<String, Vec<f32>>,
    dense: Vec<Tensor>,
    rows: Table,
    light_rows: Option<Table>,
    teacher: Option<TeacherState>,
}

#[derive(Deserialize)]
struct ArmConfig {
    model: ModelConfig,
    train: TrainConfig,
    early: Option<EarlyLabels>,
    #[serde(default)]
    course: Course,
}

#[derive(Default, Deserialize)]
struct Course {
    samples: u64,
}

#[derive(Deserialize)]
struct Tensor {
    name: String,
    shape: Vec<usize>,
    before: Vec<f32>,
    gradient: Vec<f32>,
    after: Vec<f32>,
}

#[derive(Deserialize)]
struct Table {
    before: Vec<f32>,
    gradient: Vec<f32>,
    after: Vec<f32>,
}

#[derive(Deserialize)]
struct TeacherState {
    dense: BTreeMap<String, Vec<f32>>,
    rows: Vec<f32>,
}

#[test]
fn one_step_of_every_arm_is_pytorchs() {
    let fixture: Fixture = serde_json::from_str(FIXTURE).expect("the fixture is what the script writes");
    assert!(fixture.arms.len() >= 28);
    for device in DEVICES {
        for arm in &fixture.arms {
            assert_step(&format!("{} on {device}", arm.name), device, &fixture, arm);
        }
    }
}

fn assert_step(what: &str, device: &str, fixture: &Fixture, arm: &Arm) {
    let ArmConfig { model, train, early, course } = &arm.config;
    let train = TrainConfig { device: (*device).to_owned(), ..train.clone() };
    let mut learner = Learner::new(model, &train, *early, &spec()).expect("the backend is in this build");
    let mut start = learner.capture(true);
    let names: Vec<_> = arm.dense.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    let layout: Vec<_> = start.dense.layout.iter().map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice())).collect();
    assert_eq!(layout, names, "{what}");
    start.dense.params = arm.dense.iter().flat_map(|tensor| tensor.before.iter().copied()).collect();
    let accumulator = train.optimizer.embedding_initial_accumulator;
    let known = |weights: &[f32]| vec![table(&fixture.keys.known, weights, accumulator)];
    start.rows = known(&arm.rows.before);
    start.light_rows = arm.light_rows.as_ref().map(|rows| known(&rows.before));
    start.course.samples = course.samples;
    if let Some(teacher) = &arm.teacher {
        let mut state = start.clone();
        let params = state.dense.layout.iter().flat_map(|tensor| teacher.dense[&tensor.name].iter().copied());
        (state.dense.params, state.rows) = (params.collect(), known(&teacher.rows));
        let teachers = learner.teachers(model, &train).expect("the rule has a teacher");
        learner.learn_from(teachers.make(&state).expect("same model"));
    }
    learner.restore(start).expect("the fixture's state fits");

    let report = learner.step(&batch(&fixture.batch, *early));
    assert!(report.applied, "{what}");
    for head in Head::ALL {
        let expected = arm.logits.get(head.name()).map(Vec::as_slice);
        assert_eq!(report.scores.head(head).is_some(), expected.is_some(), "{what}: {}", head.name());
        assert_close(
            &format!("{what}: logits of {}", head.name()),
            report.scores.head(head).unwrap_or_default(),
            expected.unwrap_or_default(),
        );
    }
    assert!((report.loss - arm.loss).abs() < 1e-6, "{what}: loss {} against {}", report.loss, arm.loss);

    let after = learner.capture(true);
    assert_dense(what, &after.dense, &arm.dense, clipped(arm, &train), train.optimizer.beta1 as f32);
    assert_rows(&format!("{what}: rows"), &after.rows[0], &fixture.keys, &arm.rows, clipped(arm, &train), accumulator);
    if let Some((found, expected)) = after.light_rows.as_ref().zip(arm.light_rows.as_ref()) {
        assert_rows(&format!("{what}: light's rows"), &found[0], &fixture.keys, expected, clipped(arm, &train), accumulator);
    }
}

/// What the gradients, written before clipping, are scaled by.
fn clipped(arm: &Arm, train: &TrainConfig) -> f32 {
    let dense = arm.dense.iter().flat_map(|tensor| &tensor.gradient);
    let all = dense.chain(&arm.rows.gradient).chain(arm.light_rows.iter().flat_map(|rows| &rows.gradient));
    let norm = all.map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
    let bound = train.optimizer.clip_norm;
    if bound == 0.0 || norm <= bound { 1.0 } else { (bound / norm) as f32 }
}

/// Adam's first moment after its first step is (1 − β₁)·g. A part that is frozen keeps parameters and moments.
fn assert_dense(what: &str, found: &DenseState, expected: &[Tensor], scale: f32, beta1: f32) {
    let mut start = 0;
    for tensor in expected {
        let range = start..start + tensor.before.len();
        start = range.end;
        assert_close(&format!("{what}: {} after", tensor.name), &found.params[range.clone()], &tensor.after);
        if tensor.after == tensor.before {
            assert_eq!(found.params[range.clone()], tensor.before, "{what}: {}", tensor.name);
            assert!(found.m[range].iter().all(|m| *m == 0.0), "{what}: {}", tensor.name);
        } else {
            let gradient: Vec<f32> = found.m[range].iter().map(|m| m / (1.0 - beta1)).collect();
            let expected: Vec<f32> = tensor.gradient.iter().map(|g| scale * g).collect();
            // Running moments follow without a gradient.
            assert_close(&format!("{what}: gradient by {}", tensor.name), &gradient, &expected);
        }
    }
}

/// Adagrad's accumulator has grown by g².
fn assert_rows(what: &str, found: &RowsState, keys: &Keys, expected: &Table, scale: f32, accumulator: f32) {
    let moves = expected.after[..expected.before.len()] != expected.before;
    assert_eq!(found.keys, if moves { &keys.all[..] } else { &keys.known[..] }, "{what}");
    for (row, data) in found.data.chunks_exact(2 * DIM).enumerate() {
        let range = row * DIM..(row + 1) * DIM;
        assert_close(&format!("{what}: row {row} after"), &data[..DIM], &expected.after[range.clone()]);
        for (found, gradient) in data[DIM..].iter().zip(&expected.gradient[range]) {
            let grown = if moves { (scale * gradient).powi(2) } else { 0.0 };
            assert!((found - accumulator - grown).abs() <= 1e-4 * grown + 1e-9, "{what}: row {row}: accumulator {found}, g² {grown}");
        }
    }
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE * (1.0 + expected.abs()), "{what}: {found} against {expected}");
    }
}

/// One slot with one id, one pooled to its mean, and a number as it is.
fn spec() -> FeatureSpec {
    let bag = FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: Some(3) };
    let features = [("item", FeatureKind::Categorical), ("tags", bag), ("x", FeatureKind::Standardise { mean: 0.0, std: 1.0 })];
    let schema = SchemaConfig::labelled(features.map(|(name, kind)| FeatureConfig::new(name, kind)).to_vec());
    FeatureSpec::new(&schema).expect("a sound schema")
}

fn batch(examples: &Examples, early: Option<EarlyLabels>) -> Batch {
    let name = early.map(|early| serde_json::to_value(early).expect("a word"));
    let stages = name.and_then(|name| examples.stages.get(name.as_str()?)).into_iter().flatten();
    let stages = stages.map(|stage| match stage.as_str() {
        "final" => Stage::Final,
        "open" => Stage::Open,
        _ => Stage::Delayed(Origin { partition: PartitionIndex(0), offset: 0 }),
    });
    let mut batch = Batch {
        bounds: vec![0],
        numbers: examples.numbers.clone(),
        labels: examples.labels.clone(),
        stages: stages.collect(),
        ..Batch::default()
    };
    for slot in examples.ids.iter().flatten() {
        batch.ids.extend(slot);
        batch.bounds.push(batch.ids.len() as u32);
    }
    batch
}

/// A full table of these weights, each with a fresh accumulator.
fn table(keys: &[u64], weights: &[f32], accumulator: f32) -> RowsState {
    let data = weights.chunks_exact(DIM).flat_map(|row| row.iter().copied().chain([accumulator; DIM])).collect();
    RowsState { dim: DIM, width: 2 * DIM, keys: keys.to_vec(), data, full: true, ..RowsState::default() }
}
