//! Promise: a run that was stopped and resumed, however often and wherever, ends bit-equal to one that was not.

mod support;

use std::path::Path;

use rocket_launching::checkpoint::{CheckpointStore, Commit, Loaded};
use rocket_launching::config::{AdmissionConfig, ByteLength, Config, Heads, HintSchedule, Span};
use rocket_launching::domain::{PartitionPosition, Record, TopicPartition};
use rocket_launching::pipeline::{Running, State};
use rocket_launching::stream::{Loss, LostPosition, MemorySource, StreamError};
use rocket_launching::train::LearnerState;
use support::world;

fn last_commit(dir: &Path) -> (Commit, Loaded) {
    let store = CheckpointStore::open(dir, 3).expect("the state opens");
    let commit = store.latest().expect("something was committed").clone();
    let loaded = CheckpointStore::load(dir, &commit).expect("the commit is whole");
    (commit, loaded)
}

/// Returns the state both runs end in.
fn assert_equal(mode: &str, stream: &(Vec<TopicPartition>, Vec<Record>), cuts: &[usize], adjust: impl Fn(&mut Config)) -> LearnerState {
    let config = |dir: &Path| {
        let mut config = world::config(dir, mode, "");
        adjust(&mut config);
        config
    };
    let whole = tempfile::tempdir().expect("tempdir");
    world::run(&config(whole.path()), State::Durable, stream.clone(), None, true);
    let (expected, expected_state) = last_commit(whole.path());

    let pieces = tempfile::tempdir().expect("tempdir");
    let config = config(pieces.path());
    for cut in cuts {
        // The source ends early and unfinished: what is in the join and in the open batch is lost from memory, as in a crash.
        let part = (stream.0.clone(), stream.1[..*cut].to_vec());
        world::run(&config, State::Durable, part, None, false);
    }
    world::run(&config, State::Durable, stream.clone(), None, true);
    let (found, found_state) = last_commit(pieces.path());

    assert_eq!(found.books, expected.books);
    assert_eq!(found.positions, expected.positions);
    assert_eq!(found.evaluation, expected.evaluation);
    assert_eq!(found_state.learner, expected_state.learner);
    assert_eq!(found_state.memory, expected_state.memory);
    assert_eq!(found_state.open, expected_state.open);
    assert_eq!(found.positions.iter().map(PartitionPosition::count).sum::<u64>(), found.books.done());
    assert_eq!(found.books.done(), stream.1.len() as u64, "every event is done");
    found_state.learner
}

#[test]
fn labelled() {
    assert_equal("labelled", &world::labelled_stream(1500), &[100, 101, 700, 1499], |_| ());
}

#[test]
fn joined() {
    let stream = world::joined_stream(1500, 1);
    assert_equal("joined", &stream, &[50, 333, 334, 1200], |_| ());
}

#[test]
fn with_slots_of_several_dims() {
    for sharing in [true, false] {
        let state = assert_equal("labelled", &world::labelled_stream(1500), &[100, 101, 700, 1499], |config| {
            world::widen(config);
            (config.model.sharing, config.model.control) = (sharing, false);
            config.model.embedding.expiry.after = Some(Span::from_secs(3600));
        });
        let tables = [Some(&state.rows), state.light_rows.as_ref()].into_iter().flatten().flatten();
        let held: Vec<_> = tables.map(|rows| (rows.dim, !rows.keys.is_empty())).collect();
        assert_eq!(held, [(4, true), (2, true), (6, true)].repeat(if sharing { 1 } else { 2 }));
    }
}

#[test]
fn where_labels_come_early() {
    let stream = world::joined_stream(1500, 1);
    // So many that some fall between an impression that was trained and its click.
    let cuts: Vec<usize> = (50..stream.1.len()).step_by(70).collect();
    for wait in [None, Some(1500)] {
        assert_equal("joined", &stream, &cuts, |config| world::early(config, wait));
    }
}

#[test]
fn with_sampled_negatives() {
    let sampled = |config: &mut Config| config.train.negatives.keep = 0.3;
    assert_equal("labelled", &world::labelled_stream(1500), &[100, 101, 700, 1499], sampled);
    // So many that some fall between a negative that was left out and its late click.
    let cuts: Vec<usize> = (50..1500).step_by(70).collect();
    assert_equal("joined", &world::joined_stream(1500, 1), &cuts, sampled);
}

#[test]
fn with_ids_admitted_by_count_and_by_chance() {
    let all = assert_equal("labelled", &world::labelled_stream(700), &[], |_| ()).rows[0].keys.len();
    let by_count = |config: &mut Config| {
        config.model.embedding.admission = AdmissionConfig { min_count: 20, filter: ByteLength(1 << 16), ..AdmissionConfig::default() };
    };
    let by_chance = |config: &mut Config| config.model.embedding.admission.probability = 0.02;
    let rules: [&dyn Fn(&mut Config); 2] = [&by_count, &by_chance];
    for rule in rules {
        let rows = &assert_equal("labelled", &world::labelled_stream(700), &[100, 101, 400], rule).rows[0];
        assert!(rows.keys.len() > 10 && rows.keys.len() < all, "{} of {all} ids have rows", rows.keys.len());
        assert!(rows.admission.drawn > 0 || rows.admission.counters.iter().any(|counter| *counter > 0));
    }
}

/// The same events, `factor` times as far apart.
fn stretched((partitions, records): (Vec<TopicPartition>, Vec<Record>), factor: i64) -> (Vec<TopicPartition>, Vec<Record>) {
    let start = 1_700_000_000_000;
    let stretch = |mut record: Record| {
        let event = record.payload.as_deref().and_then(|payload| serde_json::from_slice::<serde_json::Value>(payload).ok());
        if let Some(mut event) = event {
            let time = event["ts_ms"].as_i64().expect("every event has a time");
            event["ts_ms"] = (start + (time - start) * factor).into();
            record.payload = Some(event.to_string().into_bytes());
        }
        record
    };
    (partitions, records.into_iter().map(stretch).collect())
}

