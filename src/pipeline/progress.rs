//! The books: which offsets are done, and as what.

use std::collections::{HashMap, VecDeque};

use roaring::RoaringTreemap;

use super::seen::Seen;
use crate::batch::{Batch, Ended};
use crate::domain::{
    Books, DropReason, EventTime, Head, ImpressionId, Origin, PartitionIndex, PartitionPosition, ScoredSample, TopicPartition,
};
use crate::train::StepReport;

/// What a commit record says was done.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovered {
    pub(super) positions: Vec<PartitionPosition>,
    pub(super) books: Books,
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
}

/// Owned by the training thread alone, so that positions, books and weights are always as of the same batch.
#[derive(Debug)]
pub(super) struct Progress {
    tracks: Vec<Track>,
    /// Positions of partitions the source no longer has: kept, so that the books still add up.
    retired: Vec<PartitionPosition>,
    books: Books,
    memory: VecDeque<(EventTime, ImpressionId)>,
    memory_ms: i64,
    newest: EventTime,
}

#[derive(Debug)]
struct Track {
    partition: TopicPartition,
    start: i64,
    low: i64,
    done: RoaringTreemap,
}

impl Track {
    fn mark(&mut self, from: i64, to: i64) {
        if from == self.low {
            self.low = to;
            while self.done.remove(key(self.low)) {
                self.low += 1;
            }
        } else if from > self.low {
            self.done.insert_range(key(from)..key(to));
        }
    }

    fn position(&self) -> PartitionPosition {
        let mut done: Vec<(i64, i64)> = Vec::new();
        for offset in self.done.iter().map(|offset| i64::try_from(offset).unwrap_or(i64::MAX)) {
            match done.last_mut() {
                Some((_, to)) if *to == offset => *to += 1,
                _ => done.push((offset, offset + 1)),
            }
        }
        PartitionPosition { partition: self.partition.clone(), start: self.start, low: self.low, done }
    }
}

