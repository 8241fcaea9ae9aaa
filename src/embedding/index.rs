use hashbrown::HashTable;

/// Parts of the index. Each doubles by itself: at 10 million rows the largest step moves some 50,000 entries, a few milliseconds.
const SHARDS: usize = 256;
/// Finer than the shards, so that their sizes come out right.
const SLICES: usize = 4096;

/// Row numbers by key, at four bytes and one control byte per slot; the keys themselves stand with the rows.
///
/// One table of 10 million entries would stop the world to double. Equal shards would all double within a few percent of growth, and
/// leave half of all slots empty just then. So shards grow geometrically, the last to nearly twice the first: while the number of rows
/// doubles, one shard after the other does, and the share of empty slots stays the same.
#[derive(Debug)]
pub(super) struct Index {
    shards: Vec<HashTable<u32>>,
    /// The shard of every slice of the hash.
    slices: Box<[u8]>,
}

impl Index {
    pub(super) fn new() -> Self {
        // Slice x of [0, 1) belongs to shard ⌊SHARDS · log₂(1 + x)⌋: shard i is as wide as 2^(i/SHARDS).
        let shard = |slice: usize| (SHARDS as f64 * (1.0 + slice as f64 / SLICES as f64).log2()) as u8;
        Index { shards: vec![HashTable::new(); SHARDS], slices: (0..SLICES).map(shard).collect() }
    }

    /// The row of `key`; `key_of` knows the key of a row.
    pub(super) fn find(&self, key: u64, key_of: impl Fn(u32) -> u64) -> Option<u32> {
        self.shards[self.shard(key)].find(key, |row| key_of(*row) == key).copied()
    }

    /// Adds the row of a key that has none.
    pub(super) fn insert(&mut self, key: u64, row: u32, key_of: impl Fn(u32) -> u64) {
        let shard = self.shard(key);
        self.shards[shard].insert_unique(key, row, |row| key_of(*row));
    }

    /// Forgets `row`, whose key is `key`.
    pub(super) fn remove(&mut self, key: u64, row: u32) {
        let shard = self.shard(key);
        if let Ok(entry) = self.shards[shard].find_entry(key, |found| *found == row) {
            entry.remove();
        }
    }

    /// Tells the row of `key` from `old` to `new`.
    pub(super) fn renumber(&mut self, key: u64, old: u32, new: u32) {
        let shard = self.shard(key);
        if let Some(row) = self.shards[shard].find_mut(key, |row| *row == old) {
            *row = new;
        }
    }

    /// Keys are XXH3 hashes already. A table takes the lowest bits for the slot and the highest for the control byte; these are between.
    fn shard(&self, key: u64) -> usize {
        self.slices[(key >> 40) as usize % SLICES].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(count: usize) -> Vec<u64> {
        (0..count as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect()
    }

    #[test]
    fn finds_what_it_holds_and_nothing_else() {
        let keys = keys(20_000);
        let mut index = Index::new();
        let key_of = |row: u32| keys[row as usize];
        for (row, key) in keys.iter().enumerate() {
            assert_eq!(index.find(*key, key_of), None);
            index.insert(*key, row as u32, key_of);
        }
        (0..keys.len()).step_by(2).for_each(|row| index.remove(keys[row], row as u32));
        for (row, key) in keys.iter().enumerate() {
            assert_eq!(index.find(*key, key_of), (row % 2 == 1).then_some(row as u32));
        }
    }

    #[test]
    fn shards_double_one_after_the_other() {
        let keys = keys(400_000);
        let mut index = Index::new();
        let capacity = |index: &Index| index.shards.iter().map(HashTable::capacity).sum::<usize>();
        let mut before = 0;
        for (row, key) in keys.iter().enumerate() {
            index.insert(*key, row as u32, |row| keys[row as usize]);
            if row >= 100_000 && row % 10_000 == 0 {
                let now = capacity(&index);
                assert!(before == 0 || now - before < now / 5, "at {row} rows from {before} to {now}");
                assert!(now < 2 * row, "{now} at {row} rows");
                before = now;
            }
        }
    }
}
