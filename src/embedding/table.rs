use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::Adagrad;
use crate::config::{EmbeddingConfig, OptimizerConfig};

/// Rows per chunk of storage: at dim 16 a chunk is 512 KiB, so a growing table claims memory in steps nobody notices.
const ROWS_PER_CHUNK: usize = 4096;
/// Increment of splitmix64, the generator behind initial rows.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
/// Bits of a word of the touched set.
const WORD: usize = u64::BITS as usize;

/// Keys are XXH3 hashes already; hashing them again would cost time and mix nothing.
#[derive(Debug, Default)]
pub(super) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

/// A map by feature key.
pub(super) type KeyMap = HashMap<u64, u32, BuildHasherDefault<PassThrough>>;

/// Embedding rows: all, or those touched since the capture before.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsState {
    /// Floats per row; its optimizer state is as many again.
    pub dim: usize,
    /// Keys, in the order the table knows them.
    pub keys: Vec<u64>,
    /// `[keys, 2·dim]`: weights, then Adagrad accumulators.
    pub data: Vec<f32>,
    /// All rows of the table.
    pub full: bool,
}

/// Saved rows that do not make a table of this configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// Another width.
    #[error("embedding rows have {found} floats, model.embedding.dim is {expected}")]
    Dim {
        /// Of the saved rows.
        found: usize,
        /// Of the configuration.
        expected: usize,
    },
    /// An increment where the whole table is needed.
    #[error("embedding rows are an increment, restoring needs the full table")]
    Partial,
    /// Keys and data do not belong together.
    #[error("embedding rows hold {floats} floats for {keys} keys of 2·{dim}")]
    Length {
        /// Keys.
        keys: usize,
        /// Floats.
        floats: usize,
        /// Floats per row.
        dim: usize,
    },
    /// A key occurs twice.
    #[error("embedding rows hold key {key:#018x} twice")]
    Duplicate {
        /// The key.
        key: u64,
    },
    /// More rows than a table can number.
    #[error("embedding rows hold {keys} keys, a table holds at most 2^32 - 1")]
    TooMany {
        /// Keys.
        keys: usize,
    },
}

/// One row per id ever trained: id → row by an exact map, so two ids never share a row.
///
/// A row is `dim` weights followed by `dim` Adagrad accumulators, side by side because an update needs both. Rows live in chunks of
/// fixed size: growth allocates a chunk and moves nothing.
#[derive(Debug)]
pub struct Table {
    dim: usize,
    seed: u64,
    init_scale: f32,
    initial_accumulator: f32,
    index: KeyMap,
    keys: Vec<u64>,
    chunks: Vec<Box<[f32]>>,
    /// One bit per row, set by an update, cleared by a capture.
    touched: Vec<u64>,
}

