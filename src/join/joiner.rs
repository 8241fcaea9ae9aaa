use std::collections::BTreeMap;

use super::watermark::Watermark;
use super::windows::{Turn, Windows, turn};
use crate::config::{Emit, JoinConfig, StreamMode};
use crate::domain::{DropReason, Event, EventTime, ImpressionId, Origin, PartitionIndex, Sample, Stage};

/// What comes out of the join.
#[derive(Debug, Clone, PartialEq)]
pub enum JoinOutput {
    /// A labelled example.
    Sample(Sample),
    /// An event that ended here.
    Dropped(Origin, DropReason),
    /// The window of the impression read here ended without a click, after it had left as [`Stage::Open`].
    Closed(Origin),
}

/// The join's state machine. In `Labelled` mode events pass straight through.
///
/// Every event pushed comes out exactly once: as an origin of a sample or as a drop; until then it is counted by [`Joiner::pending`]. An
/// impression that has left as [`Stage::Open`] is heard of once more: in a [`Stage::Delayed`] or as closed.
#[derive(Debug)]
pub struct Joiner {
    mode: StreamMode,
    emit: Emit,
    grace_ms: i64,
    watermark: Watermark,
    /// Events that are not settled yet, where output is in order.
    sorting: BTreeMap<Turn, Event>,
    windows: Windows,
}

impl Joiner {
    /// `partitions`: how many the source has; `memory`: impressions closed before a restart (the checkpoint's).
    #[must_use]
    pub fn new(
        mode: StreamMode,
        config: &JoinConfig,
        partitions: usize,
        memory: impl IntoIterator<Item = (EventTime, ImpressionId)>,
    ) -> Self {
        Joiner {
            mode,
            emit: config.emit,
            grace_ms: config.grace.as_millis(),
            watermark: Watermark::new(partitions, config.idle.as_millis()),
            sorting: BTreeMap::new(),
            windows: Windows::new(config, memory),
        }
    }

    /// Takes one event at processing time `now_ms`.
    ///
    /// # Panics
    /// On an event that breaks the decoder's promises: no label on a labelled topic, no impression id on the others.
    pub fn push(&mut self, event: Event, now_ms: i64, out: &mut Vec<JoinOutput>) {
        if self.mode == StreamMode::Labelled {
            out.push(JoinOutput::Sample(labelled(event)));
            return;
        }
        let Event { origin, time, .. } = event;
        let late = self.settled().is_some_and(|settled| time.0 <= settled);
        if late || self.emit == Emit::OnClick {
            self.windows.take(event, out);
        } else {
            self.sorting.insert(turn(time, origin), event);
        }
        self.watermark.event(origin.partition, time.0, now_ms);
        self.advance(out);
    }

    /// Takes an impression that left as [`Stage::Open`] before a restart: its window is open again, and a click in it counts.
    ///
    /// # Panics
    /// On an event without impression id.
    pub fn reopen(&mut self, event: Event, now_ms: i64, out: &mut Vec<JoinOutput>) {
        self.watermark.event(event.origin.partition, event.time.0, now_ms);
        self.windows.reopen(event, out);
        self.advance(out);
    }

    /// One more partition, the next in the table: it holds the watermark until it delivers, or is idle.
    pub fn add_partition(&mut self) {
        self.watermark.add_partition();
    }

    /// An event that ended before the join (a dead letter, a drop, an offset already done) was seen on this partition: it is not idle.
    pub fn saw(&mut self, partition: PartitionIndex, now_ms: i64) {
        self.watermark.saw(partition, now_ms);
    }

    /// Lets processing time pass: idle partitions stop holding the watermark; when all are idle, event time moves with processing time.
    ///
    /// Call it when everything read so far has been pushed: a partition whose events still wait on the way here is not idle.
    pub fn tick(&mut self, now_ms: i64, out: &mut Vec<JoinOutput>) {
        self.watermark.tick(now_ms);
        self.advance(out);
    }

    /// Closes every window: the stream has ended.
    pub fn finish(&mut self, out: &mut Vec<JoinOutput>) {
        self.settle(i64::MAX, out);
    }

    /// Events held back: impressions and clicks whose sample has not been emitted.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.sorting.len() as u64 + self.windows.held()
    }

    /// Event time up to which nothing more is expected.
    fn settled(&self) -> Option<i64> {
        self.watermark.value().map(|watermark| watermark.saturating_sub(self.grace_ms))
    }

    fn advance(&mut self, out: &mut Vec<JoinOutput>) {
        if let Some(settled) = self.settled() {
            self.settle(settled, out);
        }
    }

    fn settle(&mut self, until: i64, out: &mut Vec<JoinOutput>) {
        while let Some(entry) = self.sorting.first_entry().filter(|entry| entry.key().0 <= until) {
            // What was due before this event comes before it; what is due at its time comes after, so that it can still take part.
            self.windows.settle(entry.key().0.saturating_sub(1), out);
            self.windows.take(entry.remove(), out);
        }
        self.windows.settle(until, out);
    }
}

fn labelled(event: Event) -> Sample {
    let Event { origin, time, impression, user, label, fields, .. } = event;
    let label = label.expect("the decoder refuses labelled events without a label");
    Sample { origins: vec![origin], time, impression, user, label, stage: Stage::Final, fields }
}

#[cfg(test)]
mod tests;
