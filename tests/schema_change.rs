//! Promise: after a change of the schema the trainer goes on with what fits and says what does not, where it is told to; else it does not
//! start, and nothing is lost.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::path::Path;

use rocket_launching::checkpoint::CheckpointStore;
use rocket_launching::config::{Config, EmbeddingOptimizer, FeatureConfig, FeatureKind, Mismatch};
use rocket_launching::pipeline::{State, Status};
use rocket_launching::publish::Publisher;
use rocket_launching::stream::MemoryLog;
use rocket_launching::train::LearnerState;
use support::world;

const BEFORE: usize = 2000;
const AFTER: usize = 3000;

fn config(dir: &Path) -> Config {
    world::config(dir, "labelled", "")
}

fn run(config: &Config, log: &MemoryLog, events: usize) -> Status {
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).unwrap();
    let (partitions, mut records) = world::labelled_stream(AFTER);
    records.truncate(events);
    world::run(config, State::Durable, (partitions, records), Some(publisher), false).0.status
}

fn committed(config: &Config) -> LearnerState {
    let store = CheckpointStore::open(&config.state.dir, 3).unwrap();
    CheckpointStore::load(&config.state.dir, store.latest().unwrap()).unwrap().learner
}

/// The weights of one input's floats in the first shared layer.
fn first_layer(state: &LearnerState, from: usize, width: usize) -> Vec<f32> {
    let layout = &state.dense.layout[0];
    assert_eq!(layout.name, "shared.0.weight");
    let outputs = layout.shape[1];
    state.dense.params[from * outputs..(from + width) * outputs].to_vec()
}

#[test]
fn features_added_and_removed_leave_the_others_what_they_learnt() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let log = MemoryLog::default();
    let books = run(&config, &log, BEFORE).books;
    let before = committed(&config);
    let dim = config.model.embedding.dim;

    // `tags` was the third slot; a new one stands first.
    config.schema.features.retain(|feature| !["tags", "user_tags"].contains(&feature.name.as_str()));
    let new = FeatureConfig { column: Some("item_id".to_owned()), ..FeatureConfig::new("item_again", FeatureKind::Categorical) };
    config.schema.features.insert(0, new);

    let refused = world::refused(&config, world::labelled_stream(AFTER)).to_string();
    for said in ["item_again is new", "tags is no more", "checkpoint.mismatch"] {
        assert!(refused.contains(said), "{refused}");
    }
    assert_eq!(committed(&config), before, "nothing was lost by it");

    config.checkpoint.mismatch = Mismatch::WarmStart;
    let status = run(&config, &log, BEFORE);
    assert_eq!(
        status.warm_started,
        ["feature item_again is new", "feature tags is no more", "feature user_tags is no more"],
        "and nothing else was"
    );
    assert_eq!(status.books, books);
    let status = run(&config, &log, AFTER);
    assert!(status.promoted && status.publish_problem.is_none(), "{status:?}");
    let after = committed(&config);
    assert_eq!(after.dense.layout[0].shape[0], before.dense.layout[0].shape[0] - dim);
    assert!(after.rows[0].keys.len() > before.rows[0].keys.len());

    config.checkpoint.mismatch = Mismatch::Refuse;
    let again = run(&config, &log, AFTER);
    assert_eq!(again.warm_started, [""; 0], "from then on it fits");
}

#[test]
fn weights_move_with_their_feature() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let log = MemoryLog::default();
    run(&config, &log, BEFORE);
    let before = committed(&config);
    let dim = config.model.embedding.dim;
    config.schema.features.swap(0, 1);
    assert!(world::refused(&config, world::labelled_stream(AFTER)).to_string().contains("another order"));

    config.checkpoint.mismatch = Mismatch::WarmStart;
    // A few steps more, so that something is committed; they are small.
    config.train.optimizer.dense_lr = 1e-12;
    run(&config, &log, BEFORE + 100);
    let after = committed(&config);
    for (now, was) in [(0, dim), (dim, 0), (2 * dim, 2 * dim)] {
        let pairs = first_layer(&after, now, dim).into_iter().zip(first_layer(&before, was, dim));
        assert!(pairs.into_iter().all(|(now, was)| (now - was).abs() < 1e-6));
    }
}

#[test]
fn another_dim_costs_the_rows_and_another_optimizer_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    let log = MemoryLog::default();
    run(&config, &log, BEFORE);
    let before = committed(&config);
    config.checkpoint.mismatch = Mismatch::WarmStart;

    config.train.optimizer.embedding = EmbeddingOptimizer::Adam;
    let status = run(&config, &log, BEFORE + 100);
    assert_eq!(status.warm_started.len(), 1, "{:?}", status.warm_started);
    assert!(status.warm_started[0].contains("keep their weights"));
    let after = committed(&config);
    assert!(after.rows[0].keys.len() >= before.rows[0].keys.len());

    config.model.embedding.dim += 2;
    config.model.light = vec![9];
    let status = run(&config, &log, AFTER);
    for said in ["rows of 6 floats start afresh", "rows of 4 floats have no place any more", "light.0.weight starts afresh"] {
        assert!(status.warm_started.iter().any(|line| line.contains(said)), "{said}: {:?}", status.warm_started);
    }
    assert!(!status.warm_started.iter().any(|line| line.contains("booster")), "{:?}", status.warm_started);
    assert!(status.promoted, "{status:?}");
}
