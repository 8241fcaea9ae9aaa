use super::admission::{Admission, AdmissionCopy};
use super::expiry::{Expiry, SweepState, tick};
use super::random::SplitMix;
use super::{Captured, RowOptimizer, Rows, RowsCopy, RowsState, TableError};
use crate::config::{EmbeddingConfig, EmbeddingOptimizer, OptimizerConfig};
use crate::domain::EventTime;

/// One row per id admitted: [`Rows`] with initial weights and an optimizer.
///
/// A row is `dim` weights followed by its optimizer state, side by side because an update needs both, and where rows expire by the tick of
/// its last update.
#[derive(Debug)]
pub struct Table {
    dim: usize,
    seed: u64,
    init_scale: f32,
    optimizer: RowOptimizer,
    admission: Admission,
    expiry: Option<Expiry>,
    /// Tick of the batch being applied.
    now: f32,
    /// Rows created by it.
    created: usize,
    rows: Rows,
    /// A capture that is under way.
    copying: Option<Begun>,
}

/// What is small enough to be copied when a capture begins.
#[derive(Debug, Clone)]
struct Begun {
    full: bool,
    rows: usize,
    sweep: SweepState,
}

/// A complete copy of a table, not put together yet.
#[derive(Debug)]
pub struct TableCopy {
    dim: usize,
    width: usize,
    optimizer: EmbeddingOptimizer,
    begun: Begun,
    admission: AdmissionCopy,
    rows: RowsCopy,
}

impl TableCopy {
    /// As if it had been copied at once.
    #[must_use]
    pub fn state(self) -> RowsState {
        let Captured { keys, data, places, removed } = self.rows.captured();
        RowsState {
            dim: self.dim,
            width: self.width,
            optimizer: self.optimizer,
            keys,
            data,
            full: self.begun.full,
            places,
            rows: Some(self.begun.rows),
            removed,
            admission: self.admission.state(),
            sweep: self.begun.sweep,
        }
    }
}

impl Table {
    /// An empty table; `seed` decides the initial values of rows to come.
    #[must_use]
    pub fn new(embedding: &EmbeddingConfig, optimizer: &OptimizerConfig, seed: u64) -> Self {
        let (dim, optimizer) = (embedding.dim, RowOptimizer::new(optimizer));
        let expiry = Expiry::new(&embedding.expiry);
        let rows = Rows::new(dim + optimizer.state_width(dim) + usize::from(expiry.is_some()));
        let admission = Admission::new(&embedding.admission, seed);
        Table { dim, seed, init_scale: embedding.init_scale, optimizer, admission, expiry, now: 0.0, created: 0, rows, copying: None }
    }

    /// A table with this one's settings and the rows of `state`, in their order, none of them touched.
    ///
    /// # Errors
    /// [`TableError`] where `state` is not a full table of this shape.
    pub fn restored(&self, state: &RowsState) -> Result<Self, TableError> {
        let width = self.rows.width();
        if state.dim != self.dim {
            return Err(TableError::Dim { found: state.dim, expected: self.dim });
        }
        let (found, expected) = (state.optimizer, self.optimizer.kind());
        if found != expected {
            return Err(TableError::Optimizer { found, expected });
        }
        let unstamped = self.dim + self.optimizer.state_width(self.dim);
        if ![unstamped, unstamped + 1].contains(&state.width) {
            return Err(TableError::Width { found: state.width, expected: width });
        }
        if !state.full {
            return Err(TableError::Partial);
        }
        let rows = Rows::restored(state.width, &state.keys, &state.data)?.with_width(width);
        let expiry = self.expiry.as_ref().map(|expiry| expiry.restored(&state.sweep));
        Ok(Table { rows, admission: self.admission.restored(&state.admission), expiry, copying: None, ..*self })
    }

