//! Which offsets of a partition are new, which were done before this start, which of those are still wanted, and which do not exist.

use std::collections::VecDeque;

use crate::domain::PartitionPosition;

/// Every so many offsets a record is marked: a checkpoint knows one that lies at most so far below what it has read without a gap, and
/// marking costs nothing. By offset and not by count, so that a run that was interrupted marks the same records.
const MARK_EVERY: i64 = 64;

/// Follows one partition from the position it is read from.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// First offset of this pass.
    start: i64,
    /// Offset expected next.
    next: i64,
    /// Ranges `[from, to)` from the start on that were done before, rising.
    done: VecDeque<(i64, i64)>,
    /// Those of them whose window is open, rising.
    open: VecDeque<i64>,
}

/// What an offset that was read is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    /// Not done.
    New,
    /// Done, or delivered before.
    Old,
    /// Done, but its window is open: the join wants it again.
    Open,
}

impl Seen {
    /// Reading goes on from `position`; `open`: the offsets of what is done there whose window is open.
    pub(super) fn new(position: &PartitionPosition, open: impl IntoIterator<Item = i64>) -> Self {
        let PartitionPosition { start, low, done, .. } = position;
        Seen { start: *start, next: *low, done: done.iter().copied().collect(), open: open.into_iter().collect() }
    }

    /// Whether the record at `offset`, to be taken next, is one to mark.
    pub(super) fn is_marked(&self, offset: i64) -> bool {
        offset >= self.next && (offset == self.start || offset % MARK_EVERY == 0)
    }

    /// Takes the next offset read. Ranges before it that nobody delivered and that were not done are added to `missing`. An offset below
    /// what is expected was delivered before.
    pub(super) fn take(&mut self, offset: i64, missing: &mut Vec<(i64, i64)>) -> Read {
        if offset < self.next {
            return Read::Old;
        }
        let mut from = self.next;
        self.next = offset + 1;
        while let Some(&(done_from, done_to)) = self.done.front() {
            if done_from > offset {
                break;
            }
            if done_from > from {
                missing.push((from, done_from));
            }
            from = from.max(done_to);
            if done_to > offset + 1 {
                break;
            }
            self.done.pop_front();
        }
        if from > offset {
            let open = self.open.pop_front_if(|open| *open == offset);
            return if open.is_some() { Read::Open } else { Read::Old };
        }
        if offset > from {
            missing.push((from, offset));
        }
        Read::New
    }

    /// An offset with an open window that reading has passed without its being delivered: the broker does not have it any more.
    pub(super) fn lost(&mut self) -> Option<i64> {
        self.open.pop_front_if(|open| *open < self.next)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::TopicPartition;

    fn position(low: i64, done: Vec<(i64, i64)>) -> PartitionPosition {
        let partition = TopicPartition { topic: "t".into(), partition: 0 };
        PartitionPosition { low, done, ..PartitionPosition::new(partition, 3) }
    }

    #[test]
    fn the_same_records_are_marked_wherever_reading_begins() {
        let marked = |low: i64| {
            let mut seen = Seen::new(&position(low, vec![(70, 200)]), []);
            let take = |offset: &i64| {
                let marked = seen.is_marked(*offset);
                seen.take(*offset, &mut Vec::new());
                marked
            };
            (low..300).chain(0..300).filter(take).collect::<Vec<i64>>()
        };
        assert_eq!(marked(3), [3, 64, 128, 192, 256]);
        assert_eq!(marked(65), [128, 192, 256]);
    }

    proptest! {
        /// Any offsets delivered, any done before, some missing: each offset below the last delivered one is told exactly once.
        #[test]
        fn every_offset_is_new_done_or_missing(kinds in prop::collection::vec(0u8..3, 1..80), low in 0i64..5) {
            let is = |kind: u8| -> BTreeSet<i64> {
                (low..).zip(&kinds).filter(|(_, k)| **k == kind).map(|(offset, _)| offset).collect()
            };
            let (new, done, absent) = (is(0), is(1), is(2));
            let mut ranges: Vec<(i64, i64)> = Vec::new();
            for offset in &done {
                match ranges.last_mut() {
                    Some((_, to)) if *to == *offset => *to += 1,
                    _ => ranges.push((*offset, offset + 1)),
                }
            }
            let mut seen = Seen::new(&position(low, ranges), []);
            let (mut told_new, mut missing) = (BTreeSet::new(), Vec::new());
            for offset in new.union(&done) {
                if seen.take(*offset, &mut missing) == Read::New {
                    told_new.insert(*offset);
                }
                prop_assert_eq!(seen.take(*offset, &mut missing), Read::Old, "a second delivery is not new");
            }
            let told_missing: BTreeSet<i64> = missing.iter().flat_map(|(from, to)| *from..*to).collect();
            prop_assert_eq!(missing.iter().map(|(from, to)| to - from).sum::<i64>(), told_missing.len() as i64);
            prop_assert_eq!(told_new, new.clone());
            let last = new.union(&done).max().copied().unwrap_or(i64::MIN);
            prop_assert_eq!(told_missing, absent.into_iter().filter(|offset| *offset < last).collect::<BTreeSet<_>>());
        }
    }

    #[test]
    fn what_is_done_but_open_is_told_once_and_what_is_not_delivered_is_lost() {
        let mut seen = Seen::new(&position(5, vec![(5, 9), (11, 13)]), [5, 7, 8, 12]);
        let mut missing = Vec::new();
        let mut take = |offset| {
            let read = seen.take(offset, &mut missing);
            (read, std::iter::from_fn(|| seen.lost()).collect::<Vec<_>>())
        };
        assert_eq!(take(5), (Read::Open, vec![]));
        assert_eq!(take(5), (Read::Old, vec![]));
        assert_eq!(take(6), (Read::Old, vec![]));
        assert_eq!(take(9), (Read::New, vec![7, 8]));
        assert_eq!(take(12), (Read::Open, vec![]));
        assert_eq!(missing, [(10, 11)]);
    }
}
