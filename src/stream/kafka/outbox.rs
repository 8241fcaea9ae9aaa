//! Sending with acknowledgements counted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use super::context::{log_error, log_line};
use super::metadata::Topics;
use super::settings;
use crate::config::KafkaConfig;
use crate::stream::StreamError;

/// How long a sender waits before it tries a full queue again, unless an acknowledgement comes first.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(10);
/// librdkafka reports every record within the delivery timeout; this much later we stop believing it.
const REPORT_MARGIN: Duration = Duration::from_secs(5);

/// A record to send.
#[derive(Debug, Clone, Default)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    /// `None` hashes the key.
    pub(super) partition: Option<i32>,
    pub(super) key: Option<&'a [u8]>,
    pub(super) payload: Option<&'a [u8]>,
    pub(super) headers: Option<OwnedHeaders>,
    /// `None`: now.
    pub(super) timestamp_ms: Option<i64>,
}

/// A record that was not acknowledged: its index in the batch, and why.
pub(super) type Failure = (usize, KafkaError);

/// Records sent together, and what became of them.
#[derive(Debug, Default)]
pub(super) struct Batch {
    tally: Mutex<Tally>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Tally {
    outstanding: usize,
    failures: Vec<Failure>,
}

impl Batch {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ticket(self: &Arc<Self>, index: usize) -> Box<Ticket> {
        self.tally().outstanding += 1;
        Box::new(Ticket { batch: Arc::clone(self), index })
    }

    fn settle(&self, index: usize, failure: Option<KafkaError>) {
        let mut tally = self.tally();
        tally.outstanding -= 1;
        tally.failures.extend(failure.map(|error| (index, error)));
        self.changed.notify_all();
    }

    fn wait_a_little(&self) {
        drop(self.changed.wait_timeout(self.tally(), QUEUE_FULL_WAIT));
    }

    /// The first failure so far, left in place.
    pub(super) fn failed(&self) -> Option<Failure> {
        self.tally().failures.first().cloned()
    }

    /// Waits until every record is acknowledged or has failed; takes the failures.
    pub(super) fn wait(&self, kafka: &KafkaConfig) -> Vec<Failure> {
        let deadline = Instant::now() + settings::delivery_timeout(kafka) + REPORT_MARGIN;
        let mut tally = self.tally();
        while tally.outstanding > 0 {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let mut failures = std::mem::take(&mut tally.failures);
                failures.push((0, KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut)));
                return failures;
            }
            tally = self.changed.wait_timeout(tally, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::take(&mut tally.failures)
    }
}

/// Travels with a record through librdkafka and settles its account once.
#[derive(Debug)]
pub(super) struct Ticket {
    batch: Arc<Batch>,
    index: usize,
}

/// Context of producers.
#[derive(Debug)]
pub(super) struct Acks;

impl ClientContext for Acks {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ProducerContext for Acks {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let failure = result.as_ref().err().map(|(error, _)| error.clone());
        ticket.batch.settle(ticket.index, failure);
    }
}

/// An idempotent producer that can be replaced: after a fatal error of librdkafka (the broker lost what it had acknowledged) the next
/// batch starts with a new client.
pub(super) struct Outbox {
    kafka: KafkaConfig,
    producer: Mutex<ThreadedProducer<Acks>>,
}

impl Outbox {
    /// Connects, and asks for the topics that must exist.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::MissingTopic`], [`StreamError::Setting`].
    pub(super) fn open(kafka: &KafkaConfig, topics: &[&str]) -> Result<Self, StreamError> {
        let producer: ThreadedProducer<Acks> = settings::producer(kafka, Acks)?;
        let known = Topics::fetch(producer.client(), kafka)?;
        for topic in topics {
            known.require(topic)?;
        }
        Ok(Outbox { kafka: kafka.clone(), producer: Mutex::new(producer) })
    }

    /// The connection's settings.
    pub(super) fn kafka(&self) -> &KafkaConfig {
        &self.kafka
    }

    fn producer(&self) -> Result<ThreadedProducer<Acks>, StreamError> {
        let mut producer = self.producer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((code, why)) = producer.client().fatal_error() {
            tracing::warn!(%code, why, "the producer cannot go on; a new one takes over");
            *producer = settings::producer(&self.kafka, Acks)?;
        }
        Ok(producer.clone())
    }

    /// Sends all in order and waits for every acknowledgement. What failed comes back; records around a failed one may have arrived.
    ///
    /// # Errors
    /// [`StreamError::Setting`], [`StreamError::Client`] when a new client cannot be made.
    pub(super) fn send_all<'a>(&self, records: impl IntoIterator<Item = Outgoing<'a>>) -> Result<Vec<Failure>, StreamError> {
        let producer = self.producer()?;
        let batch = Arc::new(Batch::default());
        for (index, record) in records.into_iter().enumerate() {
            queue(&producer, &batch, index, record);
        }
        Ok(batch.wait(&self.kafka))
    }

    /// Queues one record on a batch that somebody else waits for; `index` names it in a [`Failure`].
    ///
    /// # Errors
    /// As [`Outbox::send_all`].
    pub(super) fn send(&self, batch: &Arc<Batch>, index: usize, record: Outgoing<'_>) -> Result<(), StreamError> {
        queue(&self.producer()?, batch, index, record);
        Ok(())
    }
}

/// Hands a record to librdkafka, waiting while its queue is full: every record in it is acknowledged or given up within the delivery
/// timeout, so that there will be room.
fn queue(producer: &ThreadedProducer<Acks>, batch: &Arc<Batch>, index: usize, record: Outgoing<'_>) {
    let mut next = BaseRecord::<'_, [u8], [u8], Box<Ticket>> {
        topic: record.topic,
        partition: record.partition,
        payload: record.payload,
        key: record.key,
        timestamp: record.timestamp_ms,
        headers: record.headers,
        delivery_opaque: batch.ticket(index),
    };
    loop {
        match producer.send(next) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                next = back;
                batch.wait_a_little();
            }
            Err((error, back)) => {
                back.delivery_opaque.batch.settle(index, Some(error));
                return;
            }
        }
    }
}

/// Whether a record was refused for its size, by the client or by the broker.
pub(super) fn too_large(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize | RDKafkaErrorCode::MessageBatchTooLarge)
    )
}

/// The error for a record that was not acknowledged.
pub(super) fn not_acknowledged(topic: &str, error: &KafkaError) -> StreamError {
    let why = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::MessageTimedOut) => {
            "no acknowledgement in time; check that the broker runs and that enough replicas are in sync".to_owned()
        }
        _ => error.to_string(),
    };
    StreamError::NotAcknowledged { topic: topic.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_waits_for_every_ticket_and_names_the_failed_ones() {
        let batch = Arc::new(Batch::default());
        let tickets: Vec<_> = (0..3).map(|i| batch.ticket(i)).collect();
        let waiting = Arc::clone(&batch);
        let waiter = std::thread::spawn(move || waiting.wait(&KafkaConfig::default()));
        for ticket in tickets {
            let failure = (ticket.index == 1).then_some(KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut));
            ticket.batch.settle(ticket.index, failure);
        }
        let failures = waiter.join().unwrap();
        assert_eq!(failures.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1]);
        assert!(batch.failed().is_none(), "waiting takes the failures");
    }
}
