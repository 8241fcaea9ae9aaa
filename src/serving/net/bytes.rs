//! Products in 8 bits: weights are rounded to i8 with a scale for each output, when that is asked for; inputs to seven bits with a step and a
//! lowest value for each example, so that no sum of two products overflows the 16 bits that AVX2 has for it.

#[cfg(target_arch = "x86_64")]
use pulp::NullaryFnOnce;
use pulp::{Simd, WithSimd};

use super::panel::{Lanes, PANEL, Panels, ZERO};
use crate::vectors::dispatch;

/// Inputs whose products AVX2 adds up at once.
const QUAD: usize = 4;
/// Largest weight, and largest input.
const MAX: f32 = 127.0;
/// Rows of x that go through a panel together, as those of floats do.
const TILE: usize = 6;
/// Added to a float from 0 to 127, its lowest byte is the nearest integer.
const ROUND: f32 = (1 << 23) as f32;

/// Inputs that are no farther apart than this times 127 count as equal: its reciprocal has to be finite.
const STEP_MIN: f32 = 1e-30;

/// Weights of [`QUAD`] inputs for each output of a panel, lowest byte first.
type Quads = [i32; PANEL];

/// A matrix `[inputs, outputs]` in panels.
#[derive(Debug, Clone)]
pub(super) struct ByteWeights {
    inputs: usize,
    /// `[panels, inputs / 4]`, the last filled up with zeros.
    quads: Vec<Quads>,
    /// What one is worth, by output: `[panels]`.
    scales: Vec<Lanes>,
    /// Sums of the weights of an output: `[panels]`.
    sums: Vec<Lanes>,
}

/// Inputs of a block, and room for products.
#[derive(Debug, Clone, Default)]
pub(super) struct Bytes {
    /// `[examples, inputs / 4]`.
    quads: Vec<[u8; QUAD]>,
    /// By example.
    ranges: Vec<Range>,
    /// `[examples]`.
    products: Vec<Quads>,
}

/// An input is `lowest + step · byte`.
#[derive(Debug, Clone, Copy)]
struct Range {
    lowest: f32,
    /// Infinite where an input is not finite.
    step: f32,
}

impl ByteWeights {
    pub(super) fn new(inputs: usize, weight: &Panels) -> Self {
        let mut bytes = ByteWeights { inputs, quads: Vec::new(), scales: Vec::new(), sums: Vec::new() };
        for panel in weight.panels() {
            let scale = |output: usize| panel.iter().fold(0.0_f32, |max, lanes| max.max(lanes[output].abs())) / MAX;
            let scales: Lanes = std::array::from_fn(scale);
            let byte = |lanes: &Lanes, output: usize| {
                // All weights of an output may be zero.
                let weight = if scales[output] > 0.0 { lanes[output] / scales[output] } else { 0.0 };
                weight.round().clamp(-MAX, MAX) as i8
            };
            let mut sums = ZERO;
            for lanes in panel {
                sums.iter_mut().enumerate().for_each(|(output, sum)| *sum += f32::from(byte(lanes, output)));
            }
            bytes.quads.extend(panel.chunks(QUAD).map(|inputs| {
                let quad = |output| std::array::from_fn(|input| inputs.get(input).map_or(0, |lanes| byte(lanes, output).cast_unsigned()));
                std::array::from_fn(|output| i32::from_le_bytes(quad(output)))
            }));
            bytes.scales.push(scales);
            bytes.sums.push(sums);
        }
        bytes
    }

    /// `into ← bias + x · W` of the examples that were [`Bytes::take`]n, `into [examples, width]`; what is below zero becomes zero with `relu`.
    /// Where an input is not finite, no output is.
    pub(super) fn write(&self, x: &mut Bytes, bias: &[Lanes], relu: bool, into: &mut [f32]) {
        let quads = self.inputs.div_ceil(QUAD);
        let width = bias.len() * PANEL;
        for (panel, bias) in bias.iter().enumerate() {
            let weights = &self.quads[panel * quads..][..quads];
            Multiply { simd: (), x: &x.quads, weights, products: &mut x.products }.run();
            let (scales, sums) = (&self.scales[panel], &self.sums[panel]);
            for ((into, products), range) in into.chunks_exact_mut(width).zip(&x.products).zip(&x.ranges) {
                let into = &mut into[panel * PANEL..][..PANEL];
                for output in 0..PANEL {
                    let sum = range.step * products[output] as f32 + range.lowest * sums[output];
                    let y = bias[output] + scales[output] * sum;
                    into[output] = if relu { y.max(0.0) } else { y };
                }
                if range.step.is_infinite() {
                    into.fill(f32::INFINITY);
                }
            }
        }
    }
}

