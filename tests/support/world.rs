//! A small stream of impressions and clicks with known counts, and a pipeline over it.

use std::path::Path;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rocket_launching::config::{self, AttentionPair, Config, EarlyLabels, Emit, FeatureKind, Pooling, Span};
use rocket_launching::domain::{Origin, PartitionIndex, PartitionPosition, Record, Role, TopicPartition};
use rocket_launching::pipeline::{Parts, PipelineError, Running, State, Summary};
use rocket_launching::publish::Publisher;
use rocket_launching::stream::{MemoryDeadLetters, MemorySource, Source, StreamError};
use rocket_launching::telemetry::Health;

/// Milliseconds between two impressions.
pub const STEP_MS: i64 = 100;

/// A configuration for [`joined_stream`], or for [`labelled_stream`], with state under `dir`. `more` is laid over it as TOML.
pub fn config(dir: &Path, mode: &str, more: &str) -> Config {
    let text = format!(
        r#"
name = "world"
topics.mode = "{mode}"
join = {{ window = "5s", grace = "1s", memory = "1m" }}
train = {{ batch_rows = 32, linger = "1h", threads = 2 }}
model = {{ embedding = {{ dim = 4 }}, shared = [8], light = [8], booster = [32, 16] }}
evaluate.windows = ["1m"]
checkpoint = {{ every_samples = 200, every = "1h", full_every = 3 }}
publish = {{ every_samples = 400, every = "1h", probes = 8 }}
state.dir = "{}"
{more}

[schema]
time = "ts_ms"
user = "user_id"
item = "item_id"
impression = "impression_id"

[[schema.features]]
name = "user_id"
kind = "categorical"
[[schema.features]]
name = "item_id"
kind = "categorical"
[[schema.features]]
name = "tags"
kind = "bag"
[[schema.features]]
name = "price"
kind = "log1p"
[[schema.features]]
name = "hour"
kind = "hour"
[[schema.features]]
name = "weekday"
kind = "weekday"
[[schema.features]]
name = "position"
kind = "categorical"
training_only = true
[[schema.features]]
name = "user_tags"
kind = "cross"
of = ["user_id", "tags"]
[[schema.features]]
name = "item_rate"
kind = "click_rate"
of = ["item_id"]
[[schema.features]]
name = "user_hour_rate"
kind = "click_rate"
of = ["user_id", "hour"]
prior = 5.0
"#,
        dir.display()
    );
    config::parse(&text, "world.toml", std::iter::empty()).expect("the test's configuration is valid")
}

/// Gives three features dims of their own, two of them the same: [`config`] then has three tables.
pub fn widen(config: &mut Config) {
    for (name, dim) in [("item_id", 6), ("tags", 2), ("hour", 2)] {
        let feature = config.schema.features.iter_mut().find(|feature| feature.name == name);
        feature.expect("the schema has it").dim = Some(dim);
    }
}

/// Gives the booster attention over tags by item, a sequence of the last two: their rows are of one dim, though of two names.
pub fn attend(config: &mut Config) {
    let tags = config.schema.features.iter_mut().find(|feature| feature.name == "tags").expect("the schema has it");
    tags.kind = FeatureKind::Bag { pooling: Pooling::Mean, separator: ",".to_owned(), last: Some(2) };
    config.model.booster_attention.of = vec![AttentionPair { sequence: "tags".to_owned(), target: "item_id".to_owned() }];
}

/// Labels come early: at once, or after a wait of so many milliseconds.
pub fn early(config: &mut Config, wait_ms: Option<u64>) {
    config.join.emit = Emit::Early;
    config.join.early = if wait_ms.is_some() { EarlyLabels::EsDfm } else { EarlyLabels::Fnw };
    config.join.wait = wait_ms.map(Span::from_millis);
}

fn impression(rng: &mut ChaCha8Rng, number: usize) -> (serde_json::Value, bool) {
    let user = rng.random_range(0..40u32);
    let item = rng.random_range(0..25u32);
    let tags: Vec<String> = (0..rng.random_range(0..3u32)).map(|_| format!("t{}", rng.random_range(0..6u32))).collect();
    let clicked = rng.random_bool(f64::from((user * 7 + item * 3) % 10) / 12.0);
    let event = serde_json::json!({
        "ts_ms": 1_700_000_000_000 + number as i64 * STEP_MS,
        "impression_id": format!("i{number}"),
        "user_id": format!("u{user}"),
        "item_id": item,
        "tags": tags,
        "price": rng.random_range(0.0..50.0f64),
        "position": number % 4,
    });
    (event, clicked)
}

