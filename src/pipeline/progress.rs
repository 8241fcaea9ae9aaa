//! The books: which offsets are done, and as what; and which impressions that were trained have no final label yet.

use std::collections::{HashMap, VecDeque};

use roaring::RoaringTreemap;

use super::memory::Memory;
use super::open::Open;
use super::seen::Seen;
use crate::batch::{Batch, Ended, News};
use crate::domain::{
    Books, DropReason, EventTime, Head, ImpressionId, Label, Mark, OpenImpression, Origin, PartitionIndex, PartitionPosition, ScoredSample,
    Stage, TopicPartition,
};
use crate::train::StepReport;

/// What a commit record says was done.
#[derive(Debug, Clone, Default)]
pub(super) struct Recovered {
    pub(super) positions: Vec<PartitionPosition>,
    pub(super) books: Books,
    pub(super) memory: Vec<(EventTime, ImpressionId)>,
    pub(super) open: Vec<(TopicPartition, Vec<OpenImpression>)>,
}

impl Recovered {
    /// Where labels do not come early any more, no second sample of an open impression can be trained: its window is over.
    pub(super) fn close_for_good(&mut self) {
        let open = self.open.drain(..).flat_map(|(_, open)| open);
        self.memory.extend(open.filter_map(|open| Some((open.sample.time, open.impression?))));
    }
}

/// Owned by the training thread alone, so that positions, books and weights are always as of the same batch.
#[derive(Debug)]
pub(super) struct Progress {
    tracks: Vec<Track>,
    /// Positions of partitions the source no longer has: kept, so that the books still add up.
    retired: Vec<PartitionPosition>,
    books: Books,
    memory: Memory,
    memory_ms: i64,
    newest: EventTime,
}

/// The books as they were when it was made, which takes a moment however much there is to remember.
#[derive(Debug)]
pub(super) struct ProgressCopy {
    tracks: Vec<Track>,
    retired: Vec<PartitionPosition>,
    books: Books,
    memory: Memory,
}

impl ProgressCopy {
    pub(super) fn recovered(self) -> Recovered {
        let open = |track: &Track| (track.partition.clone(), track.open.iter().cloned().collect());
        Recovered {
            positions: self.tracks.iter().map(Track::position).chain(self.retired).collect(),
            books: self.books,
            memory: self.memory.iter().copied().collect(),
            open: self.tracks.iter().filter(|track| !track.open.is_empty()).map(open).collect(),
        }
    }
}

#[derive(Debug, Clone)]
struct Track {
    partition: TopicPartition,
    start: i64,
    /// The first offset that is not done.
    low: i64,
    /// Those above it that are.
    done: RoaringTreemap,
    /// How many were done in earlier passes.
    earlier: u64,
    /// Marked records by offset: the last one below the position, and those from there on.
    marks: VecDeque<Mark>,
    /// A marked record where another one stands now: the position bears it until an operator has decided.
    contradicted: Option<Mark>,
    /// Trained impressions whose windows are open: the first of them holds the position.
    open: Open,
}

impl Track {
    /// As it was when `position` was taken.
    fn recovered(position: PartitionPosition, open: Vec<OpenImpression>) -> Self {
        let PartitionPosition { partition, start, low, done, earlier, mark } = position;
        let (marks, open) = (mark.into_iter().collect(), open.into_iter().collect());
        let mut track = Track { partition, start, low, done: RoaringTreemap::new(), earlier, marks, contradicted: None, open };
        for (from, to) in done {
            track.mark(from, to);
        }
        track
    }

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

    /// The first trained impression whose window is open holds the position.
    fn held(&self) -> Option<i64> {
        self.open.first_offset().filter(|offset| *offset < self.low)
    }

