use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::{InputLayout, SequenceLayout, Table};
use crate::batch::Batch;
use crate::config::Pooling;
use crate::domain::EventTime;

/// Rows brought into the cache ahead of their updates: as many loads as a core has under way at a time.
const WARMED: usize = 16;

/// Keys are XXH3 hashes already; hashing them again would cost time and mix nothing.
#[derive(Debug, Default)]
struct PassThrough(u64);

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

/// The distinct ids of one batch in the slots of one table, their rows and gradients. Kept between batches for its memory alone.
///
/// `read`, `scatter` and `apply` belong to one batch, in this order, and the table must not change between the first and the last.
#[derive(Debug, Default)]
pub struct Gather {
    /// Floats per row of the table.
    dim: usize,
    positions: HashMap<u64, u32, BuildHasherDefault<PassThrough>>,
    /// Distinct ids, by first occurrence.
    keys: Vec<u64>,
    /// Their rows in the table; `None` for ids never trained.
    rows: Vec<Option<u32>>,
    /// For every id of the batch, its position in `keys`; ids of another table's slots have none, and what stands for them is never read.
    occurrences: Vec<u32>,
    /// How often each of `keys` occurs.
    counts: Vec<u32>,
    /// `[keys, dim]`.
    weights: Vec<f32>,
    /// `[keys, dim]`.
    gradients: Vec<f32>,
}

impl Gather {
    /// Pools the batch's ids into its input matrix, in the slots whose rows are as wide as those of `table`.
    ///
    /// # Shapes
    /// `inputs` is `[rows, layout.width()]`, row-major, and zero in those slots, which become the sum or mean of their rows; an empty slot
    /// stays the zero vector.
    pub fn read(&mut self, table: &Table, layout: &InputLayout, batch: &Batch, inputs: &mut [f32]) {
        self.look_up(table, layout, batch);
        let (dim, slots) = (table.dim(), layout.slots().len());
        for (r, row) in inputs.chunks_exact_mut(layout.width().max(1)).enumerate() {
            for (s, slot) in layout.slots_of(dim) {
                let (vector, ids) = (&mut row[slot.columns.clone()], self.slot(batch, r * slots + s));
                for &id in ids {
                    add(vector, &self.weights[id as usize * dim..(id as usize + 1) * dim]);
                }
                if slot.pooling == Pooling::Mean && ids.len() > 1 {
                    let scale = 1.0 / ids.len() as f32;
                    vector.iter_mut().for_each(|x| *x *= scale);
                }
            }
        }
    }

    /// The rows of one slot one by one, of the batch that was read last; `None` for a slot whose rows are another table's.
    ///
    /// # Shapes
    /// Returns `[rows, length, dim]`, the newest of an example last, zeros behind them, and how many there are of each, `[rows]`.
    #[must_use]
    pub fn sequence(&self, layout: &InputLayout, batch: &Batch, sequence: SequenceLayout) -> Option<(Vec<f32>, Vec<u32>)> {
        let (dim, slots) = (layout.columns(sequence.slot).len(), layout.slots().len());
        if dim != self.dim {
            return None;
        }
        let mut rows = vec![0.0; batch.rows() * sequence.length * dim];
        let mut lengths = Vec::with_capacity(batch.rows());
        for (r, places) in rows.chunks_exact_mut((sequence.length * dim).max(1)).enumerate() {
            let ids = newest(self.slot(batch, r * slots + sequence.slot), sequence.length);
            for (place, &id) in places.chunks_exact_mut(dim.max(1)).zip(ids) {
                place.copy_from_slice(&self.weights[id as usize * dim..(id as usize + 1) * dim]);
            }
            lengths.push(ids.len() as u32);
        }
        Some((rows, lengths))
    }

