use std::ops::Range;

use super::panel::{Run, room};
use super::{LightNet, Slot};
use crate::config::Pooling;
use crate::features::Features;

/// Of the examples, the share that the distinct vectors of a slot may be for their products to be made once each and added up: above it the
/// additions cost more than the products that they spare. Measured with AVX2.
const DISTINCT_MAX: f32 = 0.55;
/// Where the vector of no ids stands.
const NO_IDS: u32 = 0;

/// Some of a net's inputs: those that all examples of a request share, or those that each has of its own.
#[derive(Debug, Clone, Default)]
pub(in crate::serving) struct Part {
    /// Numbers of the slots, in the order in which [`Features`] have them.
    pub(super) slots: Vec<usize>,
    /// Where the numbers, in their order, stand in the input vector.
    pub(super) numbers: Vec<usize>,
}

/// The inputs of a block of examples, looked up and pooled.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    /// Inputs that are multiplied for each example, `[examples, stride]`.
    pub(super) each: Vec<f32>,
    pub(super) stride: usize,
    pub(super) runs: Vec<Run>,
    /// Slots whose vectors are multiplied once for all examples that have them.
    pub(super) distinct: Vec<Distinct>,
    vectors: Vec<f32>,
    places: Vec<u32>,
    slot: SlotIds,
}

/// A slot's distinct vectors, and which of them each example has.
#[derive(Debug, Clone)]
pub(super) struct Distinct {
    /// What of the input vector they are.
    pub(super) run: Run,
    vectors: Range<usize>,
    places: Range<usize>,
}

impl Gathered {
    /// `[distinct, dim]`
    pub(super) fn vectors(&self, distinct: &Distinct) -> &[f32] {
        &self.vectors[distinct.vectors.clone()]
    }

    /// `[examples]`
    pub(super) fn places(&self, distinct: &Distinct) -> &[u32] {
        &self.places[distinct.places.clone()]
    }

    /// Looks up what `features` have of `part` for these examples, and pools it.
    pub(super) fn gather(&mut self, net: &LightNet, part: &Part, features: &Features, examples: Range<usize>) {
        let count = examples.len();
        let dims: usize = part.slots.iter().map(|slot| net.slots[*slot].columns.len()).sum();
        self.stride = dims + part.numbers.len();
        let each = room(&mut self.each, count * self.stride);
        self.runs.clear();
        self.distinct.clear();
        self.vectors.clear();
        self.places.clear();
        let mut column = 0;
        for (number, slot) in part.slots.iter().map(|slot| &net.slots[*slot]).enumerate() {
            let (dim, start, first) = (slot.columns.len(), self.vectors.len(), self.places.len());
            let bounds = |example: usize| {
                let bound = example * part.slots.len() + number;
                &features.ids[features.bounds[bound] as usize..features.bounds[bound + 1] as usize]
            };
            self.slot.place(examples.clone().map(bounds), &mut self.places);
            self.slot.pool(net, slot, &mut self.vectors);
            let distinct = (self.vectors.len() - start) / dim;
            if distinct as f32 <= DISTINCT_MAX * count as f32 {
                let run = Run { column: 0, inputs: slot.columns.clone() };
                self.distinct.push(Distinct { run, vectors: start..self.vectors.len(), places: first..self.places.len() });
                continue;
            }
            let vectors = &self.vectors[start..];
            for (into, place) in each.chunks_exact_mut(self.stride).zip(&self.places[first..]) {
                into[column..column + dim].copy_from_slice(&vectors[*place as usize * dim..][..dim]);
            }
            add_run(&mut self.runs, Run { column, inputs: slot.columns.clone() });
            column += dim;
            self.vectors.truncate(start);
            self.places.truncate(first);
        }
        let numbers = features.numbers.chunks_exact(part.numbers.len().max(1)).skip(examples.start);
        for (into, numbers) in each.chunks_exact_mut(self.stride.max(1)).zip(numbers) {
            into[column..column + numbers.len()].copy_from_slice(numbers);
        }
        for (place, input) in part.numbers.iter().enumerate() {
            add_run(&mut self.runs, Run { column: column + place, inputs: *input..input + 1 });
        }
    }
}

/// Adds a run, to the one before where it goes on with it.
fn add_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.column + last.inputs.len() == run.column && last.inputs.end == run.inputs.start => {
            last.inputs.end = run.inputs.end
        }
        _ => runs.push(run),
    }
}

/// The ids that a block of examples has in one slot.
#[derive(Debug, Clone, Default)]
struct SlotIds {
    memo: Memo,
    /// Those of each place, one after the other.
    ids: Vec<u64>,
    /// Where those of each place end.
    ends: Vec<usize>,
    ranges: Vec<Range<u32>>,
    rows: Vec<Option<u32>>,
}

impl SlotIds {
    /// Gives all that has the same ids one place, appended to `places`. A bag is told from the one before it only.
    fn place<'a>(&mut self, examples: impl ExactSizeIterator<Item = &'a [u64]>, places: &mut Vec<u32>) {
        self.memo.clear(examples.len());
        self.ids.clear();
        self.ends.clear();
        self.ends.push(0);
        let mut before: (&[u64], u32) = (&[], NO_IDS);
        for ids in examples {
            let next = self.ends.len() as u32;
            let place = match ids {
                [id] => self.memo.place(*id, next),
                ids if ids == before.0 => before.1,
                _ => next,
            };
            if place == next {
                self.ids.extend_from_slice(ids);
                self.ends.push(self.ids.len());
            }
            before = (ids, place);
            places.push(place);
        }
    }

    /// Appends the vector of each place, `[places, dim]`.
    fn pool(&mut self, net: &LightNet, slot: &Slot, vectors: &mut Vec<f32>) {
        let (table, dim) = (&net.tables[slot.table], slot.columns.len());
        table.index.find_all(&self.ids, &mut self.ranges, &mut self.rows);
        table.touch(&self.rows);
        let start = vectors.len();
        vectors.resize(start + self.ends.len() * dim, 0.0);
        let mut begin = 0;
        for (vector, end) in vectors[start..].chunks_exact_mut(dim).zip(&self.ends) {
            self.rows[begin..*end].iter().flatten().for_each(|row| table.add(*row, vector));
            if slot.pooling == Pooling::Mean && end - begin > 1 {
                let share = 1.0 / (end - begin) as f32;
                vector.iter_mut().for_each(|sum| *sum *= share);
            }
            begin = *end;
        }
    }
}

/// Ids seen in a block, and the place that each was given.
#[derive(Debug, Clone, Default)]
struct Memo {
    /// Id, place, and the turn in which they were put here.
    held: Vec<(u64, u32, u32)>,
    turn: u32,
}

impl Memo {
    /// Forgets all; there will be at most `ids`.
    fn clear(&mut self, ids: usize) {
        let wanted = (2 * ids).next_power_of_two();
        if self.held.len() < wanted || self.turn == u32::MAX {
            self.held.clear();
            self.held.resize(wanted, (0, 0, 0));
            self.turn = 0;
        }
        self.turn += 1;
    }

    /// The id's place, which is `next` where it has none yet.
    fn place(&mut self, id: u64, next: u32) -> u32 {
        let mask = self.held.len() - 1;
        // An id is a hash already.
        let mut at = id as usize & mask;
        loop {
            let (held, place, turn) = self.held[at];
            if turn != self.turn {
                self.held[at] = (id, next, self.turn);
                return next;
            }
            if held == id {
                return place;
            }
            at = (at + 1) & mask;
        }
    }
}
