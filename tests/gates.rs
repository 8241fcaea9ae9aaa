//! Promise: a version that was taught by a stream gone bad is held back, whoever looks is told so, and the next good one is promoted without
//! anybody's hand.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::path::Path;
use std::time::Duration;

use rocket_launching::config::Config;
use rocket_launching::domain::{Record, TopicPartition, Version};
use rocket_launching::pipeline::{State, Status};
use rocket_launching::publish::Publisher;
use rocket_launching::serving::Catalog;
use rocket_launching::stream::{LogReader, MemoryLog};
use rocket_launching::wire::snapshot::{Act, AuditEntry};
use serde_json::Value;
use support::world;

/// Events of good times, of an hour in which clicks and others are taken for each other, and of good times again.
const GOOD: usize = 30_000;
const FLIPPED: usize = 3_600_000 / world::STEP_MS as usize;
const GOOD_AGAIN: usize = 90_000;
/// Half of what is trained between two versions.
const FEW: usize = 1500;

fn config(dir: &Path) -> Config {
    let mut config = world::config(dir, "labelled", "");
    config.checkpoint.every_samples = 1_000_000;
    config.publish.every_samples = 3000;
    config.publish.keep = 1000;
    config.publish.gates.samples = 2000;
    config.publish.gates.every = 1;
    config
}

/// Runs over the first `events` of a stream whose labels are wrong in its middle.
fn run(config: &Config, log: &MemoryLog, (partitions, records): &(Vec<TopicPartition>, Vec<Record>), events: usize) -> Status {
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).unwrap();
    let stream = (partitions.clone(), records[..events].to_vec());
    world::run(config, State::Durable, stream, Some(publisher), false).0.status
}

/// Half the items are clicked often, half seldom; the hour in the middle has it the other way round.
fn stream() -> (Vec<TopicPartition>, Vec<Record>) {
    let (partitions, mut records) = world::labelled_stream(GOOD + FLIPPED + GOOD_AGAIN);
    for (number, record) in records.iter_mut().enumerate() {
        // Some are broken on purpose.
        let Ok(mut event) = serde_json::from_slice::<Value>(record.payload.as_deref().unwrap()) else { continue };
        let often = event["item_id"].as_u64().unwrap() % 2 == 0;
        let drawn = number * 7919 % 100;
        let clicked = drawn < if often { 40 } else { 5 };
        event["label"] = (clicked != (GOOD..GOOD + FLIPPED).contains(&number)).into();
        record.payload = Some(event.to_string().into_bytes());
    }
    (partitions, records)
}

fn catalog(config: &Config, log: &MemoryLog) -> Catalog {
    let (mut catalog, mut reader) = (Catalog::new(&config.name), log.clone());
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        catalog.apply(&record).unwrap();
    }
    catalog
}

fn acts(catalog: &Catalog, act: Act) -> Vec<AuditEntry> {
    catalog.audit().filter(|entry| entry.act == act).cloned().collect()
}

#[test]
fn an_hour_of_flipped_labels_reaches_no_server_and_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let (log, stream) = (MemoryLog::default(), stream());

    let good = run(&config, &log, &stream, GOOD);
    assert_eq!((good.promoted, &good.held_back, &good.publish_problem), (true, &None, &None));
    let served = good.published.unwrap();
    let quality = catalog(&config, &log).manifests()[&served].quality.clone();
    // A net that has just begun may have been held back, too.
    let before = acts(&catalog(&config, &log), Act::HoldBack).len();
    assert!(quality.gates.len() >= 4 && quality.gates.iter().all(|verdict| verdict.passed), "{quality:#?}");

    let bad = run(&config, &log, &stream, GOOD + FLIPPED);
    assert!(!bad.promoted);
    let held = bad.held_back.unwrap();
    let gates: Vec<&str> = held.gates.iter().map(|verdict| verdict.gate.as_str()).collect();
    assert!(gates.contains(&"forgetting"), "{gates:?}");
    assert!(bad.publish_problem.unwrap().starts_with("held back by "));
    let catalog_now = catalog(&config, &log);
    // One that has seen little of it may have been promoted before it could be told.
    let served = catalog_now.target(0).unwrap();
    let ranks = held.gates.iter().find(|verdict| verdict.gate == "forgetting").unwrap();
    assert!(ranks.served.unwrap() > 0.6 && ranks.found < 0.4, "what is served ranks as before: {ranks:?}");
    let entries = acts(&catalog_now, Act::HoldBack);
    assert_eq!(entries.len(), before + 1, "said once: {entries:#?}");
    assert_eq!((entries[before].from, entries[before].actor.as_str()), (Some(served), "trainer"));
    let manifest = &catalog_now.manifests()[&held.version];
    assert_eq!((manifest.quality.compared_with, manifest.version), (Some(served), bad.published.unwrap()), "it is there to be looked at");
    assert!(manifest.quality.gates.iter().any(|verdict| !verdict.passed));

    let again = run(&config, &log, &stream, GOOD + FLIPPED + GOOD_AGAIN);
    assert_eq!((again.promoted, again.held_back), (true, None));
    let catalog = catalog(&config, &log);
    assert_eq!(catalog.target(0), again.published);
    assert_eq!(acts(&catalog, Act::HoldBack).len(), before + 1, "one spell");
    let taught = |version: &Version| catalog.manifests()[version].provenance.samples as usize;
    let promoted: Vec<usize> = acts(&catalog, Act::Promote).iter().filter_map(|entry| entry.to).map(|version| taught(&version)).collect();
    assert!(!promoted.iter().any(|samples| (GOOD + FEW..GOOD + FLIPPED).contains(samples)), "{promoted:?}");
}

#[test]
fn without_gates_the_bad_hour_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.publish.gates.enabled = false;
    let log = MemoryLog::default();
    let bad = run(&config, &log, &stream(), GOOD + FLIPPED);
    assert_eq!((bad.promoted, bad.held_back), (true, None));
    assert_eq!(catalog(&config, &log).target(0), bad.published);
}
