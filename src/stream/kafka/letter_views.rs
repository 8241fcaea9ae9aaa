use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge, request_error};
use super::dead_letters::header;
use super::metadata::{Topics, watermarks};
use super::settings::{self, Reading};
use crate::config::Config;
use crate::domain::TopicPartition;
use crate::stream::StreamError;

/// Characters of a payload that a listing shows.
const PAYLOAD_CHARS: usize = 200;

/// One dead letter as read back.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct DeadLetterView {
    /// Partition of the dead-letter topic.
    pub partition: i32,
    /// Offset there.
    pub offset: i64,
    /// Where it was read: `topic[partition]@offset`.
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

impl DeadLetterView {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers: BTreeMap<String, String> = message
            .headers()
            .map(|headers| headers.iter().map(|h| (h.key.to_owned(), text(h.value.unwrap_or_default()))).collect())
            .unwrap_or_default();
        let get = |key: &str| headers.get(key).cloned().unwrap_or_default();
        DeadLetterView {
            partition: message.partition(),
            offset: message.offset(),
            source: format!("{}[{}]@{}", get(header::TOPIC), get(header::PARTITION), get(header::OFFSET)),
            stage: get(header::STAGE),
            class: get(header::EXCEPTION_CLASS),
            message: get(header::EXCEPTION_MESSAGE),
            timestamp_ms: message.timestamp().to_millis(),
            payload: text(message.payload().unwrap_or_default()).chars().take(PAYLOAD_CHARS).collect(),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The newest `limit` dead letters, newest last, and how many there are in all.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`].
pub fn read_dead_letters(config: &Config, limit: usize) -> Result<(u64, Vec<DeadLetterView>), StreamError> {
    let kafka = &config.kafka;
    let topic = &config.dead_letters_topic();
    let consumer: BaseConsumer<Context> = settings::consumer(kafka, Reading::Log)?;
    let partitions = Topics::fetch(consumer.client(), kafka)?.require(topic)?.partitions;

    let mut total = 0;
    let mut ends = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let (low, high) = watermarks(consumer.client(), kafka, &TopicPartition { topic: topic.as_str().into(), partition })?;
        total += u64::try_from(high - low).unwrap_or(0);
        let from = high.saturating_sub(i64::try_from(limit).unwrap_or(i64::MAX)).max(low);
        if from < high {
            ends.insert(partition, high);
            assignment
                .add_partition_offset(topic, partition, Offset::Offset(from))
                .map_err(|error| request_error(kafka, "assigning the dead letters", &error))?;
        }
    }
    let views = if ends.is_empty() { Vec::new() } else { read_until(&consumer, config, &assignment, &ends, limit)? };
    Ok((total, views))
}

fn read_until(
    consumer: &BaseConsumer<Context>,
    config: &Config,
    assignment: &TopicPartitionList,
    ends: &BTreeMap<i32, i64>,
    limit: usize,
) -> Result<Vec<DeadLetterView>, StreamError> {
    let kafka = &config.kafka;
    consumer.assign(assignment).map_err(|error| request_error(kafka, "assigning the dead letters", &error))?;
    let mut newest: BTreeMap<i32, VecDeque<DeadLetterView>> = BTreeMap::new();
    let mut open: BTreeSet<i32> = ends.keys().copied().collect();
    let mut deadline = Instant::now() + kafka.timeout.0;
    while !open.is_empty() {
        let wait = deadline.saturating_duration_since(Instant::now());
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                deadline = Instant::now() + kafka.timeout.0;
                let partition = message.partition();
                let end = ends.get(&partition).copied().unwrap_or(0);
                if message.offset() < end {
                    let views = newest.entry(partition).or_default();
                    views.push_back(DeadLetterView::of(&message));
                    if views.len() > limit {
                        views.pop_front();
                    }
                }
                if message.offset() + 1 >= end {
                    open.remove(&partition);
                }
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                open.remove(&partition);
            }
            Some(Err(error)) if judge(&error) == Verdict::Passing => {}
            Some(Err(error)) => return Err(request_error(kafka, "reading dead letters", &error)),
            None if wait.is_zero() => {
                return Err(StreamError::Unreachable {
                    brokers: kafka.brokers.clone(),
                    why: "dead letters were not delivered in time".to_owned(),
                });
            }
            None => {}
        }
    }
    let mut views: Vec<_> = newest.into_values().flatten().collect();
    views.sort_by_key(|view| (view.timestamp_ms, view.partition, view.offset));
    views.drain(..views.len().saturating_sub(limit));
    Ok(views)
}
