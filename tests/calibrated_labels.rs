//! Promise: what the stream does to its labels (negatives sampled, clicks that come after their impression was trained) is undone: the
//! nets predict the clicks of the whole stream. On streams whose click probabilities are known, each beside a control: the same rows taken
//! at face value.

mod support;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::batch::{BatchBuilder, Pace};
use rocket_launching::checkpoint::CheckpointStore;
use rocket_launching::config::{self, Config};
use rocket_launching::domain::{EventTime, Field, Origin, PartitionIndex, Record, Role, Sample, Stage, TopicPartition, UserId};
use rocket_launching::features::FeatureSpec;
use rocket_launching::pipeline::State;
use rocket_launching::train::Learner;
use support::world;

const ITEMS: usize = 24;
/// Item i is in group i mod 4.
const GROUPS: usize = 4;
const GROUP_CLICKS: [f64; GROUPS] = [0.06, 0.12, 0.2, 0.36];
/// Milliseconds between two impressions.
const STEP_MS: i64 = 10;
/// A click comes at most this long after its impression.
const WINDOW_MS: i64 = 60_000;
/// What ES-DFM waits.
const WAIT_MS: i64 = 2_000;
const ROWS: usize = 400_000;
/// How far the mean prediction may be from the mean click probability.
const BAND: f64 = 0.02;
/// The same for one group, of which there are fewer clicks.
const GROUP_BAND: f64 = 0.08;

/// The truth.
fn click_probability(item: usize) -> f64 {
    let within = 0.8 + 0.4 * (item / GROUPS) as f64 / (ITEMS / GROUPS - 1) as f64;
    GROUP_CLICKS[item % GROUPS] * within
}

/// Mean of the exponential delays of an item's clicks, 1 to 12 s: neither by group nor by click probability.
fn mean_delay_ms(item: usize) -> f64 {
    1_000.0 + 11_000.0 * (item * 7 % ITEMS) as f64 / (ITEMS - 1) as f64
}

struct Impression {
    time: i64,
    item: usize,
    /// How long after it, if at all.
    click: Option<i64>,
}

fn impressions() -> Vec<Impression> {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let draw = |number| {
        let item = random.random_range(0..ITEMS);
        let delay = -mean_delay_ms(item) * (1.0 - random.random::<f64>()).ln();
        let click = random.random_bool(click_probability(item)).then_some((delay as i64).min(WINDOW_MS));
        Impression { time: 1_700_000_000_000 + number as i64 * STEP_MS, item, click }
    };
    (0..ROWS).map(draw).collect()
}

type Stream = (Vec<TopicPartition>, Vec<Record>);

fn record(partition: u32, offset: usize, role: Role, event: &serde_json::Value) -> Record {
    let origin = Origin { partition: PartitionIndex(partition), offset: offset as i64 };
    Record { origin, role, key: None, payload: Some(event.to_string().into_bytes()), timestamp_ms: None }
}

/// A labelled stream of (time, item, label), in the order of times.
fn labelled(rows: impl Iterator<Item = (i64, usize, bool)>) -> Stream {
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(|(time, ..)| *time);
    let records = rows.into_iter().enumerate().map(|(offset, (time, item, label))| {
        record(0, offset, Role::Labelled, &serde_json::json!({ "ts": time, "user": offset % 100, "item": item, "label": label }))
    });
    (vec![TopicPartition { topic: "events".into(), partition: 0 }], records.collect())
}

/// Impressions and clicks apart, up to the last impression.
fn apart(impressions: &[Impression]) -> Stream {
    let end = impressions.last().map_or(0, |last| last.time);
    let mut events = Vec::new();
    for (number, Impression { time, item, click }) in impressions.iter().enumerate() {
        let id = format!("i{number}");
        events.push((*time, 0, serde_json::json!({ "ts": time, "impression": id, "user": number % 100, "item": item })));
        let clicked = click.map(|delay| time + delay).filter(|time| *time <= end);
        events.extend(clicked.map(|time| (time, 1, serde_json::json!({ "ts": time, "impression": id }))));
    }
    events.sort_by_key(|(time, ..)| *time);
    let mut offsets = [0; 2];
    let records = events.iter().map(|(_, partition, event)| {
        let offset = &mut offsets[*partition];
        *offset += 1;
        record(*partition as u32, *offset - 1, [Role::Impression, Role::Click][*partition], event)
    });
    let partitions = ["impressions", "clicks"].map(|topic| TopicPartition { topic: topic.into(), partition: 0 });
    (partitions.to_vec(), records.collect())
}

/// The samples that leave early with this wait, as if their labels were final.
fn at_face_value(impressions: &[Impression], wait: Option<i64>) -> Stream {
    let end = impressions.last().map_or(0, |last| last.time);
    let rows = impressions.iter().flat_map(|Impression { time, item, click }| {
        let soon = click.is_some_and(|delay| wait.is_some_and(|wait| delay <= wait));
        let negative = (!soon).then_some((time + wait.unwrap_or(0), *item, false));
        let positive = click.map(|delay| (time + delay, *item, true));
        [negative, positive].into_iter().flatten().filter(move |(time, ..)| *time <= end)
    });
    labelled(rows)
}

