//! What the join remembers of impressions that are closed, kept so that a copy of it takes no time.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::domain::{EventTime, ImpressionId};

/// Entries per chunk: of 10 million entries a copy clones 2,442 pointers.
const ENTRIES_PER_CHUNK: usize = 4096;

type Entry = (EventTime, ImpressionId);

/// Entries, oldest first. Chunks that are full do not change any more, and copies share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Memory {
    full: VecDeque<Arc<[Entry]>>,
    last: Vec<Entry>,
    /// So many of the first chunk are forgotten.
    forgotten: usize,
}

impl Memory {
    pub(super) fn push(&mut self, entry: Entry) {
        self.last.push(entry);
        if self.last.len() == ENTRIES_PER_CHUNK {
            self.full.push_back(self.last.as_slice().into());
            self.last.clear();
        }
    }

    /// Forgets from the oldest on, up to the first that is not before `horizon`.
    pub(super) fn forget_before(&mut self, horizon: EventTime) {
        loop {
            let first = self.full.front().map_or(self.last.as_slice(), |chunk| chunk);
            match first.get(self.forgotten) {
                Some((time, _)) if *time < horizon => self.forgotten += 1,
                Some(_) => return,
                None => {
                    self.forgotten = 0;
                    if self.full.pop_front().is_none() {
                        return self.last.clear();
                    }
                }
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.full.iter().flat_map(|chunk| chunk.iter()).chain(&self.last).skip(self.forgotten)
    }
}

impl FromIterator<Entry> for Memory {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut memory = Memory::default();
        entries.into_iter().for_each(|entry| memory.push(entry));
        memory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(time: i64) -> Entry {
        (EventTime(time), ImpressionId(time as u128))
    }

    #[test]
    fn forgets_from_the_oldest_on_and_copies_stay_as_they_were() {
        let mut memory = Memory::default();
        let (mut from, mut kept) = (0, Vec::new());
        let mut copies = Vec::new();
        for time in 0..3 * ENTRIES_PER_CHUNK as i64 {
            memory.push(entry(time));
            kept.push(entry(time));
            if time % 1000 == 7 {
                // Up to a chunk's end, into a chunk, and all there is.
                from = if time % 7000 == 7 { time + 1 } else { (from + 900).min(time) };
                memory.forget_before(EventTime(from));
                kept.retain(|(time, _)| time.0 >= from);
                copies.push((memory.clone(), kept.clone()));
            }
        }
        for (copy, expected) in copies {
            assert_eq!(copy.iter().copied().collect::<Vec<_>>(), expected);
            let again: Memory = expected.iter().copied().collect();
            assert_eq!(again.iter().copied().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn one_that_is_not_before_the_horizon_keeps_those_behind_it() {
        let mut memory: Memory = [5, 9, 1].map(entry).into_iter().collect();
        memory.forget_before(EventTime(6));
        assert_eq!(memory.iter().copied().collect::<Vec<_>>(), [9, 1].map(entry));
    }
}
