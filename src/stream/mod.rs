//! Where records come from and go to: the traits, Kafka behind them, files, memory, the embedded broker.
//!
//! architecture invariant: the only room that knows rdkafka.

#[cfg(feature = "trainer")]
mod embedded;
mod error;
#[cfg(feature = "trainer")]
mod file;
mod kafka;
mod lost;
mod memory;

#[cfg(feature = "trainer")]
pub use embedded::{BrokerRequest, EmbeddedBroker};
pub use error::StreamError;
#[cfg(feature = "trainer")]
pub use file::{FileRows, FileSource, RowError, SplitRow, split_row};
pub use kafka::{
    DeadLetterView, Holding, KafkaDeadLetters, KafkaLogReader, KafkaLogWriter, KafkaProducer, KafkaSource, TopicCheck, check_topics,
    create_topics, delete_topics, holdings, offsets_at, read_bare, read_dead_letters,
};
pub use lost::{Loss, LostPosition};
pub use memory::{MemoryDeadLetters, MemoryLog, MemorySource};

use std::time::Duration;

use crate::domain::{PartitionPosition, Record, TopicPartition};

/// What a poll brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polled {
    /// Records were appended.
    Records,
    /// Nothing within the timeout.
    Idle,
    /// A finite source has ended; it will not bring more.
    End,
}

/// Where events come from. Used by one thread.
pub trait Source: Send {
    /// The partitions that [`crate::domain::PartitionIndex`] counts. A poll may add some, at the end only: indices are stable.
    fn partitions(&self) -> &[TopicPartition];

    /// Where reading of each partition began (first offset that will be delivered), in the order of [`Source::partitions`].
    fn starts(&self) -> &[i64];

    /// Appends records to `into`, waiting at most `timeout` for the first. Per partition, offsets rise.
    ///
    /// # Errors
    /// [`StreamError`]; transient broker errors are retried inside and only logged.
    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError>;

    /// Stops (or resumes) fetching while the trainer is behind, yet keeps the connection alive through [`Source::poll`].
    ///
    /// # Errors
    /// [`StreamError`].
    fn pause(&mut self, paused: bool) -> Result<(), StreamError>;

    /// Tells the broker how far we are, for lag tools. Best effort, never waits.
    fn commit_advisory(&mut self, positions: &[PartitionPosition]);
}

/// A record that could not be used, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Where it was read ...
    pub partition: TopicPartition,
    /// ... and its offset there.
    pub offset: i64,
    /// Key as read.
    pub key: Option<Vec<u8>>,
    /// Value as read; `None` from stage `train`, which has decoded it: the whole is where it was read.
    pub payload: Option<Vec<u8>>,
    /// `decode` or `train`.
    pub stage: &'static str,
    /// The error's class name, e.g. `DecodeError::WrongType`.
    pub class: String,
    /// The error's text.
    pub message: String,
}

/// Where broken records go.
pub trait DeadLetterSink: Send {
    /// Sends all and waits until every one is acknowledged.
    ///
    /// # Errors
    /// [`StreamError`] if any was not; sending all again is right (at least once).
    fn send(&mut self, letters: &[DeadLetter]) -> Result<(), StreamError>;
}

/// One record of a single-partition log (the snapshot topic).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Offset.
    pub offset: i64,
    /// Key bytes.
    pub key: Vec<u8>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
}

/// Reads a single-partition log in order, and any offset again.
pub trait LogReader: Send {
    /// The next record, waiting at most `timeout`; `None` when none came.
    ///
    /// # Errors
    /// [`StreamError`].
    fn next(&mut self, timeout: Duration) -> Result<Option<LogRecord>, StreamError>;

    /// The end of the log right now: offset after the last record.
    ///
    /// # Errors
    /// [`StreamError`].
    fn end(&mut self) -> Result<i64, StreamError>;

    /// Offset of the record [`LogReader::next`] would read next (lower bound).
    fn position(&self) -> i64;

    /// Reads these offsets again, without moving [`LogReader::next`].
    ///
    /// # Errors
    /// [`StreamError`], also when an offset is gone.
    fn read_at(&mut self, offsets: &[i64], timeout: Duration) -> Result<Vec<LogRecord>, StreamError>;
}

/// Appends to a single-partition log.
pub trait LogWriter: Send + Sync {
    /// Appends all in order and waits until all are acknowledged.
    ///
    /// # Errors
    /// [`StreamError`] if any was not.
    fn append(&self, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError>;
}