/// Learning rates fall, so that the end is a mean over the stream and not over its last minutes.
fn config(dir: &std::path::Path, more: &str) -> Config {
    let text = format!(
        r#"
name = "truth"
state.dir = "{}"
checkpoint = {{ every_samples = 1_000_000, every = "1h" }}
publish.enabled = false
model = {{ embedding = {{ dim = 4 }}, light = [8], booster = [16, 8], control = false }}

{more}

[train]
threads = 1
batch_rows = 64
linger = "1h"

[train.optimizer]
dense_lr = 3e-3
decay = "half_life"
decay_steps = 1000

[schema]
time = "ts"
user = "user"
item = "item"
impression = "impression"
features = [{{ name = "item", kind = "categorical" }}]
"#,
        dir.display()
    );
    config::parse(&text, "truth.toml", std::iter::empty()).expect("the test's configuration is valid")
}

/// What light and booster predict of each item after the stream.
fn learned(stream: Stream, more: &str) -> [Vec<f64>; 2] {
    let dir = tempfile::tempdir().expect("tempdir");
    let config = config(dir.path(), more);
    let (summary, _) = world::run(&config, State::Durable, stream, None, true);
    assert_eq!(summary.status.pending, 0);
    let spec = FeatureSpec::new(&config.schema).expect("the schema is valid");
    let mut learner = Learner::new(&config.model, &config.train, config.early_labels(), &spec).expect("the CPU is there");
    let store = CheckpointStore::open(dir.path(), 3).expect("the state opens");
    let commit = store.latest().expect("the end was committed");
    learner.restore(CheckpointStore::load(dir.path(), commit).expect("the commit is whole").learner).expect("same model");
    let mut builder = BatchBuilder::new(spec, Pace { rows: ITEMS + 1, linger_ms: i64::MAX }, 0);
    for item in 0..ITEMS {
        let (user, fields) = (UserId("u".into()), Box::new([Field::Text(item.to_string().into())]));
        builder
            .push(Sample { origins: Vec::new(), time: EventTime(0), impression: None, user, label: false, stage: Stage::Final, fields }, 0);
    }
    let scores = learner.predict(&builder.flush().expect("there are samples"));
    [scores.light, scores.booster].map(|logits| {
        let logits = logits.expect("the head is there");
        logits.into_iter().map(|logit| 1.0 / (1.0 + (-f64::from(logit)).exp())).collect()
    })
}

/// Predicted over true clicks of the items chosen, which are equally frequent, less 1.
fn error(predicted: &[f64], chosen: impl Fn(usize) -> bool) -> f64 {
    let items = || (0..ITEMS).filter(|item| chosen(*item));
    items().map(|item| predicted[item]).sum::<f64>() / items().map(click_probability).sum::<f64>() - 1.0
}

/// Light and booster are calibrated to the truth, over all and in each group; those of the control are off by more than `control_error`.
fn assert_calibrated(found: &[Vec<f64>; 2], control: &[Vec<f64>; 2], control_error: f64) {
    for (head, (found, control)) in ["light", "booster"].into_iter().zip(found.iter().zip(control)) {
        let (all, of_control) = (error(found, |_| true), error(control, |_| true));
        let groups: Vec<f64> = (0..GROUPS).map(|group| error(found, |item| item % GROUPS == group)).collect();
        println!(
            "{head}: {:+.2} %, by group {:+.1?} %, control {:+.1} %",
            100.0 * all,
            groups.iter().map(|e| 100.0 * e).collect::<Vec<_>>(),
            100.0 * of_control
        );
        assert!(all.abs() < BAND, "{head} is off by {all}");
        assert!(groups.iter().all(|error| error.abs() < GROUP_BAND), "{head} by group: {groups:?}");
        assert!(of_control.abs() > control_error, "{head} of the control is off by {of_control} only");
    }
}

#[test]
fn sampled_negatives() {
    let rows = || impressions().into_iter().map(|row| (row.time, row.item, row.click.is_some()));
    let found = learned(labelled(rows()), "[train.negatives]\nkeep = 0.2");
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let control = learned(labelled(rows().filter(|(.., clicked)| *clicked || random.random_bool(0.2))), "");
    assert_calibrated(&found, &control, 0.5);
}

#[test]
fn impressions_that_are_trained_at_once() {
    let impressions = impressions();
    let early = "topics.mode = \"joined\"\njoin = { window = \"1m\", grace = \"1s\", memory = \"2m\", emit = \"early\" }";
    let found = learned(apart(&impressions), early);
    let control = learned(at_face_value(&impressions, None), "");
    assert_calibrated(&found, &control, 0.1);
}

#[test]
fn impressions_that_wait_a_while() {
    let impressions = impressions();
    let early = "topics.mode = \"joined\"\n\
                 join = { window = \"1m\", grace = \"1s\", memory = \"2m\", emit = \"early\", early = \"es_dfm\", wait = \"2s\" }";
    let found = learned(apart(&impressions), early);
    let control = learned(at_face_value(&impressions, Some(WAIT_MS)), "");
    assert_calibrated(&found, &control, 0.1);
}