    /// Rows of as many weights, whichever optimizer trained them: where that is another one, with the state of new rows.
    #[must_use]
    pub fn adopted(&self, state: RowsState) -> RowsState {
        let (dim, optimizer) = (state.dim, self.optimizer.kind());
        if state.optimizer == optimizer || dim != self.dim || state.width < dim {
            return state;
        }
        let width = dim + self.optimizer.state_width(dim);
        let mut data = vec![0.0; state.keys.len() * width];
        for (row, saved) in data.chunks_exact_mut(width).zip(state.data.chunks_exact(state.width)) {
            let (weights, fresh) = row.split_at_mut(dim);
            weights.copy_from_slice(&saved[..dim]);
            self.optimizer.start(weights, fresh);
        }
        RowsState { width, optimizer, data, ..state }
    }

    /// What trains its rows.
    #[must_use]
    pub fn optimizer(&self) -> EmbeddingOptimizer {
        self.optimizer.kind()
    }

    /// Weights per row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// No rows yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The row of an id that has been trained.
    #[must_use]
    pub fn find(&self, key: u64) -> Option<u32> {
        self.rows.find(key)
    }

    /// Writes the weights `[dim]` of `key`, whose row is `row`: those of the row, or the initial ones.
    pub fn read(&self, key: u64, row: Option<u32>, into: &mut [f32]) {
        match row {
            Some(row) => into.copy_from_slice(&self.rows.get(row)[..self.dim]),
            None => initial_weights(key, self.seed, self.init_scale, into),
        }
    }

    /// Begins a batch of this time; without one, no row is stamped and none expires.
    pub fn begin(&mut self, time: Option<EventTime>) {
        self.now = time.map_or(0.0, tick);
        self.created = 0;
    }

    /// Ends a batch: removes some of the rows that have expired. Row numbers found before no longer hold.
    pub fn end(&mut self) {
        if let Some(expiry) = self.expiry.as_mut().filter(|_| self.now > 0.0) {
            expiry.sweep(&mut self.rows, self.now, self.created);
        }
    }

    /// Brings rows that are to be updated into the cache. Their loads overlap, those of one update after the other do not: 27,000 random
    /// rows of 10 million in half the time (tests/bench/embedding.rs).
    pub fn warm(&self, rows: &[Option<u32>]) {
        let ends = |row: &u32| {
            let row = self.rows.get(*row);
            row[0] + row[row.len() - 1]
        };
        std::hint::black_box(rows.iter().flatten().map(ends).sum::<f32>());
    }

    /// One optimizer step on the row of `key`, which occurs `occurrences` times in the batch. `gradient` is `[dim]`. Where `row` is `None`
    /// the row is created first, if the id is admitted; else nothing is trained.
    ///
    /// A table of 2³² − 1 rows is full: further ids stay at their initial value.
    pub fn update(&mut self, key: u64, row: Option<u32>, gradient: &[f32], occurrences: u32) {
        let Some(row) = row.or_else(|| self.create(key, occurrences)) else { return };
        let (weights, rest) = self.rows.get_mut(row).split_at_mut(self.dim);
        let (state, stamp) = rest.split_at_mut(self.optimizer.state_width(self.dim));
        self.optimizer.update(weights, state, gradient);
        stamp.iter_mut().for_each(|stamp| *stamp = stamp.max(self.now));
        self.rows.touch(row);
    }

    /// A copy of all rows, or of those updated since the capture before, in row order. Forgets what was touched, and a capture that is
    /// under way.
    pub fn capture(&mut self, full: bool) -> RowsState {
        self.begin_capture(full);
        self.end_capture().map(TableCopy::state).unwrap_or_default()
    }

    /// Begins a capture of the table as it is now, between two batches. See [`Rows::begin_capture`].
    pub fn begin_capture(&mut self, full: bool) {
        let sweep = self.expiry.as_ref().map(Expiry::capture).unwrap_or_default();
        self.copying = Some(Begun { full, rows: self.rows.len(), sweep });
        self.admission.begin_capture();
        self.rows.begin_capture(full);
    }

    /// Copies up to `rows` rows, or as much of the admission filter, of the capture that is under way. Returns how many it copied, 0 when
    /// none is left.
    pub fn copy(&mut self, rows: usize) -> usize {
        let row_bytes = self.rows.width() * size_of::<f32>();
        let counters = self.admission.copy(rows.saturating_mul(row_bytes)).div_ceil(row_bytes);
        counters + self.rows.copy(rows.saturating_sub(counters))
    }