impl Bytes {
    /// Rounds the first `inputs` of each row of `x [examples, stride]`.
    pub(super) fn take(&mut self, examples: usize, x: &[f32], stride: usize, inputs: usize) {
        let quads = inputs.div_ceil(QUAD);
        self.quads.clear();
        self.quads.resize(examples * quads, [0; QUAD]);
        self.ranges.clear();
        self.ranges.resize(examples, Range { lowest: 0.0, step: 0.0 });
        self.products.resize(examples, [0; PANEL]);
        if inputs > 0 {
            dispatch(Round { x, stride, inputs, quads: &mut self.quads, ranges: &mut self.ranges });
        }
    }
}

/// Of some inputs and zero.
struct Extremes {
    lowest: f32,
    highest: f32,
    is_finite: bool,
}

impl Extremes {
    /// In lanes, so that the compiler makes vector code of it: one after the other, comparisons wait for each other.
    #[inline(always)]
    fn of(x: &[f32]) -> Self {
        const LANES: usize = 8;
        let (chunks, rest) = x.as_chunks::<LANES>();
        let mut last = [0.0; LANES];
        last[..rest.len()].copy_from_slice(rest);
        let (mut lowest, mut highest, mut largest) = ([0.0_f32; LANES], [0.0_f32; LANES], [0; LANES]);
        for chunk in chunks.iter().chain([&last]) {
            for lane in 0..LANES {
                let x = chunk[lane];
                lowest[lane] = if x < lowest[lane] { x } else { lowest[lane] };
                highest[lane] = if x > highest[lane] { x } else { highest[lane] };
                // Without its sign, a number's bits are the larger the larger it is, and those of NaN larger still.
                largest[lane] = largest[lane].max(x.to_bits() << 1);
            }
        }
        Extremes {
            lowest: lowest.into_iter().fold(0.0, f32::min),
            highest: highest.into_iter().fold(0.0, f32::max),
            is_finite: largest.into_iter().all(|largest: u32| largest < f32::INFINITY.to_bits() << 1),
        }
    }
}

struct Round<'a> {
    x: &'a [f32],
    stride: usize,
    inputs: usize,
    quads: &'a mut [[u8; QUAD]],
    ranges: &'a mut [Range],
}

impl WithSimd for Round<'_> {
    type Output = ();

    /// Nothing here needs more than that the compiler may use the CPU's vectors.
    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let quads = self.inputs.div_ceil(QUAD);
        for ((x, bytes), range) in self.x.chunks(self.stride).zip(self.quads.chunks_exact_mut(quads)).zip(self.ranges) {
            let x = &x[..self.inputs];
            let Extremes { lowest, highest, is_finite } = Extremes::of(x);
            let step = (highest - lowest) / MAX;
            let (step, by) = if step > STEP_MIN { (step, 1.0 / step) } else { (0.0, 0.0) };
            for (x, byte) in x.iter().zip(bytes.as_flattened_mut()) {
                *byte = ((x - lowest) * by + ROUND).to_bits() as u8;
            }
            *range = Range { lowest, step: if is_finite { step } else { f32::INFINITY } };
        }
    }
}

/// `products ← Σ x · W` for one panel of W.
struct Multiply<'a, S> {
    simd: S,
    /// `[examples, inputs / 4]`.
    x: &'a [[u8; QUAD]],
    /// `[inputs / 4]`.
    weights: &'a [Quads],
    /// `[examples]`.
    products: &'a mut [Quads],
}

