//! What a model has made of candidates, for the requests that are to come: ad servers ask for the same candidates again and again, and what
//! a candidate adds to the first layer depends on nothing but the candidate.
//!
//! Own code, where caches are to be had: one that counts who uses what is as slow as the memory behind each candidate, one after the other.
//! Here all candidates of a request wait for memory together, under one lock: 0.63 ms a request became 0.42.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};

use pulp::bytemuck::{cast_slice, cast_slice_mut};
use xxhash_rust::xxh3::xxh3_64;

use super::division::Division;
use crate::features::Parts;
use crate::wire::Object;

/// What a candidate takes beside its own words, about.
const OVERHEAD_BYTES: usize = 160;
const WORD_BYTES: usize = size_of::<f32>();
/// Words of a cache line.
const LINE: usize = 16;

/// All that a model remembers: of the columns that candidates were seen to bear.
#[derive(Debug)]
pub(super) struct CandidateCache {
    bytes_max: usize,
    now: RwLock<Option<Arc<Remembered>>>,
}

/// Candidates of one division.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) division: Division,
    /// `None`: nothing is remembered.
    shelf: Option<RwLock<Shelf>>,
}

/// What a net makes of the candidates of a request, whatever the context.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What each adds to the first layer `[candidates, width]`; anything where it is not known.
    pub(super) sums: Vec<f32>,
    /// Ids of each, of which crosses with the context's are made.
    pub(super) parts: Vec<Parts>,
    /// Whether each is known.
    pub(super) is_known: Vec<bool>,
}

/// A ring of words: the oldest candidates leave first.
#[derive(Debug)]
struct Shelf {
    /// Of each candidate its sums `[width]` and, filled up to whole words, its [`Object::identity`].
    words: Vec<f32>,
    /// Where the next one is put.
    next: usize,
    /// The oldest first.
    held: VecDeque<Held>,
    /// How many have left.
    left: usize,
    /// How many had come before it: the candidate of an identity with this hash.
    places: HashMap<u64, usize>,
}

/// A candidate on the shelf.
#[derive(Debug)]
struct Held {
    hash: u64,
    start: usize,
    words: usize,
    width: usize,
    identity_bytes: usize,
    parts: Parts,
}

impl CandidateCache {
    /// Of so many bytes; of none, nothing is remembered.
    pub(super) fn new(bytes_max: usize) -> Self {
        CandidateCache { bytes_max, now: RwLock::default() }
    }

    /// What is remembered now.
    pub(super) fn now(&self) -> Option<Arc<Remembered>> {
        // Whoever panicked with the lock has not harmed what is behind it: it is replaced as a whole.
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets all candidates: from here on they bear the columns of this division.
    pub(super) fn divide(&self, division: Division) -> Arc<Remembered> {
        let shelf = (self.bytes_max > 0).then(|| RwLock::new(Shelf::new(self.bytes_max)));
        let remembered = Arc::new(Remembered { division, shelf });
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&remembered));
        remembered
    }
}

/// A model's copy remembers on its own.
impl Clone for CandidateCache {
    fn clone(&self) -> Self {
        CandidateCache::new(self.bytes_max)
    }
}

impl Known {
    /// Of so many candidates, none of which is known.
    pub(super) fn clear(&mut self, candidates: usize, width: usize) {
        // What was in it is not cleared to be written over.
        self.sums.resize(candidates * width, 0.0);
        self.parts.clear();
        self.parts.resize(candidates, Parts::default());
        self.is_known.clear();
        self.is_known.resize(candidates, false);
    }
}

impl Remembered {
    /// Nothing, for a request whose candidates depend on its context.
    pub(super) fn nothing(division: Division) -> Self {
        Remembered { division, shelf: None }
    }

