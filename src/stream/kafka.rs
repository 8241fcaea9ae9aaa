use std::time::Duration;

use super::{DeadLetter, DeadLetterSink, LogReader, LogRecord, LogWriter, Polled, Source, StreamError};
use crate::config::{Config, KafkaConfig};
use crate::domain::{PartitionPosition, Record, TopicPartition};

/// Events from Kafka: every partition of the configured topics, assigned by us, at positions that are ours.
pub struct KafkaSource {}

impl KafkaSource {
    /// Connects and assigns. Partitions without a position start where `topics.start` says. A position outside what the broker holds is
    /// refused. Offsets at or above `low` that are in `done` are delivered again; the pipeline skips them.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::OutOfRange`], [`StreamError::Setting`].
    pub fn open(config: &Config, positions: &[PartitionPosition]) -> Result<Self, StreamError> {
        let _ = (config, positions);
        todo!()
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> &[TopicPartition] {
        todo!()
    }
    fn starts(&self) -> &[i64] {
        todo!()
    }
    fn poll(&mut self, _into: &mut Vec<Record>, _timeout: Duration) -> Result<Polled, StreamError> {
        todo!()
    }
    fn pause(&mut self, _paused: bool) -> Result<(), StreamError> {
        todo!()
    }
    fn commit_advisory(&mut self, _positions: &[PartitionPosition]) {
        todo!()
    }
}

/// Dead letters to Kafka, with Kafka Connect's `__connect.errors.*` headers.
pub struct KafkaDeadLetters {}

impl KafkaDeadLetters {
    /// Connects to `<topics.dead_letters>`.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn open(config: &Config) -> Result<Self, StreamError> {
        let _ = config;
        todo!()
    }
}

impl DeadLetterSink for KafkaDeadLetters {
    fn send(&mut self, _letters: &[DeadLetter]) -> Result<(), StreamError> {
        todo!()
    }
}

/// The snapshot topic, for reading.
pub struct KafkaLogReader {}

impl KafkaLogReader {
    /// Assigns partition 0 of `topic` from its beginning; no group, no commits.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn open(kafka: &KafkaConfig, topic: &str) -> Result<Self, StreamError> {
        let _ = (kafka, topic);
        todo!()
    }
}

impl LogReader for KafkaLogReader {
    fn next(&mut self, _timeout: Duration) -> Result<Option<LogRecord>, StreamError> {
        todo!()
    }
    fn end(&mut self) -> Result<i64, StreamError> {
        todo!()
    }
    fn position(&self) -> i64 {
        todo!()
    }
    fn read_at(&mut self, _offsets: &[i64], _timeout: Duration) -> Result<Vec<LogRecord>, StreamError> {
        todo!()
    }
}

/// The snapshot topic, for writing.
pub struct KafkaLogWriter {}

impl KafkaLogWriter {
    /// Connects; `acks=all`, idempotent where the broker can.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn open(kafka: &KafkaConfig, topic: &str) -> Result<Self, StreamError> {
        let _ = (kafka, topic);
        todo!()
    }
}

impl LogWriter for KafkaLogWriter {
    fn append(&self, _records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        todo!()
    }
}

/// Sends events: replay, the demo, tests.
pub struct KafkaProducer {}

impl KafkaProducer {
    /// Connects.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn open(kafka: &KafkaConfig) -> Result<Self, StreamError> {
        let _ = kafka;
        todo!()
    }

    /// Queues one record, waiting while the client's own queue is full. `partition`: `None` hashes the key.
    ///
    /// # Errors
    /// [`StreamError`].
    pub fn send(&self, topic: &str, partition: Option<i32>, key: Option<&[u8]>, payload: Option<&[u8]>, timestamp_ms: Option<i64>) -> Result<(), StreamError> {
        let _ = (topic, partition, key, payload, timestamp_ms);
        todo!()
    }

    /// Waits until everything queued is acknowledged.
    ///
    /// # Errors
    /// [`StreamError`] if anything was not.
    pub fn flush(&self) -> Result<(), StreamError> {
        todo!()
    }
}

/// One dead letter as read back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeadLetterView {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    /// Where it was read.
    pub source: String,
    /// `decode` or `train`.
    pub stage: String,
    /// Error class.
    pub class: String,
    /// Error text.
    pub message: String,
    /// When it was sent, milliseconds.
    pub timestamp_ms: Option<i64>,
    /// Payload, lossily as text, cut at 200 characters.
    pub payload: String,
}

/// The newest `limit` dead letters, newest last, and how many there are in all.
///
/// # Errors
/// [`StreamError`].
pub fn read_dead_letters(config: &Config, limit: usize) -> Result<(u64, Vec<DeadLetterView>), StreamError> {
    let _ = (config, limit);
    todo!()
}

/// What is right and wrong with one topic.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct TopicCheck {
    /// Topic.
    pub topic: String,
    /// What it is for: `events`, `impressions`, `clicks`, `dead_letters`, `snapshots`.
    pub role: &'static str,
    /// Partitions; `None`: it does not exist.
    pub partitions: Option<i32>,
    /// `ok`, or what is wrong and the way out.
    pub problems: Vec<String>,
    /// What could not be checked on this broker.
    pub notes: Vec<String>,
}

/// Checks every topic of the configuration.
///
/// # Errors
/// [`StreamError::Unreachable`].
pub fn check_topics(config: &Config) -> Result<Vec<TopicCheck>, StreamError> {
    let _ = config;
    todo!()
}

/// Creates what is missing (`partitions` for event topics; one for snapshots), leaves the rest alone; returns what was created.
///
/// # Errors
/// [`StreamError`].
pub fn create_topics(config: &Config, partitions: i32, replication: i32) -> Result<Vec<String>, StreamError> {
    let _ = (config, partitions, replication);
    todo!()
}
