use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge};
use super::metadata::{Topics, watermarks};
use super::settings::{self, Reading};
use crate::config::{Config, KafkaConfig, StartAt, StreamMode};
use crate::domain::{Origin, PartitionIndex, PartitionPosition, Record, Role, TopicPartition};
use crate::stream::{Polled, Source, StreamError};

/// Records handed over per poll at most: enough to spread the cost of a hand-over, few enough that shutdown and pausing are prompt.
const CHUNK: usize = 4096;

/// Events from Kafka: every partition of the configured topics, assigned by us, at positions that are ours.
///
/// architecture invariant: no consumer group is joined and no committed offset is ever read.
pub struct KafkaSource {
    consumer: BaseConsumer<Context>,
    kafka: KafkaConfig,
    topics: Vec<AssignedTopic>,
    partitions: Vec<TopicPartition>,
    starts: Vec<i64>,
    /// Per partition, the lowest offset that may still come.
    next: Vec<i64>,
    paused: bool,
}

/// A topic and where its partitions stand in the table of partitions.
struct AssignedTopic {
    name: Arc<str>,
    role: Role,
    first: usize,
    count: usize,
}

impl KafkaSource {
    /// Connects and assigns. Partitions without a position start where `topics.start` says; those that have appeared since the checkpoint
    /// start at their beginning, since nothing of them was skipped on purpose. A position outside what the broker holds is refused.
    /// Offsets at or above `low` that are in `done` are delivered again; the pipeline skips them.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::OutOfRange`], [`StreamError::Setting`].
    pub fn open(config: &Config, positions: &[PartitionPosition]) -> Result<Self, StreamError> {
        let kafka = config.kafka.clone();
        let consumer: BaseConsumer<Context> = settings::consumer(&kafka, Reading::Events)?;
        let known = Topics::fetch(consumer.client(), &kafka)?;

        let mut topics = Vec::new();
        let mut partitions = Vec::new();
        for (name, role) in event_topics(config) {
            let count = known.require(&name)?.partitions;
            let name: Arc<str> = name.into();
            topics.push(AssignedTopic {
                name: Arc::clone(&name),
                role,
                first: partitions.len(),
                count: usize::try_from(count).unwrap_or(0),
            });
            partitions.extend((0..count).map(|partition| TopicPartition { topic: Arc::clone(&name), partition }));
        }
        refuse_unknown(positions, &topics, &partitions)?;

        let mut starts = Vec::with_capacity(partitions.len());
        let mut assignment = TopicPartitionList::with_capacity(partitions.len());
        for partition in &partitions {
            let (low, high) = watermarks(consumer.client(), &kafka, partition)?;
            let start = start_of(partition, positions, config.topics.start, low, high)?;
            assignment
                .add_partition_offset(&partition.topic, partition.partition, Offset::Offset(start))
                .map_err(|error| client_error("assigning partitions", &error))?;
            starts.push(start);
        }
        consumer.assign(&assignment).map_err(|error| client_error("assigning partitions", &error))?;
        tracing::info!(partitions = partitions.len(), resumed = positions.len(), brokers = %kafka.brokers, "reading events");
        Ok(KafkaSource { consumer, kafka, topics, next: starts.clone(), starts, partitions, paused: false })
    }

    /// The record, unless it stands below what was already delivered.
    fn take(topics: &[AssignedTopic], next: &mut [i64], message: &BorrowedMessage<'_>) -> Option<Record> {
        let name = message.topic();
        let topic = topics.iter().find(|topic| &*topic.name == name)?;
        let partition = usize::try_from(message.partition()).ok().filter(|partition| *partition < topic.count)?;
        let index = topic.first + partition;
        let expected = next.get_mut(index)?;
        let offset = message.offset();
        if offset < *expected {
            return None;
        }
        *expected = offset + 1;
        Some(Record {
            origin: Origin { partition: PartitionIndex(u32::try_from(index).ok()?), offset },
            role: topic.role,
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            timestamp_ms: message.timestamp().to_millis(),
        })
    }

    fn survive(&self, error: &KafkaError) -> Result<(), StreamError> {
        match judge(error) {
            Verdict::Passing => Ok(()),
            Verdict::PositionLost => Err(self.lost_position(error)),
            Verdict::TopicGone => {
                let known = Topics::fetch(self.consumer.client(), &self.kafka)?;
                self.topics.iter().try_for_each(|topic| known.require(&topic.name).map(drop))
            }
            Verdict::Fatal => Err(client_error("reading events", error)),
        }
    }

