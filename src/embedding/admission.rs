use super::random::SplitMix;
use crate::config::AdmissionConfig;

/// Counters an id is counted in; four is near the best at the fill kept below.
const HASHES: u64 = 4;
/// Share of counters above zero at which all are halved: an id never seen then finds all four of its own taken with a chance of
/// 0.4⁴ = 2.6 %.
const FILL_MAX: f64 = 0.4;

/// Decides which new ids get a row.
///
/// By count: an id is admitted in the batch that brings its occurrences to `min_count`. They are counted in a counting Bloom filter
/// (Fan et al. 2000) with conservative update (Estan, Varghese 2002): of an id's counters only the lowest move. The filter never counts
/// too little; two ids that share all counters count too much, and then get their rows early, which costs memory and nothing else. When
/// 40 % of the counters are in use, all are halved (Einziger et al. 2017), so that the filter forgets what does not come again and an
/// endless stream cannot fill it. Halving may cost a rare id half of its count.
///
/// By probability: every occurrence admits with chance p, drawn from the key, the seed and the number of the occurrence, so that the same
/// stream gives the same rows.
#[derive(Debug, Clone)]
pub(super) struct Admission {
    rule: Rule,
    seed: u64,
    state: AdmissionState,
    /// Counters above zero.
    used: usize,
    /// A capture that is under way.
    copying: Option<AdmissionCopy>,
}

#[derive(Debug, Clone, Copy)]
enum Rule {
    All,
    Count { least: u8, counters: usize },
    Probability { p: f32 },
}

/// What has been counted so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdmissionState {
    /// Occurrences decided by chance.
    pub drawn: u64,
    /// The filter's counters; none unless ids are admitted by count.
    pub counters: Vec<u8>,
}

/// A copy of what has been counted, as of its beginning: a filter may be too large to be copied between two steps.
#[derive(Debug, Clone, Default)]
pub(super) struct AdmissionCopy {
    drawn: u64,
    /// Counters copied so far, as they were then.
    counters: Vec<u8>,
    /// What counters held that were changed before they were copied, in the order of the changes.
    changed: Vec<(u32, u8)>,
}

impl AdmissionCopy {
    /// Takes back the changes, the last one first, so that each counter ends as it was at the beginning.
    pub(super) fn state(mut self) -> AdmissionState {
        for (place, before) in self.changed.into_iter().rev() {
            self.counters[place as usize] = before;
        }
        AdmissionState { drawn: self.drawn, counters: self.counters }
    }
}

impl Admission {
    pub(super) fn new(config: &AdmissionConfig, seed: u64) -> Self {
        let rule = if config.min_count > 1 {
            Rule::Count { least: config.min_count, counters: config.filter.0 as usize }
        } else if config.probability < 1.0 {
            Rule::Probability { p: config.probability }
        } else {
            Rule::All
        };
        Admission { rule, seed, state: AdmissionState::default(), used: 0, copying: None }.restored(&AdmissionState::default())
    }

    /// This rule, continued from `state`. A filter of another size starts empty: its counts cannot be carried over.
    pub(super) fn restored(&self, state: &AdmissionState) -> Self {
        let mut state = state.clone();
        let counters = if let Rule::Count { counters, .. } = self.rule { counters } else { 0 };
        if state.counters.len() != counters {
            state.counters = vec![0; counters];
        }
        let used = used(&state.counters);
        Admission { state, used, rule: self.rule, seed: self.seed, copying: None }
    }

    pub(super) fn begin_capture(&mut self) {
        let counters = Vec::with_capacity(self.state.counters.len());
        self.copying = Some(AdmissionCopy { drawn: self.state.drawn, counters, changed: Vec::new() });
    }

    /// Copies up to `bytes` counters of the capture that is under way. Returns how many it copied.
    pub(super) fn copy(&mut self, bytes: usize) -> usize {
        let Some(copy) = &mut self.copying else { return 0 };
        let rest = &self.state.counters[copy.counters.len()..];
        let rest = &rest[..bytes.min(rest.len())];
        copy.counters.extend_from_slice(rest);
        rest.len()
    }

    /// Copies what is left of the capture that is under way, if one is, and ends it.
    pub(super) fn end_capture(&mut self) -> Option<AdmissionCopy> {
        self.copy(usize::MAX);
        self.copying.take()
    }

    /// Whether `key`, which has no row and occurs `occurrences` times in this batch, gets one now.
    pub(super) fn admits(&mut self, key: u64, occurrences: u32) -> bool {
        match self.rule {
            Rule::All => true,
            Rule::Count { least, .. } => self.count(key, occurrences) >= least,
            Rule::Probability { p } => (0..occurrences).any(|_| {
                self.state.drawn += 1;
                SplitMix::new(SplitMix::new(key, self.seed).next(), self.state.drawn).unit() < p
            }),
        }
    }

