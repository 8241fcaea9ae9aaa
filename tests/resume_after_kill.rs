//! Promise: `kill -9` at any moment loses nothing and counts nothing twice: against a real broker, the killed daemon ends bit-equal to one
//! that ran through.

mod support;

use rocket_launching::checkpoint::{CheckpointStore, Commit, Loaded};
use rocket_launching::config::Config;
use rocket_launching::stream::{KafkaProducer, create_topics};
use support::broker::RealBroker;
use support::daemon::Daemon;
use support::world;

const ROWS: usize = 6400;
/// Events done at which the daemon is killed: before the first checkpoint, shortly after, and on.
const KILLS: [u64; 5] = [100, 700, 1500, 3333, 6000];

fn end_state(config: &Config) -> (Commit, Loaded) {
    let store = CheckpointStore::open(&config.state.dir, 3).expect("the state opens");
    let commit = store.latest().expect("something was committed").clone();
    let loaded = CheckpointStore::load(&config.state.dir, &commit).expect("the commit is whole");
    (commit, loaded)
}

fn run_to_end(config: &Config, events: u64) {
    let daemon = Daemon::start(config);
    daemon.wait_until("all events done", |status| status.books.done() == events && status.pending == 0);
    assert!(daemon.terminate().success());
}

#[test]
fn a_killed_daemon_ends_as_one_that_was_not() {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let config = |name: &str| {
        let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
        let mut config = world::config(&dir.path().join(name), "labelled", &more);
        config.publish.enabled = false;
        config
    };
    let (killed, whole) = (config("killed"), config("whole"));
    create_topics(&killed, 1, 1).expect("topics are created");
    let (_, records) = world::labelled_stream(ROWS);
    // Whole batches, the last one closed by the last event, so that the end does not depend on a linger.
    let good = |number: usize| number % 97 != 13;
    let rows = (0..ROWS).filter(|number| good(*number)).count() / 32 * 32;
    let events = (0..ROWS).filter(|number| good(*number)).nth(rows - 1).expect("there are as many") + 1;
    let producer = KafkaProducer::open(&killed.kafka).expect("the producer connects");
    for record in &records[..events] {
        producer.send(&killed.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("the event is queued");
    }
    producer.flush().expect("the events are acknowledged");

    for at in KILLS {
        let daemon = Daemon::start(&killed);
        daemon.wait_until("progress", |status| status.books.done() >= at);
        daemon.kill_9();
    }
    run_to_end(&killed, events as u64);
    run_to_end(&whole, events as u64);

    let ((found, found_state), (expected, expected_state)) = (end_state(&killed), end_state(&whole));
    assert_eq!((expected.books.samples, expected.books.dead_lettered), (rows as u64, (events - rows) as u64));
    assert_eq!(found.books, expected.books);
    assert_eq!(found.positions, expected.positions);
    assert_eq!(found.evaluation, expected.evaluation);
    assert_eq!(found_state.learner.dense, expected_state.learner.dense);
    assert_eq!(found_state.learner.rows, expected_state.learner.rows);
}
