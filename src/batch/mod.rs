//! Mini-batches: closed by rows or linger, carrying the origins of every sample in them.

mod builder;
mod negatives;
mod produced;

pub use builder::{BatchBuilder, Pace};
pub use negatives::NegativeSampling;
pub use produced::Produced;

use crate::domain::{DropReason, EventTime, Field, ImpressionId, Label, Mark, Origin, PartitionIndex, Stage, TopicPartition, UserId};

/// A mini-batch. Row i of every per-row vector is the same sample.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Ids of all rows and slots, row by row, slot by slot.
    pub ids: Vec<u64>,
    /// `ids[bounds[r·slots + s]..bounds[r·slots + s + 1]]` belongs to slot s of row r; length rows·slots + 1.
    pub bounds: Vec<u32>,
    /// Numeric inputs, row-major `[rows, numbers]`.
    pub numbers: Vec<f32>,
    /// Keys of click rates, row-major `[rows, click rates]`.
    pub click_rates: Vec<u64>,
    /// Labels.
    pub labels: Vec<Label>,
    /// Which of its impression's samples each is; where there are none, all are final.
    pub stages: Vec<Stage>,
    /// Users.
    pub users: Vec<UserId>,
    /// Event times.
    pub times: Vec<EventTime>,
    /// Impression ids, for the memory of the join.
    pub impressions: Vec<Option<ImpressionId>>,
    /// Origins of each row.
    pub origins: Vec<Vec<Origin>>,
    /// Raw fields of some rows (index, fields): candidates for probes.
    pub raw: Vec<(usize, Box<[Field]>)>,
    /// News of partitions since the batch before, of use before what has ended since.
    pub news: Vec<News>,
    /// Events that ended without a sample since the batch before: they pass through here so that one thread keeps the books.
    pub ended: Vec<Ended>,
    /// Windows that ended without a click, of impressions trained before: the row that they ended before, and where the impression was read.
    pub closed: Vec<(usize, Origin)>,
    /// When its samples were complete, where that is known.
    pub produced: Produced,
}

impl Batch {
    /// Number of samples.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.labels.len()
    }

    /// The median of its event times, which no single clock that is off can move; `None` without samples.
    #[must_use]
    pub fn time(&self) -> Option<EventTime> {
        let mut times = self.times.clone();
        let middle = times.len().checked_sub(1)? / 2;
        Some(*times.select_nth_unstable(middle).1)
    }

    /// Neither samples, nor news, nor ended events, nor closed windows.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.news.is_empty() && self.ended.is_empty() && self.closed.is_empty()
    }
}

/// What reading has found out about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It is the next in the source's table, and read from this offset on.
    Appeared(TopicPartition, i64),
    /// This record was read.
    Read(PartitionIndex, Mark),
    /// Another record stands where this one was read: what was read since may be of either log.
    Contradicted(PartitionIndex, Mark),
}

/// An event that ended without being trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Dropped.
    Dropped(Origin, DropReason),
    /// An unclicked impression that sampling left out; the memory of the join has it all the same.
    NotSampled(Origin, EventTime, Option<ImpressionId>),
    /// Acknowledged by the dead-letter topic.
    DeadLettered(Origin),
    /// Offsets `[from, to)` do not exist on the broker.
    Missing {
        /// Where.
        partition: PartitionIndex,
        /// First.
        from: i64,
        /// After the last.
        to: i64,
    },
}
