//! Which offsets of a partition are new, which were done before this start, and which do not exist.

use std::collections::VecDeque;

/// Follows one partition from the position it is read from.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    /// Offset expected next.
    next: i64,
    /// Ranges `[from, to)` above the start that were done before, rising.
    done: VecDeque<(i64, i64)>,
}

impl Seen {
    /// Reading begins at `low`; `done` is what a position says beyond it.
    pub(super) fn new(low: i64, done: impl IntoIterator<Item = (i64, i64)>) -> Self {
        Seen { next: low, done: done.into_iter().collect() }
    }

    /// Takes the next offset read. True: it is new. Ranges before it that nobody delivered and that were not done are added to `missing`.
    /// An offset below what is expected was delivered before: not new.
    pub(super) fn take(&mut self, offset: i64, missing: &mut Vec<(i64, i64)>) -> bool {
        if offset < self.next {
            return false;
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
            return false;
        }
        if offset > from {
            missing.push((from, offset));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

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
            let mut seen = Seen::new(low, ranges);
            let (mut told_new, mut missing) = (BTreeSet::new(), Vec::new());
            for offset in new.union(&done) {
                if seen.take(*offset, &mut missing) {
                    told_new.insert(*offset);
                }
                prop_assert!(!seen.take(*offset, &mut missing), "a second delivery is not new");
            }
            let told_missing: BTreeSet<i64> = missing.iter().flat_map(|(from, to)| *from..*to).collect();
            prop_assert_eq!(missing.iter().map(|(from, to)| to - from).sum::<i64>(), told_missing.len() as i64);
            prop_assert_eq!(told_new, new.clone());
            let last = new.union(&done).max().copied().unwrap_or(i64::MIN);
            prop_assert_eq!(told_missing, absent.into_iter().filter(|offset| *offset < last).collect::<BTreeSet<_>>());
        }
    }
}
