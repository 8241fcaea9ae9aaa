use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;

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

/// A record that was read: how a topic that was deleted and made anew is told from the one that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// Its offset.
    pub offset: i64,
    /// XXH3-64 of its key, value and timestamp.
    pub hash: u64,
}

impl Mark {
    /// The record's mark.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        let hash = Mark::hash(record.key.as_deref(), record.payload.as_deref(), record.timestamp_ms);
        Mark { offset: record.origin.offset, hash }
    }

    /// Absent is not empty, and the lengths stand in front: two records that differ are two texts.
    #[must_use]
    pub fn hash(key: Option<&[u8]>, payload: Option<&[u8]>, timestamp_ms: Option<i64>) -> u64 {
        let mut hasher = Xxh3::new();
        for part in [key, payload, timestamp_ms.map(i64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice)] {
            hasher.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        hasher.digest()
    }
}

/// What of one partition is done: everything below `low`, and the offsets of `done` at or above it. An impression that was trained while its
/// window is open is done, and holds `low` at its offset: the join needs it again after a restart.
///
/// | next offset to read | in `done` | meaning |
/// |---|---|---|
/// | < low | – | done |
/// | ≥ low | yes | done, skip on re-reading |
/// | ≥ low | no | read (again) |
///
/// Operators may move a position. Forward in the same log, what lies between is skipped and counted; else a new pass begins, and what
/// was counted before stays counted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PartitionPosition {
    /// Which partition.
    pub partition: TopicPartition,
    /// First offset that counted in this pass.
    pub start: i64,
    /// Reading resumes here.
    pub low: i64,
    /// Ranges `[from, to)` of offsets at or above `low` that are done, rising and apart.
    pub done: Vec<(i64, i64)>,
    /// How many offsets were done in passes before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub earlier: u64,
    /// A record of this pass below `low`, where one was marked; or one that was found to be another now, wherever it was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl PartitionPosition {
    /// Nothing is done yet; reading begins at `start`.
    #[must_use]
    pub fn new(partition: TopicPartition, start: i64) -> Self {
        PartitionPosition { partition, start, low: start, done: Vec::new(), earlier: 0, mark: None }
    }

    /// How many offsets are done: those of `[start, low)`, those in `done`, and those of earlier passes.
    #[must_use]
    pub fn count(&self) -> u64 {
        let above: i64 = self.done.iter().map(|(from, to)| to - from).sum();
        self.earlier + u64::try_from(self.low - self.start + above).unwrap_or(0)
    }

    /// Everything below `target`, which is not below `low`, is done too. With how many offsets that adds to [`PartitionPosition::count`].
    #[must_use]
    pub fn skipped_to(&self, target: i64) -> (Self, u64) {
        let beyond = self.done.iter().filter(|(_, to)| *to > target);
        let done = beyond.map(|(from, to)| ((*from).max(target), *to)).collect();
        let moved = PartitionPosition { low: target.max(self.low), done, ..self.clone() };
        let skipped = moved.count().saturating_sub(self.count());
        (moved, skipped)
    }

    /// A new pass from `target` on. The count stays.
    #[must_use]
    pub fn anew_at(&self, target: i64) -> Self {
        PartitionPosition { earlier: self.count(), ..PartitionPosition::new(self.partition.clone(), target) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 3 }
    }

    fn offsets(position: &PartitionPosition) -> BTreeSet<i64> {
        let above = position.done.iter().flat_map(|(from, to)| *from..*to);
        (position.start..position.low).chain(above).collect()
    }

    proptest! {
        #[test]
        fn what_is_skipped_is_counted_and_what_was_counted_stays(
            start in 0i64..5,
            below in 0i64..10,
            gaps in prop::collection::vec((0i64..4, 1i64..4), 0..5),
            on in 0i64..30,
            earlier in 0u64..9,
        ) {
            let low = start + below;
            let mut at = low;
            let mut done = Vec::new();
            for (gap, length) in gaps {
                // Only at `low` may a range begin without a gap: where an open impression holds it.
                let from = at + if done.is_empty() { gap } else { gap + 1 };
                at = from + length;
                done.push((from, at));
            }
            let position = PartitionPosition { low, done, earlier, ..PartitionPosition::new(partition(), start) };
            let target = low + on;
            let (moved, skipped) = position.skipped_to(target);
            let mut expected = offsets(&position);
            expected.extend(start..target);
            prop_assert_eq!(offsets(&moved), expected);
            prop_assert_eq!(moved.count(), position.count() + skipped);
            prop_assert!(moved.low >= target && moved.done.iter().all(|(from, to)| *from >= moved.low && to > from));

            let anew = position.anew_at(on);
            prop_assert_eq!((anew.count(), anew.start, anew.low, anew.mark), (position.count(), on, on, None));
        }
    }

    #[test]
    fn a_position_of_an_earlier_version_is_read() {
        let text = r#"{"partition":{"topic":"t","partition":3},"start":1,"low":4,"done":[[6,8]]}"#;
        let position: PartitionPosition = serde_json::from_str(text).unwrap();
        assert_eq!(position, PartitionPosition { low: 4, done: vec![(6, 8)], ..PartitionPosition::new(partition(), 1) });
        assert_eq!(serde_json::to_string(&position).unwrap(), text, "what is not there is not written");
    }

    #[test]
    fn records_that_differ_have_different_marks() {
        let hashes = [
            Mark::hash(None, None, None),
            Mark::hash(Some(b""), None, None),
            Mark::hash(None, Some(b""), None),
            Mark::hash(Some(b"a"), Some(b"b"), None),
            Mark::hash(Some(b"ab"), Some(b""), None),
            Mark::hash(Some(b"a"), Some(b"b"), Some(1)),
        ];
        assert_eq!(BTreeSet::from(hashes).len(), hashes.len());
    }
}
