//! Kafka as a separate process: reading, resuming, refusing, dead letters, the log, topics, and a broker that is killed.
//!
//! Needs the broker that `ops/broker` installs.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rocket_launching::bench::{BenchError, BrokerBench, Workload};
use rocket_launching::config::{ByteLength, Config, EventFormat, KafkaConfig, Span, StartAt, StreamMode};
use rocket_launching::domain::{PartitionPosition, Record, Role, TopicPartition};
use rocket_launching::stream::{
    DeadLetter, DeadLetterSink, KafkaDeadLetters, KafkaLogReader, KafkaLogWriter, KafkaProducer, KafkaSource, LogReader, LogRecord,
    LogWriter, Polled, Source, StreamError, check_topics, create_topics, read_bare, read_dead_letters,
};
use support::broker::RealBroker;
use support::{PATIENCE, config, wait_for};

const PARTITIONS: i32 = 3;
const POLL: Duration = Duration::from_millis(200);

/// A broker with the topics of a labelled configuration.
fn set_up(name: &str) -> (RealBroker, Config) {
    let broker = RealBroker::start();
    let config = config(name, &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    (broker, config)
}

/// Sends `count` records to each partition, numbered from `first`.
fn produce(config: &Config, first: usize, count: usize) {
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    for number in first..first + count {
        for partition in 0..PARTITIONS {
            let payload = format!("{partition}/{number}");
            producer
                .send(&config.topics.events, Some(partition), Some(b"key"), Some(payload.as_bytes()), Some(1_000 + number as i64))
                .unwrap();
        }
    }
    producer.flush().unwrap();
}

/// Reads until `count` records have come.
fn read(source: &mut KafkaSource, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    wait_for("reading all records", || {
        source.poll(&mut records, POLL).unwrap();
        (records.len() >= count).then_some(())
    });
    records
}

fn by_partition(records: &[Record]) -> BTreeMap<u32, Vec<(i64, String)>> {
    let mut map: BTreeMap<u32, Vec<(i64, String)>> = BTreeMap::new();
    for record in records {
        let payload = String::from_utf8(record.payload.clone().unwrap()).unwrap();
        map.entry(record.origin.partition.0).or_default().push((record.origin.offset, payload));
    }
    map
}

fn expected(from: usize, to: usize) -> BTreeMap<u32, Vec<(i64, String)>> {
    (0..PARTITIONS as u32).map(|p| (p, (from..to).map(|n| (n as i64, format!("{p}/{n}"))).collect())).collect()
}

fn position(source: &KafkaSource, partition: usize, low: i64) -> PartitionPosition {
    PartitionPosition { low, ..PartitionPosition::new(source.partitions()[partition].clone(), 0) }
}

#[test]
fn every_record_is_read_in_order_and_reading_resumes_where_we_say() {
    let (_broker, mut config) = set_up("order");
    produce(&config, 0, 500);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    assert_eq!(
        source.partitions().iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["order.events[0]", "order.events[1]", "order.events[2]"]
    );
    assert_eq!(source.starts(), [0, 0, 0]);
    let records = read(&mut source, 1500);
    assert_eq!(by_partition(&records), expected(0, 500));
    let first = &records[0];
    assert_eq!((first.role, first.key.as_deref()), (Role::Labelled, Some(&b"key"[..])));

    // Positions of two partitions; the third has appeared since, as it were, and is read whole although the start is `latest`.
    config.topics.start = StartAt::Latest;
    let positions = [position(&source, 0, 400), position(&source, 1, 500)];
    let mut resumed = KafkaSource::open(&config, &positions).unwrap();
    assert_eq!(resumed.starts(), [400, 500, 0]);
    let records = by_partition(&read(&mut resumed, 600));
    assert_eq!(records[&0], expected(400, 500)[&0]);
    assert_eq!(records[&2], expected(0, 500)[&2]);
    assert!(!records.contains_key(&1));

    // Offsets committed for lag tools never decide where reading starts.
    resumed.commit_advisory(&positions);
    let mut latest = KafkaSource::open(&config, &[]).unwrap();
    assert_eq!(latest.starts(), [500, 500, 500]);
    produce(&config, 500, 10);
    assert_eq!(by_partition(&read(&mut latest, 30)), expected(500, 510));
}

#[test]
fn a_paused_source_brings_nothing_and_loses_nothing() {
    let (_broker, config) = set_up("pause");
    produce(&config, 0, 20_000);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    source.pause(true).unwrap();
    let mut records = Vec::new();
    for _ in 0..5 {
        assert_eq!(source.poll(&mut records, POLL).unwrap(), Polled::Idle, "paused before the first record");
    }
    source.pause(false).unwrap();
    for _ in 0..3 {
        wait_for("records after a pause", || (source.poll(&mut records, POLL).unwrap() == Polled::Records).then_some(()));
        source.pause(true).unwrap();
        let before = records.len();
        source.poll(&mut records, POLL).unwrap();
        assert_eq!(records.len(), before, "paused with records in the client's queue");
        source.pause(false).unwrap();
    }
    let all = 20_000 * PARTITIONS as usize;
    records.extend(read(&mut source, all - records.len()));
    assert_eq!(by_partition(&records), expected(0, 20_000));
}

#[test]
fn an_event_sent_with_an_old_time_is_kept() {
    let (_broker, config) = set_up("old");
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    producer.send(&config.topics.events, Some(0), None, Some(b"from 1970"), Some(1_000)).unwrap();
    producer.flush().unwrap();
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    let arrived = read(&mut source, 1)[0].timestamp_ms;
    assert!(arrived.is_some_and(|time| time > 1_000), "retention goes by {arrived:?}");
}

#[test]
fn joined_mode_reads_both_topics_with_their_roles() {
    let broker = RealBroker::start();
    let mut config = config("joined", &broker.bootstrap());
    config.topics.mode = StreamMode::Joined;
    create_topics(&config, 2, 1).unwrap();
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    producer.send("joined.impressions", Some(1), None, Some(b"i"), None).unwrap();
    producer.send("joined.clicks", Some(0), None, Some(b"c"), None).unwrap();
    producer.send("joined.clicks", Some(1), None, None, None).unwrap();
    producer.flush().unwrap();
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    let mut records = read(&mut source, 3);
    records.sort_by_key(|record| record.origin.partition);
    let shape: Vec<_> =
        records.iter().map(|r| (source.partitions()[r.origin.partition.0 as usize].to_string(), r.role, r.payload.clone())).collect();
    assert_eq!(
        shape,
        [
            ("joined.impressions[1]".to_owned(), Role::Impression, Some(b"i".to_vec())),
            ("joined.clicks[0]".to_owned(), Role::Click, Some(b"c".to_vec())),
            ("joined.clicks[1]".to_owned(), Role::Click, None),
        ]
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_name() {
    let (_broker, config) = set_up("refuse");
    produce(&config, 0, 10);
    let source = KafkaSource::open(&config, &[]).unwrap();
    match KafkaSource::open(&config, &[position(&source, 1, 11)]).map(drop) {
        Err(StreamError::PositionsLost { lost }) => {
            let [lost] = lost.as_slice() else { panic!("{lost:?}") };
            assert_eq!((&lost.partition, lost.wanted, lost.low, lost.high), (&source.partitions()[1], 11, 0, 10));
        }
        other => panic!("{other:?}"),
    }
    let nowhere = PartitionPosition { low: 3, ..PartitionPosition::new(TopicPartition { topic: "refuse.events".into(), partition: 7 }, 0) };
    assert!(matches!(KafkaSource::open(&config, &[nowhere]).map(drop), Err(StreamError::PositionsLost { lost }) if lost[0].wanted == 3));

    let mut missing = config.clone();
    missing.topics.events = "refuse.other".to_owned();
    missing.topics.dead_letters = "refuse.other".to_owned();
    let is_missing = |error| matches!(error, Err(StreamError::MissingTopic { topic, .. }) if topic == "refuse.other");
    assert!(is_missing(KafkaSource::open(&missing, &[]).map(drop)));
    assert!(is_missing(KafkaDeadLetters::open(&missing).map(drop)));
    assert!(is_missing(KafkaLogReader::open(&config.kafka, "refuse.other").map(drop)));
    assert!(is_missing(KafkaLogWriter::open(&config.kafka, "refuse.other").map(drop)));
    assert!(is_missing(KafkaSource::open(&missing, &[]).map(drop)), "asking has not created it");
}

#[test]
fn a_closed_port_is_unreachable() {
    let kafka = KafkaConfig { brokers: "127.0.0.1:1".to_owned(), timeout: Span::from_millis(500), ..KafkaConfig::default() };
    let config = Config { kafka: kafka.clone(), ..config("closed", "") };
    let unreachable =
        |result: Result<(), StreamError>| matches!(result, Err(StreamError::Unreachable { brokers, .. }) if brokers == "127.0.0.1:1");
    assert!(unreachable(KafkaSource::open(&config, &[]).map(drop)));
    assert!(unreachable(KafkaDeadLetters::open(&config).map(drop)));
    assert!(unreachable(KafkaLogReader::open(&kafka, "t").map(drop)));
    assert!(unreachable(KafkaLogWriter::open(&kafka, "t").map(drop)));
    assert!(unreachable(KafkaProducer::open(&kafka).map(drop)));
    assert!(unreachable(check_topics(&config).map(drop)));
    assert!(unreachable(create_topics(&config, 1, 1).map(drop)));
}

fn letter(offset: i64, payload: Vec<u8>) -> DeadLetter {
    DeadLetter {
        partition: TopicPartition { topic: "letters.events".into(), partition: 2 },
        offset,
        key: Some(b"k".to_vec()),
        payload: Some(payload),
        stage: "decode",
        class: "DecodeError::WrongType".to_owned(),
        message: "column `user` is null".to_owned(),
    }
}

#[test]
fn dead_letters_carry_their_story_and_are_read_back() {
    let (_broker, config) = set_up("letters");
    let mut sink = KafkaDeadLetters::open(&config).unwrap();
    sink.send(&(0..10).map(|n| letter(n, format!("{{\"n\":{n}").into_bytes())).collect::<Vec<_>>()).unwrap();
    let (total, views) = read_dead_letters(&config, 3).unwrap();
    assert_eq!(total, 10);
    assert_eq!(
        views.iter().map(|view| view.source.as_str()).collect::<Vec<_>>(),
        ["letters.events[2]@7", "letters.events[2]@8", "letters.events[2]@9"]
    );
    let last = &views[2];
    assert_eq!((last.partition, last.offset), (0, 9));
    assert_eq!(
        (last.stage.as_str(), last.class.as_str(), last.message.as_str()),
        ("decode", "DecodeError::WrongType", "column `user` is null")
    );
    assert_eq!(last.payload, "{\"n\":9");
    assert!(last.timestamp_ms.is_some_and(|sent| sent > 5), "the time of sending, not the event's");

    sink.send(&[]).unwrap();
    assert_eq!(read_dead_letters(&config, 0).unwrap(), (10, Vec::new()));
}

#[test]
fn a_dead_letter_that_is_too_large_is_cut_not_lost() {
    let (_broker, mut config) = set_up("large");
    // The client's limit stands in for the topic's: this broker enforces none.
    config.kafka.properties.insert("message.max.bytes".to_owned(), "100000".to_owned());
    let mut sink = KafkaDeadLetters::open(&config).unwrap();
    sink.send(&[letter(0, b"small".to_vec()), letter(1, vec![b'x'; 200_000]), letter(2, b"small".to_vec())]).unwrap();
    let (total, views) = read_dead_letters(&config, 10).unwrap();
    let sources: BTreeSet<_> = views.iter().map(|view| view.source.as_str()).collect();
    assert_eq!((total, sources.len()), (3, 3));
    assert_eq!(views.iter().filter(|view| view.payload.starts_with("xxx")).count(), 1);
}

fn entry(number: usize) -> (Vec<u8>, Option<Vec<u8>>) {
    (format!("key/{number}").into_bytes(), Some(vec![number as u8; 600_000]))
}

fn follow(reader: &mut KafkaLogReader) -> Vec<LogRecord> {
    let end = reader.end().unwrap();
    let mut records = Vec::new();
    wait_for("reading to the end", || {
        records.extend(reader.next(POLL).unwrap());
        (reader.position() >= end).then_some(())
    });
    records
}

#[test]
fn a_log_is_appended_followed_and_read_again() {
    let (_broker, config) = set_up("log");
    let topic = &config.topics.snapshots;
    let writer = KafkaLogWriter::open(&config.kafka, topic).unwrap();
    let mut reader = KafkaLogReader::open(&config.kafka, topic).unwrap();
    assert_eq!((reader.end().unwrap(), reader.position()), (0, 0));
    assert_eq!(reader.next(POLL).unwrap(), None);

    writer.append(&(0..8).map(entry).collect::<Vec<_>>()).unwrap();
    let records = follow(&mut reader);
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..8).collect::<Vec<i64>>());
    assert!(records.iter().enumerate().all(|(n, r)| (r.key.clone(), r.value.clone()) == entry(n)));

    writer.append(&[(b"key/0".to_vec(), None)]).unwrap();
    let again = reader.read_at(&[5, 6, 1, 8], PATIENCE).unwrap();
    assert_eq!(again.iter().map(|r| r.offset).collect::<Vec<_>>(), [5, 6, 1, 8]);
    assert_eq!((again[1].value.clone(), again[3].value.clone()), (entry(6).1, None));
    assert_eq!(reader.position(), 8, "reading again does not move the reader");
    assert!(matches!(reader.read_at(&[99], PATIENCE), Err(StreamError::Gone { offset: 99, .. })));
    assert_eq!(reader.read_at(&[2], PATIENCE).unwrap()[0].offset, 2, "and it works again after that");

    let rest = follow(&mut reader);
    assert_eq!(rest.iter().map(|r| (r.offset, r.value.is_none())).collect::<Vec<_>>(), [(8, true)]);
}

#[test]
fn the_end_told_before_a_record_came_is_not_taken_for_its_end() {
    let (_broker, config) = set_up("stale");
    let writer = KafkaLogWriter::open(&config.kafka, &config.topics.snapshots).unwrap();
    let mut reader = KafkaLogReader::open(&config.kafka, &config.topics.snapshots).unwrap();
    for round in 0..20i64 {
        // The client may have said "end" at any moment around this append.
        if round % 2 == 0 {
            reader.next(POLL).unwrap();
        }
        writer.append(&[(vec![1], Some(vec![round as u8]))]).unwrap();
        assert_eq!(follow(&mut reader).iter().map(|r| r.offset).collect::<Vec<_>>(), [round]);
    }
}

#[test]
fn topics_are_created_once_and_checked() {
    let broker = RealBroker::start();
    let mut config = config("made", &broker.bootstrap());
    let problems = |config: &Config| -> Vec<_> {
        check_topics(config)
            .unwrap()
            .into_iter()
            .filter(|check| !check.problems.is_empty())
            .map(|check| (check.role, check.partitions))
            .collect()
    };
    assert_eq!(problems(&config), [("events", None), ("dead_letters", None), ("snapshots", None)]);
    assert_eq!(create_topics(&config, 4, 1).unwrap().into_iter().collect::<BTreeSet<_>>().len(), 4);
    assert_eq!(problems(&config), []);
    assert_eq!(
        check_topics(&config).unwrap().iter().map(|check| check.partitions).collect::<Vec<_>>(),
        [Some(4), Some(1), Some(1), Some(1)]
    );
    assert_eq!(create_topics(&config, 4, 1).unwrap(), Vec::<String>::new(), "what exists is left alone");

    config.publish.chunk = ByteLength(4 << 20);
    let checks = check_topics(&config).unwrap();
    let snapshots = &checks[2];
    assert!(snapshots.problems.iter().any(|p| p.contains("max.message.bytes")), "{snapshots:?}");

    // An event topic is no snapshot topic: too many partitions, not compacted. And the other way round.
    std::mem::swap(&mut config.topics.snapshots, &mut config.topics.events);
    let checks = check_topics(&config).unwrap();
    assert!(checks[0].problems.iter().any(|p| p.contains("cleanup.policy is compact")), "{checks:?}");
    assert!(checks[2].problems.iter().any(|p| p.contains("4 partitions")), "{checks:?}");
    assert!(checks[2].problems.iter().any(|p| p.contains("anything but compact")), "{checks:?}");
}

#[test]
fn a_killed_broker_comes_back_and_nothing_acknowledged_is_lost() {
    let (mut broker, config) = set_up("killed");
    produce(&config, 0, 200);
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    let mut records = read(&mut source, 600);
    let writer = KafkaLogWriter::open(&config.kafka, &config.topics.snapshots).unwrap();
    let mut reader = KafkaLogReader::open(&config.kafka, &config.topics.snapshots).unwrap();
    writer.append(&[(b"before".to_vec(), Some(vec![1]))]).unwrap();
    assert_eq!(follow(&mut reader).len(), 1);

    broker.kill_9();
    assert_eq!(source.poll(&mut records, POLL).unwrap(), Polled::Idle, "an outage is no error");
    let append = std::thread::spawn(move || writer.append(&[(b"during".to_vec(), Some(vec![2]))]));
    source.commit_advisory(&[position(&source, 0, 100)]);
    broker.restart();
    append.join().unwrap().unwrap();

    produce(&config, 200, 100);
    let rest = 300 * PARTITIONS as usize - records.len();
    records.extend(read(&mut source, rest));
    assert_eq!(by_partition(&records), expected(0, 300));
    wait_for("the log after the outage", || reader.next(POLL).unwrap().filter(|record| record.key == b"during"));
}

#[test]
fn without_a_broker_sending_fails_in_time() {
    let (mut broker, mut config) = set_up("down");
    config.kafka.timeout = Span::from_millis(500);
    let writer = KafkaLogWriter::open(&config.kafka, &config.topics.snapshots).unwrap();
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    let mut sink = KafkaDeadLetters::open(&config).unwrap();
    broker.kill_9();
    assert!(matches!(writer.append(&[entry(0)]), Err(StreamError::NotAcknowledged { .. })));
    assert!(matches!(sink.send(&[letter(0, vec![1])]), Err(StreamError::NotAcknowledged { .. })));
    producer.send(&config.topics.events, Some(0), None, Some(b"x"), None).unwrap();
    assert!(matches!(producer.flush(), Err(StreamError::NotAcknowledged { topic, .. }) if topic == "down.events"));
    broker.restart();
    // As the pipeline does: again until it is acknowledged.
    wait_for("the sink to recover", || sink.send(&[letter(1, vec![1])]).ok());
    assert_eq!(read_dead_letters(&config, 9).unwrap().1.last().map(|view| view.source.clone()), Some("letters.events[2]@1".to_owned()));
}

#[test]
fn the_bare_reader_reads_all_there_is() {
    let (_broker, config) = set_up("bare");
    produce(&config, 0, 700);
    assert_eq!(read_bare(&config).unwrap().0, 2100);
}

#[test]
fn a_bench_reads_every_event_both_ways_and_leaves_no_topic_behind() {
    let broker = RealBroker::start();
    let (brokers, format) = (broker.bootstrap(), EventFormat::Json);
    let bench =
        BrokerBench { brokers: brokers.clone(), workload: Workload::compact(), format, batch: 64, events: 1000, partitions: 2, rounds: 2 };
    let figures = bench.run().unwrap();
    assert_eq!((figures.events, figures.partitions, figures.rounds), (1024, 2, 2));
    assert!(figures.events_per_s > 0.0 && figures.bare_events_per_s > 0.0 && figures.ratio > 0.0, "{figures:?}");
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    let left = client.fetch_metadata(None, PATIENCE).unwrap();
    let left: Vec<&str> = left.topics().iter().map(|topic| topic.name()).filter(|name| name.starts_with("rocket-bench-")).collect();
    assert!(left.is_empty(), "{left:?}");

    drop(broker);
    let refused = bench.run().unwrap_err();
    assert!(matches!(&refused, BenchError::Stream(StreamError::Unreachable { brokers: named, .. }) if *named == brokers), "{refused}");
}
