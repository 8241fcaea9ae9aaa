//! Promise: servers may get embedding rows as 16-bit floats or as bytes; each manifest says what that costs, and servers hold it to that.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

#[path = "support/snapshots.rs"]
mod snapshots;

use rocket_launching::config::{Codec, Config, RowType};
use rocket_launching::domain::{EventTime, Version};
use rocket_launching::keys::Keyring;
use rocket_launching::publish::{Operator, PublishError, Publisher};
use rocket_launching::serving::ServedModel;
use rocket_launching::stream::MemoryLog;
use rocket_launching::wire::snapshot::Manifest;
use serde_json::json;
use snapshots::{CREATED_MS, ITEMS, MODEL, commit, config, loaded};

fn rows_of(rows: RowType, codec: Codec) -> Config {
    let mut config = config(8);
    (config.publish.rows, config.publish.codec) = (rows, codec);
    config
}

fn published(config: &Config) -> (Manifest, Vec<u8>) {
    let log = MemoryLog::default();
    let mut publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).unwrap();
    publisher.publish(&commit(1), &loaded(1), CREATED_MS).unwrap();
    Operator::open(MODEL, "ann", Keyring::default(), Box::new(log.clone()), Box::new(log)).unwrap().fetch(Version(1)).unwrap()
}

#[test]
fn the_manifest_says_what_small_rows_cost_and_servers_get_no_less() {
    let (large, _) = published(&rows_of(RowType::F32, Codec::None));
    assert_eq!(large.rows_loss, None);
    for (rows, dtype, bytes_per_row) in [(RowType::F16, "F16", 4), (RowType::I8, "I8", 2 + 4)] {
        for codec in [Codec::None, Codec::Zstd] {
            let (manifest, artifact) = published(&rows_of(rows, codec));
            let loss = manifest.rows_loss.clone().unwrap();
            assert_eq!(loss.dtype, dtype);
            assert!(0.0 < loss.error_mean && loss.error_mean <= loss.error_max, "{loss:?}");
            // Of all that the artifact holds only the rows have become smaller: eight bytes each as floats.
            let saved = large.artifact.bytes as i64 - artifact.len() as i64;
            assert!((saved - (8 - bytes_per_row) * ITEMS as i64).abs() < 200, "{rows:?}: {saved}");
            assert_eq!(manifest.artifact.codec, codec.name());

            let model = ServedModel::open(manifest.clone(), &artifact).unwrap();
            let object = |value: serde_json::Value| value.as_object().unwrap().clone();
            let candidates: Vec<_> = (0..ITEMS).map(|item| object(json!({ "item": format!("item{item}") }))).collect();
            let scores = model.score(EventTime(CREATED_MS), &object(json!({ "age": 30 })), &candidates).unwrap();
            for (item, score) in scores.into_iter().enumerate() {
                let apart = (score - snapshots::probability(1, item, 30.0)).abs();
                // A logit is half of one weight and a quarter of the other; a probability moves by a quarter of it at most.
                assert!(apart <= loss.error_max * 0.75 / 4.0 + 1e-6, "{rows:?}, item {item}: {apart} with {loss:?}");
            }
            for (probe, own) in manifest.probes.iter().zip(&large.probes) {
                assert!((probe.logit - own.logit).abs() <= loss.probe_change_max, "{loss:?}");
            }
        }
    }
}

#[test]
fn rows_that_would_move_a_score_too_far_are_not_sent() {
    let log = MemoryLog::default();
    let config = rows_of(RowType::I8, Codec::None);
    let mut publisher = Publisher::open(&config, "test", Box::new(log.clone()), Box::new(log)).unwrap();
    let mut far = loaded(1);
    // One weight is so large that the other has no byte left.
    for row in far.learner.rows[0].data.chunks_exact_mut(4) {
        (row[0], row[1]) = (0.7, 400.0);
    }
    // That other one is all that counts.
    far.learner.dense.params[1] = 0.0;
    for probe in &mut far.probes {
        let age = probe.fields[1].as_f64().unwrap();
        probe.logit = 0.5 * 0.7 + 0.125 * age.ln_1p() as f32 + 0.0625;
    }
    let error = publisher.publish(&commit(1), &far, CREATED_MS).unwrap_err();
    assert!(matches!(error, PublishError::Gate { version: Version(1), .. }), "{error}");
    assert!(error.to_string().contains("with rows of I8 it gives"), "{error}");
    far.learner.rows[0].data[0] = f32::NAN;
    let error = publisher.publish(&commit(1), &far, CREATED_MS).unwrap_err().to_string();
    assert!(error.contains("embedding.scales holds a weight that is not finite"), "{error}");
}
