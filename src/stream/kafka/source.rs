use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge};
use super::holdings::{Holding, contradicted, survey};
use super::metadata::{Topics, first_offset, partition_count, watermarks};
use super::settings::{self, Reading};
use crate::config::{Config, KafkaConfig, StartAt, StreamMode};
use crate::domain::{Mark, Origin, PartitionIndex, PartitionPosition, Record, Role, TopicPartition};
use crate::stream::{Loss, LostPosition, Polled, Source, StreamError};

/// Records handed over per poll at most: enough to spread the cost of a hand-over, few enough that shutdown and pausing are prompt.
const CHUNK: usize = 4096;

/// How often the broker is asked whether a topic has got more partitions: a third of the default `join.grace`, so that clicks elsewhere
/// still find the impressions of a new partition.
const REFRESH: Duration = Duration::from_secs(10);
/// How long that question may take. It is asked again, and reading waits for its answer.
const REFRESH_TIMEOUT: Duration = Duration::from_secs(1);

/// How often a record that was read is read again, to see that it still stands there: a topic that is made anew and filled while we are cut
/// off (an outage, a stopped process) looks like its predecessor to a client that comes back. It takes a connection of its own.
const WITNESS: Duration = Duration::from_secs(30);
/// Every so many offsets a record is kept in mind for that.
const WITNESS_EVERY: i64 = 64;

/// Events from Kafka: every partition of the configured topics, assigned by us, at positions that are ours.
///
/// No group is joined, so there is no rebalance that could take a partition away while its events are in flight, nor a member that could
/// commit for one it has lost. Others may use our `group.id` as they like: it only names the advisory commits, which are never read.
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
    /// Per partition, a record that was read before the last look whether it still stands there.
    marks: Vec<Option<Mark>>,
    /// Per partition, one that was read since.
    newer_marks: Vec<Option<Mark>>,
    paused: bool,
    refreshed: Instant,
    witnessed: Instant,
    /// An error that may mean lost positions, while the broker has not been asked yet.
    doubt: Option<KafkaError>,
}

/// A topic and where its partitions stand in the table of partitions.
struct AssignedTopic {
    name: Arc<str>,
    role: Role,
    /// By partition number.
    places: Vec<usize>,
}

impl KafkaSource {
    /// Connects and assigns. Partitions without a position start where `topics.start` says; those that have appeared since the checkpoint
    /// start at their beginning, since nothing of them was skipped on purpose. Positions that cannot be gone on from are refused, all at once.
    /// Offsets at or above `low` that are in `done` are delivered again; the pipeline skips them.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::PositionsLost`], [`StreamError::Setting`].
    pub fn open(config: &Config, positions: &[PartitionPosition]) -> Result<Self, StreamError> {
        let kafka = config.kafka.clone();
        let consumer: BaseConsumer<Context> = settings::consumer(&kafka, Reading::Events)?;
        let topics: Vec<_> =
            event_topics(config).into_iter().map(|(name, role)| AssignedTopic { name: name.into(), role, places: Vec::new() }).collect();
        let holdings = survey(&consumer, config, positions)?;
        let lost: Vec<_> = holdings.iter().filter_map(Holding::lost).collect();
        if !lost.is_empty() {
            return Err(StreamError::PositionsLost { lost });
        }
        for position in positions.iter().filter(|position| topics.iter().all(|topic| topic.name != position.partition.topic)) {
            tracing::warn!(partition = %position.partition, "the checkpoint has a position of a topic that is not configured; it is left out");
        }
        let mut source = KafkaSource {
            consumer,
            kafka,
            topics,
            partitions: Vec::new(),
            starts: Vec::new(),
            next: Vec::new(),
            marks: Vec::new(),
            newer_marks: Vec::new(),
            paused: false,
            refreshed: Instant::now(),
            witnessed: Instant::now(),
            doubt: None,
        };
        let mut assignment = TopicPartitionList::with_capacity(holdings.len());
        for holding in holdings.iter().filter(|holding| holding.exists) {
            let start = start_of(holding, positions, config.topics.start);
            source.add(&holding.partition, start, &mut assignment)?;
            if let Some(mark) = source.marks.last_mut() {
                *mark = holding.position.as_ref().and_then(|position| position.mark);
            }
        }
        source.consumer.assign(&assignment).map_err(|error| client_error("assigning partitions", &error))?;
        tracing::info!(partitions = source.partitions.len(), resumed = positions.len(), brokers = source.kafka.brokers, "reading events");
        Ok(source)
    }