    /// Finds what is known of candidates; `into` is cleared.
    pub(super) fn get(&self, candidates: &[Object<'_>], width: usize, into: &mut Known) {
        into.clear(candidates.len(), width);
        let Some(shelf) = &self.shelf else { return };
        let identities: Vec<Cow<'_, [u8]>> = candidates.iter().map(|candidate| candidate.identity()).collect();
        let hashes: Vec<u64> = identities.iter().map(|identity| xxh3_64(identity)).collect();
        // A shelf that somebody left half filled is not looked into.
        let Ok(shelf) = shelf.read() else { return };
        let found: Vec<Option<&Held>> = hashes.iter().map(|hash| shelf.find(*hash)).collect();
        // They come from memory together, and not each when it is compared.
        let lines = found.iter().flatten().flat_map(|held| shelf.words[held.start..][..held.words].iter().step_by(LINE));
        std::hint::black_box(lines.fold(0, |all, word| all ^ word.to_bits()));
        for (place, (held, identity)) in found.iter().zip(&identities).enumerate() {
            let Some(held) = held.filter(|held| held.width == width && shelf.identity(held) == &**identity) else { continue };
            into.sums[place * width..][..width].copy_from_slice(&shelf.words[held.start..][..width]);
            into.parts[place].clone_from(&held.parts);
            into.is_known[place] = true;
        }
    }

    /// Remembers these candidates, of which `known` has the sums `[candidates, width]` and ids. Where somebody else is at it, the next request
    /// will.
    pub(super) fn insert(&self, candidates: &[Object<'_>], places: impl Iterator<Item = usize>, width: usize, known: &Known) {
        let Some(shelf) = &self.shelf else { return };
        match shelf.try_write() {
            Ok(mut shelf) => {
                for place in places {
                    let sums = &known.sums[place * width..][..width];
                    shelf.put(&candidates[place].identity(), sums, known.parts[place].clone());
                }
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Poisoned(broken)) => {
                broken.into_inner().clear();
                shelf.clear_poison();
            }
        }
    }

    /// [`Object::identity`] of all that is known.
    pub(super) fn identities(&self) -> Vec<Vec<u8>> {
        let Some(Ok(shelf)) = self.shelf.as_ref().map(RwLock::read) else { return Vec::new() };
        shelf.held.iter().map(|held| shelf.identity(held).to_vec()).collect()
    }
}

impl Shelf {
    fn new(bytes_max: usize) -> Self {
        Shelf { words: vec![0.0; bytes_max / WORD_BYTES], next: 0, held: VecDeque::new(), left: 0, places: HashMap::new() }
    }

    fn clear(&mut self) {
        self.places.clear();
        self.left += self.held.len();
        self.held.clear();
        self.next = 0;
    }

    fn find(&self, hash: u64) -> Option<&Held> {
        let come = self.places.get(&hash)?;
        self.held.get(come - self.left)
    }

    fn identity(&self, held: &Held) -> &[u8] {
        &cast_slice(&self.words[held.start + held.width..held.start + held.words])[..held.identity_bytes]
    }

    /// The newest; those in its place leave. What is longer than the shelf is not put there.
    fn put(&mut self, identity: &[u8], sums: &[f32], parts: Parts) {
        let own = sums.len() + identity.len().div_ceil(WORD_BYTES);
        // Memory elsewhere is counted here.
        let words = own + (OVERHEAD_BYTES + parts.bytes()) / WORD_BYTES;
        if words > self.words.len() {
            return;
        }
        if self.next + words > self.words.len() {
            // Those behind are the oldest.
            while self.held.front().is_some_and(|oldest| oldest.start >= self.next) {
                self.pop();
            }
            self.next = 0;
        }
        let end = self.next + words;
        while self.held.front().is_some_and(|oldest| (self.next..end).contains(&oldest.start)) {
            self.pop();
        }
        let place = &mut self.words[self.next..self.next + own];
        place[..sums.len()].copy_from_slice(sums);
        cast_slice_mut(&mut place[sums.len()..])[..identity.len()].copy_from_slice(identity);
        let hash = xxh3_64(identity);
        self.places.insert(hash, self.left + self.held.len());
        self.held.push_back(Held { hash, start: self.next, words: own, width: sums.len(), identity_bytes: identity.len(), parts });
        self.next = end;
    }

    fn pop(&mut self) {
        let Some(oldest) = self.held.pop_front() else { return };
        // One that came later may have its place.
        if self.places.get(&oldest.hash) == Some(&self.left) {
            self.places.remove(&oldest.hash);
        }
        self.left += 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WIDTH: usize = 4;

    fn object(number: usize, length: usize) -> String {
        format!("{{\"n\":{number:0length$}}}")
    }

    fn remembered(bytes_max: usize) -> Arc<Remembered> {
        CandidateCache::new(bytes_max).divide(Division::default())
    }

    fn insert(remembered: &Remembered, object: &str, value: f32) {
        let mut known = Known::default();
        known.clear(1, WIDTH);
        known.sums.fill(value);
        remembered.insert(&[Object::Json(object)], std::iter::once(0), WIDTH, &known);
    }

    fn get(remembered: &Remembered, object: &str) -> Option<f32> {
        let mut known = Known::default();
        remembered.get(&[Object::Json(object)], WIDTH, &mut known);
        known.is_known[0].then(|| {
            assert!(known.sums.iter().all(|sum| *sum == known.sums[0]));
            known.sums[0]
        })
    }

    proptest! {
        #[test]
        fn what_is_found_is_what_was_put_last_and_the_newest_are_found(
            puts in proptest::collection::vec((0usize..30, 1usize..200), 1..200),
            bytes_max in 600usize..4000,
        ) {
            let remembered = remembered(bytes_max);
            let mut last = HashMap::new();
            for (turn, (number, length)) in puts.into_iter().enumerate() {
                let object = object(number, length);
                insert(&remembered, &object, turn as f32);
                prop_assert_eq!(get(&remembered, &object), Some(turn as f32));
                last.insert(object, turn as f32);
                for (object, value) in &last {
                    prop_assert!(get(&remembered, object).is_none_or(|found| found == *value));
                }
                let shelf = remembered.shelf.as_ref().expect("not of no bytes").read().expect("nobody panicked");
                let mut taken: Vec<_> = shelf.held.iter().map(|held| held.start..held.start + held.words).collect();
                taken.sort_by_key(|words| words.start);
                prop_assert!(taken.windows(2).all(|pair| pair[0].end <= pair[1].start));
                prop_assert!(taken.last().is_none_or(|last| last.end <= shelf.words.len()));
                prop_assert!(shelf.places.len() <= shelf.held.len());
            }
        }
    }

    #[test]
    fn as_many_are_held_as_there_is_room_for() {
        let remembered = remembered(10_000);
        (0..100).for_each(|number| insert(&remembered, &object(number, 8), number as f32));
        let held = (0..100).filter(|number| get(&remembered, &object(*number, 8)).is_some()).collect::<Vec<_>>();
        let each = OVERHEAD_BYTES + WIDTH * WORD_BYTES + 16;
        assert_eq!(held, (100 - 10_000 / each..100).collect::<Vec<_>>());
        insert(&remembered, &object(0, 20_000), 7.0);
        assert_eq!(get(&remembered, &object(0, 20_000)), None, "longer than the shelf");
        assert_eq!(remembered.identities().len(), held.len());
    }

    #[test]
    fn nothing_is_remembered_in_no_bytes() {
        let remembered = remembered(0);
        insert(&remembered, "{}", 1.0);
        assert_eq!(get(&remembered, "{}"), None);
    }
}
