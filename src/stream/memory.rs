use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DeadLetter, DeadLetterSink, LogReader, LogRecord, LogWriter, Polled, Source, StreamError};
use crate::domain::{PartitionPosition, Record, TopicPartition};

/// A finite source of given records.
#[derive(Debug)]
pub struct MemorySource {
    partitions: Vec<TopicPartition>,
    starts: Vec<i64>,
    /// How many of the partitions have appeared.
    shown: usize,
    records: VecDeque<Record>,
    chunk: usize,
    paused: bool,
}

impl MemorySource {
    /// Delivers `records` in order, at most `chunk` per poll, those below a position's `low` left out; then ends. Reading of a partition
    /// begins at its position's `low`, else at its first record.
    #[must_use]
    pub fn new(partitions: Vec<TopicPartition>, records: Vec<Record>, chunk: usize, positions: &[PartitionPosition]) -> Self {
        let start = |index: usize, partition: &TopicPartition| {
            let first = || records.iter().filter(|r| r.origin.partition.0 as usize == index).map(|r| r.origin.offset).min();
            positions.iter().find(|p| p.partition == *partition).map(|p| p.low).or_else(first).unwrap_or(0)
        };
        let starts: Vec<i64> = partitions.iter().enumerate().map(|(index, partition)| start(index, partition)).collect();
        let due = |r: &Record| starts.get(r.origin.partition.0 as usize).is_some_and(|start| r.origin.offset >= *start);
        let records = records.into_iter().filter(due).collect();
        MemorySource { shown: partitions.len(), partitions, starts, records, chunk: chunk.max(1), paused: false }
    }

    /// Partitions from index `first` on appear with their first record.
    #[must_use]
    pub fn appearing_from(mut self, first: usize) -> Self {
        self.shown = first.min(self.partitions.len());
        self
    }
}

impl Source for MemorySource {
    fn partitions(&self) -> &[TopicPartition] {
        &self.partitions[..self.shown]
    }

    fn starts(&self) -> &[i64] {
        &self.starts[..self.shown]
    }

    fn poll(&mut self, into: &mut Vec<Record>, timeout: Duration) -> Result<Polled, StreamError> {
        if self.paused {
            std::thread::sleep(timeout);
            return Ok(Polled::Idle);
        }
        if self.records.is_empty() {
            return Ok(Polled::End);
        }
        let delivered = self.records.drain(..self.chunk.min(self.records.len()));
        for record in delivered {
            self.shown = self.shown.max(record.origin.partition.0 as usize + 1).min(self.partitions.len());
            into.push(record);
        }
        Ok(Polled::Records)
    }

    fn pause(&mut self, paused: bool) -> Result<(), StreamError> {
        self.paused = paused;
        Ok(())
    }

    fn commit_advisory(&mut self, _positions: &[PartitionPosition]) {}
}

/// Dead letters kept in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDeadLetters {
    letters: Arc<Mutex<Vec<DeadLetter>>>,
}

impl MemoryDeadLetters {
    /// What was sent so far.
    #[must_use]
    pub fn letters(&self) -> Vec<DeadLetter> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl DeadLetterSink for MemoryDeadLetters {
    fn send(&mut self, letters: &[DeadLetter]) -> Result<(), StreamError> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(letters);
        Ok(())
    }
}

/// A single-partition log in memory; clones share it, each with its own read position.
#[derive(Debug, Clone, Default)]
pub struct MemoryLog {
    shared: Arc<Shared>,
    position: i64,
}

#[derive(Debug, Default)]
struct Shared {
    stored: Mutex<Stored>,
    grown: Condvar,
}

#[derive(Debug, Default)]
struct Stored {
    /// By rising offset, with holes where compaction was.
    records: Vec<LogRecord>,
    end: i64,
}

impl Stored {
    fn index_from(&self, offset: i64) -> usize {
        self.records.partition_point(|record| record.offset < offset)
    }
}

impl MemoryLog {
    /// Keeps the newest record of each key, as compaction does; `tombstones` says whether deleted keys keep theirs. The end stays.
    pub fn compact(&self, tombstones: bool) {
        let mut stored = self.stored();
        let mut newest = std::collections::HashMap::new();
        for record in &stored.records {
            newest.insert(record.key.clone(), record.offset);
        }
        stored.records.retain(|record| newest.get(&record.key) == Some(&record.offset) && (tombstones || record.value.is_some()));
    }