    /// Takes the gradient `[rows, layout.width()]` of the matrix that [`Gather::read`] pooled into, and those of the layout's sequences in
    /// their order ([`Gather::sequence`]), and sums them per distinct id.
    ///
    /// False where a gradient or its square is not finite: the square goes into the optimizer state, and an infinite accumulator would
    /// stop its row for ever.
    #[must_use]
    pub fn scatter(&mut self, layout: &InputLayout, batch: &Batch, gradient: &[f32], sequences: &[&[f32]]) -> bool {
        let (dim, slots) = (self.dim, layout.slots().len());
        let mut sums = std::mem::take(&mut self.gradients);
        sums.clear();
        sums.resize(self.keys.len() * dim, 0.0);
        for (r, row) in gradient.chunks_exact(layout.width().max(1)).enumerate() {
            for (s, slot) in layout.slots_of(dim) {
                let (vector, ids) = (&row[slot.columns.clone()], self.slot(batch, r * slots + s));
                let scale = if slot.pooling == Pooling::Mean && ids.len() > 1 { 1.0 / ids.len() as f32 } else { 1.0 };
                for &id in ids {
                    let sum = &mut sums[id as usize * dim..(id as usize + 1) * dim];
                    sum.iter_mut().zip(vector).for_each(|(sum, g)| *sum += scale * g);
                }
            }
        }
        let own = layout.sequences().iter().zip(sequences).filter(|(sequence, _)| layout.columns(sequence.slot).len() == dim);
        for (sequence, gradient) in own {
            for (r, places) in gradient.chunks_exact((sequence.length * dim).max(1)).enumerate() {
                let ids = newest(self.slot(batch, r * slots + sequence.slot), sequence.length);
                for (place, &id) in places.chunks_exact(dim.max(1)).zip(ids) {
                    add(&mut sums[id as usize * dim..(id as usize + 1) * dim], place);
                }
            }
        }
        self.gradients = sums;
        gradient.iter().all(|g| g.is_finite()) && self.gradients.iter().all(|g| (g * g).is_finite())
    }

    /// Σ g² over the gradients of [`Gather::scatter`].
    #[must_use]
    pub fn squares(&self) -> f64 {
        self.gradients.iter().map(|g| f64::from(*g).powi(2)).sum()
    }

    /// Scales the gradients of [`Gather::scatter`].
    pub fn scale(&mut self, by: f64) {
        self.gradients.iter_mut().for_each(|g| *g = (f64::from(*g) * by) as f32);
    }

    /// Updates the rows of the batch by the gradients of [`Gather::scatter`]; new ids that are admitted get their rows now.
    /// `time` is the batch's: rows that expired by then may leave.
    pub fn apply(&self, table: &mut Table, time: Option<EventTime>) {
        table.begin(time);
        let dim = table.dim();
        for (block, rows) in self.rows.chunks(WARMED).enumerate() {
            table.warm(rows);
            for (at, &row) in (block * WARMED..).zip(rows) {
                table.update(self.keys[at], row, &self.gradients[at * dim..(at + 1) * dim], self.counts[at]);
            }
        }
        table.end();
    }

    fn look_up(&mut self, table: &Table, layout: &InputLayout, batch: &Batch) {
        let (dim, slots) = (table.dim(), layout.slots().len());
        self.dim = dim;
        self.positions.clear();
        self.keys.clear();
        self.occurrences.clear();
        self.occurrences.resize(batch.ids.len(), 0);
        self.counts.clear();
        for index in (0..batch.rows()).flat_map(|r| layout.slots_of(dim).map(move |(s, _)| r * slots + s)) {
            for at in batch.bounds[index] as usize..batch.bounds[index + 1] as usize {
                let id = batch.ids[at];
                let next = self.keys.len() as u32;
                let position = *self.positions.entry(id).or_insert(next);
                if position == next {
                    self.keys.push(id);
                    self.counts.push(0);
                }
                self.counts[position as usize] += 1;
                self.occurrences[at] = position;
            }
        }
        self.rows.clear();
        self.rows.extend(self.keys.iter().map(|key| table.find(*key)));
        self.weights.resize(self.keys.len() * dim, 0.0);
        for ((&key, &row), into) in self.keys.iter().zip(&self.rows).zip(self.weights.chunks_exact_mut(dim.max(1))) {
            table.read(key, row, into);
        }
    }

    /// Positions of the ids of one slot of one row.
    fn slot(&self, batch: &Batch, index: usize) -> &[u32] {
        &self.occurrences[batch.bounds[index] as usize..batch.bounds[index + 1] as usize]
    }
}

fn newest(ids: &[u32], length: usize) -> &[u32] {
    &ids[ids.len().saturating_sub(length)..]
}