    /// Copies what is left of the capture that is under way, if one is, and ends it.
    pub fn end_capture(&mut self) -> Option<TableCopy> {
        let (begun, admission, rows) = (self.copying.take()?, self.admission.end_capture()?, self.rows.end_capture()?);
        Some(TableCopy { dim: self.dim, width: self.rows.width(), optimizer: self.optimizer.kind(), begun, admission, rows })
    }

    fn create(&mut self, key: u64, occurrences: u32) -> Option<u32> {
        if !self.admission.admits(key, occurrences) {
            return None;
        }
        let row = self.rows.create(key)?;
        self.created += 1;
        let (weights, rest) = self.rows.get_mut(row).split_at_mut(self.dim);
        let (state, _) = rest.split_at_mut(self.optimizer.state_width(self.dim));
        initial_weights(key, self.seed, self.init_scale, weights);
        self.optimizer.start(weights, state);
        Some(row)
    }
}

/// Uniform in ±scale, from key and seed alone: the value of an unseen id does not depend on when it is asked for, so a prediction before
/// its first update already reads what the row will start from.
fn initial_weights(key: u64, seed: u64, scale: f32, into: &mut [f32]) {
    if scale == 0.0 {
        return into.fill(0.0);
    }
    let mut random = SplitMix::new(key, seed);
    into.iter_mut().for_each(|weight| *weight = (2.0 * random.unit() - 1.0) * scale);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::EmbeddingOptimizer;

    fn table(dim: usize, init_scale: f32) -> Table {
        let optimizer = OptimizerConfig { embedding_initial_accumulator: 0.1, ..OptimizerConfig::default() };
        Table::new(&EmbeddingConfig { dim, init_scale, ..EmbeddingConfig::default() }, &optimizer, 7)
    }

    fn weights(table: &Table, key: u64) -> Vec<f32> {
        let mut into = vec![f32::NAN; table.dim()];
        table.read(key, table.find(key), &mut into);
        into
    }

    #[test]
    fn an_unseen_id_reads_what_its_row_starts_from() {
        let mut table = table(8, 0.05);
        let before = weights(&table, 42);
        assert!(before.iter().all(|w| w.abs() <= 0.05) && before.iter().any(|w| *w != 0.0), "{before:?}");
        assert_ne!(before, weights(&table, 43));
        table.update(42, None, &[0.0; 8], 1);
        assert_eq!(weights(&table, 42), before);
        assert_eq!(table.capture(true).data[8..], [0.1; 8]);
    }

    #[test]
    fn zero_scale_reads_zeros() {
        assert_eq!(weights(&table(4, 0.0), 99), [0.0; 4]);
    }

    #[test]
    fn restores_bit_equal_and_untouched() {
        let mut table = table(3, 0.1);
        for key in [9, 2, 77] {
            table.update(key, None, &[0.5, -0.25, 3.0], 1);
        }
        let state = table.capture(true);
        let mut other = self::table(3, 0.1).restored(&state).expect("same width");
        assert_eq!(other.capture(false).keys, [0; 0]);
        assert_eq!(other.capture(true), state);
    }

    #[test]
    fn refuses_rows_that_do_not_fit() {
        let mut source = table(2, 0.0);
        source.update(5, None, &[1.0, 1.0], 1);
        let good = source.capture(true);
        let refused = |state: RowsState| table(2, 0.0).restored(&state).expect_err("does not fit");
        assert_eq!(refused(RowsState { dim: 3, ..good.clone() }), TableError::Dim { found: 3, expected: 2 });
        assert_eq!(refused(RowsState { width: 3, ..good.clone() }), TableError::Width { found: 3, expected: 4 });
        assert_eq!(refused(RowsState { full: false, ..good.clone() }), TableError::Partial);
        let error = refused(RowsState { optimizer: EmbeddingOptimizer::Ftrl, ..good.clone() }).to_string();
        assert_eq!(error, "embedding rows were trained with ftrl, train.optimizer.embedding is adagrad");
        let short = RowsState { data: vec![0.0; 3], ..good };
        assert_eq!(refused(short).to_string(), "embedding rows hold 3 floats for 1 keys of 4");
    }
}
