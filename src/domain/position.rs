use std::sync::Arc;

use super::event::Role;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct TopicPartition {
    /// Topic name; a file's name for file sources.
    pub topic: Arc<str>,
    /// Partition number.
    pub partition: i32,
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Index into the table of partitions of the running source ([`crate::stream::Source::partitions`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionIndex(pub u32);

/// Where one event was read: `offset` is its own, not the next one's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// Which partition.
    pub partition: PartitionIndex,
    /// Its offset there.
    pub offset: i64,
}

/// A record as read, undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was read.
    pub origin: Origin,
    /// What its topic carries.
    pub role: Role,
    /// Record key.
    pub key: Option<Vec<u8>>,
    /// Record value; `None` is a tombstone.
    pub payload: Option<Vec<u8>>,
    /// Broker's timestamp in milliseconds.
    pub timestamp_ms: Option<i64>,
}

/// What of one partition is done: everything below `low`, and the offsets of `done` at or above it. An impression that was trained while its
/// window is open is done, and holds `low` at its offset: the join needs it again after a restart.
///
/// | next offset to read | in `done` | meaning |
/// |---|---|---|
/// | < low | – | done |
/// | ≥ low | yes | done, skip on re-reading |
/// | ≥ low | no | read (again) |
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionPosition {
    /// Which partition.
    pub partition: TopicPartition,
    /// First offset that counted.
    pub start: i64,
    /// Reading resumes here.
    pub low: i64,
    /// Ranges `[from, to)` of offsets at or above `low` that are done, rising and apart.
    pub done: Vec<(i64, i64)>,
}

impl PartitionPosition {
    /// How many offsets are done: those of `[start, low)` and those in `done`.
    #[must_use]
    pub fn count(&self) -> u64 {
        let above: i64 = self.done.iter().map(|(from, to)| to - from).sum();
        u64::try_from(self.low - self.start + above).unwrap_or(0)
    }
}
