//! Products of matrices, on the calling thread.

use gemm::Parallelism;

/// A factor.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Operand<'a> {
    /// A row-major matrix.
    Plain(&'a [f32]),
    /// The columns from `from` on of a row-major matrix of `width` columns, as rows; as many as there are rows of the factor.
    Transposed { values: &'a [f32], width: usize, from: usize },
}

impl<'a> Operand<'a> {
    /// A row-major matrix of `width` columns, with its rows as columns.
    pub(crate) fn transposed(values: &'a [f32], width: usize) -> Self {
        Operand::Transposed { values, width, from: 0 }
    }

    /// As a `[rows, columns]` factor: its first number and those behind it, and the strides along rows and columns.
    fn strided(self, rows: usize, columns: usize) -> (&'a [f32], isize, isize) {
        match self {
            Operand::Plain(values) => {
                assert_eq!(values.len(), rows * columns, "a factor is [{rows}, {columns}]");
                (values, columns.cast_signed(), 1)
            }
            Operand::Transposed { values, width, from } => {
                assert!(values.len() == columns * width && from + rows <= width, "columns {from}.. of [{columns}, {width}] are {rows}");
                (&values[from.min(values.len())..], 1, width.cast_signed())
            }
        }
    }
}

/// `out = left · right`, or `out += left · right` where `add` says so.
///
/// # Shapes
/// `left [n, k]`, `right [k, m]`, `out [n, m]`, row-major.
///
/// # Panics
/// If a slice's length is not what the dimensions say.
pub(crate) fn multiply([n, k, m]: [usize; 3], left: Operand<'_>, right: Operand<'_>, out: &mut [f32], add: bool) {
    let (left, left_rows, left_columns) = left.strided(n, k);
    let (right, right_rows, right_columns) = right.strided(k, m);
    assert_eq!(out.len(), n * m, "out is [n, m]");
    if n == 0 || m == 0 {
        return;
    }
    let (before, times) = if add { (1.0, 1.0) } else { (0.0, 1.0) };
    // SAFETY: with these strides every access lies inside the slices, whose lengths are asserted above and bounded by `isize::MAX` as all
    // slices are; `out` is borrowed mutably, so it overlaps neither operand; f32 is a type that `gemm` supports.
    #[allow(unsafe_code, reason = "the crate offers its kernel as raw pointers only; this function is the one place that calls it")]
    unsafe {
        gemm::gemm(
            n,
            m,
            k,
            out.as_mut_ptr(),
            1,
            m.cast_signed(),
            add,
            left.as_ptr(),
            left_columns,
            left_rows,
            right.as_ptr(),
            right_columns,
            right_rows,
            before,
            times,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition, in f64.
    fn reference([n, k, m]: [usize; 3], left: impl Fn(usize, usize) -> f32, right: impl Fn(usize, usize) -> f32) -> Vec<f64> {
        let sum = |i, j| (0..k).map(|l| f64::from(left(i, l)) * f64::from(right(l, j))).sum();
        (0..n).flat_map(|i| (0..m).map(move |j| (i, j))).map(|(i, j)| sum(i, j)).collect()
    }

    #[test]
    fn equals_the_definition_for_every_operand_and_shape() {
        for [n, k, m] in [[1, 1, 1], [3, 5, 2], [17, 33, 9], [40, 64, 48], [5, 0, 3]] {
            let numbers = |len: usize, salt: usize| (0..len).map(|i| ((i * 31 + salt) % 17) as f32 * 0.25 - 2.0).collect::<Vec<_>>();
            let (left, right) = (numbers(n * k, 3), numbers(k * m, 7));
            for (left_plain, right_plain) in [(true, true), (true, false), (false, true), (false, false)] {
                let at = |values: &[f32], plain: bool, [rows, columns]: [usize; 2], i: usize, j: usize| {
                    if plain { values[i * columns + j] } else { values[j * rows + i] }
                };
                let expected =
                    reference([n, k, m], |i, l| at(&left, left_plain, [n, k], i, l), |l, j| at(&right, right_plain, [k, m], l, j));
                let operand = |values, plain, rows| if plain { Operand::Plain(values) } else { Operand::transposed(values, rows) };
                for add in [false, true] {
                    let mut out = vec![if add { 1.0 } else { f32::NAN }; n * m];
                    multiply([n, k, m], operand(&left, left_plain, n), operand(&right, right_plain, k), &mut out, add);
                    for (out, expected) in out.iter().zip(&expected) {
                        let expected = expected + if add { 1.0 } else { 0.0 };
                        assert!((f64::from(*out) - expected).abs() < 1e-3, "{out} against {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn some_columns_are_taken_alone() {
        let ([n, k, m], [width, from]) = ([2, 3, 2], [5, 3]);
        let (values, right) = ((0..k * width).map(|i| i as f32).collect::<Vec<_>>(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut out = [0.0; 4];
        multiply([n, k, m], Operand::Transposed { values: &values, width, from }, Operand::Plain(&right), &mut out, false);
        let expected = reference([n, k, m], |i, l| values[l * width + from + i], |l, j| right[l * m + j]);
        assert_eq!(out.map(f64::from).as_slice(), expected);
    }
}