    /// librdkafka does not say which partition it is: the one whose next offset the broker does not hold.
    fn lost_position(&self, error: &KafkaError) -> StreamError {
        for (partition, next) in self.partitions.iter().zip(&self.next) {
            match watermarks(self.consumer.client(), &self.kafka, partition) {
                Ok((low, high)) if !(low..=high).contains(next) => {
                    return StreamError::OutOfRange { partition: partition.clone(), wanted: *next, low, high };
                }
                Ok(_) => {}
                Err(unreachable) => return unreachable,
            }
        }
        client_error("reading events", error)
    }
}

impl Source for KafkaSource {
    fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    fn starts(&self) -> &[i64] {
        &self.starts
    }

    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError> {
        if self.paused {
            std::thread::sleep(timeout);
            return Ok(Polled::Idle);
        }
        let deadline = Instant::now() + timeout;
        let mut taken = 0;
        while taken < CHUNK {
            let wait = if taken == 0 { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    if let Some(record) = Self::take(&self.topics, &mut self.next, &message) {
                        into.push(record);
                        taken += 1;
                    }
                }
                Some(Err(error)) => self.survive(&error)?,
                None if taken > 0 => break,
                // An empty poll before the deadline only served a callback; it says nothing about records.
                None if wait.is_zero() => return Ok(Polled::Idle),
                None => {}
            }
        }
        Ok(Polled::Records)
    }

    /// Leaves records in the client's queue, whose bound then stops the fetching; librdkafka's own pause would throw them away and fetch them
    /// again. Not polling costs nothing here: there is no group that would expel us.
    fn pause(&mut self, paused: bool) -> Result<(), StreamError> {
        self.paused = paused;
        Ok(())
    }

    fn commit_advisory(&mut self, positions: &[PartitionPosition]) {
        let mut offsets = TopicPartitionList::with_capacity(positions.len());
        for position in positions {
            let partition = &position.partition;
            if let Err(error) = offsets.add_partition_offset(&partition.topic, partition.partition, Offset::Offset(position.low)) {
                self.consumer.context().warn_commit(&error);
                return;
            }
        }
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            self.consumer.context().warn_commit(&error);
        }
    }
}

/// The topics that events are read from, and what they carry.
pub(super) fn event_topics(config: &Config) -> Vec<(String, Role)> {
    match config.topics.mode {
        StreamMode::Labelled => vec![(config.events_topic(), Role::Labelled)],
        StreamMode::Joined => vec![(config.impressions_topic(), Role::Impression), (config.clicks_topic(), Role::Click)],
    }
}

/// A position of a partition that a configured topic no longer has is lost; one of a topic that is no longer configured is only said aloud.
fn refuse_unknown(positions: &[PartitionPosition], topics: &[AssignedTopic], partitions: &[TopicPartition]) -> Result<(), StreamError> {
    for position in positions {
        if partitions.contains(&position.partition) {
            continue;
        }
        if topics.iter().any(|topic| topic.name == position.partition.topic) {
            return Err(StreamError::OutOfRange { partition: position.partition.clone(), wanted: position.low, low: 0, high: 0 });
        }
        tracing::warn!(partition = %position.partition, "the checkpoint has a position of a topic that is not configured; it is left out");
    }
    Ok(())
}

fn start_of(partition: &TopicPartition, positions: &[PartitionPosition], start: StartAt, low: i64, high: i64) -> Result<i64, StreamError> {
    match positions.iter().find(|position| position.partition == *partition) {
        Some(position) if (low..=high).contains(&position.low) => Ok(position.low),
        Some(position) => Err(StreamError::OutOfRange { partition: partition.clone(), wanted: position.low, low, high }),
        None if positions.iter().any(|position| position.partition.topic == partition.topic) => Ok(low),
        None => Ok(match start {
            StartAt::Earliest => low,
            StartAt::Latest => high,
        }),
    }
}

fn client_error(doing: &'static str, error: &KafkaError) -> StreamError {
    StreamError::Client { doing, why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    fn at(number: i32, low: i64) -> PartitionPosition {
        PartitionPosition { partition: partition(number), start: 0, low, done: Vec::new() }
    }

    #[test]
    fn where_reading_starts() {
        let start = |positions: &[PartitionPosition], start| start_of(&partition(0), positions, start, 10, 20).ok();
        assert_eq!(start(&[], StartAt::Earliest), Some(10));
        assert_eq!(start(&[], StartAt::Latest), Some(20));
        assert_eq!(start(&[at(0, 10)], StartAt::Latest), Some(10));
        assert_eq!(start(&[at(0, 20)], StartAt::Earliest), Some(20), "the end itself is where the next event will be");
        assert_eq!(start(&[at(0, 9)], StartAt::Earliest), None, "gone by retention");
        assert_eq!(start(&[at(0, 21)], StartAt::Earliest), None, "not there yet: another cluster, or the topic was made anew");
        assert_eq!(start(&[at(1, 5)], StartAt::Latest), Some(10), "a partition added later is read whole");
    }
}
