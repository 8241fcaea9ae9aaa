//! Promise: after a rollback every server serves the old version, the trainer does not promote over the pin, not even after a restart of
//! everything, and an unpin resumes. Real daemon, real operator's tool, real broker.

mod support;

use std::path::Path;
use std::process::Command;

use rocket_launching::config::Config;
use rocket_launching::domain::Version;
use rocket_launching::serving::{Subscriber, SubscriberConfig};
use rocket_launching::stream::{KafkaLogReader, KafkaProducer, LogReader};
use support::broker::RealBroker;
use support::daemon::{Daemon, PATIENCE, write_config};
use support::world;

const SERVERS: usize = 3;

struct Operator<'a>(&'a Path);

impl Operator<'_> {
    fn run(&self, arguments: &[&str]) -> std::process::Output {
        Command::new(env!("CARGO_BIN_EXE_rocketctl")).args(arguments).arg("--config").arg(self.0).output().expect("rocketctl runs")
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON on standard output")
    }
}

fn start_servers(config: &Config, dir: &Path) -> Vec<Subscriber> {
    (0..SERVERS)
        .map(|number| {
            let (kafka, topic) = (config.kafka.clone(), config.snapshots_topic());
            let open = move || KafkaLogReader::open(&kafka, &topic).map(|reader| Box::new(reader) as Box<dyn LogReader>);
            Subscriber::start(SubscriberConfig::new(&config.name, dir.join(format!("server-{number}"))), open)
                .expect("the subscriber starts")
        })
        .collect()
}

fn wait_until_served(servers: &[Subscriber], version: Version) {
    let started = std::time::Instant::now();
    for server in servers {
        while server.model().is_none_or(|model| model.version() != version) {
            assert!(started.elapsed() < PATIENCE, "version {version} is not served: {:#?}", server.status());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

#[test]
fn servers_go_back_and_stay_back_until_unpinned() {
    let dir = tempfile::tempdir().expect("tempdir");
    let broker = RealBroker::start();
    let more = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
    let mut config = world::config(&dir.path().join("state"), "labelled", &more);
    config.train.linger = rocket_launching::config::Span::from_millis(100);
    // Versions come when asked for.
    config.publish.every_samples = u64::MAX;
    let file = write_config(&config);
    let operator = Operator(&file);
    operator.json(&["topics", "create", "--partitions", "1"]);

    let (_, records) = world::labelled_stream(2000);
    let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
    let feed = |records: &[rocket_launching::domain::Record]| {
        for record in records {
            producer.send(&config.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("queued");
        }
        producer.flush().expect("acknowledged");
    };
    let next_version = |daemon: &Daemon, done: u64| {
        daemon.wait_until("the events are done", |status| status.books.done() == done);
        let published = operator.json(&["snapshot", "now"]);
        let version = Version(published["version"].as_u64().expect("a version"));
        (version, published["promoted"].as_bool().expect("promoted or not"))
    };

    let servers = start_servers(&config, dir.path());
    let daemon = Daemon::start(&config);
    feed(&records[..500]);
    let (first, promoted) = next_version(&daemon, 500);
    assert!(promoted);
    wait_until_served(&servers, first);
    feed(&records[500..1000]);
    let (second, _) = next_version(&daemon, 1000);
    assert!(second > first);
    wait_until_served(&servers, second);

    let unknown = operator.run(&["rollback", "--to", "999999", "--reason", "typo", "--yes"]);
    let words = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(words.contains("999999") && words.contains(&first.to_string()), "{words}");

    let to = first.to_string();
    let back = operator.run(&["rollback", "--to", &to, "--reason", "clicks fell", "--yes"]);
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    wait_until_served(&servers, first);

    feed(&records[1000..1500]);
    let (third, promoted) = next_version(&daemon, 1500);
    assert!(third > second && !promoted, "the pin holds");
    wait_until_served(&servers, first);

    let probes = |version: Version| operator.json(&["snapshot", "verify", &version.to_string()])["probes"].as_u64();

    // Everything restarts; the pin is on the topic.
    assert!(daemon.terminate().success());
    for server in servers {
        server.stop().expect("the subscriber stops");
    }
    let daemon = Daemon::start(&config);
    let servers = start_servers(&config, dir.path());
    wait_until_served(&servers, first);
    let (before_new_events, _) = next_version(&daemon, 1500);
    assert_eq!(probes(before_new_events), Some(config.publish.probes as u64), "a restart keeps the self-test");
    feed(&records[1500..]);
    let (fourth, promoted) = next_version(&daemon, 2000);
    assert!(!promoted);
    wait_until_served(&servers, first);

    let resumed = operator.run(&["unpin", "--reason", "understood", "--yes"]);
    assert!(resumed.status.success(), "{}", String::from_utf8_lossy(&resumed.stderr));
    let (fifth, promoted) = next_version(&daemon, 2000);
    assert!(promoted && fifth > fourth && fourth > before_new_events);
    wait_until_served(&servers, fifth);

    let history = operator.json(&["history"]).to_string();
    for word in ["rollback", "clicks fell", "unpin", "understood", "promote"] {
        assert!(history.contains(word), "{word} in {history}");
    }
    assert!(daemon.terminate().success());
}