/// Offsets are never negative; what is, is below every track.
fn key(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

fn bitmap(ranges: &[(i64, i64)]) -> RoaringTreemap {
    let mut bitmap = RoaringTreemap::new();
    for (from, to) in ranges {
        bitmap.insert_range(key(*from)..key(*to));
    }
    bitmap
}

impl Progress {
    /// `partitions` and `starts` are the source's; what `recovered` says wins over `starts`.
    pub(super) fn new(partitions: &[TopicPartition], starts: &[i64], recovered: Recovered, memory_ms: i64) -> Self {
        let mut positions: HashMap<TopicPartition, PartitionPosition> =
            recovered.positions.into_iter().map(|position| (position.partition.clone(), position)).collect();
        let tracks = partitions
            .iter()
            .zip(starts)
            .map(|(partition, start)| match positions.remove(partition) {
                Some(position) => {
                    Track { partition: partition.clone(), start: position.start, low: position.low, done: bitmap(&position.done) }
                }
                None => Track { partition: partition.clone(), start: *start, low: *start, done: RoaringTreemap::new() },
            })
            .collect();
        let mut retired: Vec<_> = positions.into_values().collect();
        retired.sort_by(|a, b| a.partition.cmp(&b.partition));
        let newest = recovered.memory.iter().map(|(time, _)| *time).max().unwrap_or(EventTime(i64::MIN));
        Progress { tracks, retired, books: recovered.books, memory: recovered.memory.into(), memory_ms, newest }
    }

    /// What of the source's partitions is done already: to be skipped when read again.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.tracks.iter().map(|track| Seen::new(track.low, track.position().done)).collect()
    }

    /// The batch's samples were trained; returns them with the scores they had before.
    pub(super) fn trained(&mut self, batch: Batch, report: &StepReport) -> Vec<ScoredSample> {
        self.books.samples += batch.rows() as u64;
        let mut scored = Vec::with_capacity(batch.rows());
        for (row, user) in batch.users.into_iter().enumerate() {
            for origin in &batch.origins[row] {
                self.mark(*origin);
                self.books.trained += 1;
            }
            let (time, label) = (batch.times[row], batch.labels[row]);
            self.remember(time, batch.impressions[row]);
            let logits = Head::ALL.map(|head| report.scores.head(head).and_then(|logits| logits.get(row).copied()));
            scored.push(ScoredSample { user, time, label, logits, hint_share: report.hint_share });
        }
        scored
    }

    fn remember(&mut self, time: EventTime, impression: Option<ImpressionId>) {
        let Some(impression) = impression else { return };
        self.newest = self.newest.max(time);
        self.memory.push_back((time, impression));
        let horizon = self.newest.0.saturating_sub(self.memory_ms);
        while self.memory.front().is_some_and(|(time, _)| time.0 < horizon) {
            self.memory.pop_front();
        }
    }

    /// The batch's samples were not trained.
    pub(super) fn dropped(&mut self, batch: &Batch, reason: DropReason) {
        for origin in batch.origins.iter().flatten() {
            self.drop_one(*origin, reason);
        }
    }

    /// An event ended before it became part of a sample.
    pub(super) fn ended(&mut self, ended: Ended) {
        match ended {
            Ended::Dropped(origin, reason) => self.drop_one(origin, reason),
            Ended::NotSampled(origin, time, impression) => {
                self.drop_one(origin, DropReason::NotSampled);
                self.remember(time, impression);
            }
            Ended::DeadLettered(origin) => {
                self.mark(origin);
                self.books.dead_lettered += 1;
            }
            Ended::Missing { partition, from, to } => {
                self.mark_range(partition, from, to);
                *self.books.dropped.entry(DropReason::MissingOffset).or_default() += u64::try_from(to - from).unwrap_or(0);
            }
        }
    }

    fn drop_one(&mut self, origin: Origin, reason: DropReason) {
        self.mark(origin);
        *self.books.dropped.entry(reason).or_default() += 1;
    }

    fn mark(&mut self, origin: Origin) {
        self.mark_range(origin.partition, origin.offset, origin.offset + 1);
    }

    fn mark_range(&mut self, partition: PartitionIndex, from: i64, to: i64) {
        if let Some(track) = self.tracks.get_mut(partition.0 as usize) {
            track.mark(from, to);
        }
    }

    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    pub(super) fn memory(&self) -> Vec<(EventTime, ImpressionId)> {
        self.memory.iter().copied().collect()
    }

    /// Positions of every partition ever read.
    pub(super) fn positions(&self) -> Vec<PartitionPosition> {
        self.tracks.iter().map(Track::position).chain(self.retired.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn letter(offset: i64) -> Ended {
        Ended::DeadLettered(Origin { partition: PartitionIndex(0), offset })
    }

    proptest! {
        #[test]
        fn any_order_of_done_offsets_counts_each_once_and_survives_recovery(order in Just((10i64..60).collect::<Vec<_>>()).prop_shuffle(), cut in 0usize..50) {
            let mut progress = Progress::new(&[partition()], &[10], Recovered::default(), 0);
            for offset in &order[..cut] {
                progress.ended(letter(*offset));
            }
            let position = progress.positions().remove(0);
            let expected: BTreeSet<i64> = order[..cut].iter().copied().collect();
            let mut found: BTreeSet<i64> = (position.start..position.low).collect();
            for (from, to) in &position.done {
                prop_assert!(*from > position.low && to > from);
                found.extend(*from..*to);
            }
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(position.count(), progress.books().done());

            let recovered = Recovered { positions: progress.positions(), books: progress.books().clone(), memory: Vec::new() };
            let mut again = Progress::new(&[partition()], &[position.low], recovered, 0);
            for offset in &order[cut..] {
                again.ended(letter(*offset));
            }
            let end = again.positions().remove(0);
            prop_assert_eq!((end.low, end.done.len(), again.books().done()), (60, 0, 50));
        }
    }

    #[test]
    fn partitions_that_left_keep_their_count() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 0);
        progress.ended(Ended::Missing { partition: PartitionIndex(0), from: 0, to: 7 });
        let recovered = Recovered { positions: progress.positions(), books: progress.books().clone(), memory: Vec::new() };
        let other = TopicPartition { topic: "u".into(), partition: 0 };
        let progress = Progress::new(&[other], &[3], recovered, 0);
        assert_eq!(progress.positions().iter().map(PartitionPosition::count).sum::<u64>(), 7);
        assert_eq!(progress.books().dropped[&DropReason::MissingOffset], 7);
    }
}
