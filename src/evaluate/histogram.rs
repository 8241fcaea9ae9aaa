//! Labels by logit, in bins of 1/1024: what the streaming AUC is computed from.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bytes::{BytesError, Reader, put_varint};

/// Bins per unit of logit. Two logits in one bin count as a tie; at this width that moves AUC by less than its own noise.
const BINS_PER_UNIT: f64 = 1024.0;
/// Logits beyond ±32 (odds of 10¹⁴) fall into the outermost bins.
const BOUND: f64 = 32.0;
/// 2 · 32 · 1024.
const BINS: usize = 65_536;
/// Bins are made in pages, since a model's logits fill a small part of the range.
const PAGE_BINS: usize = 256;

/// Impressions of one bin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bin {
    neg: u64,
    pos: u64,
}

type Page = Box<[Bin; PAGE_BINS]>;

/// Counts of positives and negatives by logit. In JSON: base64 of (gap, negatives, positives) varints of the bins that are not empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LogitHistogram {
    /// Empty, or all `BINS / PAGE_BINS` of them.
    pages: Vec<Option<Page>>,
}

impl LogitHistogram {
    pub(super) fn add(&mut self, logit: f32, label: bool) {
        let bin = self.bin_mut(bin_of(logit));
        if label {
            bin.pos += 1;
        } else {
            bin.neg += 1;
        }
    }

    /// Area under the ROC curve of the binned logits, exact: (pairs in order + ½ tied pairs) / pairs. `None` with one class only.
    pub(super) fn auc(&self) -> Option<f64> {
        let (mut neg, mut pos, mut twice_won) = (0_u128, 0_u128, 0_u128);
        for bin in self.pages.iter().flatten().flat_map(|page| page.iter()) {
            twice_won += u128::from(bin.pos) * (2 * neg + u128::from(bin.neg));
            neg += u128::from(bin.neg);
            pos += u128::from(bin.pos);
        }
        (neg > 0 && pos > 0).then(|| twice_won as f64 / (2 * neg * pos) as f64)
    }

    fn bin_mut(&mut self, bin: usize) -> &mut Bin {
        if self.pages.is_empty() {
            self.pages.resize_with(BINS / PAGE_BINS, || None);
        }
        let page = self.pages[bin / PAGE_BINS].get_or_insert_with(|| Box::new([Bin::default(); PAGE_BINS]));
        &mut page[bin % PAGE_BINS]
    }

    fn pack(&self) -> Vec<u8> {
        let (mut bytes, mut next) = (Vec::new(), 0);
        for (number, page) in self.pages.iter().enumerate() {
            for (place, bin) in page.iter().flat_map(|page| page.iter().enumerate()) {
                if *bin != Bin::default() {
                    let index = number * PAGE_BINS + place;
                    put_varint(&mut bytes, (index - next) as u64);
                    put_varint(&mut bytes, bin.neg);
                    put_varint(&mut bytes, bin.pos);
                    next = index + 1;
                }
            }
        }
        bytes
    }

    fn unpack(bytes: &[u8]) -> Result<Self, UnpackError> {
        let (mut histogram, mut reader, mut next) = (LogitHistogram::default(), Reader::new(bytes), 0_u64);
        while !reader.is_empty() {
            let index = next.saturating_add(reader.varint()?);
            if index >= BINS as u64 {
                return Err(UnpackError::Range(index));
            }
            *histogram.bin_mut(index as usize) = Bin { neg: reader.varint()?, pos: reader.varint()? };
            next = index + 1;
        }
        Ok(histogram)
    }
}

/// A finite logit's bin.
fn bin_of(logit: f32) -> usize {
    ((f64::from(logit) + BOUND) * BINS_PER_UNIT).floor().clamp(0.0, (BINS - 1) as f64) as usize
}

#[derive(Debug, thiserror::Error)]
enum UnpackError {
    #[error(transparent)]
    Bytes(#[from] BytesError),
    #[error("bin {0} is beyond the last of {BINS}")]
    Range(u64),
}

impl Serialize for LogitHistogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.pack()))
    }
}

impl<'de> Deserialize<'de> for LogitHistogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text.as_bytes()).map_err(|e| serde::de::Error::custom(format!("histogram: {e}")))?;
        LogitHistogram::unpack(&bytes).map_err(|e| serde::de::Error::custom(format!("histogram: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn json_keeps_it_and_auc_needs_both_classes(rows in prop::collection::vec((-40.0_f32..40.0, any::<bool>()), 0..200)) {
            let mut histogram = LogitHistogram::default();
            rows.iter().for_each(|(logit, label)| histogram.add(*logit, *label));
            let json = serde_json::to_string(&histogram).unwrap();
            prop_assert_eq!(serde_json::from_str::<LogitHistogram>(&json).unwrap(), histogram.clone());
            let both = rows.iter().any(|row| row.1) && rows.iter().any(|row| !row.1);
            prop_assert_eq!(histogram.auc().is_some(), both);
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _either = LogitHistogram::unpack(&bytes);
        }
    }

    #[test]
    fn bins_are_a_1024th_wide_and_end_at_32() {
        assert_eq!(bin_of(0.0), 32_768);
        assert_eq!(bin_of(1.0 / 1024.0), 32_769);
        assert_eq!(bin_of(-1e-6), 32_767);
        assert_eq!((bin_of(-1e30), bin_of(1e30)), (0, BINS - 1));
    }
}