fn record(partition: u32, offset: usize, role: Role, payload: Vec<u8>) -> Record {
    let origin = Origin { partition: PartitionIndex(partition), offset: offset as i64 };
    Record { origin, role, key: None, payload: Some(payload), timestamp_ms: None }
}

/// One partition of labelled events, some of them broken.
pub fn labelled_stream(rows: usize) -> (Vec<TopicPartition>, Vec<Record>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let records = (0..rows)
        .map(|number| {
            let (mut event, clicked) = impression(&mut rng, number);
            event["label"] = clicked.into();
            let payload = if number % 97 == 13 { b"{\"ts_ms\": oops".to_vec() } else { event.to_string().into_bytes() };
            record(0, number, Role::Labelled, payload)
        })
        .collect();
    (vec![TopicPartition { topic: "world.events".into(), partition: 0 }], records)
}

/// One partition of impressions and one of clicks, each in event time, with duplicates, late clicks, clicks of nothing and broken events;
/// `seed` decides how the two partitions interleave, within a second of event time.
pub fn joined_stream(rows: usize, seed: u64) -> (Vec<TopicPartition>, Vec<Record>) {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut impressions: Vec<(i64, Vec<u8>)> = Vec::new();
    let mut clicks: Vec<(i64, Vec<u8>)> = Vec::new();
    for number in 0..rows {
        let (event, clicked) = impression(&mut rng, number);
        let time = event["ts_ms"].as_i64().expect("set above");
        let text = event.to_string().into_bytes();
        impressions.push((time, if number % 97 == 13 { b"[]".to_vec() } else { text.clone() }));
        if number % 50 == 3 {
            impressions.push((time, text));
        }
        let mut click = |delay: i64, id: String| {
            let click = serde_json::json!({ "ts_ms": time + delay, "impression_id": id });
            clicks.push((time + delay, click.to_string().into_bytes()));
        };
        if clicked {
            let delay = rng.random_range(0..4000);
            click(delay, format!("i{number}"));
            if number % 40 == 1 {
                click(delay + 10, format!("i{number}"));
            }
        } else if number % 30 == 5 {
            click(5500, format!("i{number}"));
        }
        if number % 60 == 9 {
            click(0, format!("nothing{number}"));
        }
    }
    clicks.sort_by_key(|(time, _)| *time);
    let mut order = ChaCha8Rng::seed_from_u64(seed);
    let mut merged: Vec<(i64, Record)> = Vec::new();
    for (partition, role, events) in [(0, Role::Impression, impressions), (1, Role::Click, clicks)] {
        let mut at = i64::MIN;
        for (offset, (time, payload)) in events.into_iter().enumerate() {
            at = at.max(time + order.random_range(0..1000));
            merged.push((at, record(partition, offset, role, payload)));
        }
    }
    merged.sort_by_key(|(at, _)| *at);
    let partitions = ["world.impressions", "world.clicks"].map(|topic| TopicPartition { topic: topic.into(), partition: 0 });
    (partitions.to_vec(), merged.into_iter().map(|(_, record)| record).collect())
}

/// Runs a pipeline over records to its end.
pub fn run(
    config: &Config,
    state: State,
    stream: (Vec<TopicPartition>, Vec<Record>),
    publisher: Option<Publisher>,
    finish_at_end: bool,
) -> (Summary, MemoryDeadLetters) {
    let dead_letters = MemoryDeadLetters::default();
    let mut parts = parts(config, stream, finish_at_end);
    (parts.state, parts.publisher, parts.dead_letters) = (state, publisher, Box::new(dead_letters.clone()));
    let summary = Running::start(parts).expect("the pipeline starts").join().expect("the pipeline ends well");
    (summary, dead_letters)
}

/// What makes a pipeline over records, with durable state and nothing published.
pub fn parts(config: &Config, (partitions, records): (Vec<TopicPartition>, Vec<Record>), finish_at_end: bool) -> Parts {
    let source = move |positions: &[PartitionPosition]| -> Result<Box<dyn Source>, StreamError> {
        Ok(Box::new(MemorySource::new(partitions.clone(), records.clone(), 64, positions)))
    };
    Parts {
        config: config.clone(),
        state: State::Durable,
        source: Box::new(source),
        dead_letters: Box::new(MemoryDeadLetters::default()),
        publisher: None,
        health: Health::new(Duration::from_secs(60)),
        finish_at_end,
    }
}

/// Why a pipeline with durable state does not start.
pub fn refused(config: &Config, stream: (Vec<TopicPartition>, Vec<Record>)) -> PipelineError {
    Running::start(parts(config, stream, true)).err().expect("the pipeline does not start")
}
