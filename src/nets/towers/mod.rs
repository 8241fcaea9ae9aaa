//! The step of a model whose layers are products with ReLU and cross layers, on the host's cores: forward and backward as written by hand.
//!
//! A batch is cut into chunks of rows. Forward and backward take one chunk after the other, each on one core with all layers, so that what
//! a layer makes is near when the next one reads it; the gradients by weights take all chunks of a piece of a matrix. How a batch is cut, and
//! with it the rounding of sums, depends on the number of threads and on nothing else.

mod chunk;
mod plan;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::adam::AdamStep;
use super::layer::Role;
use super::loss::loss;
use super::model::{Gradients, Pass};
use super::vector::Vector;
use super::{Delays, Inputs, Layout, Part, Rule, Scores, Targets};
use chunk::{Chunk, Inward, Model};
use plan::Plan;

/// Rows of a chunk at most: each product lays its matrix out anew for the processor, which is a tenth of the work at 256 rows.
const ROWS_MAX: usize = 1024;
/// And at least, where there are threads enough.
const ROWS_MIN: usize = 64;
/// Weights whose gradients are one piece of work.
const WEIGHTS: usize = 1 << 17;
/// Floats that one thread takes at a time where a vector is gone through.
const BLOCK: usize = 1 << 14;

/// Parameters and Adam's moments on the host.
#[derive(Debug)]
pub(super) struct Towers {
    plan: Plan,
    params: Arc<Vec<f32>>,
    m: Arc<Vec<f32>>,
    v: Arc<Vec<f32>>,
    /// Kept between batches for its memory alone.
    chunks: Mutex<Vec<Chunk>>,
}

impl Towers {
    /// Whether it knows all layers of the layout.
    pub(super) fn can(layout: &Layout) -> bool {
        Plan::new(layout).is_some()
    }

    /// Each vector as long as the layout, which it [`Towers::can`].
    pub(super) fn new(layout: &Layout, [params, m, v]: [Vec<f32>; 3]) -> Self {
        let plan = Plan::new(layout).expect("the caller has asked whether it can");
        Towers { plan, params: params.into(), m: m.into(), v: v.into(), chunks: Mutex::default() }
    }

    /// Parameters and moments.
    pub(super) fn vectors(&self) -> [Vector; 3] {
        [&self.params, &self.m, &self.v].map(|vector| Vector::Host(Arc::clone(vector)))
    }

    /// See [`super::Nets::predict`].
    pub(super) fn predict(&self, inputs: &Inputs, rows: usize) -> Scores {
        let mut chunks = self.chunks(rows);
        Self::forward(&mut chunks, self.model(inputs));
        Scores { delays: None, ..self.scores(&chunks) }
    }

    /// See [`super::Nets::gradients`].
    pub(super) fn gradients(&self, inputs: &Inputs, targets: Targets<'_>, rule: &Rule) -> Pass {
        let mut chunks = self.chunks(targets.labels.len());
        let model = self.model(inputs);
        Self::forward(&mut chunks, model);
        let scores = self.scores(&chunks);
        let (loss, by_logit) = loss(rule, targets, &scores);
        if !loss.total.is_finite() {
            return Pass { scores, loss, gradients: None };
        }
        let inward = Inward::new(&by_logit, rule.shared_grad, inputs.light.is_some());
        let by_inputs = Self::backward(&mut chunks, model, &inward);
        let flat = self.by_weights(&chunks, model);
        let squares = sum_of_squares(&flat);
        let gradients = Gradients { flat: Vector::Host(flat.into()), squares, followed: Vec::new(), inputs: by_inputs };
        Pass { scores, loss, gradients: squares.is_finite().then_some(gradients) }
    }

    /// One step along `gradient`, but in the `kept` ranges.
    pub(super) fn apply(&mut self, gradient: &[f32], step: &AdamStep, kept: &[Range<usize>]) {
        let (params, m, v) = (Arc::make_mut(&mut self.params), Arc::make_mut(&mut self.m), Arc::make_mut(&mut self.v));
        for range in between(kept, gradient.len()) {
            let blocks = params[range.clone()].par_chunks_mut(BLOCK).zip(m[range.clone()].par_chunks_mut(BLOCK));
            let blocks = blocks.zip(v[range.clone()].par_chunks_mut(BLOCK)).zip(gradient[range].par_chunks(BLOCK));
            blocks.for_each(|(((params, m), v), gradient)| step.on_host(params, m, v, gradient));
        }
    }

    /// Sets parameters.
    pub(super) fn set(&mut self, range: Range<usize>, value: f32) {
        Arc::make_mut(&mut self.params)[range].fill(value);
    }

    fn model<'a>(&'a self, inputs: &'a Inputs) -> Model<'a> {
        Model { plan: &self.plan, params: &self.params, inputs }
    }

