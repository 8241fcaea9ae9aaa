use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::context::{Context, Verdict, judge, request_error};
use super::metadata::{Topics, watermarks};
use super::outbox::{Outbox, Outgoing, not_acknowledged};
use super::settings::{self, Reading};
use crate::config::KafkaConfig;
use crate::domain::TopicPartition;
use crate::stream::{LogReader, LogRecord, LogWriter, StreamError};

/// A log is one partition: that alone gives a total order.
const PARTITION: i32 = 0;

/// The snapshot topic, for reading.
pub struct KafkaLogReader {
    kafka: KafkaConfig,
    log: TopicPartition,
    consumer: BaseConsumer<Context>,
    /// Reads offsets again, so that the first consumer need not move. Made when first needed.
    rereader: Option<BaseConsumer<Context>>,
    position: i64,
    /// The end as asked before the current fetch began: what the client's "end of partition" is known to cover.
    end_before_fetch: i64,
    /// The client has said "end of partition" and nothing has been read since.
    at_end: bool,
}

impl KafkaLogReader {
    /// Assigns partition 0 of `topic` from its beginning; no group, no commits.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`].
    pub fn open(kafka: &KafkaConfig, topic: &str) -> Result<Self, StreamError> {
        let consumer: BaseConsumer<Context> = settings::consumer(kafka, Reading::Log)?;
        Topics::fetch(consumer.client(), kafka)?.require(topic)?;
        let log = TopicPartition { topic: topic.into(), partition: PARTITION };
        let (low, high) = watermarks(consumer.client(), kafka, &log)?;
        assign(&consumer, &log, low)?;
        Ok(KafkaLogReader { kafka: kafka.clone(), log, consumer, rereader: None, position: low, end_before_fetch: high, at_end: false })
    }

    /// What a polling error means; `Ok` for what librdkafka gets over.
    fn survive(&self, error: &KafkaError) -> Result<(), StreamError> {
        match judge(error) {
            Verdict::Passing => Ok(()),
            Verdict::TopicGone => Topics::fetch(self.consumer.client(), &self.kafka)?.require(&self.log.topic).map(drop),
            Verdict::PositionLost => {
                let (low, high) = watermarks(self.consumer.client(), &self.kafka, &self.log)?;
                Err(StreamError::OutOfRange { partition: self.log.clone(), wanted: self.position, low, high })
            }
            Verdict::Fatal => Err(StreamError::Client { doing: "reading the log", why: error.to_string() }),
        }
    }

    fn gone(&self, offset: i64) -> StreamError {
        StreamError::Gone { topic: self.log.topic.to_string(), offset }
    }

    /// One record at exactly `offset`. `in_place`: the consumer will deliver it next, if it exists.
    fn reread(&self, rereader: &BaseConsumer<Context>, offset: i64, in_place: bool, deadline: Instant) -> Result<LogRecord, StreamError> {
        let mut seek_first = !in_place;
        let mut sought = false;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.gone(offset));
            }
            if seek_first {
                seek(rereader, &self.log, offset, left).map_err(|error| request_error(&self.kafka, "seeking in the log", &error))?;
                (seek_first, sought) = (false, true);
            }
            match rereader.poll(left) {
                Some(Ok(message)) if message.offset() == offset => return Ok(record(&message)),
                Some(Ok(message)) if message.offset() > offset => return Err(self.gone(offset)),
                // Perhaps said before this record was written: a seek makes the client look again.
                Some(Err(KafkaError::PartitionEOF(_))) if !sought => seek_first = true,
                Some(Err(error)) if judge(&error) == Verdict::Passing && !matches!(error, KafkaError::PartitionEOF(_)) => {}
                Some(Err(_)) => return Err(self.gone(offset)),
                Some(Ok(_)) | None => {}
            }
        }
    }
}

