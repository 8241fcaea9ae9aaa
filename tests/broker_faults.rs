//! Promise: whatever the broker does (not there, erring, slow, down in the middle, topics hidden, large messages, foreign members of our
//! group), nothing is lost, nothing is counted twice, and ad servers serve throughout.
//!
//! Needs the broker that `ops/broker` installs. `cargo test --test broker_faults -- --ignored` holds the outages that take minutes.
#![allow(clippy::unwrap_used, reason = "a failed unwrap in a test is a failed test")]

mod support;

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rocket_launching::config::{Config, Span};
use rocket_launching::domain::PartitionPosition;
use rocket_launching::pipeline::Status;
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::{
    BrokerRequest, EmbeddedBroker, KafkaLogReader, KafkaProducer, KafkaSource, LogReader, Polled, Source, create_topics, delete_topics,
    read_dead_letters,
};
use support::broker::RealBroker;
use support::daemon::{Daemon, log_of};
use support::{wait_for, world};

const PARTITIONS: i32 = 3;
/// Rows sent to each partition between two faults.
const ROUND: usize = 200;

fn site(dir: &Path, brokers: &str) -> Config {
    let more = format!("kafka = {{ brokers = \"{brokers}\", timeout = \"2s\" }}\nadmin.http = \"\"");
    let mut config = world::config(&dir.join("state"), "labelled", &more);
    config.train.linger = Span::from_millis(50);
    config
}

fn embedded(dir: &Path) -> (EmbeddedBroker, Config) {
    let broker = EmbeddedBroker::start().unwrap();
    let config = site(dir, &broker.bootstrap());
    broker.create_topic(&config.events_topic(), PARTITIONS).unwrap();
    for topic in [config.dead_letters_topic(), config.snapshots_topic()] {
        broker.create_topic(&topic, 1).unwrap();
    }
    (broker, config)
}

/// What ad servers send: the stream of the test's world, on every partition, in rounds.
struct Traffic {
    producer: KafkaProducer,
    topic: String,
    sent: usize,
}

impl Traffic {
    fn new(config: &Config) -> Self {
        Traffic { producer: KafkaProducer::open(&config.kafka).unwrap(), topic: config.events_topic(), sent: 0 }
    }

    /// Waits out outages of so long.
    fn patient(config: &Config, outage: Duration) -> Self {
        let mut config = config.clone();
        config.kafka.timeout = Span(outage);
        Traffic::new(&config)
    }

    /// Queues one round; it is sent as soon as the broker takes it.
    fn queue(&mut self) {
        let rows = self.sent..self.sent + ROUND;
        for record in &world::labelled_stream(rows.end).1[rows.clone()] {
            for partition in 0..PARTITIONS {
                self.producer.send(&self.topic, Some(partition), None, record.payload.as_deref(), None).unwrap();
            }
        }
        self.sent = rows.end;
    }

    /// One round, acknowledged.
    fn send(&mut self) {
        self.queue();
        self.producer.flush().unwrap();
    }

    /// Events in all.
    fn events(&self) -> u64 {
        self.sent as u64 * PARTITIONS as u64
    }
}

/// Waits until all that was sent is done, once.
fn settled(daemon: &Daemon, traffic: &Traffic) -> Status {
    let all = traffic.events();
    let status = daemon.wait_until("all events are done", |status| status.books.done() >= all && status.pending == 0);
    assert_eq!((status.books.done(), status.read), (all, all));
    assert!(status.books.dropped.is_empty(), "{:?}", status.books);
    let broken = (0..traffic.sent).filter(|number| number % 97 == 13).count() as u64 * PARTITIONS as u64;
    assert_eq!(status.books.dead_lettered, broken);
    let counted: u64 = status.positions.iter().map(PartitionPosition::count).sum();
    assert_eq!(counted, all);
    status
}

