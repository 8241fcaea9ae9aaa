//! Embedding rows as servers get them.

use half::f16;
use safetensors::Dtype;

use super::artifact::{Tensor, floats};
use crate::config::RowType;
use crate::wire::snapshot::RowsLoss;

/// Largest whole number of a byte, both ways.
const BYTE_MAX: f32 = 127.0;
/// Bits of a scale's fraction that are dropped, upwards: the four that are left make it up to a sixteenth larger than it need be, and in return a
/// row whose largest weight moves a little keeps its scale, and with it the bytes of its other weights.
const SCALE_BITS_DROPPED: u32 = 19;

/// How far weights have moved by being made smaller.
#[derive(Debug, Default)]
pub(super) struct Loss {
    max: f32,
    sum: f64,
    weights: u64,
}

impl Loss {
    fn add(&mut self, error: f32) {
        self.max = self.max.max(error);
        self.sum += f64::from(error);
        self.weights += 1;
    }

    /// For the manifest, which fills in the probes; `None` for the trainer's own floats.
    pub(super) fn said(&self, kind: RowType) -> Option<RowsLoss> {
        let dtype = match kind {
            RowType::F32 => return None,
            RowType::F16 => Dtype::F16,
            RowType::I8 => Dtype::I8,
        };
        let error_mean = if self.weights == 0 { 0.0 } else { (self.sum / self.weights as f64) as f32 };
        Some(RowsLoss { dtype: dtype.to_string(), error_max: self.max, error_mean, probe_change_max: 0.0 })
    }
}

/// The tensors of rows of `dim` floats: weights, and scales where there are any. What is not finite stays so, for servers to refuse.
pub(super) fn encode<'a>(
    kind: RowType,
    [rows_name, scales_name]: [String; 2],
    dim: usize,
    rows: impl ExactSizeIterator<Item = &'a [f32]>,
    loss: &mut Loss,
) -> Vec<(String, Tensor)> {
    let shape = vec![rows.len(), dim];
    match kind {
        RowType::F32 => vec![(rows_name, floats(shape, rows.flatten()))],
        RowType::F16 => {
            let mut bytes = Vec::with_capacity(rows.len() * dim * size_of::<f16>());
            for weight in rows.flatten() {
                let half = f16::from_f32(*weight);
                loss.add((half.to_f32() - weight).abs());
                bytes.extend(half.to_le_bytes());
            }
            vec![(rows_name, Tensor { dtype: Dtype::F16, shape, bytes })]
        }
        RowType::I8 => {
            let mut bytes = Vec::with_capacity(rows.len() * dim);
            let mut scales = Vec::with_capacity(rows.len());
            for row in rows {
                let scale = scale(row);
                for weight in row {
                    let byte = if scale > 0.0 { (weight / scale).round().clamp(-BYTE_MAX, BYTE_MAX) } else { 0.0 };
                    loss.add((byte * scale - weight).abs());
                    bytes.push((byte as i8).cast_unsigned());
                }
                scales.push(scale);
            }
            let scales = floats(vec![scales.len()], scales.iter());
            vec![(rows_name, Tensor { dtype: Dtype::I8, shape, bytes }), (scales_name, scales)]
        }
    }
}

/// What a row's bytes are to be multiplied by.
fn scale(row: &[f32]) -> f32 {
    if !row.iter().all(|weight| weight.is_finite()) {
        return f32::NAN;
    }
    let least = row.iter().fold(0.0_f32, |max, weight| max.max(weight.abs())) / BYTE_MAX;
    let dropped = (1 << SCALE_BITS_DROPPED) - 1;
    f32::from_bits((least.to_bits() + dropped) & !dropped)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encoded(kind: RowType, row: &[f32]) -> (Vec<(String, Tensor)>, Loss) {
        let mut loss = Loss::default();
        let tensors = encode(kind, ["rows", "scales"].map(str::to_owned), row.len(), [row].into_iter(), &mut loss);
        (tensors, loss)
    }

    fn float(bytes: &[u8]) -> f32 {
        f32::from_le_bytes(bytes.try_into().unwrap())
    }

    proptest! {
        #[test]
        fn a_byte_is_within_half_a_scale_of_its_weight(row in proptest::collection::vec(-9.0_f32..9.0, 1..20)) {
            let (tensors, loss) = encoded(RowType::I8, &row);
            let scale = float(&tensors[1].1.bytes);
            let most = row.iter().fold(0.0_f32, |max, weight| max.max(weight.abs()));
            prop_assert!(scale <= most / 127.0 * 1.0626, "{} {}", scale, most);
            for (byte, weight) in tensors[0].1.bytes.iter().zip(&row) {
                let found = f32::from(byte.cast_signed()) * scale;
                prop_assert!((found - weight).abs() <= scale * 0.5001, "{} {}", found, weight);
                prop_assert!((found - weight).abs() <= loss.max);
            }
        }

        #[test]
        fn a_half_is_within_a_two_thousandth_of_its_weight(weight in -9.0_f32..9.0) {
            let (tensors, loss) = encoded(RowType::F16, &[weight]);
            let found = f16::from_le_bytes(tensors[0].1.bytes.as_slice().try_into().unwrap()).to_f32();
            prop_assert!((found - weight).abs() <= weight.abs() / 2048.0 + 1e-7);
            prop_assert_eq!((found - weight).abs(), loss.max);
        }
    }

    #[test]
    fn a_row_whose_largest_weight_moves_a_little_keeps_its_bytes() {
        let bytes = |largest: f32| encoded(RowType::I8, &[largest, 0.5, -0.25]).0[0].1.bytes[1..].to_vec();
        assert_eq!(bytes(1.0), bytes(0.999));
    }

    #[test]
    fn a_row_of_nothing_stays_nothing_and_what_is_not_finite_stays_so() {
        let (nothing, loss) = encoded(RowType::I8, &[0.0; 3]);
        assert_eq!((nothing[0].1.bytes.as_slice(), float(&nothing[1].1.bytes), loss.max), ([0; 3].as_slice(), 0.0, 0.0));
        for bad in [f32::NAN, f32::INFINITY] {
            assert!(float(&encoded(RowType::I8, &[1.0, bad]).0[1].1.bytes).is_nan());
            assert!(!f16::from_le_bytes(encoded(RowType::F16, &[bad]).0[0].1.bytes.as_slice().try_into().unwrap()).is_finite());
        }
    }
}
