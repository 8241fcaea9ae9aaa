//! What the broker holds of the event topics, beside our positions in them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge, request_error};
use super::metadata::{Topics, watermarks};
use super::settings::{self, Reading};
use super::source::event_topics;
use crate::config::{Config, KafkaConfig};
use crate::domain::{Mark, PartitionPosition, TopicPartition};
use crate::stream::{Loss, LostPosition, StreamError};

/// One partition of an event topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    /// Which.
    pub partition: TopicPartition,
    /// Whether the broker has it.
    pub exists: bool,
    /// First offset that the broker holds.
    pub low: i64,
    /// Offset after the last one it holds.
    pub high: i64,
    /// Our position, if there is one.
    pub position: Option<PartitionPosition>,
    /// Why reading cannot go on from it, if it cannot.
    pub loss: Option<Loss>,
}

impl Holding {
    /// The position as lost, if it is.
    pub(super) fn lost(&self) -> Option<LostPosition> {
        let (position, loss) = (self.position.as_ref()?, self.loss?);
        Some(LostPosition { partition: self.partition.clone(), wanted: position.low, low: self.low, high: self.high, loss })
    }
}

/// Asks the broker for every partition of the configured event topics, in the order of topics and partitions; behind them those of
/// `positions` that the broker does not have (any more): it holds nothing of them. Positions of topics that are not configured are left out.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`], [`StreamError::Client`].
pub fn holdings(config: &Config, positions: &[PartitionPosition]) -> Result<Vec<Holding>, StreamError> {
    survey(&settings::consumer(&config.kafka, Reading::Events)?, config, positions)
}

/// [`holdings`], through a consumer that is there already.
pub(super) fn survey(
    consumer: &BaseConsumer<Context>,
    config: &Config,
    positions: &[PartitionPosition],
) -> Result<Vec<Holding>, StreamError> {
    let kafka = &config.kafka;
    let known = Topics::fetch(consumer.client(), kafka)?;
    let (mut holdings, mut gone) = (Vec::new(), Vec::new());
    for (topic, _) in event_topics(config) {
        let count = known.require(&topic)?.partitions;
        let topic: Arc<str> = topic.into();
        for partition in 0..count {
            let partition = TopicPartition { topic: Arc::clone(&topic), partition };
            let (low, high) = watermarks(consumer.client(), kafka, &partition)?;
            holdings.push(holding(partition, Some((low, high)), positions));
        }
        let ours = positions.iter().map(|position| &position.partition).filter(|ours| ours.topic == topic && ours.partition >= count);
        gone.extend(ours.map(|partition| holding(partition.clone(), None, positions)));
    }
    holdings.append(&mut gone);
    compare_marks(kafka, &mut holdings)?;
    Ok(holdings)
}

fn holding(partition: TopicPartition, held: Option<(i64, i64)>, positions: &[PartitionPosition]) -> Holding {
    let (low, high) = held.unwrap_or_default();
    let position = positions.iter().find(|position| position.partition == partition).cloned();
    let loss = position.as_ref().and_then(|position| Loss::of(position.low, low, high));
    Holding { partition, exists: held.is_some(), low, high, position, loss }
}

/// Reads the marked records again that are still there. What is there and differs was written by somebody else: offsets alone would look
/// right on a topic that was made anew and has grown beyond our position.
fn compare_marks(kafka: &KafkaConfig, holdings: &mut [Holding]) -> Result<(), StreamError> {
    let there = |holding: &&Holding| holding.loss.is_none();
    let mark = |holding: &Holding| {
        let mark = holding.position.as_ref()?.mark?;
        (holding.low..holding.high).contains(&mark.offset).then(|| (holding.partition.clone(), mark))
    };
    let marks: Vec<_> = holdings.iter().filter(there).filter_map(mark).collect();
    for (partition, mark) in contradicted(kafka, &marks)? {
        if let Some(holding) = holdings.iter_mut().find(|holding| holding.partition == partition) {
            holding.loss = Some(Loss::OtherRecord(mark));
        }
    }
    Ok(())
}

