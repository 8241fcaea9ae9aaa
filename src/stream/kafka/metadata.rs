//! What the brokers say about topics and offsets. Asked once at every start, so that a wrong address or name is an error and not a silence.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};

use super::context::request_error;
use crate::config::KafkaConfig;
use crate::domain::TopicPartition;
use crate::stream::StreamError;

/// The topics of a cluster that this client may see.
#[derive(Debug, Clone)]
pub(super) struct Topics {
    brokers: String,
    by_name: BTreeMap<String, TopicShape>,
}

/// Partitions and replicas of one topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TopicShape {
    /// Partitions.
    pub(super) partitions: i32,
    /// Replicas of the partition that has fewest.
    pub(super) replicas: usize,
    /// Partitions without a leader.
    pub(super) leaderless: Vec<i32>,
}

impl Topics {
    /// Asks for all topics at once: asking for one by name would make some brokers create it.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`].
    pub(super) fn fetch<C: ClientContext>(client: &Client<C>, kafka: &KafkaConfig) -> Result<Self, StreamError> {
        let metadata = client
            .fetch_metadata(None, kafka.timeout.0)
            .map_err(|error| StreamError::Unreachable { brokers: kafka.brokers.clone(), why: error.to_string() })?;
        let by_name = metadata
            .topics()
            .iter()
            .filter(|topic| topic.error().is_none())
            .map(|topic| {
                let partitions = topic.partitions();
                let shape = TopicShape {
                    partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
                    replicas: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
                    leaderless: partitions.iter().filter(|p| p.leader() < 0).map(|p| p.id()).collect(),
                };
                (topic.name().to_owned(), shape)
            })
            .collect();
        Ok(Topics { brokers: kafka.brokers.clone(), by_name })
    }

    /// A topic's shape, if it exists.
    pub(super) fn get(&self, topic: &str) -> Option<&TopicShape> {
        self.by_name.get(topic).filter(|shape| shape.partitions > 0)
    }

    /// A topic's shape.
    ///
    /// # Errors
    /// [`StreamError::MissingTopic`].
    pub(super) fn require(&self, topic: &str) -> Result<&TopicShape, StreamError> {
        self.get(topic).ok_or_else(|| StreamError::MissingTopic { topic: topic.to_owned(), brokers: self.brokers.clone() })
    }
}

/// The first offset a partition holds and the one after its last.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::Client`].
pub(super) fn watermarks<C: ClientContext>(
    client: &Client<C>,
    kafka: &KafkaConfig,
    partition: &TopicPartition,
) -> Result<(i64, i64), StreamError> {
    let timeout: Duration = kafka.timeout.0;
    client
        .fetch_watermarks(&partition.topic, partition.partition, timeout)
        .map(|(low, high)| (low.max(0), high.max(0)))
        .map_err(|error| request_error(kafka, "asking for the first and last offset", &error))
}

/// How many partitions a topic has; `None` where nobody says so in time.
pub(super) fn partition_count<C: ClientContext>(client: &Client<C>, topic: &str, timeout: Duration) -> Option<i32> {
    let metadata = client.fetch_metadata(Some(topic), timeout).ok()?;
    let topic = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none())?;
    i32::try_from(topic.partitions().len()).ok()
}

/// The first offset a partition holds; `None` where nobody says so in time.
pub(super) fn first_offset<C: ClientContext>(client: &Client<C>, partition: &TopicPartition, timeout: Duration) -> Option<i64> {
    client.fetch_watermarks(&partition.topic, partition.partition, timeout).ok().map(|(low, _)| low.max(0))
}
