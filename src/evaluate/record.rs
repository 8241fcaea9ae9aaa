//! A user as bytes.
//!
//! ```text
//! u8 version = 1 · u8 flags · varint n · sums · varint w · w × (varint length in ms, zigzag varint id, sums)
//! · n × i64 time · ⌈n/8⌉ bytes of labels, low bit first · for each head with scores: n × f32 logit
//! sums: for each head varint positives, varint negatives, varint twice_won
//! ```
//!
//! Numbers are little-endian; flag bit 0: truncated, bit 1 + h: head h has scores. At most `USER_IMPRESSIONS_CAP` impressions and
//! [`WINDOWS_CAP`] windows, so at most 400 KiB.

use super::EvaluateError;
use super::bytes::{BytesError, Reader, put_varint, unzigzag, zigzag};
use super::impressions::Impressions;
use super::user::{Pairs, Sums, User, WindowSums};
use crate::config::USER_IMPRESSIONS_CAP;
use crate::domain::UserId;

/// First byte of every record.
const VERSION: u8 = 1;
/// Flag: older impressions have left.
const TRUNCATED: u8 = 1;
/// Lengths of windows a record may hold.
pub(super) const WINDOWS_CAP: usize = 64;

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it {0}")]
    Bytes(#[from] BytesError),
    #[error("its version {0} is not known here ({VERSION} is): it was written by a newer program")]
    Version(u8),
    #[error("it claims {0} {1}, more than there can be")]
    TooMany(u64, &'static str),
    #[error("its sums contradict its impressions")]
    Sums,
}

/// `lengths` are those of `user.windows`, in milliseconds.
pub(super) fn encode(user: &User, lengths: &[i64]) -> Vec<u8> {
    let kept = &user.impressions;
    let (rows, logits) = (kept.len(), kept.logits());
    let scored = logits.map(|column| column.iter().any(|logit| !logit.is_nan()));
    let flags =
        scored.iter().enumerate().fold(u8::from(user.truncated) * TRUNCATED, |flags, (head, has)| flags | (u8::from(*has) << (1 + head)));
    let mut bytes = Vec::with_capacity(64 + rows * 21);
    bytes.extend([VERSION, flags]);
    put_varint(&mut bytes, rows as u64);
    put_sums(&mut bytes, &user.total);
    let windows = || user.windows.iter().zip(lengths).filter_map(|(window, length)| Some((window.id?, *length, &window.sums)));
    put_varint(&mut bytes, windows().count() as u64);
    for (id, length, sums) in windows() {
        put_varint(&mut bytes, length.unsigned_abs());
        put_varint(&mut bytes, zigzag(id));
        put_sums(&mut bytes, sums);
    }
    put_all(&mut bytes, kept.times().iter().map(|time| time.to_le_bytes()));
    bytes.extend(
        kept.labels().chunks(8).map(|eight| eight.iter().enumerate().fold(0, |byte, (bit, label)| byte | (u8::from(*label) << bit))),
    );
    for (column, _) in logits.iter().zip(scored).filter(|(_, has)| *has) {
        put_all(&mut bytes, column.iter().map(|logit| logit.to_le_bytes()));
    }
    bytes
}

/// Windows whose length is not among `lengths` are left out; those that are missing are new.
pub(super) fn decode(bytes: &[u8], lengths: &[i64]) -> Result<User, RecordError> {
    let mut reader = Reader::new(bytes);
    let version = reader.byte()?;
    if version != VERSION {
        return Err(RecordError::Version(version));
    }
    let flags = reader.byte()?;
    let rows = bounded(reader.varint()?, USER_IMPRESSIONS_CAP, "impressions")?;
    let mut user = User::new(lengths.len());
    user.truncated = flags & TRUNCATED != 0;
    user.total = read_sums(&mut reader, rows)?;
    for _ in 0..bounded(reader.varint()?, WINDOWS_CAP, "windows")? {
        let (length, id) = (reader.varint()?, unzigzag(reader.varint()?));
        let sums = read_sums(&mut reader, rows)?;
        if let Some(kind) = lengths.iter().position(|known| known.unsigned_abs() == length) {
            user.windows[kind] = WindowSums { id: Some(id), sums };
        }
    }
    let times = reader.take(8 * rows)?.as_chunks().0.iter().map(|time| i64::from_le_bytes(*time)).collect();
    let labels = reader.take(rows.div_ceil(8))?;
    let labels = (0..rows).map(|row| labels[row / 8] >> (row % 8) & 1 == 1).collect();
    let mut logits = [const { Vec::new() }; _];
    for (head, column) in logits.iter_mut().enumerate() {
        *column = if flags >> (1 + head) & 1 == 1 {
            reader.take(4 * rows)?.as_chunks().0.iter().map(|logit| f32::from_le_bytes(*logit)).collect()
        } else {
            vec![f32::NAN; rows]
        };
    }
    reader.end()?;
    user.impressions = Impressions::new(times, labels, logits);
    check(&user)?;
    Ok(user)
}

/// For the fuzzer: a user's record.
#[cfg(feature = "fuzzing")]
pub fn fuzz_user(bytes: &[u8]) {
    let lengths = [60_000, 3_600_000];
    if let Ok(user) = decode(bytes, &lengths) {
        let bytes = encode(&user, &lengths);
        let again = decode(&bytes, &lengths).expect("what is read can be written");
        assert_eq!(encode(&again, &lengths), bytes, "and says the same");
    }
}

/// As [`decode`]; the error names the user.
pub(super) fn read(id: &UserId, bytes: &[u8], lengths: &[i64]) -> Result<User, EvaluateError> {
    decode(bytes, lengths).map_err(|why| EvaluateError::Record { user: id.0.to_string(), why: why.to_string() })
}

fn put_all<const N: usize>(bytes: &mut Vec<u8>, values: impl ExactSizeIterator<Item = [u8; N]>) {
    let start = bytes.len();
    bytes.resize(start + N * values.len(), 0);
    for (place, value) in bytes[start..].as_chunks_mut().0.iter_mut().zip(values) {
        *place = value;
    }
}

fn put_sums(bytes: &mut Vec<u8>, sums: &Sums) {
    for pairs in sums.heads {
        for value in [pairs.pos, pairs.neg, pairs.twice_won] {
            put_varint(bytes, u64::from(value));
        }
    }
}

fn read_sums(reader: &mut Reader<'_>, rows: usize) -> Result<Sums, RecordError> {
    let mut sums = Sums::default();
    for pairs in &mut sums.heads {
        let [pos, neg] = [bounded(reader.varint()?, rows, "positives")?, bounded(reader.varint()?, rows, "negatives")?];
        let twice_won = reader.varint()?;
        if pos + neg > rows || twice_won > 2 * pos as u64 * neg as u64 {
            return Err(RecordError::Sums);
        }
        // Bounded by `USER_IMPRESSIONS_CAP` and 2 · (USER_IMPRESSIONS_CAP / 2)², both far below 2³².
        *pairs = Pairs { pos: pos as u32, neg: neg as u32, twice_won: twice_won as u32 };
    }
    Ok(sums)
}

/// Positives and negatives must be those of the impressions; pairs won would cost a comparison each.
fn check(user: &User) -> Result<(), RecordError> {
    for (pairs, column) in user.total.heads.iter().zip(user.impressions.logits()) {
        let scored = || user.impressions.labels().iter().zip(column).filter(|(_, logit)| !logit.is_nan());
        let pos = scored().filter(|(label, _)| **label).count();
        if (pos, scored().count() - pos) != (pairs.pos as usize, pairs.neg as usize) {
            return Err(RecordError::Sums);
        }
    }
    Ok(())
}

fn bounded(value: u64, max: usize, what: &'static str) -> Result<usize, RecordError> {
    usize::try_from(value).ok().filter(|value| *value <= max).ok_or(RecordError::TooMany(value, what))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::impressions::Impression;
    use super::super::pairwise::Pairwise;
    use super::super::windows::Live;
    use super::*;

    const LENGTHS: [i64; 2] = [100, 1000];

    fn user(rows: &[(i64, bool, f32, Option<f32>)]) -> User {
        let (mut user, mut latest) = (User::new(LENGTHS.len()), i64::MIN);
        for (time, label, light, control) in rows {
            latest = latest.max(*time);
            let live = LENGTHS.map(|len_ms| Some(Live { id: latest.div_euclid(len_ms), len_ms }));
            let logits = [*light, light * 2.0, control.unwrap_or(f32::NAN)];
            user.insert(&Impression { time: *time, label: *label, logits }, 16, &live, &mut Pairwise::default());
        }
        user
    }

    fn rows() -> impl Strategy<Value = Vec<(i64, bool, f32, Option<f32>)>> {
        prop::collection::vec((-5000_i64..5000, any::<bool>(), -4.0_f32..4.0, prop::option::of(-1.0_f32..1.0)), 0..40)
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip(rows in rows()) {
            let user = user(&rows);
            let bytes = encode(&user, &LENGTHS);
            let back = decode(&bytes, &LENGTHS).unwrap();
            prop_assert_eq!(encode(&back, &LENGTHS), bytes);
            prop_assert_eq!((back.total, &back.windows), (user.total, &user.windows));
            let (found, expected) = (&back.impressions, &user.impressions);
            prop_assert_eq!((found.times(), found.labels()), (expected.times(), expected.labels()));
            prop_assert!(found.logits().into_iter().flatten().zip(expected.logits().into_iter().flatten()).all(|(a, b)| a.to_bits() == b.to_bits()));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            let _either = decode(&bytes, &LENGTHS);
        }

        #[test]
        fn altered_records_do_not_panic_and_shortened_ones_are_refused(rows in rows(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut bytes = encode(&user(&rows), &LENGTHS);
            let at = at.index(bytes.len());
            prop_assert!(decode(&bytes[..at], &LENGTHS).is_err());
            bytes[at] = byte;
            let _either = decode(&bytes, &LENGTHS);
        }
    }

    #[test]
    fn lengths_may_come_and_go() {
        let before = user(&[(10, true, 1.0, None), (20, false, 0.0, None)]);
        let after = decode(&encode(&before, &LENGTHS), &[1000, 7]).unwrap();
        assert_eq!(after.windows, [before.windows[1], WindowSums::default()]);
    }

    #[test]
    fn unknown_versions_and_contradictions_are_refused() {
        let mut bytes = encode(&user(&[(10, true, 1.0, None)]), &LENGTHS);
        bytes[3] = 0;
        assert_eq!(decode(&bytes, &LENGTHS), Err(RecordError::Sums));
        bytes[0] = 2;
        assert_eq!(decode(&bytes, &LENGTHS), Err(RecordError::Version(2)));
    }
}