impl LogReader for KafkaLogReader {
    fn next(&mut self, timeout: Duration) -> Result<Option<LogRecord>, StreamError> {
        let deadline = Instant::now() + timeout;
        loop {
            let wait = deadline.saturating_duration_since(Instant::now());
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    self.at_end = false;
                    self.position = message.offset() + 1;
                    return Ok(Some(record(&message)));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {
                    self.at_end = true;
                    self.position = self.position.max(self.end_before_fetch);
                    return Ok(None);
                }
                Some(Err(error)) => self.survive(&error)?,
                None if wait.is_zero() => return Ok(None),
                None => {}
            }
        }
    }

    fn end(&mut self) -> Result<i64, StreamError> {
        let (_, end) = watermarks(self.consumer.client(), &self.kafka, &self.log)?;
        if self.at_end && self.position < end {
            // "End of partition" is said once per end reached, and what was said may be older than `end`. A seek makes the client fetch anew;
            // the next time it says so, everything below `end` has been read or does not exist (compacted away).
            seek(&self.consumer, &self.log, self.position, self.kafka.timeout.0)
                .map_err(|error| request_error(&self.kafka, "seeking in the log", &error))?;
            self.at_end = false;
            self.end_before_fetch = end;
        }
        Ok(end)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn read_at(&mut self, offsets: &[i64], timeout: Duration) -> Result<Vec<LogRecord>, StreamError> {
        let Some(&first) = offsets.first() else { return Ok(Vec::new()) };
        let deadline = Instant::now() + timeout;
        let (rereader, mut next) = match self.rereader.take() {
            Some(rereader) => (rereader, None),
            None => {
                let rereader: BaseConsumer<Context> = settings::consumer(&self.kafka, Reading::Log)?;
                assign(&rereader, &self.log, first)?;
                (rereader, Some(first))
            }
        };
        let mut records = Vec::with_capacity(offsets.len());
        for &offset in offsets {
            records.push(self.reread(&rereader, offset, next == Some(offset), deadline)?);
            next = Some(offset + 1);
        }
        // Only one that has done its work is kept: after an error the partition may have stopped.
        self.rereader = Some(rereader);
        Ok(records)
    }
}

fn assign(consumer: &BaseConsumer<Context>, log: &TopicPartition, offset: i64) -> Result<(), StreamError> {
    let mut assignment = TopicPartitionList::with_capacity(1);
    assignment
        .add_partition_offset(&log.topic, log.partition, Offset::Offset(offset))
        .and_then(|()| consumer.assign(&assignment))
        .map_err(|error| StreamError::Client { doing: "assigning the log", why: error.to_string() })
}

fn seek(consumer: &BaseConsumer<Context>, log: &TopicPartition, offset: i64, timeout: Duration) -> Result<(), KafkaError> {
    consumer.seek(&log.topic, log.partition, Offset::Offset(offset), timeout)
}

fn record(message: &BorrowedMessage<'_>) -> LogRecord {
    LogRecord {
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec).unwrap_or_default(),
        value: message.payload().map(<[u8]>::to_vec),
    }
}

/// The snapshot topic, for writing. May be shared between threads; each append keeps its own order.
pub struct KafkaLogWriter {
    outbox: Outbox,
    topic: String,
}

impl KafkaLogWriter {
    /// Connects; `acks=all`, idempotent.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`].
    pub fn open(kafka: &KafkaConfig, topic: &str) -> Result<Self, StreamError> {
        Ok(KafkaLogWriter { outbox: Outbox::open(kafka, &[topic])?, topic: topic.to_owned() })
    }
}

impl LogWriter for KafkaLogWriter {
    fn append(&self, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        let failures = self.outbox.send_all(records.iter().map(|(key, value)| Outgoing {
            topic: &self.topic,
            partition: Some(PARTITION),
            key: Some(key),
            payload: value.as_deref(),
            ..Outgoing::default()
        }))?;
        match failures.first() {
            None => Ok(()),
            Some((_, error)) => Err(not_acknowledged(&self.topic, error)),
        }
    }
}
