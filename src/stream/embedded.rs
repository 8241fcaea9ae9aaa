use super::StreamError;

/// librdkafka's in-process cluster: a broker for the demo and for tests, reached through the real client.
///
/// It keeps 5 MiB or 100,000 records per partition and then evicts silently; it has no compaction and no persistence.
pub struct EmbeddedBroker {}

impl EmbeddedBroker {
    /// Starts one broker.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn start() -> Result<Self, StreamError> {
        todo!()
    }

    /// `host:port` for `kafka.brokers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        todo!()
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// [`StreamError::Client`].
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), StreamError> {
        let _ = (topic, partitions);
        todo!()
    }
}
