//! Promise: a trainer that was paused, replaced by a standby, and continued, publishes nothing that counts from then on, says why, and trains
//! on. Real daemons, real broker.

mod support;

use std::path::Path;
use std::time::Duration;

use rocket_launching::config::{Config, KeysConfig, Span};
use rocket_launching::domain::{Record, Version};
use rocket_launching::keys::{Role, Signer, Trust};
use rocket_launching::publish::Published;
use rocket_launching::serving::{Catalog, Subscriber, SubscriberConfig};
use rocket_launching::stream::{KafkaLogReader, KafkaProducer, LogReader, create_topics};
use rocket_launching::telemetry::admin::{Answer, Request, ask};
use support::broker::RealBroker;
use support::daemon::{Daemon, PATIENCE};
use support::world;

const ROWS: usize = 4000;

/// A key for each of the two, both trusted.
fn make_keys(dir: &Path, configs: [&mut Config; 2]) {
    let mut lines = String::new();
    for (number, config) in configs.into_iter().enumerate() {
        let (trusted, trainer) = (dir.join("trusted.toml"), dir.join(format!("trainer-{number}.pem")));
        let signer = Signer::generate().expect("random bytes");
        signer.save(&trainer).expect("the key is written");
        lines = lines + &signer.public().trusted_as(Role::Trainer) + "\n";
        config.keys = KeysConfig { trusted, trainer, ..KeysConfig::default() };
    }
    std::fs::write(dir.join("trusted.toml"), lines).expect("the list is written");
}

fn snapshot_now(config: &Config) -> Result<Published, String> {
    match ask(&config.admin_socket(), &Request::SnapshotNow).expect("the daemon answers") {
        Answer::Ok(value) => Ok(serde_json::from_value(value).expect("what was published")),
        Answer::Error(why) => Err(why),
    }
}

fn follow(config: &Config, dir: &Path, trust: Trust) -> Subscriber {
    let (kafka, topic) = (config.kafka.clone(), config.snapshots_topic());
    let open = move || KafkaLogReader::open(&kafka, &topic).map(|reader| Box::new(reader) as Box<dyn LogReader>);
    Subscriber::start(SubscriberConfig { trust, ..SubscriberConfig::new(&config.name, dir.join("server")) }, open).expect("it starts")
}

fn wait_until_served(server: &Subscriber, version: Version) {
    let started = std::time::Instant::now();
    while server.model().is_none_or(|model| model.version() != version) {
        assert!(started.elapsed() < PATIENCE, "version {version} is not served: {:#?}", server.status());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The topic as a server that starts now would read it.
fn catalog(config: &Config, trust: Trust) -> Catalog {
    let mut reader = KafkaLogReader::open(&config.kafka, &config.snapshots_topic()).expect("the topic is there");
    let end = reader.end().expect("the broker answers");
    let mut catalog = Catalog::trusting(&config.name, trust);
    while reader.position() < end {
        if let Some(record) = reader.next(Duration::from_millis(100)).expect("the broker answers") {
            let _refused = catalog.apply(&record);
        }
    }
    catalog
}

#[test]
fn a_paused_trainer_that_wakes_after_its_standby_took_over_publishes_nothing_that_counts() {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let config = |name: &str| {
        let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
        let mut config = world::config(&dir.path().join(name), "labelled", &more);
        config.train.linger = Span::from_millis(100);
        // Published without pause, so that it is paused in the middle of it as often as not.
        config.checkpoint.every_samples = 64;
        config.publish.every_samples = 64;
        config
    };
    let (mut first, mut second) = (config("first"), config("second"));
    make_keys(dir.path(), [&mut first, &mut second]);
    let trust = || Trust::load(&first.keys.trusted).expect("the list is good");
    create_topics(&first, 1, 1).expect("topics are created");
    let (_, records) = world::labelled_stream(ROWS);
    let producer = KafkaProducer::open(&first.kafka).expect("the producer connects");
    let feed = |records: &[Record]| {
        for record in records {
            producer.send(&first.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("queued");
        }
        producer.flush().expect("acknowledged");
    };

    let old = Daemon::start(&first);
    let server = follow(&first, dir.path(), trust());
    feed(&records[..ROWS / 2]);
    old.wait_until("a few versions", |status| status.published.is_some_and(|version| version.0 >= 2));
    old.signal("STOP");

    let new = Daemon::start(&second);
    assert_eq!(catalog(&first, trust()).epoch(), 2, "the standby holds the lease");
    new.wait_until("the standby has caught up", |status| status.books.done() == ROWS as u64 / 2);
    let taken_over = snapshot_now(&second).expect("the standby publishes").version;
    wait_until_served(&server, taken_over);

    old.signal("CONT");
    feed(&records[ROWS / 2..]);
    let woken = old.wait_until("it trains on", |status| status.books.done() == ROWS as u64);
    assert!(woken.ready);
    let refused = snapshot_now(&first).expect_err("it is not the publisher any more");
    assert!(refused.contains("epoch 1 is superseded by epoch 2"), "{refused}");
    let told = old.wait_until("it says why", |status| status.publish_problem.is_some());
    assert!(told.publish_problem.is_some_and(|problem| problem.contains("no longer publishes")));

    new.wait_until("the standby trains on", |status| status.books.done() == ROWS as u64);
    let last = new.wait_until("a later version", |status| status.published.is_some_and(|version| version > taken_over));
    assert!(last.promoted, "{last:?}");
    let started = std::time::Instant::now();
    while server.model().is_none_or(|model| model.version() <= taken_over) {
        assert!(started.elapsed() < PATIENCE, "no later version is served: {:#?}", server.status());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(server.model().expect("served").manifest().epoch, 2);
    assert!(old.terminate().success() && new.terminate().success());

    let catalog = catalog(&first, trust());
    assert_eq!(catalog.current().map(|pointer| pointer.epoch), Some(2));
    let late: Vec<_> = catalog.manifests().values().filter(|manifest| manifest.epoch == 1 && manifest.version >= taken_over).collect();
    assert!(late.is_empty(), "{late:#?}");
    server.stop().expect("no panic");
}
