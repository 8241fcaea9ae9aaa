use std::sync::Arc;

use super::outbox::{Batch, Outbox, Outgoing, not_acknowledged};
use crate::config::KafkaConfig;
use crate::stream::StreamError;

/// Sends events: replay, the demo, tests. What was not flushed before it is dropped may be lost.
pub struct KafkaProducer {
    outbox: Outbox,
    sent: Arc<Batch>,
}

impl KafkaProducer {
    /// Connects.
    ///
    /// # Errors
    /// [`StreamError::Unreachable`], [`StreamError::Setting`].
    pub fn open(kafka: &KafkaConfig) -> Result<Self, StreamError> {
        Ok(KafkaProducer { outbox: Outbox::open(kafka, &[])?, sent: Arc::default() })
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
        if let Some((_, error)) = self.sent.failed() {
            return Err(not_acknowledged(topic, &error));
        }
        self.outbox.send(&self.sent, Outgoing { topic, partition, key, payload, headers: None, timestamp_ms })
    }

    /// Waits until everything queued is acknowledged.
    ///
    /// # Errors
    /// [`StreamError::NotAcknowledged`] if anything was not.
    pub fn flush(&self) -> Result<(), StreamError> {
        match self.sent.wait(self.outbox.kafka()).first() {
            None => Ok(()),
            Some((_, error)) => Err(not_acknowledged("(any of those sent to)", error)),
        }
    }
}