    fn note(&mut self, mark: Mark) {
        let low = self.held().unwrap_or(self.low);
        while self.marks.get(1).is_some_and(|second| second.offset < low) {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }

    fn position(&self) -> PartitionPosition {
        let held = self.held();
        let mut done: Vec<(i64, i64)> = held.map(|offset| (offset, self.low)).into_iter().collect();
        for (high, bitmap) in self.done.bitmaps() {
            let mut offsets = bitmap.iter();
            while let Some(range) = offsets.next_range() {
                let [from, last] = [*range.start(), *range.end()].map(|low| offset_of(high, low));
                match done.last_mut() {
                    Some((_, to)) if *to == from => *to = last + 1,
                    _ => done.push((from, last + 1)),
                }
            }
        }
        let low = held.unwrap_or(self.low);
        let below = || self.marks.iter().take_while(|mark| mark.offset < low).last().copied();
        let mark = self.contradicted.or_else(below);
        PartitionPosition { partition: self.partition.clone(), start: self.start, low, done, earlier: self.earlier, mark }
    }
}

/// Events in the batch's samples.
fn events(batch: &Batch) -> u64 {
    batch.origins.iter().map(Vec::len).sum::<usize>() as u64
}

/// Offsets are never negative; what is, is below every track.
fn key(offset: i64) -> u64 {
    u64::try_from(offset).unwrap_or(0)
}

/// The offset whose [`key`] has these halves.
fn offset_of(high: u32, low: u32) -> i64 {
    i64::try_from(u64::from(high) << u32::BITS | u64::from(low)).unwrap_or(i64::MAX - 1)
}

impl Progress {
    /// `partitions` and `starts` are the source's; what `recovered` says wins over `starts`. Open impressions of a partition that the source
    /// no longer has are forgotten: nobody can close them. With a `memory_ms` of 0 no impression is remembered.
    pub(super) fn new(partitions: &[TopicPartition], starts: &[i64], recovered: Recovered, memory_ms: i64) -> Self {
        let mut positions: HashMap<TopicPartition, PartitionPosition> =
            recovered.positions.into_iter().map(|position| (position.partition.clone(), position)).collect();
        let mut open: HashMap<TopicPartition, Vec<OpenImpression>> = recovered.open.into_iter().collect();
        let tracks = partitions
            .iter()
            .zip(starts)
            .map(|(partition, start)| match positions.remove(partition) {
                Some(position) => Track::recovered(position, open.remove(partition).unwrap_or_default()),
                None => Track::recovered(PartitionPosition::new(partition.clone(), *start), Vec::new()),
            })
            .collect();
        let mut retired: Vec<_> = positions.into_values().collect();
        retired.sort_by(|a, b| a.partition.cmp(&b.partition));
        let newest = recovered.memory.iter().map(|(time, _)| *time).max().unwrap_or(EventTime(i64::MIN));
        let memory = recovered.memory.into_iter().filter(|_| memory_ms > 0).collect();
        Progress { tracks, retired, books: recovered.books, memory, memory_ms, newest }
    }

    /// What of the source's partitions is done already: to be skipped when read again, but for open impressions.
    pub(super) fn seen(&self) -> Vec<Seen> {
        let seen = |track: &Track| {
            let position = track.position();
            Seen::new(&position, track.open.iter().map(|impression| impression.offset))
        };
        self.tracks.iter().map(seen).collect()
    }