    /// Puts a partition into the table and into `assignment`.
    fn add(&mut self, partition: &TopicPartition, start: i64, assignment: &mut TopicPartitionList) -> Result<(), StreamError> {
        assignment
            .add_partition_offset(&partition.topic, partition.partition, Offset::Offset(start))
            .map_err(|error| client_error("assigning partitions", &error))?;
        if let Some(topic) = self.topics.iter_mut().find(|topic| topic.name == partition.topic) {
            topic.places.push(self.partitions.len());
        }
        self.partitions.push(partition.clone());
        self.starts.push(start);
        self.next.push(start);
        self.marks.push(None);
        self.newer_marks.push(None);
        Ok(())
    }

    /// Partitions that were added to a topic are read from their beginning. What the broker does not answer in time is asked again later.
    fn refresh(&mut self) -> Result<(), StreamError> {
        self.refreshed = Instant::now();
        self.settle_doubt()?;
        if self.witnessed.elapsed() >= WITNESS {
            self.witness()?;
        }
        let mut added = Vec::new();
        for topic in &self.topics {
            let Some(count) = partition_count(self.consumer.client(), &topic.name, REFRESH_TIMEOUT) else { continue };
            for partition in (0..count).skip(topic.places.len()) {
                let partition = TopicPartition { topic: Arc::clone(&topic.name), partition };
                // In order, without a gap.
                let Some(low) = first_offset(self.consumer.client(), &partition, REFRESH_TIMEOUT) else { break };
                added.push((partition, low));
            }
        }
        if added.is_empty() {
            return Ok(());
        }
        let mut assignment = TopicPartitionList::with_capacity(added.len());
        for (partition, low) in added {
            self.add(&partition, low, &mut assignment)?;
        }
        self.consumer.incremental_assign(&assignment).map_err(|error| client_error("assigning partitions that were added", &error))
    }

    /// Looks whether what was read still stands where it was read. A broker that does not answer is asked again later.
    fn witness(&mut self) -> Result<(), StreamError> {
        self.witnessed = Instant::now();
        let known = self.partitions.iter().zip(&self.marks);
        let marks: Vec<_> = known.filter_map(|(partition, mark)| Some((partition.clone(), (*mark)?))).collect();
        let contradicted = match contradicted(&self.kafka, &marks) {
            Ok(contradicted) => contradicted,
            Err(error) => {
                tracing::debug!(%error, "records read before could not be read again");
                return Ok(());
            }
        };
        if contradicted.is_empty() {
            // Read before this look: should the log be another by now, the next look finds out.
            for (mark, newer) in self.marks.iter_mut().zip(&mut self.newer_marks) {
                *mark = newer.take().or(*mark);
            }
            return Ok(());
        }
        let mut lost = Vec::new();
        for (partition, mark) in contradicted {
            let Ok((low, high)) = watermarks(self.consumer.client(), &self.kafka, &partition) else { return Ok(()) };
            let place = self.partitions.iter().position(|known| *known == partition);
            let wanted = place.map_or(mark.offset, |place| self.next[place]);
            lost.push(LostPosition { partition, wanted, low, high, loss: Loss::OtherRecord(mark) });
        }
        Err(StreamError::PositionsLost { lost })
    }