fn subscribe(config: &Config, dir: &Path) -> Subscriber {
    let (kafka, topic) = (config.kafka.clone(), config.snapshots_topic());
    let reader = move || Ok(Box::new(KafkaLogReader::open(&kafka, &topic)?) as Box<dyn LogReader>);
    Subscriber::start(SubscriberConfig::new(&config.name, dir.join("cache")), reader).unwrap()
}

fn served(subscriber: &Subscriber) -> u64 {
    subscriber.model().expect("a version is served throughout").version().0
}

#[test]
fn a_daemon_started_before_its_broker_is_ready_once_it_comes() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    let mut traffic = Traffic::new(&config);
    traffic.send();
    broker.kill_9();

    let path = dir.path().join("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(support::daemon::PATIENCE)).unwrap();
    let hear = |wanted: &str| {
        let mut message = [0; 4096];
        loop {
            let length = socket.recv(&mut message).unwrap_or_else(|e| panic!("{wanted} did not come: {e}"));
            let words = String::from_utf8_lossy(&message[..length]).into_owned();
            if words.lines().any(|line| line.starts_with(wanted)) {
                return words;
            }
        }
    };
    let daemon = Daemon::spawn_with(&config, &[("NOTIFY_SOCKET", path.to_str().unwrap())]);
    for _attempt in 0..2 {
        let words = hear("STATUS=waiting for the broker");
        assert!(words.contains(&config.kafka.brokers) && words.contains("EXTEND_TIMEOUT_USEC="), "{words}");
    }
    broker.restart();
    hear("READY=1");
    settled(&daemon, &traffic);
    assert!(daemon.terminate().success());
    assert!(log_of(&config).matches("waiting for the broker").count() >= 2);
}

#[test]
fn a_broker_that_errs_is_slow_and_goes_away_loses_nothing_and_servers_serve_on() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, config) = embedded(dir.path());
    let mut traffic = Traffic::patient(&config, Duration::from_secs(10));
    traffic.send();
    let daemon = Daemon::start(&config);
    let subscriber = subscribe(&config, dir.path());
    let first = wait_for("a first version", || subscriber.model().map(|model| model.version().0));

    for request in [BrokerRequest::Fetch, BrokerRequest::Produce, BrokerRequest::Metadata, BrokerRequest::ListOffsets] {
        broker.fail(request, 10).unwrap();
        traffic.send();
        settled(&daemon, &traffic);
        served(&subscriber);
    }
    broker.round_trip(Duration::from_millis(300)).unwrap();
    traffic.send();
    settled(&daemon, &traffic);
    broker.round_trip(Duration::ZERO).unwrap();
    for _ in 0..3 {
        broker.broker_down().unwrap();
        traffic.queue();
        let until = Instant::now() + Duration::from_secs(2);
        wait_for("two seconds without a broker", || {
            served(&subscriber);
            assert!(daemon.status().is_some(), "it answers");
            (Instant::now() > until).then_some(())
        });
        broker.broker_up().unwrap();
        traffic.send();
        settled(&daemon, &traffic);
    }
    wait_for("a newer version", || (served(&subscriber) > first).then_some(()));
    assert!(daemon.terminate().success());
    subscriber.stop().unwrap();
}

/// The broker is killed under load and comes back after `outage`; twice.
fn an_outage_in_the_middle(outage: Duration) {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    let mut traffic = Traffic::patient(&config, outage);
    traffic.send();
    let daemon = Daemon::start(&config);
    let subscriber = subscribe(&config, dir.path());
    let mut version = wait_for("a first version", || subscriber.model().map(|model| model.version().0));
    for _ in 0..2 {
        // Killed with events of this round sent, on their way, and not sent yet.
        traffic.queue();
        broker.kill_9();
        traffic.queue();
        let until = Instant::now() + outage;
        while Instant::now() < until {
            served(&subscriber);
            assert!(daemon.status().is_some(), "it answers");
            std::thread::sleep(Duration::from_millis(50));
        }
        broker.restart();
        traffic.send();
        settled(&daemon, &traffic);
        version = wait_for("a newer version", || Some(served(&subscriber)).filter(|newer| *newer > version));
    }
    let before = daemon.status().unwrap();
    assert!(daemon.terminate().success());
    let daemon = Daemon::start(&config);
    let after = settled(&daemon, &traffic);
    assert_eq!((after.report.rows, after.books), (before.books.samples, before.books), "all of it was committed");
    assert!(daemon.terminate().success());
    subscriber.stop().unwrap();
}

