//! Varints and little-endian numbers, read without ever panicking.

/// Groups of seven bits in the longest varint (64 bits).
const VARINT_BYTES_MAX: u32 = 10;

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum BytesError {
    /// They end early.
    #[error("ends early, at byte {0}")]
    Short(usize),
    /// A varint of more than 64 bits.
    #[error("a number of more than 64 bits ends at byte {0}")]
    Wide(usize),
    /// There are more than were expected.
    #[error("{0} bytes too many")]
    Long(usize),
}

/// Appends LEB128: seven bits per byte, low ones first.
pub(super) fn put_varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

/// Maps numbers near zero, of either sign, to small ones.
pub(super) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Inverse of [`zigzag`].
pub(super) const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Reads from the front of a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    length: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, length: bytes.len() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    fn at(&self) -> usize {
        self.length - self.rest.len()
    }

    pub(super) fn take(&mut self, bytes: usize) -> Result<&'a [u8], BytesError> {
        let (front, rest) = self.rest.split_at_checked(bytes).ok_or(BytesError::Short(self.length))?;
        self.rest = rest;
        Ok(front)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], BytesError> {
        let (front, rest) = self.rest.split_first_chunk::<N>().ok_or(BytesError::Short(self.length))?;
        self.rest = rest;
        Ok(*front)
    }

    pub(super) fn byte(&mut self) -> Result<u8, BytesError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn varint(&mut self) -> Result<u64, BytesError> {
        let mut value = 0_u64;
        for group in 0..VARINT_BYTES_MAX {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            let shifted = bits << (7 * group);
            if shifted >> (7 * group) != bits {
                return Err(BytesError::Wide(self.at()));
            }
            value |= shifted;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(BytesError::Wide(self.at()))
    }

    pub(super) fn end(self) -> Result<(), BytesError> {
        if self.rest.is_empty() { Ok(()) } else { Err(BytesError::Long(self.rest.len())) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_survive_the_round_trip(value in any::<u64>(), signed in any::<i64>(), shift in 0_u32..64) {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value >> shift);
            put_varint(&mut bytes, zigzag(signed));
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.varint(), Ok(value >> shift));
            prop_assert_eq!(reader.varint().map(unzigzag), Ok(signed));
            prop_assert_eq!(reader.end(), Ok(()));
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        assert_eq!(Reader::new(&[0x80]).varint(), Err(BytesError::Short(1)));
        assert_eq!(Reader::new(&[0xFF; 10]).varint(), Err(BytesError::Wide(10)));
        assert_eq!(Reader::new(&[1, 2]).end(), Err(BytesError::Long(2)));
        assert_eq!(Reader::new(&[1, 2]).take(3), Err(BytesError::Short(2)));
    }
}
