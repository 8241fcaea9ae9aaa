//! The real `rocketctl`, and servers that follow a real topic.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use rocket_launching::config::Config;
use rocket_launching::domain::{Record, Version};
use rocket_launching::serving::{Reporting, Subscriber, SubscriberConfig};
use rocket_launching::stream::{KafkaLogReader, KafkaLogWriter, KafkaProducer, LogReader, LogWriter};
use serde_json::Value;

use super::broker::RealBroker;
use super::daemon::{Daemon, PATIENCE, write_config};
use super::world;

/// An operator with the daemon's configuration.
pub struct Operator(pub PathBuf);

impl Operator {
    /// Runs it with nothing on its standard input.
    pub fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rocketctl"));
        let command = command.args(arguments).arg("--config").arg(&self.0).env_remove("ROCKET_KEY").stdin(Stdio::null());
        command.output().expect("rocketctl runs")
    }

    /// What it prints as JSON; it has to succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON on standard output")
    }

    /// Exit code and standard error.
    pub fn refused(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?} was done: {}", String::from_utf8_lossy(&output.stdout));
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A daemon's configuration on a real broker, its topics made, and what is to be read from them; versions come when they are asked for.
pub struct Site {
    pub broker: RealBroker,
    pub config: Config,
    pub operator: Operator,
    records: Vec<Record>,
    producer: KafkaProducer,
}

impl Site {
    /// With room for `rows` events; `more` is laid over the configuration.
    pub fn new(dir: &Path, rows: usize, more: impl FnOnce(&mut Config)) -> Self {
        let broker = RealBroker::start();
        let text = format!("kafka.brokers = \"{}\"\nadmin.http = \"\"", broker.bootstrap());
        let mut config = world::config(&dir.join("state"), "labelled", &text);
        config.train.linger = rocket_launching::config::Span::from_millis(100);
        config.publish.every_samples = u64::MAX;
        more(&mut config);
        let operator = Operator(write_config(&config));
        operator.json(&["topics", "create", "--partitions", "1"]);
        let producer = KafkaProducer::open(&config.kafka).expect("the producer connects");
        let (_, records) = world::labelled_stream(rows);
        Site { broker, config, operator, records, producer }
    }

    /// Sends these of the events.
    pub fn feed(&self, range: std::ops::Range<usize>) {
        for record in &self.records[range] {
            self.producer.send(&self.config.events_topic(), Some(0), None, record.payload.as_deref(), None).expect("queued");
        }
        self.producer.flush().expect("acknowledged");
    }

    /// Publishes once so many events are done; the version, and whether it was promoted.
    pub fn publish(&self, daemon: &Daemon, done: u64) -> (Version, bool) {
        daemon.wait_until("the events are done", |status| status.books.done() == done);
        let published = self.operator.json(&["snapshot", "now"]);
        (Version(published["version"].as_u64().expect("a version")), published["promoted"].as_bool().expect("promoted or not"))
    }

    /// A server of this name that follows the topic and reports, with its cache under `dir`.
    pub fn server(&self, dir: &Path, host: &str, group: Option<&str>) -> Subscriber {
        let (kafka, topic) = (self.config.kafka.clone(), self.config.snapshots_topic());
        let open = move || KafkaLogReader::open(&kafka, &topic).map(|reader| Box::new(reader) as Box<dyn LogReader>);
        let (kafka, topic) = (self.config.kafka.clone(), self.config.acks_topic());
        let report = move || KafkaLogWriter::open(&kafka, &topic).map(|writer| Box::new(writer) as Box<dyn LogWriter>);
        let config = SubscriberConfig {
            host: host.to_owned(),
            group: group.map(|group| group.parse().expect("a group's name")),
            reports: Some(Reporting::new(report)),
            ..SubscriberConfig::new(&self.config.name, dir.join(host))
        };
        Subscriber::start(config, open).expect("the subscriber starts")
    }
}

/// Waits until all serve it.
pub fn wait_until_served(servers: &[Subscriber], version: Version) {
    let started = Instant::now();
    for server in servers {
        while server.model().is_none_or(|model| model.version() != version) {
            assert!(started.elapsed() < PATIENCE, "version {version} is not served: {:#?}", server.status());
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}
