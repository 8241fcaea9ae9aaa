//! The in-process cluster, through the same client as a real one.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::time::Duration;

use rocket_launching::config::{Config, Span, StartAt};
use rocket_launching::domain::{PartitionPosition, Record};
use rocket_launching::stream::{
    EmbeddedBroker, KafkaLogReader, KafkaLogWriter, KafkaProducer, KafkaSource, LogReader, LogWriter, Polled, Source, StreamError,
    check_topics,
};
use support::{PATIENCE, config, wait_for};

const POLL: Duration = Duration::from_millis(200);

fn set_up(name: &str) -> (EmbeddedBroker, Config) {
    let broker = EmbeddedBroker::start().unwrap();
    let config = config(name, &broker.bootstrap());
    broker.create_topic(&config.topics.events, 2).unwrap();
    broker.create_topic(&config.topics.dead_letters, 1).unwrap();
    broker.create_topic(&config.topics.snapshots, 1).unwrap();
    (broker, config)
}

fn produce(config: &Config, from: i64, to: i64, bytes: usize) {
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    for number in from..to {
        for partition in 0..2 {
            let mut payload = number.to_string().into_bytes();
            payload.resize(payload.len().max(bytes), b' ');
            producer.send(&config.topics.events, Some(partition), None, Some(&payload), None).unwrap();
        }
        // A flush ends a batch: the cluster evicts whole batches.
        if number % 100 == 99 {
            producer.flush().unwrap();
        }
    }
    producer.flush().unwrap();
}

fn read(source: &mut KafkaSource, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    wait_for("reading all records", || {
        source.poll(&mut records, POLL).unwrap();
        (records.len() >= count).then_some(())
    });
    records
}

fn offsets(records: &[Record], partition: u32) -> Vec<i64> {
    records.iter().filter(|record| record.origin.partition.0 == partition).map(|record| record.origin.offset).collect()
}

#[test]
fn events_are_read_from_the_start_the_end_and_a_position() {
    let (_broker, mut config) = set_up("start");
    produce(&config, 0, 1000, 0);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    assert_eq!(source.starts(), [0, 0]);
    let records = read(&mut source, 2000);
    for partition in 0..2 {
        assert_eq!(offsets(&records, partition), (0..1000).collect::<Vec<_>>());
    }
    let positions: Vec<_> = source
        .partitions()
        .iter()
        .map(|partition| PartitionPosition { low: 990, ..PartitionPosition::new(partition.clone(), 0) })
        .collect();
    source.commit_advisory(&positions);
    let mut resumed = KafkaSource::open(&config, &positions).unwrap();
    assert_eq!(offsets(&read(&mut resumed, 20), 1), (990..1000).collect::<Vec<_>>());
    config.topics.start = StartAt::Latest;
    assert_eq!(KafkaSource::open(&config, &[]).unwrap().starts(), [1000, 1000]);
    let past = [PartitionPosition { low: 1001, ..positions[0].clone() }];
    assert!(
        matches!(KafkaSource::open(&config, &past).map(drop), Err(StreamError::PositionsLost { lost }) if lost[0].wanted == 1001 && lost[0].high == 1000)
    );
}

#[test]
fn what_was_evicted_is_reported_when_opening_and_while_reading() {
    let (_broker, mut config) = set_up("evicted");
    // A client that fetches little ahead: what it holds already cannot be evicted.
    config.kafka.properties.insert("queued.max.messages.kbytes".to_owned(), "64".to_owned());
    produce(&config, 0, 100, 0);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    let records = read(&mut source, 200);
    source.pause(true).unwrap();
    // 12 MB per partition: the cluster keeps 5 MiB.
    produce(&config, 100, 1300, 10_000);
    source.pause(false).unwrap();
    let error = wait_for("the loss is reported", || source.poll(&mut Vec::new(), POLL).err());
    assert!(
        matches!(&error, StreamError::PositionsLost { lost } if lost.iter().all(|lost| lost.wanted >= 100 && lost.low > lost.wanted)),
        "{error}"
    );

    let stale = PartitionPosition { low: records.len() as i64 / 2, ..PartitionPosition::new(source.partitions()[0].clone(), 0) };
    assert!(matches!(KafkaSource::open(&config, &[stale]).map(drop), Err(StreamError::PositionsLost { lost }) if lost[0].wanted == 100));
    let earliest = KafkaSource::open(&config, &[]).unwrap();
    assert!(earliest.starts().iter().all(|start| *start > 100), "earliest is what is still there: {:?}", earliest.starts());
}

#[test]
fn a_log_goes_round() {
    let (_broker, config) = set_up("log");
    let topic = &config.topics.snapshots;
    let writer = KafkaLogWriter::open(&config.kafka, topic).unwrap();
    let entries: Vec<_> = (0..4u8).map(|n| (vec![n], (n != 3).then(|| vec![n; 700_000]))).collect();
    writer.append(&entries).unwrap();
    let mut reader = KafkaLogReader::open(&config.kafka, topic).unwrap();
    let end = reader.end().unwrap();
    let mut read = Vec::new();
    wait_for("reading to the end", || {
        read.extend(reader.next(POLL).unwrap());
        (reader.position() >= end).then_some(())
    });
    assert_eq!(read.iter().map(|r| (r.key.clone(), r.value.clone())).collect::<Vec<_>>(), entries);
    let again = reader.read_at(&[2, 0], PATIENCE).unwrap();
    assert_eq!((&again[0], &again[1]), (&read[2], &read[0]));
    assert!(matches!(reader.read_at(&[4], PATIENCE), Err(StreamError::Gone { offset: 4, .. })));
}

#[test]
fn the_broker_can_go_down_and_come_back() {
    let (broker, config) = set_up("down");
    produce(&config, 0, 10, 0);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    let mut records = read(&mut source, 20);
    broker.broker_down().unwrap();
    assert_eq!(source.poll(&mut records, POLL).unwrap(), Polled::Idle);
    broker.round_trip(Duration::from_millis(20)).unwrap();
    broker.broker_up().unwrap();
    produce(&config, 10, 20, 0);
    records.extend(read(&mut source, 20));
    assert_eq!(offsets(&records, 0), (0..20).collect::<Vec<_>>());
}

#[test]
fn topics_are_checked_as_far_as_this_broker_tells() {
    let (_broker, mut config) = set_up("check");
    // It never answers a question about settings: each check waits this long.
    config.kafka.timeout = Span::from_secs(1);
    let checks = check_topics(&config).unwrap();
    assert!(checks.iter().all(|check| check.problems.is_empty()), "{checks:?}");
    // Servers' reports are optional, and that topic is not there.
    let there: Vec<_> = checks.iter().filter(|check| check.partitions.is_some()).collect();
    assert_eq!(there.len(), 3);
    assert!(there.iter().all(|check| check.notes.iter().any(|note| note.contains("does not tell its settings"))), "{checks:?}");
    config.topics.snapshots = "check.nowhere".to_owned();
    assert_eq!(check_topics(&config).unwrap()[2].partitions, None);
    assert!(matches!(KafkaLogWriter::open(&config.kafka, "check.nowhere").map(drop), Err(StreamError::MissingTopic { .. })));
}