    /// Chunks of `rows` rows together, as many for one thread as for another.
    fn chunks(&self, rows: usize) -> MutexGuard<'_, Vec<Chunk>> {
        // What an interrupted pass has left is written over.
        let mut chunks = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        let threads = rayon::current_num_threads();
        let turns = rows.div_ceil(threads * ROWS_MAX).max(1);
        let per_chunk = rows.div_ceil(threads * turns).max(ROWS_MIN);
        chunks.resize_with(rows.div_ceil(per_chunk), Chunk::default);
        for (number, chunk) in chunks.iter_mut().enumerate() {
            let start = number * per_chunk;
            chunk.reset(&self.plan, start..rows.min(start + per_chunk));
        }
        chunks
    }

    fn forward(chunks: &mut [Chunk], model: Model<'_>) {
        chunks.into_par_iter().with_max_len(1).for_each(|chunk| chunk.forward(model));
    }

    fn scores(&self, chunks: &[Chunk]) -> Scores {
        let logits = |part| {
            let last = self.plan.part(part).next_back()?;
            Some(chunks.iter().flat_map(|chunk| chunk.output(last)).copied().collect::<Vec<f32>>())
        };
        let delays = logits(Part::DelayedPositive).zip(logits(Part::FakeNegative));
        let delays = delays.map(|(delayed_positive, fake_negative)| Delays { delayed_positive, fake_negative });
        Scores { light: logits(Part::Light), booster: logits(Part::Booster), control: logits(Part::Control), delays }
    }

    /// Leaves the gradients by each layer's product in the chunks; returns those by the inputs.
    fn backward(chunks: &mut [Chunk], model: Model<'_>, inward: &Inward<'_>) -> Inputs {
        let Inputs { shared, light, .. } = model.inputs;
        let (mut by_shared, mut by_own) = (vec![0.0; shared.len()], light.as_ref().map(|light| vec![0.0; light.len()]));
        let (mut shared, mut own) = (by_shared.as_mut_slice(), by_own.as_deref_mut());
        let pieces = chunks.iter_mut().map(|chunk| {
            let floats = chunk.rows() * model.plan.inputs();
            (chunk, cut(&mut shared, floats), own.as_mut().map(|own| cut(own, floats)))
        });
        let pieces: Vec<_> = pieces.collect();
        pieces.into_par_iter().with_max_len(1).for_each(|(chunk, shared, own)| chunk.backward(model, inward, shared, own));
        Inputs { shared: by_shared, light: by_own, sequences: Vec::new() }
    }

    /// The gradient by the dense parameters.
    fn by_weights(&self, chunks: &[Chunk], model: Model<'_>) -> Vec<f32> {
        let mut flat = vec![0.0; self.params.len()];
        let mut rest = flat.as_mut_slice();
        let mut pieces = Vec::new();
        for (number, layer) in model.plan.layers().enumerate() {
            let (weights, outputs) = (cut(&mut rest, layer.range(Role::Weight).len()), layer.outputs);
            // Of one size: a narrow last one would be slow for its size.
            let count = layer.inputs.div_ceil((WEIGHTS / outputs).max(1)).max(1);
            let rows = layer.inputs.div_ceil(count).max(1);
            for (at, into) in weights.chunks_mut(rows * outputs).enumerate() {
                pieces.push((number, Some(at * rows), into));
            }
            pieces.push((number, None, cut(&mut rest, outputs)));
        }
        pieces.into_par_iter().with_max_len(1).for_each(|(number, from, into)| match from {
            Some(from) => chunks.iter().enumerate().for_each(|(at, chunk)| chunk.by_weights(model, number, from, into, at > 0)),
            None => chunks.iter().for_each(|chunk| chunk.add_by_bias(number, into)),
        });
        flat
    }
}

/// The first `len` of what is left.
fn cut<'a>(rest: &mut &'a mut [f32], len: usize) -> &'a mut [f32] {
    let (cut, left) = std::mem::take(rest).split_at_mut(len);
    *rest = left;
    cut
}

/// What `0..len` has besides `kept`.
fn between(kept: &[Range<usize>], len: usize) -> Vec<Range<usize>> {
    let mut kept = kept.to_vec();
    kept.sort_unstable_by_key(|range| range.start);
    let starts = std::iter::once(0).chain(kept.iter().map(|range| range.end));
    let ends = kept.iter().map(|range| range.start).chain(std::iter::once(len));
    starts.zip(ends).map(|(start, end)| start..end).filter(|range| !range.is_empty()).collect()
}

/// Not finite where any number or its square is not: squares go into Adam's second moment, and an infinite one would stop its parameter for
/// ever.
fn sum_of_squares(flat: &[f32]) -> f64 {
    let blocks: Vec<f64> = flat.par_chunks(BLOCK).map(|block| block.iter().map(|g| f64::from(g * g)).sum()).collect();
    blocks.into_iter().sum()
}

#[cfg(test)]
mod tests;
