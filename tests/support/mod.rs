//! What several test files share.
#![allow(dead_code, unreachable_pub, reason = "every test binary includes this and uses its own part")]

pub mod broker;
pub mod daemon;
pub mod kills;
pub mod operator;
pub mod raw_sled;
pub mod world;

use std::time::{Duration, Instant};

use rocket_launching::config::{Config, KafkaConfig, SchemaConfig, Span, TopicsConfig};

/// How long a test waits for something that must happen, before it fails. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long [`wait_for`] waits: several tests start daemons at once, on few cores.
const WAIT: Duration = Duration::from_secs(120);

/// A configuration against the broker at `brokers`, labelled, with topics derived from `name` and an empty feature list.
pub fn config(name: &str, brokers: &str) -> Config {
    let schema = SchemaConfig { impression: Some("impression".to_owned()), ..SchemaConfig::labelled(Vec::new()) };
    let mut config = Config::new(name, schema);
    config.kafka = KafkaConfig { brokers: brokers.to_owned(), timeout: Span::from_secs(5), ..KafkaConfig::default() };
    config.topics = TopicsConfig {
        events: format!("{name}.events"),
        impressions: format!("{name}.impressions"),
        clicks: format!("{name}.clicks"),
        dead_letters: format!("{name}.dlq"),
        snapshots: format!("{name}.snapshots"),
        acks: format!("{name}.acks"),
        ..TopicsConfig::default()
    };
    config
}

/// Asks until there is an answer; fails the test when none comes.
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + WAIT;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::sleep(Duration::from_millis(20));
    }
}