fn add(into: &mut [f32], from: &[f32]) {
    into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AdmissionConfig, EmbeddingConfig, EmbeddingOptimizer, OptimizerConfig};

    /// Two slots (sum, mean) of dim 2 and one number; ids 1, 2, 3 have the rows below.
    fn fixture() -> (Table, InputLayout) {
        let optimizer = OptimizerConfig { embedding_lr: 1.0, embedding_initial_accumulator: 0.0, ..OptimizerConfig::default() };
        let table = Table::new(&EmbeddingConfig { dim: 2, init_scale: 0.0, ..EmbeddingConfig::default() }, &optimizer, 1);
        let state = crate::embedding::RowsState {
            dim: 2,
            width: 4,
            optimizer: EmbeddingOptimizer::Adagrad,
            keys: vec![1, 2, 3],
            data: vec![1.0, 2.0, 0.0, 0.0, 10.0, 20.0, 0.0, 0.0, 100.0, 200.0, 0.0, 0.0],
            full: true,
            ..crate::embedding::RowsState::default()
        };
        let layout = InputLayout::of(&[(Pooling::Sum, 2), (Pooling::Mean, 2)], 1, 0);
        (table.restored(&state).expect("fits"), layout)
    }

    fn read(gather: &mut Gather, table: &Table, layout: &InputLayout, batch: &Batch) -> Vec<f32> {
        let mut inputs = layout.matrix(batch);
        gather.read(table, layout, batch, &mut inputs);
        inputs
    }

    fn batch(slots: &[&[u64]], numbers: &[f32]) -> Batch {
        let mut batch = Batch { numbers: numbers.to_vec(), labels: vec![false; numbers.len()], bounds: vec![0], ..Batch::default() };
        for ids in slots {
            batch.ids.extend_from_slice(ids);
            batch.bounds.push(batch.ids.len() as u32);
        }
        batch
    }

    #[test]
    fn pools_sum_mean_and_empty() {
        let (table, layout) = fixture();
        let batch = batch(&[&[1, 3, 3], &[1, 2], &[], &[], &[2], &[9]], &[0.5, -0.5, 7.0]);
        let inputs = read(&mut Gather::default(), &table, &layout, &batch);
        #[rustfmt::skip]
        assert_eq!(inputs, [
            201.0, 402.0, 5.5, 11.0, 0.5,
            0.0, 0.0, 0.0, 0.0, -0.5,
            10.0, 20.0, 0.0, 0.0, 7.0,
        ]);
    }

    #[test]
    fn sums_gradients_per_id_and_divides_a_mean_by_its_count() {
        let (mut table, layout) = fixture();
        let batch = batch(&[&[1, 1], &[1, 2], &[], &[2]], &[0.0, 0.0]);
        let mut gather = Gather::default();
        let _ = read(&mut gather, &table, &layout, &batch);
        #[rustfmt::skip]
        let gradient = [
            1.0, 2.0, 4.0, 8.0, 99.0,
            5.0, 5.0, 16.0, 32.0, 99.0,
        ];
        assert!(gather.scatter(&layout, &batch, &gradient, &[]));
        // id 1: twice in the sum, half of the mean; id 2: half of a mean, then a mean of one.
        assert_eq!(gather.gradients, [2.0 + 2.0, 4.0 + 4.0, 2.0 + 16.0, 4.0 + 32.0]);
        assert_eq!(gather.squares(), 16.0 + 64.0 + 324.0 + 1296.0);
        gather.scale(0.5);
        assert_eq!(gather.gradients, [2.0, 4.0, 9.0, 18.0]);
        gather.scale(2.0);
        gather.apply(&mut table, None);
        let state = table.capture(false);
        assert_eq!(state.keys, [1, 2]);
        assert_eq!(state.data, [0.0, 1.0, 16.0, 64.0, 9.0, 19.0, 18.0 * 18.0, 36.0 * 36.0]);
    }

    #[test]
    fn slots_of_another_dim_are_another_tables_even_where_an_id_is_the_same() {
        let (mut two, _) = fixture();
        let mut three =
            Table::new(&EmbeddingConfig { dim: 3, init_scale: 0.1, ..EmbeddingConfig::default() }, &OptimizerConfig::default(), 1);
        let layout = InputLayout::of(&[(Pooling::Sum, 2), (Pooling::Mean, 3), (Pooling::Sum, 2)], 1, 0);
        let batch = batch(&[&[1], &[1, 9], &[2], &[], &[9], &[7, 1]], &[0.5, -0.5]);
        let mut gathers = [Gather::default(), Gather::default()];
        let mut inputs = layout.matrix(&batch);
        for (gather, table) in gathers.iter_mut().zip([&two, &three]) {
            gather.read(table, &layout, &batch, &mut inputs);
        }
        let [mut one, mut nine] = [[0.0; 3]; 2];
        three.read(1, None, &mut one);
        three.read(9, None, &mut nine);
        let mean: Vec<f32> = one.iter().zip(&nine).map(|(a, b)| (a + b) * 0.5).collect();
        let rows = [&[1.0, 2.0], mean.as_slice(), &[10.0, 20.0, 0.5], &[0.0, 0.0], &nine, &[1.0, 2.0, -0.5]];
        assert_eq!(inputs, rows.concat());
        let gradient: Vec<f32> = (1..=inputs.len()).map(|i| i as f32).collect();
        assert!(gathers.iter_mut().all(|gather| gather.scatter(&layout, &batch, &gradient, &[])));
        assert_eq!((&gathers[0].keys, &gathers[0].gradients), (&vec![1, 2, 7], &vec![15.0, 17.0, 6.0, 7.0, 14.0, 15.0]));
        assert_eq!((&gathers[1].keys, &gathers[1].gradients), (&vec![1, 9], &vec![1.5, 2.0, 2.5, 12.5, 14.0, 15.5]));
        gathers[0].apply(&mut two, None);
        gathers[1].apply(&mut three, None);
        assert_eq!((two.capture(true).keys, three.capture(true).keys), (vec![1, 2, 3, 7], vec![1, 9]));
    }

    #[test]
    fn a_sequence_is_the_newest_rows_one_by_one_and_its_gradient_theirs() {
        let (table, layout) = fixture();
        let layout = layout.with_sequences(vec![SequenceLayout { slot: 1, length: 2, target: 0 }]);
        let batch = batch(&[&[1], &[1, 2, 3], &[], &[3], &[2], &[]], &[0.0, 0.0, 0.0]);
        let mut gather = Gather::default();
        let inputs = read(&mut gather, &table, &layout, &batch);
        let (rows, lengths) = gather.sequence(&layout, &batch, layout.sequences()[0]).expect("of its table");
        assert_eq!(rows, [10.0, 20.0, 100.0, 200.0, 100.0, 200.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(lengths, [2, 1, 0]);
        // What comes back for padding belongs to no id.
        let gradient: Vec<f32> = (1..=rows.len()).map(|i| i as f32).collect();
        assert!(gather.scatter(&layout, &batch, &vec![0.0; inputs.len()], &[&gradient]));
        assert_eq!((&gather.keys, &gather.gradients), (&vec![1, 2, 3], &vec![0.0, 0.0, 1.0, 2.0, 3.0 + 5.0, 4.0 + 6.0]));
        assert!(!gather.scatter(&layout, &batch, &vec![0.0; inputs.len()], &[&[f32::NAN; 12]]));
    }

    #[test]
    fn new_rows_appear_on_apply_alone_in_order_of_first_occurrence() {
        let (mut table, layout) = fixture();
        let batch = batch(&[&[50], &[40, 50]], &[0.0]);
        let mut gather = Gather::default();
        let inputs = read(&mut gather, &table, &layout, &batch);
        assert!(gather.scatter(&layout, &batch, &vec![0.5; inputs.len()], &[]));
        assert_eq!(table.len(), 3);
        gather.apply(&mut table, None);
        assert_eq!(table.capture(true).keys, [1, 2, 3, 50, 40]);
    }

    #[test]
    fn an_id_gets_its_row_in_the_batch_that_admits_it() {
        let admission = AdmissionConfig { min_count: 3, ..AdmissionConfig::default() };
        let mut table = Table::new(&EmbeddingConfig { dim: 2, admission, ..EmbeddingConfig::default() }, &OptimizerConfig::default(), 1);
        let layout = fixture().1;
        let mut step = |ids: &[u64]| {
            let batch = batch(&[ids, &[]], &[0.0]);
            let mut gather = Gather::default();
            let inputs = read(&mut gather, &table, &layout, &batch);
            assert!(gather.scatter(&layout, &batch, &vec![0.5; inputs.len()], &[]));
            gather.apply(&mut table, None);
            (inputs[..2].to_vec(), table.capture(true).keys)
        };
        assert_eq!(step(&[7, 8, 7]), (vec![0.0; 2], vec![]));
        assert_eq!(step(&[8, 7]), (vec![0.0; 2], vec![7]));
        let (inputs, keys) = step(&[8]);
        assert_eq!((inputs, keys), (vec![0.0; 2], vec![7, 8]));
        assert_ne!(step(&[8]).0, [0.0; 2]);
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_seen() {
        let (table, layout) = fixture();
        let batch = batch(&[&[1], &[2]], &[0.0]);
        let mut gather = Gather::default();
        let inputs = read(&mut gather, &table, &layout, &batch);
        for (column, value) in [(0, f32::NAN), (3, f32::INFINITY), (1, 1e30), (4, f32::NAN)] {
            let mut gradient = vec![0.0; inputs.len()];
            gradient[column] = value;
            assert!(!gather.scatter(&layout, &batch, &gradient, &[]), "{value} in column {column}");
        }
    }
}