#[test]
fn with_rows_that_expire() {
    // 1500 events over 10 days.
    let stream = stretched(world::labelled_stream(1500), 5760);
    let all = assert_equal("labelled", &stream, &[], |_| ()).rows[0].keys.len();
    let by_age = |config: &mut Config| config.model.embedding.expiry.after = Some(Span::from_secs(6 * 3600));
    let by_capacity = |config: &mut Config| config.model.embedding.expiry.rows_max = 60;
    let rules: [&dyn Fn(&mut Config); 2] = [&by_age, &by_capacity];
    for rule in rules {
        let rows = &assert_equal("labelled", &stream, &[100, 101, 700, 1499], rule).rows[0];
        assert!(rows.keys.len() > 10 && rows.keys.len() + 10 < all, "{} of {all} ids have rows", rows.keys.len());
    }
}

#[test]
fn arms_that_have_state_of_their_own() {
    let (stream, cuts) = (world::labelled_stream(1500), [100, 700, 701, 1200]);
    assert_equal("labelled", &stream, &cuts, |config| {
        config.train.booster_first.samples = 690;
        config.train.hint.schedule = HintSchedule::Health;
    });
    assert_equal("labelled", &stream, &cuts, |config| {
        (config.model.sharing, config.model.control) = (false, false);
        config.train.booster_first.samples = 690;
    });
    assert_equal("labelled", &stream, &cuts, world::attend);
    assert_equal("labelled", &stream, &cuts, |config| {
        (config.train.heads, config.model.control) = (Heads::Booster, false);
    });
}

/// Runs over the first 700 events, and removes or damages the per-user store.
fn without_users(damage: &str) -> (tempfile::TempDir, (Commit, Loaded)) {
    let dir = tempfile::tempdir().expect("tempdir");
    let stream = world::labelled_stream(1500);
    let config = world::config(dir.path(), "labelled", "");
    for rows in [300, 700] {
        world::run(&config, State::Durable, (stream.0.clone(), stream.1[..rows].to_vec()), None, false);
    }
    let before = last_commit(dir.path());
    let users = dir.path().join("users.sled");
    if damage == "lost" {
        std::fs::remove_dir_all(&users).expect("the store can be removed");
    } else {
        std::fs::write(users.join("conf"), "no configuration").expect("the store can be damaged");
    }
    (dir, before)
}

#[test]
fn a_lost_or_damaged_user_store_is_recovered_from_an_export_and_its_commit() {
    for damage in ["lost", "damaged"] {
        let (dir, (before, _)) = without_users(damage);
        let whole = tempfile::tempdir().expect("tempdir");
        let stream = world::labelled_stream(1500);
        world::run(&world::config(whole.path(), "labelled", ""), State::Durable, stream.clone(), None, true);
        let (summary, _) = world::run(&world::config(dir.path(), "labelled", ""), State::Durable, stream, None, true);
        let went_back = summary.status.went_back.expect("it says so");
        assert!(went_back.contains(&format!("from checkpoint {}", before.number)), "{went_back}");
        assert_eq!(summary.status.metrics_restarted, None);
        let ((found, state), (expected, expected_state)) = (last_commit(dir.path()), last_commit(whole.path()));
        assert_eq!((found.books, found.positions, found.evaluation), (expected.books, expected.positions, expected.evaluation));
        assert_eq!(state.learner, expected_state.learner);
    }
}

#[test]
fn without_an_export_a_lost_or_damaged_user_store_restarts_metrics_and_keeps_the_weights() {
    for damage in ["lost", "damaged"] {
        let (dir, (before, weights)) = without_users(damage);
        std::fs::remove_dir_all(dir.path().join("exports")).expect("the exports can be removed");
        let (config, stream) = (world::config(dir.path(), "labelled", ""), world::labelled_stream(1500));
        let nothing_new = (stream.0.clone(), stream.1[..700].to_vec());
        let (summary, _) = world::run(&config, State::Durable, nothing_new, None, false);
        assert!(summary.status.metrics_restarted.is_some(), "{damage}");
        assert_eq!((summary.status.report.rows, &summary.status.books), (0, &before.books), "{damage}");
        assert_eq!(last_commit(dir.path()).1.learner, weights.learner, "{damage}");
        let (summary, _) = world::run(&config, State::Durable, stream, None, true);
        assert!(summary.status.report.rows > 0 && summary.status.books.done() == 1500, "{damage}");
    }
}

#[test]
fn an_export_whose_events_the_source_no_longer_has_is_not_gone_back_to() {
    let (dir, (before, weights)) = without_users("lost");
    let (config, stream) = (world::config(dir.path(), "labelled", ""), world::labelled_stream(1500));
    let mut parts = world::parts(&config, (stream.0.clone(), stream.1[..700].to_vec()), false);
    let (partitions, low) = (stream.0.clone(), before.positions[0].low);
    parts.source = Box::new(move |positions| match positions {
        [position, ..] if position.low < low => {
            let loss = Loss::Removed;
            Err(StreamError::PositionsLost {
                lost: vec![LostPosition { partition: position.partition.clone(), wanted: position.low, low, high: low, loss }],
            })
        }
        _ => Ok(Box::new(MemorySource::new(partitions.clone(), stream.1[..700].to_vec(), 64, positions))),
    });
    let status = Running::start(parts).expect("it starts").join().expect("it ends well").status;
    assert!(status.metrics_restarted.is_some() && status.went_back.is_none());
    assert_eq!(last_commit(dir.path()).1.learner, weights.learner);
}