    /// Adds to the count of `key`; the new count, or more.
    fn count(&mut self, key: u64, occurrences: u32) -> u8 {
        let counters = &mut self.state.counters;
        let mut random = SplitMix::new(key, self.seed);
        let (first, step) = (random.next(), random.next() | 1);
        // The upper half of a product maps 64 bits evenly onto any number of counters.
        let place = |i: u64| ((u128::from(first.wrapping_add(i.wrapping_mul(step))) * counters.len() as u128) >> 64) as usize;
        let places: [usize; HASHES as usize] = std::array::from_fn(|i| place(i as u64));
        let before = places.iter().map(|place| counters[*place]).min().unwrap_or(0);
        let after = before.saturating_add(u8::try_from(occurrences).unwrap_or(u8::MAX));
        for place in places {
            if let Some(copy) = self.copying.as_mut().filter(|copy| place >= copy.counters.len() && counters[place] < after) {
                copy.changed.push((place as u32, counters[place]));
            }
            self.used += usize::from(counters[place] == 0);
            counters[place] = counters[place].max(after);
        }
        while self.used as f64 > FILL_MAX * self.state.counters.len() as f64 {
            self.copy(usize::MAX);
            self.state.counters.iter_mut().for_each(|counter| *counter /= 2);
            self.used = used(&self.state.counters);
        }
        after
    }
}

fn used(counters: &[u8]) -> usize {
    counters.iter().filter(|counter| **counter > 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteLength;

    fn by_count(min_count: u8, filter: u64) -> Admission {
        Admission::new(&AdmissionConfig { min_count, filter: ByteLength(filter), ..AdmissionConfig::default() }, 3)
    }

    fn capture(admission: &mut Admission) -> AdmissionState {
        admission.begin_capture();
        admission.end_capture().expect("begun").state()
    }

    fn by_chance(probability: f32) -> Admission {
        Admission::new(&AdmissionConfig { probability, ..AdmissionConfig::default() }, 3)
    }

    #[test]
    fn admits_everything_unless_told_otherwise() {
        let mut admission = Admission::new(&AdmissionConfig::default(), 3);
        assert!((0..100).all(|key| admission.admits(key, 1)));
        assert_eq!(capture(&mut admission), AdmissionState::default());
    }

    #[test]
    fn counts_occurrences_within_and_across_batches() {
        let mut admission = by_count(3, 1 << 16);
        assert_eq!(
            [(7, 1), (7, 1), (8, 2), (7, 1), (8, 5), (9, 3)].map(|(key, n)| admission.admits(key, n)),
            [false, false, false, true, true, true]
        );
    }

    #[test]
    fn never_counts_too_little_and_rarely_too_much_below_the_fill_it_keeps() {
        let mut admission = by_count(2, 1 << 16);
        // 1/8 of the counters: as many ids as there may be between two halvings.
        let early = (0..1 << 13).filter(|key| admission.admits(*key, 1)).count();
        assert!(early < (1 << 13) / 50, "{early} admitted at their first occurrence");
        assert!((0..1 << 13).all(|key| admission.admits(key, 1)));
    }

    #[test]
    fn an_endless_stream_of_ids_seen_once_does_not_fill_it() {
        let mut admission = by_count(2, 1 << 12);
        let early = (0..100_000).filter(|key| admission.admits(*key, 1)).count();
        assert!(early < 2600, "{early} admitted at their first occurrence");
        assert_eq!(admission.used, used(&admission.state.counters));
        assert!(admission.used as f64 <= FILL_MAX * 4096.0);
    }

    #[test]
    fn chance_is_what_was_asked_for_and_repeats() {
        let (mut first, mut second) = (by_chance(0.25), by_chance(0.25));
        let decide = |admission: &mut Admission| (0..10_000).map(|key| admission.admits(key % 500, 1)).collect::<Vec<_>>();
        let (decided, again) = (decide(&mut first), decide(&mut second));
        assert_eq!(decided, again);
        let admitted = decided.iter().filter(|admitted| **admitted).count();
        assert!((2370..2630).contains(&admitted), "{admitted}");
    }

    #[test]
    fn goes_on_bit_equal_from_a_captured_state() {
        for mut admission in [by_count(4, 1 << 10), by_chance(0.1)] {
            let decide =
                |admission: &mut Admission, from: u64| (from..from + 3000).map(|i| admission.admits(i % 701, 1)).collect::<Vec<_>>();
            decide(&mut admission, 0);
            let state = capture(&mut admission);
            let mut restored = admission.restored(&state);
            assert_eq!(decide(&mut restored, 3000), decide(&mut admission, 3000));
            assert_eq!(capture(&mut restored), capture(&mut admission));
        }
    }

    #[test]
    fn a_filter_of_another_size_starts_empty() {
        let mut small = by_count(2, 1 << 10);
        small.admits(1, 1);
        let mut large = by_count(2, 1 << 11).restored(&capture(&mut small));
        assert_eq!(capture(&mut large).counters.len(), 1 << 11);
        assert!(!large.admits(1, 1));
    }

    #[test]
    fn a_copy_in_slices_is_what_was_there_when_it_began_also_where_counters_are_halved_meanwhile() {
        for slice in [1, 7, 100, 5000] {
            let mut admission = by_count(2, 1 << 12);
            let mut next = 0;
            let mut count = |admission: &mut Admission, ids: u64| {
                for key in next..next + ids {
                    let _admitted = admission.admits(key % 3000, 1);
                }
                next += ids;
            };
            count(&mut admission, 500);
            for round in 0..40 {
                let expected = admission.state.clone();
                admission.begin_capture();
                for _ in 0..round {
                    count(&mut admission, 40);
                    admission.copy(slice);
                }
                assert_eq!(admission.end_capture().expect("begun").state(), expected, "round {round}, slices of {slice}");
            }
        }
    }
}