#[test]
fn a_broker_killed_in_the_middle_loses_nothing_and_servers_serve_on() {
    an_outage_in_the_middle(Duration::from_secs(5));
}

#[test]
#[ignore = "takes minutes"]
fn a_broker_that_is_down_for_minutes_loses_nothing_and_servers_serve_on() {
    an_outage_in_the_middle(Duration::from_secs(150));
}

#[test]
fn while_dead_letters_cannot_be_sent_their_events_wait() {
    let dir = tempfile::tempdir().unwrap();
    let (broker, mut config) = embedded(dir.path());
    // Dead letters are all that the daemon sends.
    config.publish.enabled = false;
    let mut traffic = Traffic::new(&config);
    traffic.send();
    broker.fail(BrokerRequest::Produce, 100_000).unwrap();
    let daemon = Daemon::start(&config);
    let tries = || log_of(&config).matches("dead letters were not acknowledged").count();
    wait_for("it is tried again", || (tries() >= 2).then_some(()));
    let status = daemon.status().unwrap();
    // The first broken event is the fourteenth of its partition.
    assert_eq!((status.books.dead_lettered, status.positions.iter().filter(|position| position.low > 13).count()), (0, 0));
    // A stop leaves them to be read again.
    assert!(daemon.terminate().success());
    let daemon = Daemon::start(&config);
    let before = tries();
    wait_for("it is tried again", || (tries() > before).then_some(()));
    broker.mend(BrokerRequest::Produce).unwrap();
    traffic.send();
    let status = settled(&daemon, &traffic);
    assert_eq!(read_dead_letters(&config, 0).unwrap().0, status.books.dead_lettered);
    assert!(daemon.terminate().success());
}

#[test]
fn a_message_above_the_limits_is_read_and_where_it_is_refused_its_letter_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    let (_broker, mut config) = embedded(dir.path());
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    let (_, records) = world::labelled_stream(20);
    for (number, record) in records.iter().enumerate() {
        let text = String::from_utf8(record.payload.clone().unwrap()).unwrap();
        // The one above what a fetch asks for, the other above what an event may have.
        let length = [(5, 900_000), (6, 1_500_000)].into_iter().find(|(at, _)| *at == number).map_or(0, |(_, length)| length);
        let long = text.replacen('{', &format!("{{\"note\":\"{}\",", "x".repeat(length)), 1);
        producer.send(&config.events_topic(), Some(0), None, Some(long.as_bytes()), None).unwrap();
    }
    producer.flush().unwrap();
    config.kafka.properties.insert("fetch.message.max.bytes".to_owned(), "10000".to_owned());
    config.kafka.properties.insert("message.max.bytes".to_owned(), "1000000".to_owned());
    let daemon = Daemon::start(&config);
    let status = daemon.wait_until("all events are done", |status| status.books.done() == 20);
    assert_eq!((status.books.dead_lettered, status.books.samples), (2, 18));
    assert!(daemon.terminate().success());
    let (total, letters) = read_dead_letters(&config, 9).unwrap();
    let mut sources: Vec<_> = letters.iter().map(|letter| (letter.source.as_str(), letter.class.as_str())).collect();
    sources.sort_unstable();
    assert_eq!((total, sources.len(), sources[1]), (2, 2, ("world.events[0]@6", "DecodeError::TooLong")));
}