    fn stored(&self) -> MutexGuard<'_, Stored> {
        self.shared.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LogReader for MemoryLog {
    fn next(&mut self, timeout: Duration) -> Result<Option<LogRecord>, StreamError> {
        let position = self.position;
        let stored = self.stored();
        let (stored, _) =
            self.shared.grown.wait_timeout_while(stored, timeout, |stored| stored.end <= position).unwrap_or_else(PoisonError::into_inner);
        let found = stored.records.get(stored.index_from(position)).cloned();
        let reached = found.as_ref().map_or(stored.end, |record| record.offset + 1);
        drop(stored);
        self.position = reached;
        Ok(found)
    }

    fn end(&mut self) -> Result<i64, StreamError> {
        Ok(self.stored().end)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn read_at(&mut self, offsets: &[i64], _timeout: Duration) -> Result<Vec<LogRecord>, StreamError> {
        let stored = self.stored();
        let read = |offset: i64| {
            let found = stored.records.get(stored.index_from(offset)).filter(|record| record.offset == offset);
            found.cloned().ok_or_else(|| StreamError::Gone { topic: "memory".to_owned(), offset })
        };
        offsets.iter().map(|offset| read(*offset)).collect()
    }
}

impl LogWriter for MemoryLog {
    fn append(&self, records: &[(Vec<u8>, Option<Vec<u8>>)]) -> Result<(), StreamError> {
        let mut stored = self.stored();
        for (key, value) in records {
            let offset = stored.end;
            stored.records.push(LogRecord { offset, key: key.clone(), value: value.clone() });
            stored.end += 1;
        }
        self.shared.grown.notify_all();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Origin, PartitionIndex, Role};

    const NO_WAIT: Duration = Duration::ZERO;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: number }
    }

    fn record(partition: u32, offset: i64) -> Record {
        Record {
            origin: Origin { partition: PartitionIndex(partition), offset },
            role: Role::Labelled,
            key: None,
            payload: None,
            timestamp_ms: None,
        }
    }

    fn origins(records: &[Record]) -> Vec<(u32, i64)> {
        records.iter().map(|r| (r.origin.partition.0, r.origin.offset)).collect()
    }

    #[test]
    fn a_source_leaves_out_what_is_below_its_position_and_then_ends() {
        let records = vec![record(0, 5), record(1, 3), record(0, 6), record(1, 4), record(0, 7)];
        let positions = [PartitionPosition { low: 6, ..PartitionPosition::new(partition(0), 0) }];
        let mut source = MemorySource::new(vec![partition(0), partition(1)], records, 2, &positions);
        assert_eq!(source.starts(), [6, 3]);
        let mut read = Vec::new();
        assert_eq!(source.poll(&mut read, NO_WAIT).unwrap(), Polled::Records);
        assert_eq!(origins(&read), [(1, 3), (0, 6)]);
        source.pause(true).unwrap();
        assert_eq!(source.poll(&mut read, NO_WAIT).unwrap(), Polled::Idle);
        source.pause(false).unwrap();
        assert_eq!(source.poll(&mut read, NO_WAIT).unwrap(), Polled::Records);
        assert_eq!(source.poll(&mut read, NO_WAIT).unwrap(), Polled::End);
        assert_eq!(origins(&read), [(1, 3), (0, 6), (1, 4), (0, 7)]);
    }

    fn put(log: &MemoryLog, key: &str, value: Option<&str>) {
        log.append(&[(key.into(), value.map(Into::into))]).unwrap();
    }

    #[test]
    fn clones_of_a_log_share_records_but_not_positions() {
        let mut log = MemoryLog::default();
        put(&log, "a", Some("1"));
        let mut other = log.clone();
        assert_eq!(log.next(NO_WAIT).unwrap().unwrap().key, b"a");
        assert_eq!((log.position(), other.position()), (1, 0));
        put(&other, "b", None);
        assert_eq!(log.end().unwrap(), 2);
        assert_eq!(log.next(NO_WAIT).unwrap().unwrap().value, None);
        assert_eq!(other.next(NO_WAIT).unwrap().unwrap().key, b"a");
    }

    #[test]
    fn the_end_is_reached_over_a_compacted_tail() {
        let mut log = MemoryLog::default();
        put(&log, "a", Some("1"));
        put(&log, "a", Some("2"));
        put(&log, "b", Some("3"));
        put(&log, "b", None);
        log.compact(false);
        let mut read = Vec::new();
        let end = log.end().unwrap();
        while log.position() < end {
            read.extend(log.next(NO_WAIT).unwrap());
        }
        assert_eq!(read.iter().map(|r| r.offset).collect::<Vec<_>>(), [1]);
        assert_eq!(log.read_at(&[1], NO_WAIT).unwrap(), read);
        assert!(matches!(log.read_at(&[1, 0], NO_WAIT), Err(StreamError::Gone { offset: 0, .. })));
        assert!(matches!(log.read_at(&[4], NO_WAIT), Err(StreamError::Gone { offset: 4, .. })));
    }

    #[test]
    fn a_waiting_reader_wakes_when_the_log_grows() {
        let log = MemoryLog::default();
        let mut reader = log.clone();
        let waiting = std::thread::spawn(move || reader.next(Duration::from_secs(60)).unwrap().unwrap().key);
        put(&log, "k", Some("v"));
        assert_eq!(waiting.join().unwrap(), b"k");
    }
}
