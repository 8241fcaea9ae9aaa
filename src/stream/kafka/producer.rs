use std::sync::{Arc, Mutex, PoisonError};

use super::outbox::{Batch, Failure, Outbox, Outgoing, not_acknowledged};
use crate::config::KafkaConfig;
use crate::stream::StreamError;

/// Sends events: replay, the demo, tests. What was not flushed before it is dropped may be lost.
pub struct KafkaProducer {
    outbox: Outbox,
    sent: Arc<Batch>,
    /// The topics sent to; a record's index in the batch is its topic's place here.
    topics: Mutex<Vec<String>>,
}

impl KafkaProducer {
    /// Connects.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::Setting`].
    pub fn open(kafka: &KafkaConfig) -> Result<Self, StreamError> {
        Ok(KafkaProducer { outbox: Outbox::open(kafka, &[])?, sent: Arc::default(), topics: Mutex::default() })
    }

    /// Queues one record, waiting while the client's own queue is full. `partition`: `None` hashes the key.
    ///
    /// # Errors
    /// [`StreamError::NotAcknowledged`] when an earlier record has failed; [`KafkaProducer::flush`] clears it.
    pub fn send(
        &self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        payload: Option<&[u8]>,
        timestamp_ms: Option<i64>,
    ) -> Result<(), StreamError> {
        if let Some(failure) = self.sent.failed() {
            return Err(self.refused(&failure));
        }
        let record = Outgoing { topic, partition, key, payload, headers: None, timestamp_ms };
        self.outbox.send(&self.sent, self.place(topic), record)
    }

    /// Waits until everything queued is acknowledged.
    ///
    /// # Errors
    /// [`StreamError::NotAcknowledged`] if anything was not.
    pub fn flush(&self) -> Result<(), StreamError> {
        self.sent.wait(self.outbox.kafka()).first().map_or(Ok(()), |failure| Err(self.refused(failure)))
    }

    fn place(&self, topic: &str) -> usize {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.iter().position(|known| known == topic).unwrap_or_else(|| {
            topics.push(topic.to_owned());
            topics.len() - 1
        })
    }

    fn refused(&self, (place, error): &Failure) -> StreamError {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        not_acknowledged(topics.get(*place).map_or("", String::as_str), error)
    }
}