/// Those of the marks, one to a partition, at whose offset another record stands. Of what is gone nothing can be said.
///
/// # Errors
/// [`StreamError::Unreachable`], [`StreamError::Client`].
pub(super) fn contradicted(kafka: &KafkaConfig, marks: &[(TopicPartition, Mark)]) -> Result<Vec<(TopicPartition, Mark)>, StreamError> {
    // Topic by topic: the client's "end of partition" bears no topic.
    let mut by_topic: BTreeMap<Arc<str>, BTreeMap<i32, Mark>> = BTreeMap::new();
    for (partition, mark) in marks {
        by_topic.entry(Arc::clone(&partition.topic)).or_default().insert(partition.partition, *mark);
    }
    let mut contradicted = Vec::new();
    for (topic, marks) in by_topic {
        let others = others(kafka, &topic, marks)?.into_iter();
        contradicted.extend(others.map(|(partition, mark)| (TopicPartition { topic: Arc::clone(&topic), partition }, mark)));
    }
    Ok(contradicted)
}

/// Those of the marks, by partition, at whose offset another record stands.
fn others(kafka: &KafkaConfig, topic: &str, mut wanted: BTreeMap<i32, Mark>) -> Result<Vec<(i32, Mark)>, StreamError> {
    let failed = |error: &KafkaError| request_error(kafka, "reading marked records", error);
    let consumer: BaseConsumer<Context> = settings::consumer(kafka, Reading::Log)?;
    let mut assignment = TopicPartitionList::with_capacity(wanted.len());
    for (partition, mark) in &wanted {
        assignment.add_partition_offset(topic, *partition, Offset::Offset(mark.offset)).map_err(|error| failed(&error))?;
    }
    consumer.assign(&assignment).map_err(|error| failed(&error))?;
    let mut others = Vec::new();
    let mut deadline = Instant::now() + kafka.timeout.0;
    while !wanted.is_empty() {
        let wait = deadline.saturating_duration_since(Instant::now());
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                let Some(mark) = wanted.remove(&message.partition()) else { continue };
                deadline = Instant::now() + kafka.timeout.0;
                let hash = Mark::hash(message.key(), message.payload(), message.timestamp().to_millis());
                // A later record comes where the marked one is gone: nothing can be said then.
                if message.offset() == mark.offset && hash != mark.hash {
                    others.push((message.partition(), mark));
                }
            }
            // From the mark on there is nothing left.
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(wanted.remove(&partition)),
            Some(Err(error)) if judge(&error) == Verdict::Passing => {}
            Some(Err(error)) => return Err(failed(&error)),
            None if wait.is_zero() => {
                let why = format!("{} records of {topic} that were read before were not delivered in time", wanted.len());
                return Err(StreamError::Unreachable { brokers: kafka.brokers.clone(), why });
            }
            None => {}
        }
    }
    Ok(others)
}

/// For each partition the first offset of a record sent at `time_ms` or later; its end where there is none.
///
/// # Errors
/// As [`holdings`].
pub fn offsets_at(config: &Config, holdings: &[Holding], time_ms: i64) -> Result<Vec<i64>, StreamError> {
    let kafka = &config.kafka;
    let consumer: BaseConsumer<Context> = settings::consumer(kafka, Reading::Events)?;
    let failed = |error: KafkaError| request_error(kafka, "asking for offsets by time", &error);
    // What the broker holds nothing of has no offset to ask for.
    let mut asked = TopicPartitionList::with_capacity(holdings.len());
    for holding in holdings.iter().filter(|holding| holding.low < holding.high) {
        asked.add_partition_offset(&holding.partition.topic, holding.partition.partition, Offset::Offset(time_ms)).map_err(failed)?;
    }
    let found = if asked.count() == 0 { asked } else { consumer.offsets_for_times(asked, kafka.timeout.0).map_err(failed)? };
    let offset = |holding: &Holding| match found.find_partition(&holding.partition.topic, holding.partition.partition) {
        Some(element) => match (element.error(), element.offset()) {
            (Err(error), _) => Err(failed(error)),
            (Ok(()), Offset::Offset(offset)) => Ok(offset.clamp(holding.low, holding.high)),
            (Ok(()), _) => Ok(holding.high),
        },
        None => Ok(holding.high),
    };
    holdings.iter().map(offset).collect()
}