/// A member of our group that is not ours: takes what it is assigned and commits nonsense, until it leaves (when dropped).
struct Intruder {
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Intruder {
    /// Joins, and waits until something is assigned to it.
    fn join(config: &Config, strategy: &str) -> Self {
        let member: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka.brokers)
            .set("group.id", &config.kafka.group)
            .set("partition.assignment.strategy", strategy)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .create()
            .unwrap();
        let topic = config.events_topic();
        member.subscribe(&[&topic]).unwrap();
        let leave = Arc::new(AtomicBool::new(false));
        let (left, assigned) = (Arc::clone(&leave), Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&assigned);
        let work = move || {
            while !left.load(Ordering::Relaxed) {
                drop(member.poll(Duration::from_millis(20)));
                let ours = member.assignment().unwrap();
                if ours.count() > 0 {
                    let mut nonsense = TopicPartitionList::new();
                    for element in ours.elements() {
                        nonsense.add_partition_offset(&topic, element.partition(), Offset::Offset(7)).unwrap();
                    }
                    // Whether the broker takes it in the middle of a rebalance is the broker's affair.
                    let _refused = member.commit(&nonsense, CommitMode::Async);
                    told.store(true, Ordering::Relaxed);
                }
            }
        };
        let thread = Some(std::thread::spawn(work));
        wait_for("a foreign member's assignment", || assigned.load(Ordering::Relaxed).then_some(()));
        Intruder { leave, thread }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        self.leave.store(true, Ordering::Relaxed);
        assert!(self.thread.take().is_some_and(|thread| thread.join().is_ok()), "the foreign member got along");
    }
}

#[test]
fn members_of_our_group_that_come_and_go_take_nothing_and_their_commits_move_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, PARTITIONS, 1).unwrap();
    let mut traffic = Traffic::new(&config);
    for strategy in ["cooperative-sticky", "range"] {
        traffic.queue();
        let daemon = Daemon::start(&config);
        // Two that join one after the other, and leave with events in flight: assignments move between them, never from us.
        let first = Intruder::join(&config, strategy);
        traffic.queue();
        let second = Intruder::join(&config, strategy);
        traffic.send();
        settled(&daemon, &traffic);
        drop(first);
        traffic.send();
        settled(&daemon, &traffic);
        // Killed beside them: what they have committed says nothing about where we go on.
        daemon.kill_9();
        let daemon = Daemon::start(&config);
        settled(&daemon, &traffic);
        drop(second);
        traffic.send();
        settled(&daemon, &traffic);
        assert!(daemon.terminate().success());
    }
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let broker = RealBroker::start();
    let config = site(dir.path(), &broker.bootstrap());
    create_topics(&config, 1, 1).unwrap();
    let mut source = KafkaSource::open(&config, &[]).unwrap();
    assert_eq!(source.starts(), [0]);
    // This broker cannot add partitions to a topic; an empty topic made anew with more looks the same to a reader.
    delete_topics(&config.kafka, &[config.events_topic()]).unwrap();
    create_topics(&config, PARTITIONS, 1).unwrap();
    let producer = KafkaProducer::open(&config.kafka).unwrap();
    for partition in 0..PARTITIONS {
        for number in 0..10 {
            producer.send(&config.events_topic(), Some(partition), None, Some(&[number]), None).unwrap();
        }
    }
    producer.flush().unwrap();
    let mut records = Vec::new();
    wait_for("the new partitions' records", || {
        let polled = source.poll(&mut records, Duration::from_millis(200)).unwrap();
        assert_ne!(polled, Polled::End);
        (records.len() == 10 * PARTITIONS as usize).then_some(())
    });
    assert_eq!(source.partitions().iter().map(|partition| partition.partition).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(source.starts(), [0, 0, 0]);
    for partition in 0..PARTITIONS as u32 {
        let offsets: Vec<_> =
            records.iter().filter(|record| record.origin.partition.0 == partition).map(|record| record.origin.offset).collect();
        assert_eq!(offsets, (0..10).collect::<Vec<i64>>(), "partition {partition}");
    }
}
