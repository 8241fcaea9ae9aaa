use super::lost::{LostPosition, list};
use crate::domain::TopicPartition;

/// What went wrong with a source, a sink or a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StreamError {
    /// No broker answered.
    #[error("no broker answers at {brokers}: {why}; check kafka.brokers and that the broker runs")]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// librdkafka's words.
        why: String,
    },
    /// A topic does not exist.
    #[error("topic {topic} does not exist at {brokers}; create it with `rocketctl topics create`")]
    MissingTopic {
        /// The topic.
        topic: String,
        /// The addresses asked.
        brokers: String,
    },
    /// Positions in event topics that reading cannot go on from: all of them.
    #[error("{}; `rocketctl offsets reset` decides where to go on", list(lost))]
    PositionsLost {
        /// Which, and why.
        lost: Vec<LostPosition>,
    },
    /// What is to be read next of a log is no longer (or not yet) on the broker.
    #[error("{partition}: position {wanted} is outside what the broker holds ({low} to {high})")]
    OutOfRange {
        /// Where.
        partition: TopicPartition,
        /// What we need next.
        wanted: i64,
        /// First offset held.
        low: i64,
        /// Offset after the last one held.
        high: i64,
    },
    /// A client setting that cannot be.
    #[error("kafka.properties.{key}: {why}")]
    Setting {
        /// The setting.
        key: String,
        /// Why.
        why: String,
    },
    /// A record the broker did not take.
    #[error("sending to topic {topic}: {why}")]
    NotAcknowledged {
        /// The topic.
        topic: String,
        /// librdkafka's words.
        why: String,
    },
    /// An offset of a log is gone.
    #[error("{topic}: offset {offset} is gone or was not delivered in time")]
    Gone {
        /// The topic.
        topic: String,
        /// The offset.
        offset: i64,
    },
    /// Another error of the client.
    #[error("kafka, {doing}: {why}")]
    Client {
        /// What was being done.
        doing: &'static str,
        /// librdkafka's words.
        why: String,
    },
    /// A file.
    #[error("{path}: {why}")]
    File {
        /// The file, with line where known.
        path: String,
        /// Why.
        why: String,
    },
}