    /// The record, unless it stands below what was already delivered.
    fn take(topics: &[AssignedTopic], next: &mut [i64], message: &BorrowedMessage<'_>) -> Option<Record> {
        let name = message.topic();
        let topic = topics.iter().find(|topic| &*topic.name == name)?;
        let index = *topic.places.get(usize::try_from(message.partition()).ok()?)?;
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

    fn survive(&mut self, error: KafkaError) -> Result<(), StreamError> {
        match judge(&error) {
            Verdict::Passing => Ok(()),
            Verdict::PositionLost | Verdict::TopicGone => {
                self.doubt = Some(error);
                self.settle_doubt()
            }
            Verdict::Fatal => Err(client_error("reading events", &error)),
        }
    }

    /// Asks the broker what an error was about. While it does not answer, the doubt stays.
    fn settle_doubt(&mut self) -> Result<(), StreamError> {
        let Some(error) = self.doubt.take() else { return Ok(()) };
        match self.lost_positions() {
            Ok(lost) if !lost.is_empty() => Err(StreamError::PositionsLost { lost }),
            Ok(_) if judge(&error) == Verdict::PositionLost => Err(client_error("reading events", &error)),
            Ok(_) => Ok(()),
            Err(StreamError::Unreachable { .. }) => {
                self.doubt = Some(error);
                Ok(())
            }
            Err(missing) => Err(missing),
        }
    }

    /// The client does not say which partitions it is: those whose next offset the broker does not hold.
    fn lost_positions(&self) -> Result<Vec<LostPosition>, StreamError> {
        let known = Topics::fetch(self.consumer.client(), &self.kafka)?;
        let mut lost = Vec::new();
        for (partition, wanted) in self.partitions.iter().zip(&self.next) {
            let exists = partition.partition < known.require(&partition.topic)?.partitions;
            let (low, high) = if exists { watermarks(self.consumer.client(), &self.kafka, partition)? } else { (0, 0) };
            if let Some(loss) = Loss::of(*wanted, low, high) {
                lost.push(LostPosition { partition: partition.clone(), wanted: *wanted, low, high, loss });
            }
        }
        Ok(lost)
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
        if self.refreshed.elapsed() >= REFRESH {
            self.refresh()?;
        }
        let deadline = Instant::now() + timeout;
        let mut taken = 0;
        while taken < CHUNK {
            let wait = if taken == 0 { deadline.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    if let Some(record) = Self::take(&self.topics, &mut self.next, &message) {
                        let place = record.origin.partition.0 as usize;
                        let mark = if self.marks[place].is_none() { &mut self.marks[place] } else { &mut self.newer_marks[place] };
                        if mark.is_none() || record.origin.offset % WITNESS_EVERY == 0 {
                            *mark = Some(Mark::of(&record));
                        }
                        into.push(record);
                        taken += 1;
                    }
                }
                Some(Err(error)) => self.survive(error)?,
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

fn start_of(holding: &Holding, positions: &[PartitionPosition], start: StartAt) -> i64 {
    match &holding.position {
        Some(position) => position.low,
        None if positions.iter().any(|position| position.partition.topic == holding.partition.topic) => holding.low,
        None => match start {
            StartAt::Earliest => holding.low,
            StartAt::Latest => holding.high,
        },
    }
}

pub(super) fn client_error(doing: &'static str, error: &KafkaError) -> StreamError {
    StreamError::Client { doing, why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    fn at(number: i32, low: i64) -> PartitionPosition {
        PartitionPosition { low, ..PartitionPosition::new(partition(number), 0) }
    }

    #[test]
    fn where_reading_starts() {
        let start = |positions: &[PartitionPosition], start| {
            let position = positions.iter().find(|position| position.partition == partition(0)).cloned();
            let holding = Holding { partition: partition(0), exists: true, low: 10, high: 20, position, loss: None };
            start_of(&holding, positions, start)
        };
        assert_eq!(start(&[], StartAt::Earliest), 10);
        assert_eq!(start(&[], StartAt::Latest), 20);
        assert_eq!(start(&[at(0, 15)], StartAt::Latest), 15);
        assert_eq!(start(&[at(1, 5)], StartAt::Latest), 10, "a partition added later is read whole");
    }
}
