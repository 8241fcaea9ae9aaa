//! A user's record: the value of one checkpoint, and the one before it as of the last commit.
//!
//! ```text
//! u8 format = 1 · u32 crc32 · u64 tag · u8 flags · [u32 length, user id] · u32 length, current · [u64 tag, u32 length, previous]
//! ```
//!
//! Flag bit 0: there is a previous value; bit 1: the record holds the user id. The checksum covers the key and everything but itself, so
//! that a value under a wrong key is found too.

use crate::domain::Text;

/// First byte of every record.
pub(super) const RECORD_FORMAT: u8 = 1;
/// Everything of a record but its id and values: format, checksum, two tags, flags, three lengths.
const FRAME_BYTES_MAX: usize = 1 + 4 + 2 * 8 + 1 + 3 * 4;
/// Flag: there is a previous value.
const HAS_PREVIOUS: u8 = 1;
/// Flag: the record holds the user id.
const HAS_ID: u8 = 2;

/// One value of a user, and the checkpoint that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) tag: u64,
    pub(super) bytes: Vec<u8>,
}

/// A decoded record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// The user id, if it is longer than a key may be.
    pub(super) id: Option<Text>,
    pub(super) current: Value,
    pub(super) previous: Option<Value>,
}

/// Why a record cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RecordError {
    #[error("it has {0} bytes, too few for a record")]
    Short(usize),
    #[error("its checksum is {found:08x} instead of {written:08x}")]
    Checksum { written: u32, found: u32 },
    #[error("its format {0} is not known here ({RECORD_FORMAT} is)")]
    Format(u8),
    #[error("its lengths contradict each other")]
    Lengths,
    #[error("its user id is no UTF-8")]
    Id,
}

impl Record {
    /// The value as of checkpoint `committed`; `Err` holds the checkpoint of the oldest value there is, which is newer.
    pub(super) fn value_at(self, committed: u64) -> Result<Option<Value>, u64> {
        if self.current.tag <= committed {
            return Ok(Some(self.current));
        }
        match self.previous {
            Some(previous) if previous.tag > committed => Err(previous.tag),
            previous => Ok(previous),
        }
    }
}

pub(super) fn encode(key: &[u8], record: &Record) -> Vec<u8> {
    let Record { id, current, previous } = record;
    let fields = current.bytes.len() + previous.as_ref().map_or(0, |previous| previous.bytes.len()) + id.as_ref().map_or(0, |id| id.len());
    let mut bytes = Vec::with_capacity(FRAME_BYTES_MAX + fields);
    bytes.extend([RECORD_FORMAT, 0, 0, 0, 0]);
    bytes.extend(current.tag.to_le_bytes());
    bytes.push(if previous.is_some() { HAS_PREVIOUS } else { 0 } | if id.is_some() { HAS_ID } else { 0 });
    if let Some(id) = id {
        put(&mut bytes, id.as_bytes());
    }
    put(&mut bytes, &current.bytes);
    if let Some(previous) = previous {
        bytes.extend(previous.tag.to_le_bytes());
        put(&mut bytes, &previous.bytes);
    }
    let crc = checksum(key, RECORD_FORMAT, &bytes[5..]);
    bytes[1..5].copy_from_slice(&crc.to_le_bytes());
    bytes
}

pub(super) fn decode(key: &[u8], bytes: &[u8]) -> Result<Record, RecordError> {
    let short = || RecordError::Short(bytes.len());
    let ([format], rest) = bytes.split_first_chunk().ok_or_else(short)?;
    let (written, body) = rest.split_first_chunk().ok_or_else(short)?;
    let (written, found) = (u32::from_le_bytes(*written), checksum(key, *format, body));
    if written != found {
        return Err(RecordError::Checksum { written, found });
    }
    if *format != RECORD_FORMAT {
        return Err(RecordError::Format(*format));
    }
    fields(body).ok_or(RecordError::Lengths)?
}

/// `None`: a field reaches beyond the end, or bytes are left.
fn fields(mut body: &[u8]) -> Option<Result<Record, RecordError>> {
    let tag = u64::from_le_bytes(take(&mut body)?);
    let [flags] = take(&mut body)?;
    let id = if flags & HAS_ID == 0 { None } else { Some(get(&mut body)?) };
    let current = Value { tag, bytes: get(&mut body)? };
    let previous =
        if flags & HAS_PREVIOUS == 0 { None } else { Some(Value { tag: u64::from_le_bytes(take(&mut body)?), bytes: get(&mut body)? }) };
    if !body.is_empty() {
        return None;
    }
    let id = match id.map(String::from_utf8).transpose() {
        Ok(id) => id.map(Text::from),
        Err(_) => return Some(Err(RecordError::Id)),
    };
    Some(Ok(Record { id, current, previous }))
}

/// For the fuzzer: a record under an empty key, and what it says within, whatever its checksum.
#[cfg(feature = "fuzzing")]
pub fn fuzz_record(bytes: &[u8]) {
    let _checked = decode(b"", bytes);
    if let Some(Ok(record)) = fields(bytes) {
        assert_eq!(decode(b"", &encode(b"", &record)), Ok(record), "what is read can be written");
    }
}

fn put(bytes: &mut Vec<u8>, field: &[u8]) {
    bytes.extend((field.len() as u32).to_le_bytes());
    bytes.extend(field);
}

fn take<const N: usize>(body: &mut &[u8]) -> Option<[u8; N]> {
    let (front, rest) = body.split_first_chunk()?;
    *body = rest;
    Some(*front)
}

fn get(body: &mut &[u8]) -> Option<Vec<u8>> {
    let length = u32::from_le_bytes(take(body)?);
    let (field, rest) = body.split_at_checked(length as usize)?;
    *body = rest;
    Some(field.to_vec())
}

fn checksum(key: &[u8], format: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(&[format]);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record() -> impl Strategy<Value = Record> {
        let value = || (any::<u64>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(|(tag, bytes)| Value { tag, bytes });
        (prop::option::of(".{0,8}"), value(), prop::option::of(value())).prop_map(|(id, current, previous)| Record {
            id: id.map(Text::from),
            current,
            previous,
        })
    }

    proptest! {
        #[test]
        fn records_survive_the_round_trip_under_their_own_key_only(record in record(), key in prop::collection::vec(any::<u8>(), 0..9)) {
            let bytes = encode(&key, &record);
            prop_assert_eq!(decode(&key, &bytes), Ok(record));
            prop_assert!(decode(&[&key[..], b"x"].concat(), &bytes).is_err());
        }

        #[test]
        fn every_flipped_bit_is_found(record in record(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = encode(b"key", &record);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(decode(b"key", &bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(decode(b"key", &bytes).is_err());
            let _either = fields(&bytes);
        }
    }
}
