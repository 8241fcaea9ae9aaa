//! Promise: with far more input than training can take, memory reaches a plateau, what is behind grows on the broker and nowhere else, and
//! nothing is lost; a daemon that was stopped for longer than any session lasts goes on where it was.

mod support;

use std::time::{Duration, Instant};

use rocket_launching::config::Config;
use rocket_launching::stream::{KafkaProducer, create_topics};
use support::broker::RealBroker;
use support::daemon::Daemon;
use support::{kills, world};

/// What the process may take.
const MEMORY_MB: u64 = 1024;
/// How much the second half may lie above the first.
const PLATEAU: f64 = 1.1;
/// How much faster events come than they are trained.
const TIMES: f64 = 10.0;

/// Nets that one core trains slowly, so that a broker of the same machine can send ten times as much.
fn config(dir: &std::path::Path, broker: &RealBroker) -> Config {
    let mut config =
        world::config(&dir.join("state"), "labelled", &format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap()));
    (config.train.batch_rows, config.train.threads) = (256, 1);
    config.model.booster = vec![1024, 512];
    (config.checkpoint.every_samples, config.publish.enabled) = (2_000, false);
    config
}

fn overload(length: Duration) {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let config = config(dir.path(), &broker);
    create_topics(&config, 1, 1).expect("topics are created");
    let (_, records) = world::labelled_stream(20_000);
    let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
    let daemon = Daemon::start(&config);

    let (started, mut sent, mut looks) = (Instant::now(), 0_u64, Vec::new());
    while started.elapsed() < length {
        let done = daemon.status().expect("it answers").books.done();
        let due = (done as f64 * TIMES) as u64 + records.len() as u64;
        while sent < due && started.elapsed() < length {
            let record = &records[sent as usize % records.len()];
            producer.send(&config.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("the event is queued");
            sent += 1;
            if sent.is_multiple_of(20_000) {
                producer.flush().expect("the events are acknowledged");
            }
        }
        producer.flush().expect("the events are acknowledged");
        looks.push(daemon.memory_kb().expect("it runs"));
        std::thread::sleep(Duration::from_millis(100));
    }
    let status = daemon.status().expect("it answers");
    let behind = sent - status.books.done();
    assert!(behind > sent / 2, "only {behind} of {sent} events are behind: that was no overload");
    assert!(status.pending < behind / 4, "what is behind waits on the broker: {} of {behind} events are held here", status.pending);
    assert!(daemon.terminate().success());

    let warm = &looks[looks.len() / 4..];
    let (first, last) = warm.split_at(warm.len() / 2);
    let most = |half: &[u64]| half.iter().copied().max().unwrap_or(0);
    let (before, after) = (most(first), most(last));
    println!(
        "{sent} events in {length:?}, {} done, {behind} behind; memory at most {} MB, then {} MB",
        status.books.done(),
        before >> 10,
        after >> 10
    );
    assert!(after >> 10 < MEMORY_MB, "{after} KB");
    // In seconds nothing has come to its plateau.
    assert!(length < Duration::from_secs(300) || after as f64 <= before as f64 * PLATEAU, "{before} KB, then {after} KB");

    // What is done is the beginning of the stream, but for dead letters among samples whose batch is not full; the rest is read again.
    let commit = kills::last_commit(&config);
    let (position, done) = (&commit.positions[0], commit.books.done());
    assert_eq!((position.start, position.count()), (0, done));
    assert!(done - (position.low as u64) < config.train.batch_rows as u64, "{position:?} of {done} events");
    let daemon = Daemon::start(&config);
    daemon.wait_until("it goes on", |status| status.books.done() > commit.books.done());
}

#[test]
fn ten_times_too_much_for_a_while() {
    overload(Duration::from_secs(25));
}

#[test]
#[ignore = "takes ten minutes"]
fn ten_times_too_much_for_ten_minutes() {
    overload(Duration::from_secs(600));
}

fn stopped(time: Duration) {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let topics = |config: &Config| drop(create_topics(config, 1, 1).expect("topics are created"));
    let stream = kills::Stream::produce(broker.bootstrap(), 6400, |_| {}, topics);
    let config = stream.config(dir.path(), "stopped");
    topics(&config);
    let daemon = Daemon::start(&config);
    daemon.wait_until("progress", |status| status.books.done() > 1000);
    daemon.signal("STOP");
    std::thread::sleep(time);
    daemon.signal("CONT");
    daemon.wait_until("all events done", |status| stream.is_done(status));
    assert!(daemon.terminate().success());
    stream.end(&config);
}

/// The session timeout of Kafka's old clients is 10 s, that of new ones 45 s. We have no session; connections we have.
#[test]
fn a_daemon_that_was_stopped_goes_on_where_it_was() {
    stopped(Duration::from_secs(12));
}

#[test]
#[ignore = "takes minutes"]
fn a_daemon_that_was_stopped_for_minutes_goes_on_where_it_was() {
    stopped(Duration::from_secs(150));
}