impl Table {
    /// An empty table; `seed` decides the initial values of rows to come.
    #[must_use]
    pub fn new(embedding: &EmbeddingConfig, optimizer: &OptimizerConfig, seed: u64) -> Self {
        Table {
            dim: embedding.dim,
            seed,
            init_scale: embedding.init_scale,
            initial_accumulator: optimizer.embedding_initial_accumulator,
            index: KeyMap::default(),
            keys: Vec::new(),
            chunks: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// A table with this one's settings and the rows of `state`, in their order, none of them touched.
    ///
    /// # Errors
    /// [`TableError`] where `state` is not a full table of this width.
    pub fn restored(&self, state: &RowsState) -> Result<Self, TableError> {
        let (dim, keys) = (self.dim, state.keys.len());
        if state.dim != dim {
            return Err(TableError::Dim { found: state.dim, expected: dim });
        }
        if !state.full {
            return Err(TableError::Partial);
        }
        if state.data.len() != keys * 2 * dim {
            return Err(TableError::Length { keys, floats: state.data.len(), dim });
        }
        if u32::try_from(keys).is_err() {
            return Err(TableError::TooMany { keys });
        }
        let mut table = Table {
            index: KeyMap::with_capacity_and_hasher(keys, BuildHasherDefault::default()),
            keys: Vec::with_capacity(keys),
            chunks: Vec::new(),
            touched: Vec::new(),
            ..*self
        };
        for (i, &key) in state.keys.iter().enumerate() {
            if table.index.contains_key(&key) {
                return Err(TableError::Duplicate { key });
            }
            if let Some(row) = table.push(key) {
                table.row_mut(row).copy_from_slice(&state.data[i * 2 * dim..(i + 1) * 2 * dim]);
            }
        }
        Ok(table)
    }

    /// Floats per row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// No rows yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The row of an id that has been trained.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<u32> {
        self.index.get(&key).copied()
    }

    /// Writes the weights `[dim]` of `key`, whose row is `row`: those of the row, or the initial ones.
    pub fn read(&self, key: u64, row: Option<u32>, into: &mut [f32]) {
        match row {
            Some(row) => into.copy_from_slice(&self.row(row)[..self.dim]),
            None => initial_weights(key, self.seed, self.init_scale, into),
        }
    }

    /// One optimizer step on the row of `key`, created first where `row` is `None`. `gradient` is `[dim]`.
    ///
    /// A table of 2³² − 1 rows is full: further ids stay at their initial value.
    pub fn update(&mut self, key: u64, row: Option<u32>, gradient: &[f32], rule: &Adagrad) {
        let Some(row) = row.or_else(|| self.create(key)) else { return };
        let dim = self.dim;
        let (weights, accumulators) = self.row_mut(row).split_at_mut(dim);
        rule.update(weights, accumulators, gradient);
        self.touched[row as usize / WORD] |= 1 << (row as usize % WORD);
    }

    /// A copy of all rows, or of those updated since the capture before, in row order. Forgets what was touched.
    pub fn capture(&mut self, full: bool) -> RowsState {
        let rows: Vec<u32> = if full { (0..self.keys.len() as u32).collect() } else { self.touched_rows().collect() };
        let mut state =
            RowsState { dim: self.dim, keys: Vec::with_capacity(rows.len()), data: Vec::with_capacity(rows.len() * 2 * self.dim), full };
        for row in rows {
            state.keys.push(self.keys[row as usize]);
            state.data.extend_from_slice(self.row(row));
        }
        self.touched.fill(0);
        state
    }

    fn touched_rows(&self) -> impl Iterator<Item = u32> {
        let bits = |(i, &word): (usize, &u64)| (0..WORD).filter(move |bit| word >> bit & 1 == 1).map(move |bit| (i * WORD + bit) as u32);
        self.touched.iter().enumerate().filter(|(_, word)| **word != 0).flat_map(bits)
    }

    fn create(&mut self, key: u64) -> Option<u32> {
        let row = self.push(key)?;
        let (dim, seed, init_scale, initial_accumulator) = (self.dim, self.seed, self.init_scale, self.initial_accumulator);
        let (weights, accumulators) = self.row_mut(row).split_at_mut(dim);
        initial_weights(key, seed, init_scale, weights);
        accumulators.fill(initial_accumulator);
        Some(row)
    }

    /// Appends a row of zeros.
    fn push(&mut self, key: u64) -> Option<u32> {
        let row = u32::try_from(self.keys.len()).ok().filter(|row| *row < u32::MAX)?;
        if self.keys.len() == self.chunks.len() * ROWS_PER_CHUNK {
            self.chunks.push(vec![0.0; ROWS_PER_CHUNK * 2 * self.dim].into_boxed_slice());
        }
        if self.keys.len() == self.touched.len() * WORD {
            self.touched.push(0);
        }
        self.keys.push(key);
        self.index.insert(key, row);
        Some(row)
    }

    fn row(&self, row: u32) -> &[f32] {
        let (chunk, start) = self.place(row);
        &self.chunks[chunk][start..start + 2 * self.dim]
    }

    fn row_mut(&mut self, row: u32) -> &mut [f32] {
        let (chunk, start) = self.place(row);
        &mut self.chunks[chunk][start..start + 2 * self.dim]
    }

    fn place(&self, row: u32) -> (usize, usize) {
        (row as usize / ROWS_PER_CHUNK, row as usize % ROWS_PER_CHUNK * 2 * self.dim)
    }
}

/// Uniform in ±scale, from key and seed alone, by splitmix64: the value of an unseen id does not depend on when it is asked for, so a
/// prediction before its first update already reads what the row will start from.
fn initial_weights(key: u64, seed: u64, scale: f32, into: &mut [f32]) {
    if scale == 0.0 {
        return into.fill(0.0);
    }
    let mut state = key ^ seed.wrapping_mul(GOLDEN);
    for weight in into {
        state = state.wrapping_add(GOLDEN);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        // The upper 24 bits fill an f32's mantissa exactly.
        let unit = (z >> 40) as f32 / (1 << 24) as f32;
        *weight = (2.0 * unit - 1.0) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Adagrad = Adagrad { lr: 0.1 };

    fn table(dim: usize, init_scale: f32) -> Table {
        let optimizer = OptimizerConfig { embedding_initial_accumulator: 0.1, ..OptimizerConfig::default() };
        Table::new(&EmbeddingConfig { dim, init_scale }, &optimizer, 7)
    }

    fn weights(table: &Table, key: u64) -> Vec<f32> {
        let mut into = vec![f32::NAN; table.dim()];
        table.read(key, table.find(key), &mut into);
        into
    }

    #[test]
    fn grows_over_chunks_without_losing_a_row() {
        let mut table = table(2, 0.0);
        let rows = ROWS_PER_CHUNK as u64 * 2 + 3;
        let key = |i: u64| i.wrapping_mul(GOLDEN);
        for i in 0..rows {
            table.update(key(i), None, &[i as f32, -1.0], &Adagrad { lr: 1.0 });
        }
        assert_eq!(table.len() as u64, rows);
        assert_eq!(table.chunks.len(), 3);
        for i in 0..rows {
            let g = i as f32;
            assert_eq!(table.find(key(i)), Some(i as u32));
            assert_eq!(weights(&table, key(i)), [-(g / (0.1_f32 + g * g).sqrt()), 1.0 / 1.1_f32.sqrt()]);
        }
    }

    #[test]
    fn an_unseen_id_reads_what_its_row_starts_from() {
        let mut table = table(8, 0.05);
        let before = weights(&table, 42);
        assert!(before.iter().all(|w| w.abs() <= 0.05) && before.iter().any(|w| *w != 0.0), "{before:?}");
        assert_ne!(before, weights(&table, 43));
        table.update(42, None, &[0.0; 8], &RULE);
        assert_eq!(weights(&table, 42), before);
        assert_eq!(table.capture(true).data[8..], [0.1; 8]);
    }

    #[test]
    fn zero_scale_reads_zeros() {
        assert_eq!(weights(&table(4, 0.0), 99), [0.0; 4]);
    }

    #[test]
    fn an_increment_holds_what_was_touched_since_the_capture_before_in_row_order() {
        let mut table = table(1, 0.0);
        for key in 0..200 {
            table.update(key, None, &[1.0], &RULE);
        }
        assert_eq!(table.capture(true).keys, (0..200).collect::<Vec<_>>());
        assert_eq!(table.capture(false).keys, [0; 0]);
        for key in [130, 3, 500, 3] {
            table.update(key, table.find(key), &[1.0], &RULE);
        }
        let increment = table.capture(false);
        assert_eq!(increment.keys, [3, 130, 500]);
        assert!(!increment.full);
        assert_eq!(table.capture(false).keys, [0; 0]);
    }

    #[test]
    fn restores_bit_equal_and_untouched() {
        let mut table = table(3, 0.1);
        for key in [9, 2, 77] {
            table.update(key, None, &[0.5, -0.25, 3.0], &RULE);
        }
        let state = table.capture(true);
        let mut other = self::table(3, 0.1).restored(&state).expect("same width");
        assert_eq!(other.capture(false).keys, [0; 0]);
        assert_eq!(other.capture(true), state);
    }

    #[test]
    fn refuses_rows_that_do_not_fit() {
        let mut source = table(2, 0.0);
        source.update(5, None, &[1.0, 1.0], &RULE);
        let good = source.capture(true);
        let refused = |state: RowsState| table(2, 0.0).restored(&state).expect_err("does not fit");
        assert_eq!(refused(RowsState { dim: 3, ..good.clone() }), TableError::Dim { found: 3, expected: 2 });
        assert_eq!(refused(RowsState { full: false, ..good.clone() }), TableError::Partial);
        assert_eq!(refused(RowsState { data: vec![0.0; 3], ..good.clone() }), TableError::Length { keys: 1, floats: 3, dim: 2 });
        let twice = RowsState { keys: vec![5, 5], data: [good.data.clone(), good.data.clone()].concat(), ..good };
        assert_eq!(refused(twice), TableError::Duplicate { key: 5 });
    }
}
