use crate::config::{JoinConfig, StreamMode};
use crate::domain::{DropReason, Event, EventTime, ImpressionId, Origin, PartitionIndex, Sample};

/// What comes out of the join.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinOutput {
    /// A labelled example.
    Sample(Sample),
    /// An event that ended here.
    Dropped(Origin, DropReason),
}

/// The join's state machine. In `Labelled` mode events pass straight through.
#[derive(Debug)]
pub struct Joiner {}

impl Joiner {
    /// `partitions`: how many the source has; `memory`: impressions closed before a restart (the checkpoint's).
    #[must_use]
    pub fn new(mode: StreamMode, config: &JoinConfig, partitions: usize, memory: impl IntoIterator<Item = (EventTime, ImpressionId)>) -> Self {
        let _ = (mode, config, partitions, memory.into_iter().count());
        todo!()
    }

    /// Takes one event at processing time `now_ms`.
    pub fn push(&mut self, event: Event, now_ms: i64, out: &mut Vec<JoinOutput>) {
        let _ = (event, now_ms, out);
        todo!()
    }

    /// An event that ended before the join (a dead letter, a drop, an offset already done) was seen on this partition: it is not idle.
    pub fn saw(&mut self, partition: PartitionIndex, now_ms: i64) {
        let _ = (partition, now_ms);
        todo!()
    }

    /// Lets processing time pass: idle partitions stop holding the watermark; when all are idle, event time moves with processing time.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<JoinOutput>) {
        let _ = (now_ms, out);
        todo!()
    }

    /// Closes every window: the stream has ended.
    pub fn finish(&mut self, out: &mut Vec<JoinOutput>) {
        let _ = out;
        todo!()
    }

    /// Events held back: impressions and clicks whose sample has not been emitted.
    #[must_use]
    pub fn pending(&self) -> u64 {
        todo!()
    }
}
