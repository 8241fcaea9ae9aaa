use std::ops::Range;

/// Keys in a range that are compared one by one; of more, which honest keys never are, half are left out at each step.
const SCANNED: usize = 8;

/// Where each key stands. Keys are XXH3 hashes, evenly spread: their leading bits say in which few of the sorted keys one is.
///
/// What a lookup reads is known before any of it has come, so a batch of lookups waits for memory together.
#[derive(Debug, Clone)]
pub(in crate::serving) struct Index {
    keys: Vec<u64>,
    /// `keys[starts[b]..starts[b + 1]]` begin with the bits b.
    starts: Vec<u32>,
    /// Bits of a key that are not leading ones.
    shift: u32,
}

/// Keys that are no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::serving) enum Unfit {
    /// This one stands twice.
    Twice(u64),
    /// More than fit.
    TooMany,
}

/// Of no keys.
impl Default for Index {
    fn default() -> Self {
        Index { keys: Vec::new(), starts: vec![0; 3], shift: u64::BITS - 1 }
    }
}

impl Index {
    /// Of keys in any order, and with it the order that sorts them where they are not sorted: place in the index → place in `keys`.
    pub(in crate::serving) fn new(mut keys: Vec<u64>) -> Result<(Self, Option<Vec<u32>>), Unfit> {
        let count = u32::try_from(keys.len()).map_err(|_| Unfit::TooMany)?;
        let order = (!keys.is_sorted()).then(|| {
            let mut order: Vec<u32> = (0..count).collect();
            order.sort_unstable_by_key(|place| keys[*place as usize]);
            keys = order.iter().map(|place| keys[*place as usize]).collect();
            order
        });
        if let Some(pair) = keys.array_windows().find(|[key, next]| key == next) {
            return Err(Unfit::Twice(pair[0]));
        }
        // Two keys to a range: one cache line has them both.
        let bits = (keys.len() / 2).max(2).next_power_of_two().trailing_zeros();
        let shift = u64::BITS - bits;
        let mut starts = Vec::with_capacity((1 << bits) + 1);
        let mut place = 0;
        for range in 0..1_u64 << bits {
            starts.push(place as u32);
            place += keys[place..].iter().take_while(|key| *key >> shift == range).count();
        }
        starts.push(count);
        Ok((Index { keys, starts, shift }, order))
    }

    pub(in crate::serving) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The place of a key.
    pub(in crate::serving) fn find(&self, key: u64) -> Option<usize> {
        self.search(key, self.range(key))
    }

    /// The places of `keys` into a cleared `into`.
    pub(in crate::serving) fn find_all(&self, keys: &[u64], ranges: &mut Vec<Range<u32>>, into: &mut Vec<Option<u32>>) {
        ranges.clear();
        ranges.extend(keys.iter().map(|key| self.range(*key)));
        // They come from memory together, since none has to be compared before the next is asked for.
        let touched = ranges.iter().filter_map(|range| self.keys.get(range.start as usize));
        std::hint::black_box(touched.fold(0, |all, key| all ^ key));
        into.clear();
        into.extend(keys.iter().zip(&*ranges).map(|(key, range)| self.search(*key, range.clone()).map(|place| place as u32)));
    }

    fn range(&self, key: u64) -> Range<u32> {
        let range = (key >> self.shift) as usize;
        self.starts[range]..self.starts[range + 1]
    }

    fn search(&self, key: u64, range: Range<u32>) -> Option<usize> {
        let start = range.start as usize;
        let keys = &self.keys[start..range.end as usize];
        let found = if keys.len() <= SCANNED { keys.iter().position(|held| *held == key) } else { keys.binary_search(&key).ok() };
        found.map(|place| start + place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: u64) -> Vec<u64> {
        (1..=count).map(|number| number.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()
    }

    #[test]
    fn every_key_is_found_where_the_order_says_and_no_other() {
        for count in [0, 1, 2, 3, 100, 5000] {
            let keys = keys(count);
            let (index, order) = Index::new(keys.clone()).expect("good keys");
            assert_eq!(index.len(), keys.len());
            let place = |place: usize| order.as_ref().map_or(place, |order| order[place] as usize);
            let (mut ranges, mut found) = (Vec::new(), Vec::new());
            index.find_all(&keys, &mut ranges, &mut found);
            for (number, (key, found)) in keys.iter().zip(found).enumerate() {
                assert_eq!(index.find(*key).map(place), Some(number));
                assert_eq!(found.map(|found| place(found as usize)), Some(number));
                assert!([key + 1, key - 1, !key].iter().all(|other| index.find(*other).is_none() || keys.contains(other)));
            }
            assert_eq!((index.find(0), index.find(u64::MAX)), (None, None));
        }
        assert_eq!((Index::default().find(0), Index::default().find(u64::MAX)), (None, None));
    }

    #[test]
    fn keys_that_all_begin_alike_are_found() {
        let (index, order) = Index::new((0..1000).collect()).expect("good keys");
        assert_eq!(order, None);
        assert!((0..1000).all(|key| index.find(key) == Some(key as usize)));
        let (index, _) = Index::new((0..1000).map(|key| u64::MAX - key).collect()).expect("good keys");
        assert_eq!((index.find(u64::MAX), index.find(u64::MAX - 999), index.find(u64::MAX - 1000)), (Some(999), Some(0), None));
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        assert_eq!(Index::new(vec![5, 9, 5]).err(), Some(Unfit::Twice(5)));
    }
}
