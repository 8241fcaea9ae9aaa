//! Checkpoints made by hand, small enough that their logits can be worked out on paper.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part")]

use std::collections::BTreeMap;

use rocket_launching::checkpoint::{Commit, Evidence, FileEntry, Loaded, ProbeSample};
use rocket_launching::config::{self, ByteLength, Config, EmbeddingOptimizer, PublishConfig};
use rocket_launching::domain::{Books, PartitionPosition, Quarantine, TopicPartition};
use rocket_launching::evaluate::{AggregateState, HeadReport, Report};
use rocket_launching::features::slot_key;
use rocket_launching::train::{Course, DenseState, LearnerState, RowsState, TensorLayout};

/// Name of the model.
pub const MODEL: &str = "hand";
/// The time every checkpoint was committed at.
pub const CREATED_MS: i64 = 1_700_000_000_000;
/// Rows of the table: the items `item0` … .
pub const ITEMS: usize = 50;
/// Bytes per chunk.
const CHUNK_BYTES: u64 = 256;
/// Floats per row.
const DIM: usize = 2;

/// TOML of one slot (`item`) and one number (`age`, log1p), no hidden layer; `more` is laid over it, tables without a dot first.
pub fn config_text(more: &str) -> String {
    format!(
        r#"
name = "{MODEL}"
model = {{ embedding = {{ dim = {DIM} }}, shared = [], light = [], booster = [4], control = false }}
{more}

[schema]
time = "ts_ms"
user = "user_id"
item = "item"

[[schema.features]]
name = "item"
kind = "categorical"
[[schema.features]]
name = "age"
kind = "log1p"
"#
    )
}

/// The configuration, with smaller chunks and fewer versions than a file may ask for, so that there is something to see.
pub fn config(keep: usize) -> Config {
    let mut config = config::parse(&config_text(""), "hand.toml", std::iter::empty()).expect("the test's configuration is valid");
    config.publish = PublishConfig { chunk: ByteLength(CHUNK_BYTES), keep, probes: 4, ..config.publish };
    config
}

/// Weights of the row of `item<n>` at checkpoint `number`.
fn row(number: u64, item: usize) -> [f32; DIM] {
    [item as f32 / 10.0, number as f32]
}

/// Light's logit at checkpoint `number`: 0.5·row₀ − 0.25·row₁ + 0.125·ln(1 + age) + 0.0625.
pub fn logit(number: u64, item: usize, age: f64) -> f32 {
    let [first, second] = row(number, item);
    0.5 * first - 0.25 * second + 0.125 * age.ln_1p() as f32 + 0.0625
}

/// Light's probability.
pub fn probability(number: u64, item: usize, age: f64) -> f32 {
    1.0 / (1.0 + (-logit(number, item, age)).exp())
}

/// Checkpoint `number` as read back from its files.
pub fn loaded(number: u64) -> Loaded {
    let inputs = DIM + 1;
    let layout: Vec<TensorLayout> = [
        ("light.0.weight", vec![inputs, 1]),
        ("light.0.bias", vec![1]),
        ("booster.0.weight", vec![inputs, 4]),
        ("booster.0.bias", vec![4]),
        ("booster.1.weight", vec![4, 1]),
        ("booster.1.bias", vec![1]),
    ]
    .into_iter()
    .map(|(name, shape)| TensorLayout { name: name.to_owned(), shape })
    .collect();
    let length: usize = layout.iter().map(|layout| layout.shape.iter().product::<usize>()).sum();
    let mut params = vec![0.5, -0.25, 0.125, 0.0625];
    params.resize(length, 777.0);
    let keys = (0..ITEMS).map(|item| slot_key("item", &format!("item{item}"))).collect();
    let data = (0..ITEMS).flat_map(|item| row(number, item).into_iter().chain([888.0; DIM])).collect();
    let probe = |item: usize| ProbeSample {
        time_ms: CREATED_MS,
        fields: vec![format!("item{item}").into(), (item as f64).into()],
        logit: logit(number, item, item as f64),
    };
    Loaded {
        learner: LearnerState {
            dense: DenseState { layout, params, m: vec![999.0; length], v: vec![999.0; length], steps: number },
            rows: vec![RowsState {
                dim: DIM,
                width: 2 * DIM,
                optimizer: EmbeddingOptimizer::Adagrad,
                keys,
                data,
                full: true,
                ..RowsState::default()
            }],
            light_rows: None,
            click_counts: None,
            course: Course::default(),
        },
        evidence: Evidence::default(),
        schema: None,
        memory: Vec::new(),
        open: Vec::new(),
        probes: (0..6).map(probe).collect(),
    }
}

/// Its commit record; light's GAUC rises with the number.
pub fn commit(number: u64) -> Commit {
    let file = || FileEntry { name: "made-by-hand".to_owned(), bytes: 0, blake3: String::new() };
    let gauc = 0.6 + number as f64 / 1000.0;
    let light = HeadReport { auc: Some(0.7), gauc: Some(gauc), logloss: Some(0.5), calibration: None, ..HeadReport::default() };
    let partition = TopicPartition { topic: "hand.events".into(), partition: 0 };
    Commit {
        number,
        created_ms: CREATED_MS,
        dense: file(),
        rows: vec![file()],
        further_rows: BTreeMap::new(),
        light_rows: Vec::new(),
        further_light_rows: BTreeMap::new(),
        click_counts: Vec::new(),
        extra: file(),
        positions: vec![PartitionPosition { low: 100, done: vec![(103, 105)], ..PartitionPosition::new(partition, 0) }],
        books: Books { samples: 100 * number, trained: 100 * number, ..Books::default() },
        evaluation: AggregateState::default(),
        report: Report { heads: BTreeMap::from([("light".to_owned(), light)]), ..Report::default() },
        config_hash: "c0ffee".to_owned(),
        published: None,
        publish_mark: None,
        quarantine: Quarantine::default(),
        restores: None,
    }
}