impl Multiply<'_, ()> {
    fn run(self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            let Multiply { simd: (), x, weights, products } = self;
            return simd.vectorize(Multiply { simd, x, weights, products });
        }
        self.portable();
    }

    fn portable(self) {
        for (products, x) in self.products.iter_mut().zip(self.x.chunks_exact(self.weights.len().max(1))) {
            *products = [0; PANEL];
            for (x, weights) in x.iter().zip(self.weights) {
                for (product, weights) in products.iter_mut().zip(weights) {
                    let pairs = x.iter().zip(weights.to_le_bytes());
                    *product += pairs.map(|(x, weight)| i32::from(*x) * i32::from(weight.cast_signed())).sum::<i32>();
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl NullaryFnOnce for Multiply<'_, pulp::x86::V3> {
    type Output = ();

    #[inline(always)]
    fn call(mut self) {
        let whole = self.products.len() - self.products.len() % TILE;
        (0..whole).step_by(TILE).for_each(|row| self.tile::<TILE>(row));
        (whole..self.products.len()).for_each(|row| self.tile::<1>(row));
    }
}

#[cfg(target_arch = "x86_64")]
impl Multiply<'_, pulp::x86::V3> {
    #[inline(always)]
    fn tile<const ROWS: usize>(&mut self, row: usize) {
        use std::arch::x86_64::__m256i;
        let pulp::x86::V3 { avx, avx2, .. } = self.simd;
        let (count, ones) = (self.weights.len(), avx._mm256_set1_epi16(1));
        let mut sums = [[avx._mm256_setzero_si256(); 2]; ROWS];
        let x: [&[[u8; QUAD]]; ROWS] = std::array::from_fn(|r| &self.x[(row + r) * count..][..count]);
        for (quad, weights) in self.weights.iter().enumerate() {
            let weights: [__m256i; 2] = pulp::cast(*weights);
            for (sums, x) in sums.iter_mut().zip(&x) {
                let x = avx._mm256_set1_epi32(i32::from_le_bytes(x[quad]));
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    let products = avx2._mm256_madd_epi16(avx2._mm256_maddubs_epi16(x, weights), ones);
                    *sum = avx2._mm256_add_epi32(*sum, products);
                }
            }
        }
        for (products, sums) in self.products[row..row + ROWS].iter_mut().zip(sums) {
            *products = pulp::cast(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::serving::net::panel::in_lanes;

    fn product(x: &[f32], weight: &[f32], bias: &[f32], relu: bool) -> Vec<f32> {
        let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
        let weights = ByteWeights::new(inputs, &Panels::new(outputs, weight));
        let bias = in_lanes(bias);
        let (examples, width) = (x.len() / inputs, bias.len() * PANEL);
        let mut into = vec![f32::NAN; examples * width];
        let mut bytes = Bytes::default();
        bytes.take(examples, x, inputs, inputs);
        weights.write(&mut bytes, &bias, relu, &mut into);
        into.chunks_exact(width).flat_map(|y| y[..outputs].to_vec()).collect()
    }

    fn floats(count: usize) -> impl Strategy<Value = Vec<f32>> {
        proptest::collection::vec(prop_oneof![3 => -2.0f32..2.0, 1 => Just(0.0)], count)
    }

    proptest! {
        #[test]
        fn no_output_is_farther_off_than_the_roundings_of_inputs_and_weights_allow(
            (x, weight, bias, relu) in (1usize..40, 1usize..40, 1usize..20).prop_flat_map(|(inputs, outputs, examples)| {
                (floats(examples * inputs), floats(inputs * outputs), floats(outputs), any::<bool>())
            }),
        ) {
            let (outputs, inputs) = (bias.len(), weight.len() / bias.len());
            let found = product(&x, &weight, &bias, relu);
            for (x, found) in x.chunks_exact(inputs).zip(found.chunks_exact(outputs)) {
                let span = x.iter().fold(0.0f32, |max, x| max.max(*x)) - x.iter().fold(0.0f32, |min, x| min.min(*x));
                let half_step = f64::from(span / MAX) / 2.0;
                for (output, found) in found.iter().enumerate() {
                    let column: Vec<f64> = (0..inputs).map(|input| f64::from(weight[input * outputs + output])).collect();
                    let half_scale = column.iter().fold(0.0f64, |max, weight| max.max(weight.abs())) / f64::from(MAX) / 2.0;
                    let exact: f64 = f64::from(bias[output]) + x.iter().zip(&column).map(|(x, weight)| f64::from(*x) * weight).sum::<f64>();
                    let bound: f64 = x.iter().zip(&column).map(|(x, weight)| {
                        half_step * weight.abs() + half_scale * f64::from(x.abs()) + half_step * half_scale
                    }).sum();
                    let expected = if relu { exact.max(0.0) } else { exact };
                    prop_assert!((f64::from(*found) - expected).abs() <= bound + 1e-4, "{} instead of {} ± {}", found, expected, bound);
                }
            }
        }

        #[test]
        fn avx2_makes_the_integers_that_the_portable_code_makes(
            (x, weights) in (1usize..30, 1usize..15).prop_flat_map(|(quads, examples)| {
                (proptest::collection::vec(proptest::array::uniform4(0u8..128), examples * quads), proptest::collection::vec(any::<[i32; PANEL]>(), quads))
            }),
        ) {
            // -128 is no weight.
            let weights: Vec<Quads> = weights.iter().map(|quads| quads.map(|quad| i32::from_le_bytes(quad.to_le_bytes().map(|byte| if byte == 128 { 127 } else { byte })))).collect();
            let examples = x.len() / weights.len();
            let (mut found, mut expected) = (vec![[0; PANEL]; examples], vec![[0; PANEL]; examples]);
            Multiply { simd: (), x: &x, weights: &weights, products: &mut found }.run();
            Multiply { simd: (), x: &x, weights: &weights, products: &mut expected }.portable();
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn what_is_not_finite_stays_so() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
            let x = [1.0, 2.0, bad, if bad == f32::MAX { f32::MIN } else { 0.0 }, 1.0, 2.0, 3.0, 4.0];
            let found = product(&x, &[1.0, 1.0, -1.0, 1.0], &[0.5], true);
            assert_eq!((found[0], found[1].is_finite()), (f32::INFINITY, true), "{bad}");
        }
    }

    #[test]
    fn zeros_are_exact_and_what_is_next_to_them_finite() {
        let found = product(&[1e-40, 3e-39, 0.0], &[1.0, 2.0, 3.0], &[0.25], true);
        assert_eq!(found, [0.25]);
        assert_eq!(product(&[0.0; 6], &[0.0, 3.0, 0.0, -3.0, 0.0, 1.0], &[0.25, -0.5], false), [0.25, -0.5, 0.25, -0.5]);
    }
}
