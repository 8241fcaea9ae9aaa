use std::time::Duration;

use super::{DeadLetter, DeadLetterSink, LogReader, LogRecord, LogWriter, Polled, Source, StreamError};
use crate::domain::{PartitionPosition, Record, TopicPartition};

/// A finite source of given records.
#[derive(Debug)]
pub struct MemorySource {}

impl MemorySource {
    /// Delivers `records` in order, at most `chunk` per poll, those below a position's `low` left out; then ends.
    #[must_use]
    pub fn new(partitions: Vec<TopicPartition>, records: Vec<Record>, chunk: usize, positions: &[PartitionPosition]) -> Self {
        let _ = (partitions, records, chunk, positions);
        todo!()
    }
}

impl Source for MemorySource {
    fn partitions(&self) -> &[TopicPartition] {
        todo!()
    }
    fn starts(&self) -> &[i64] {
        todo!()
    }
    fn poll(&mut self, _into: &mut Vec<Record>, _timeout: Duration) -> Result<Polled, StreamError> {
        todo!()
    }
    fn pause(&mut self, _paused: bool) -> Result<(), StreamError> {
        todo!()
    }
    fn commit_advisory(&mut self, _positions: &[PartitionPosition]) {}
}

/// Dead letters kept in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDeadLetters {}

impl MemoryDeadLetters {
    /// What was sent so far.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        todo!()
    }
}

impl DeadLetterSink for MemoryDeadLetters {
    fn send(&mut self, _letters: &[DeadLetter]) -> Result<(), StreamError> {
        todo!()
    }
}

/// A single-partition log in memory; clones share it, each with its own read position.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {}

impl LogReader for MemoryLog {
    fn next(&mut self, _timeout: Duration) -> Result<Option<LogRecord>, StreamError> {
        todo!()
    }
    fn end(&mut self) -> Result<i64, StreamError> {
        todo!()
    }
    fn position(&self) -> i64 {
        todo!()
    }
    fn read_at(&mut self, _offsets: &[i64], _timeout: Duration) -> Result<Vec<LogRecord>, StreamError> {
        todo!()
    }
}

impl LogWriter for MemoryLog {
    fn append(&self, _records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        todo!()
    }
}