    /// News of a partition. One that appears and was read long ago goes on counting where it stopped.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Appeared(partition, start) => {
                let place = self.retired.iter().position(|position| position.partition == partition);
                let position = match place {
                    Some(place) => self.retired.remove(place).anew_at(start),
                    None => PartitionPosition::new(partition, start),
                };
                self.tracks.push(Track::recovered(position, Vec::new()));
            }
            News::Contradicted(partition, mark) => {
                if let Some(track) = self.tracks.get_mut(partition.0 as usize) {
                    track.contradicted = Some(mark);
                }
            }
            News::Read(partition, mark) => {
                if let Some(track) = self.tracks.get_mut(partition.0 as usize) {
                    track.note(mark);
                }
            }
        }
    }

    /// The batch's samples were trained. Returns the scores of those whose label is final now, in the order in which it became so.
    pub(super) fn trained(&mut self, batch: Batch, report: &StepReport) -> Vec<ScoredSample> {
        self.books.samples += batch.rows() as u64;
        self.books.trained += events(&batch);
        self.rows(batch, Some(report))
    }

    /// The batch's samples were not trained, their events are dead letters. Returns as [`Progress::trained`].
    pub(super) fn dead_lettered(&mut self, batch: Batch) -> Vec<ScoredSample> {
        self.books.dead_lettered += events(&batch);
        self.rows(batch, None)
    }

    /// `report`: of the step, if they were trained. An open impression that was not has no score, but its click may come all the same.
    fn rows(&mut self, batch: Batch, report: Option<&StepReport>) -> Vec<ScoredSample> {
        let mut last = Vec::with_capacity(batch.rows());
        let mut closed = batch.closed.as_slice();
        for (row, user) in batch.users.into_iter().enumerate() {
            let before = closed.partition_point(|(before, _)| *before <= row);
            last.extend(self.closed(&closed[..before]));
            closed = &closed[before..];
            batch.origins[row].iter().for_each(|origin| self.mark(*origin));
            let (time, label, impression) = (batch.times[row], batch.labels[row], batch.impressions[row]);
            let logit = |head| report.and_then(|report| report.scores.head(head)?.get(row).copied());
            let hint_share = report.and_then(|report| report.hint_share);
            let sample = ScoredSample { user, time, label, logits: Head::ALL.map(logit), hint_share };
            match batch.stages[row] {
                Stage::Final if report.is_some() => {
                    self.remember(time, impression);
                    last.push(sample);
                }
                Stage::Final => {}
                Stage::Open => {
                    if let Some(origin) = batch.origins[row].first() {
                        self.hold(*origin, impression, sample);
                    }
                }
                Stage::Delayed(origin) => last.extend(self.release(origin, true)),
            }
        }
        last.extend(self.closed(closed));
        last
    }

    /// The windows of these impressions ended without a click. Returns as [`Progress::trained`].
    pub(super) fn closed(&mut self, closed: &[(usize, Origin)]) -> Vec<ScoredSample> {
        closed.iter().filter_map(|(_, origin)| self.release(*origin, false)).collect()
    }

    fn hold(&mut self, origin: Origin, impression: Option<ImpressionId>, sample: ScoredSample) {
        if let Some(track) = self.tracks.get_mut(origin.partition.0 as usize) {
            track.open.insert(OpenImpression { offset: origin.offset, impression, sample });
        }
    }

    /// The label of an open impression is final.
    fn release(&mut self, origin: Origin, label: Label) -> Option<ScoredSample> {
        let OpenImpression { impression, sample, .. } = self.tracks.get_mut(origin.partition.0 as usize)?.open.remove(origin.offset)?;
        self.remember(sample.time, impression);
        Some(ScoredSample { label, ..sample })
    }

    fn remember(&mut self, time: EventTime, impression: Option<ImpressionId>) {
        let Some(impression) = impression.filter(|_| self.memory_ms > 0) else { return };
        self.newest = self.newest.max(time);
        self.memory.push((time, impression));
        self.memory.forget_before(EventTime(self.newest.0.saturating_sub(self.memory_ms)));
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

    /// Where an event was read.
    pub(super) fn partition(&self, origin: Origin) -> TopicPartition {
        self.tracks[origin.partition.0 as usize].partition.clone()
    }

    pub(super) fn books(&self) -> &Books {
        &self.books
    }

    /// Offsets that are done by the positions; the books must say the same.
    pub(super) fn counted(&self) -> u64 {
        let counted = |track: &Track| u64::try_from(track.low - track.start).unwrap_or(0) + track.done.len();
        self.tracks.iter().map(counted).sum::<u64>() + self.retired.iter().map(PartitionPosition::count).sum::<u64>()
    }

    /// A copy of everything, to be written out when there is time.
    pub(super) fn copy(&self) -> ProgressCopy {
        ProgressCopy { tracks: self.tracks.clone(), retired: self.retired.clone(), books: self.books.clone(), memory: self.memory.clone() }
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
    use crate::domain::UserId;
    use crate::train::Scores;

    fn partition() -> TopicPartition {
        TopicPartition { topic: "t".into(), partition: 0 }
    }

    fn origin(offset: i64) -> Origin {
        Origin { partition: PartitionIndex(0), offset }
    }

    fn letter(offset: i64) -> Ended {
        Ended::DeadLettered(origin(offset))
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
            prop_assert_eq!(progress.counted(), progress.books().done());

            let mut again = Progress::new(&[partition()], &[position.low], progress.copy().recovered(), 0);
            for offset in &order[cut..] {
                again.ended(letter(*offset));
            }
            let end = again.positions().remove(0);
            prop_assert_eq!((end.low, end.done.len(), again.books().done()), (60, 0, 50));
        }
    }

    /// Rows of (offset of the event, time, stage), scored by their offset.
    fn batch(rows: &[(i64, i64, Stage)], closed: Vec<(usize, Origin)>) -> (Batch, StepReport) {
        let batch = Batch {
            labels: rows.iter().map(|(.., stage)| *stage != Stage::Open).collect(),
            stages: rows.iter().map(|(.., stage)| *stage).collect(),
            users: rows.iter().map(|(offset, ..)| UserId(offset.to_string().into())).collect(),
            times: rows.iter().map(|(_, time, _)| EventTime(*time)).collect(),
            impressions: rows.iter().map(|(_, time, _)| Some(ImpressionId(*time as u128))).collect(),
            origins: rows.iter().map(|(offset, ..)| vec![origin(*offset)]).collect(),
            closed,
            ..Batch::default()
        };
        let light = Some(rows.iter().map(|(offset, ..)| *offset as f32).collect());
        (batch, StepReport { scores: Scores { light, ..Scores::default() }, applied: true, ..StepReport::default() })
    }

    /// (user, label, light's logit).
    fn said(scored: &[ScoredSample]) -> Vec<(&str, bool, Option<f32>)> {
        scored.iter().map(|sample| (&*sample.user.0, sample.label, sample.logits[Head::Light.index()])).collect()
    }

    #[test]
    fn an_open_impression_holds_the_position_and_its_first_scores_until_its_label_is_final() {
        let mut progress = Progress::new(&[partition()], &[10], Recovered::default(), 1000);
        let (first, report) = batch(&[(10, 1, Stage::Final), (11, 2, Stage::Open), (12, 3, Stage::Open), (13, 4, Stage::Open)], vec![]);
        assert_eq!(said(&progress.trained(first, &report)), [("10", true, Some(10.0))]);
        let position = progress.positions().remove(0);
        assert_eq!((position.low, position.done.as_slice(), position.count()), (11, [(11, 14)].as_slice(), 4));
        assert_eq!(progress.copy().recovered().memory, [(EventTime(1), ImpressionId(1))]);

        // The second is clicked, the third closes before that row, the first after it.
        let (second, report) = batch(&[(15, 3, Stage::Delayed(origin(12)))], vec![(0, origin(13)), (1, origin(11))]);
        let again = Progress::new(&[partition()], &[11], progress.copy().recovered(), 1000);
        for mut progress in [progress, again] {
            let scored = progress.trained(second.clone(), &report);
            assert_eq!(said(&scored), [("13", false, Some(13.0)), ("12", true, Some(12.0)), ("11", false, Some(11.0))]);
            let position = progress.positions().remove(0);
            assert_eq!((position.low, position.done.as_slice(), position.count()), (14, [(15, 16)].as_slice(), 5));
            assert_eq!((progress.books().samples, progress.books().trained, progress.counted()), (5, 5, 5));
            let recovered = progress.copy().recovered();
            assert_eq!(recovered.open, []);
            assert_eq!(recovered.memory.iter().map(|(time, _)| time.0).collect::<Vec<_>>(), [1, 4, 3, 2]);
        }
    }

    #[test]
    fn an_open_impression_that_was_not_trained_is_held_without_a_score() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 1000);
        let (first, _) = batch(&[(0, 1, Stage::Open), (1, 2, Stage::Final)], vec![]);
        assert_eq!(said(&progress.dead_lettered(first)), []);
        assert_eq!((progress.positions()[0].low, progress.books().dead_lettered), (0, 2));
        assert_eq!(said(&progress.closed(&[(0, origin(0))])), [("0", false, None)]);
        assert_eq!(progress.positions()[0].low, 2);
    }

    #[test]
    fn where_labels_do_not_come_early_any_more_what_was_open_is_remembered_as_closed() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 1000);
        let (first, report) = batch(&[(0, 1, Stage::Open)], vec![]);
        progress.trained(first, &report);
        let mut recovered = progress.copy().recovered();
        recovered.close_for_good();
        assert_eq!(recovered.memory, [(EventTime(1), ImpressionId(1))]);
        assert_eq!(Progress::new(&[partition()], &[0], recovered, 1000).positions()[0].low, 1);
    }

    #[test]
    fn the_position_bears_the_last_mark_below_it() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 1000);
        let read = |progress: &mut Progress, offset| progress.hear(News::Read(PartitionIndex(0), Mark { offset, hash: offset as u64 }));
        let marked = |progress: &Progress| progress.positions()[0].mark.map(|mark| mark.offset);
        for offset in [0, 64, 128] {
            read(&mut progress, offset);
        }
        assert_eq!(marked(&progress), None, "nothing is done yet");
        progress.ended(Ended::Missing { partition: PartitionIndex(0), from: 0, to: 64 });
        assert_eq!(marked(&progress), Some(0));
        let (held, report) = batch(&[(64, 1, Stage::Open)], vec![]);
        progress.trained(held, &report);
        progress.ended(Ended::Missing { partition: PartitionIndex(0), from: 65, to: 150 });
        assert_eq!(marked(&progress), Some(0), "an open impression holds it");

        let again = Progress::new(&[partition()], &[64], progress.copy().recovered(), 1000);
        for mut progress in [progress, again] {
            // After a restart both are read again.
            if progress.tracks[0].marks.len() == 1 {
                read(&mut progress, 64);
                read(&mut progress, 128);
            }
            progress.closed(&[(0, origin(64))]);
            assert_eq!(marked(&progress), Some(128));
            read(&mut progress, 192);
            assert_eq!(progress.tracks[0].marks.iter().map(|mark| mark.offset).collect::<Vec<_>>(), [128, 192]);
        }
    }

    #[test]
    fn a_record_that_is_another_now_stays_in_the_position() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 0);
        progress.hear(News::Read(PartitionIndex(0), Mark { offset: 0, hash: 9 }));
        progress.ended(Ended::DeadLettered(origin(0)));
        let read_before = Mark { offset: 64, hash: 1 };
        progress.hear(News::Contradicted(PartitionIndex(0), read_before));
        progress.ended(Ended::DeadLettered(origin(1)));
        assert_eq!((progress.positions()[0].low, progress.positions()[0].mark), (2, Some(read_before)));
    }

    #[test]
    fn a_partition_that_appears_is_counted_from_its_beginning_on_top_of_what_it_had() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 0);
        progress.ended(Ended::Missing { partition: PartitionIndex(0), from: 0, to: 7 });
        let recovered = Recovered { positions: progress.positions(), books: progress.books().clone(), ..Recovered::default() };
        let other = TopicPartition { topic: "u".into(), partition: 0 };
        let mut progress = Progress::new(&[other], &[3], recovered, 0);
        let new = TopicPartition { topic: "t".into(), partition: 9 };
        progress.hear(News::Appeared(new, 20));
        progress.hear(News::Appeared(partition(), 2));
        progress.ended(Ended::DeadLettered(Origin { partition: PartitionIndex(1), offset: 20 }));
        progress.ended(Ended::DeadLettered(Origin { partition: PartitionIndex(2), offset: 2 }));
        let positions: Vec<_> = progress.positions().iter().map(|position| (position.low, position.count())).collect();
        assert_eq!(positions, [(3, 0), (21, 1), (3, 8)]);
        assert_eq!(progress.books().done(), 9);
    }

    #[test]
    fn partitions_that_left_keep_their_count() {
        let mut progress = Progress::new(&[partition()], &[0], Recovered::default(), 0);
        progress.ended(Ended::Missing { partition: PartitionIndex(0), from: 0, to: 7 });
        let recovered = progress.copy().recovered();
        let other = TopicPartition { topic: "u".into(), partition: 0 };
        let progress = Progress::new(&[other], &[3], recovered, 0);
        assert_eq!(progress.positions().iter().map(PartitionPosition::count).sum::<u64>(), 7);
        assert_eq!(progress.books().dropped[&DropReason::MissingOffset], 7);
    }
}
