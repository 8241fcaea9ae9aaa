//! What several test files share.
#![allow(dead_code, unreachable_pub, reason = "every test binary includes this and uses its own part")]

pub mod broker;
pub mod daemon;
pub mod kills;
pub mod operator;
pub mod raw_sled;
pub mod world;

use std::time::{Duration, Instant};

use rocket_launching::config::{
    AdminConfig, CheckpointConfig, Config, EvaluateConfig, JoinConfig, KafkaConfig, KeysConfig, LogConfig, ModelConfig, PublishConfig,
    SchemaConfig, Span, StateConfig, TimeUnit, TopicsConfig, TrainConfig,
};

/// How long a test waits for something that must happen, before it fails. Never a measure of speed.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long [`wait_for`] waits: several tests start daemons at once, on few cores.
const WAIT: Duration = Duration::from_secs(120);

/// A configuration against the broker at `brokers`, labelled, with topics derived from `name` and an empty feature list.
pub fn config(name: &str, brokers: &str) -> Config {
    Config {
        name: name.to_owned(),
        kafka: KafkaConfig { brokers: brokers.to_owned(), timeout: Span::from_secs(5), ..KafkaConfig::default() },
        topics: TopicsConfig {
            events: format!("{name}.events"),
            impressions: format!("{name}.impressions"),
            clicks: format!("{name}.clicks"),
            dead_letters: format!("{name}.dlq"),
            snapshots: format!("{name}.snapshots"),
            acks: format!("{name}.acks"),
            ..TopicsConfig::default()
        },
        join: JoinConfig::default(),
        schema: SchemaConfig {
            time: "time".to_owned(),
            time_unit: TimeUnit::Ms,
            user: "user".to_owned(),
            item: "item".to_owned(),
            label: "label".to_owned(),
            impression: Some("impression".to_owned()),
            features: Vec::new(),
        },
        model: ModelConfig::default(),
        train: TrainConfig::default(),
        evaluate: EvaluateConfig::default(),
        state: StateConfig::default(),
        checkpoint: CheckpointConfig::default(),
        publish: PublishConfig::default(),
        keys: KeysConfig::default(),
        admin: AdminConfig::default(),
        log: LogConfig::default(),
    }
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
