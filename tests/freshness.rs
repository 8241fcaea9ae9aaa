//! Promise: it is known how long after its production an event has taught a version that servers are told to serve.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rocket_launching::config::{CheckpointConfig, Config, PublishConfig, Span, TrainConfig};
use rocket_launching::domain::{Record, Role, TopicPartition};
use rocket_launching::pipeline::{Freshness, State};
use rocket_launching::publish::Publisher;
use rocket_launching::serving::Catalog;
use rocket_launching::stream::{KafkaProducer, LogReader, MemoryLog, create_topics};
use support::broker::RealBroker;
use support::daemon::Daemon;
use support::world;

/// How long before the test its last records were produced, and its first ones.
const AGE: Duration = Duration::from_secs(20);
const LONG_AGO: Duration = Duration::from_secs(1000);

/// Events a second, and for how long, on a broker; and how often they are sent.
const RATE: usize = 500;
const LENGTH: Duration = Duration::from_secs(90);
const BURST: Duration = Duration::from_millis(100);

fn before_now(age: Duration) -> Option<i64> {
    i64::try_from((SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap().as_millis()).ok()
}

/// Runs over all records; gives what the last version promoted has learnt from in all, and how fresh that was.
fn promoted(config: &Config, stream: (Vec<TopicPartition>, Vec<Record>)) -> (u64, Freshness) {
    let log = MemoryLog::default();
    let publisher = Publisher::open(config, "test", Box::new(log.clone()), Box::new(log.clone())).unwrap();
    let status = world::run(config, State::Durable, stream, Some(publisher), true).0.status;
    let (mut catalog, mut reader) = (Catalog::new(&config.name), log);
    while let Some(record) = reader.next(Duration::ZERO).unwrap() {
        catalog.apply(&record).unwrap();
    }
    let current = catalog.target(0).expect("a version was promoted");
    (catalog.manifests()[&current].provenance.samples, status.freshness.expect("records bear the time of their production"))
}

#[test]
fn every_sample_of_a_promoted_version_is_counted_once_from_its_record_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = world::config(dir.path(), "labelled", "");
    config.publish.gates.enabled = false;
    // Else a checkpoint that is not published may be on its way when the stream ends.
    config.checkpoint.every_samples = u64::MAX;
    let (partitions, mut records) = world::labelled_stream(2_000);
    let (started, produced) = (Instant::now(), before_now(AGE));
    records.iter_mut().for_each(|record| record.timestamp_ms = produced);
    let (learnt, freshness) = promoted(&config, (partitions, records));
    assert_eq!(freshness.samples, learnt);
    let oldest = (AGE + started.elapsed()).as_secs_f64() + 0.02;
    for age in [freshness.p50_s, freshness.p99_s, freshness.max_s] {
        assert!((AGE.as_secs_f64()..oldest).contains(&age), "{freshness:?}");
    }
}

#[test]
fn the_time_of_a_joined_sample_is_that_of_the_record_that_closed_its_window() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = world::config(dir.path(), "joined", "");
    config.publish.gates.enabled = false;
    (config.train.batch_rows, config.publish.every_samples) = (10, 10);
    config.join.idle = Span::from_secs(3600);
    let (partitions, records) = world::joined_stream(200, 1);
    // Some impressions and clicks of their first second, and of both kinds the last, long after their windows.
    let count = |role| records.iter().filter(move |record| record.role == role);
    let mut kept = Vec::new();
    for role in [Role::Impression, Role::Click] {
        let few = count(role).take(20).cloned().map(|record| Record { timestamp_ms: before_now(LONG_AGO), ..record });
        let last = count(role).next_back().cloned().map(|record| Record { timestamp_ms: before_now(AGE), ..record });
        kept.push((few.collect::<Vec<_>>(), last));
    }
    let stream = kept.iter().flat_map(|(few, _)| few.clone()).chain(kept.iter().filter_map(|(_, last)| last.clone())).collect();
    let (learnt, freshness) = promoted(&config, (partitions, stream));
    assert!(learnt >= 10 && freshness.samples == learnt, "{learnt}, {freshness:?}");
    assert!(freshness.max_s >= AGE.as_secs_f64() && freshness.max_s < LONG_AGO.as_secs_f64() / 2.0, "{freshness:?}");
}

/// The settings that ops/runbook.md has for it; all else as by default.
#[test]
#[ignore = "a minute and a half, on an idle machine"]
fn on_a_broker_what_is_served_has_learnt_from_an_event_within_ten_seconds() {
    let (dir, broker) = (tempfile::tempdir().unwrap(), RealBroker::start());
    let more = format!("admin.http = \"\"\nkafka.brokers = \"{}\"", broker.bootstrap());
    let mut config = world::config(&dir.path().join("state"), "labelled", &more);
    (config.train, config.checkpoint) = (TrainConfig::default(), CheckpointConfig::default());
    config.publish = PublishConfig { every: Span::from_secs(5), ..PublishConfig::default() };
    create_topics(&config, 4, 1).unwrap();
    let daemon = Daemon::start(&config);

    let (producer, topic) = (KafkaProducer::open(&config.kafka).unwrap(), config.events_topic());
    let started = Instant::now();
    for (number, record) in world::labelled_stream(RATE * LENGTH.as_secs() as usize).1.iter().enumerate() {
        if number % (RATE / 10) == 0 {
            std::thread::sleep((BURST * u32::try_from(number / (RATE / 10)).unwrap()).saturating_sub(started.elapsed()));
        }
        producer.send(&topic, None, Some(number.to_string().as_bytes()), record.payload.as_deref(), None).unwrap();
    }
    producer.flush().unwrap();
    let freshness = daemon.status().and_then(|status| status.freshness).expect("versions were promoted");
    println!("{RATE} events a second for {LENGTH:?}: {freshness}");
    assert!(freshness.samples as usize > RATE * LENGTH.as_secs() as usize / 2, "{freshness:?}");
    assert!(freshness.p99_s <= 10.0, "{freshness:?}");
    assert!(daemon.terminate().success());
}
