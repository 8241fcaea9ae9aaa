//! Products of few-column panels: weights are cut into panels of [`PANEL`] columns once, when a model is opened. The CPU's vectors are
//! found out at run time.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::vectors::dispatch;

/// Columns of a panel: two vectors of AVX2, one of AVX-512.
pub(super) const PANEL: usize = 16;
/// Rows of x that go through a panel together: with two vectors of sums each, two of weights and one of x they take all but one of AVX2's
/// sixteen registers.
const TILE: usize = 6;

/// One row of a panel.
pub(super) type Lanes = [f32; PANEL];

pub(super) const ZERO: Lanes = [0.0; PANEL];

/// A matrix `[inputs, outputs]` in panels, the last filled up with zeros.
#[derive(Debug, Clone)]
pub(super) struct Panels {
    inputs: usize,
    /// `[panels, inputs]`.
    lanes: Vec<Lanes>,
}

impl Panels {
    /// Of a row-major matrix `[inputs, outputs]`.
    pub(super) fn new(outputs: usize, matrix: &[f32]) -> Self {
        let inputs = matrix.len() / outputs;
        let lanes = (0..outputs).step_by(PANEL).flat_map(|start| {
            let end = outputs.min(start + PANEL);
            (0..inputs).map(move |input| filled(&matrix[input * outputs + start..input * outputs + end]))
        });
        Panels { inputs, lanes: lanes.collect() }
    }

    /// Each `[inputs]`.
    pub(super) fn panels(&self) -> impl Iterator<Item = &[Lanes]> {
        self.lanes.chunks_exact(self.inputs.max(1))
    }

    /// `[inputs]`.
    pub(super) fn get(&self, panel: usize) -> &[Lanes] {
        &self.lanes[panel * self.inputs..][..self.inputs]
    }
}

/// As many as are asked for, with whatever is in them: what has been is not cleared to be written over.
pub(super) fn room(memory: &mut Vec<f32>, floats: usize) -> &mut [f32] {
    if memory.len() < floats {
        memory.resize(floats, 0.0);
    }
    &mut memory[..floats]
}

/// A vector in panels, the last filled up with zeros.
pub(super) fn in_lanes(vector: &[f32]) -> Vec<Lanes> {
    vector.chunks(PANEL).map(filled).collect()
}

fn filled(values: &[f32]) -> Lanes {
    let mut lanes = ZERO;
    lanes[..values.len()].copy_from_slice(values);
    lanes
}

/// Columns of x and the inputs of the panel that they are multiplied with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// The first of as many columns as there are inputs.
    pub(super) column: usize,
    pub(super) inputs: Range<usize>,
}

/// `out ← start + Σ x · W` over `runs`, for one panel of W.
#[derive(Debug)]
pub(super) struct Product<'a> {
    /// `[rows, stride]`.
    pub(super) x: &'a [f32],
    pub(super) stride: usize,
    pub(super) runs: &'a [Run],
    /// `[inputs]`.
    pub(super) weights: &'a [Lanes],
    pub(super) start: Lanes,
    /// What is below zero becomes zero.
    pub(super) relu: bool,
}

impl Product<'_> {
    /// Into the [`PANEL`] columns from `column` on of `out [rows, out_stride]`.
    ///
    /// # Panics
    /// If x or `out` has fewer rows.
    pub(super) fn write(self, rows: usize, out: &mut [f32], out_stride: usize, column: usize) {
        dispatch(Write { product: self, rows, out, out_stride, column });
    }
}

struct Write<'a> {
    product: Product<'a>,
    rows: usize,
    out: &'a mut [f32],
    out_stride: usize,
    column: usize,
}

impl WithSimd for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // How many vectors a panel is.
        match S::F32_LANES {
            16 => self.tiles::<S, 1>(simd),
            8 => self.tiles::<S, 2>(simd),
            4 => self.tiles::<S, 4>(simd),
            _ => self.tiles::<S, PANEL>(simd),
        }
    }
}

impl Write<'_> {
    #[inline(always)]
    fn tiles<S: Simd, const VECTORS: usize>(mut self, simd: S) {
        let whole = self.rows - self.rows % TILE;
        (0..whole).step_by(TILE).for_each(|row| self.tile::<S, TILE, VECTORS>(simd, row));
        (whole..self.rows).for_each(|row| self.tile::<S, 1, VECTORS>(simd, row));
    }

    #[inline(always)]
    fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(&mut self, simd: S, row: usize) {
        let Product { x, stride, runs, weights, start, relu } = &self.product;
        let start: [S::f32s; VECTORS] = vectors::<S, VECTORS>(start);
        let mut sums = [start; ROWS];
        for run in *runs {
            let weights = &weights[run.inputs.clone()];
            let x: [&[f32]; ROWS] = std::array::from_fn(|r| &x[(row + r) * stride + run.column..][..weights.len()]);
            for (input, lanes) in weights.iter().enumerate() {
                let lanes = vectors::<S, VECTORS>(lanes);
                for (sums, x) in sums.iter_mut().zip(&x) {
                    let x = simd.splat_f32s(x[input]);
                    for (sum, lanes) in sums.iter_mut().zip(lanes) {
                        *sum = simd.mul_add_e_f32s(x, lanes, *sum);
                    }
                }
            }
        }
        let zero = simd.splat_f32s(0.0);
        for (r, sums) in sums.into_iter().enumerate() {
            let place = (row + r) * self.out_stride + self.column;
            let (out, _) = S::as_mut_simd_f32s(&mut self.out[place..place + PANEL]);
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = if *relu { simd.max_f32s(sum, zero) } else { sum };
            }
        }
    }
}

#[inline(always)]
fn vectors<S: Simd, const VECTORS: usize>(lanes: &Lanes) -> [S::f32s; VECTORS] {
    let (vectors, _) = S::as_simd_f32s(lanes);
    std::array::from_fn(|v| vectors[v])
}

/// Adds `from[places[i]]` to `sums[i]`.
pub(super) fn add_at(from: &[Lanes], places: &[u32], sums: &mut [Lanes]) {
    dispatch(AddAt { from, places, sums });
}

struct AddAt<'a> {
    from: &'a [Lanes],
    places: &'a [u32],
    sums: &'a mut [Lanes],
}

impl WithSimd for AddAt<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for (sum, place) in self.sums.iter_mut().zip(self.places) {
            let (sum, _) = S::as_mut_simd_f32s(sum);
            let (from, _) = S::as_simd_f32s(&self.from[*place as usize]);
            for (sum, from) in sum.iter_mut().zip(from) {
                *sum = simd.add_f32s(*sum, *from);
            }
        }
    }
}
