//! What a store holds, in a few numbers: so that users which sled lost without a word are missed.
//!
//! sled takes a damaged end of its log for a write that was cut short, and opens as of before it. A record alone cannot tell: its
//! checksum is right, it is only old.
//!
//! ```text
//! u32 crc32 · twice (the newest first): u64 checkpoint · u64 users · u64 bytes · u128 digest
//! ```
//!
//! The digest is the sum over users of a hash of key, tag and bytes, so a write changes it by its own users alone.

use xxhash_rust::xxh3::Xxh3Default;

use super::record::Value;

/// Bytes of one seal.
const SEAL: usize = 40;

/// The users as of one checkpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seal {
    pub(super) checkpoint: u64,
    pub(super) sum: Sum,
}

/// Users in a few numbers; the order in which they come does not matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) users: u64,
    /// Of keys and values.
    pub(super) bytes: u64,
    digest: u128,
}

impl Sum {
    pub(super) fn add(&mut self, key: &[u8], value: &Value) {
        self.users = self.users.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(length(key, value));
        self.digest = self.digest.wrapping_add(hash(key, value));
    }

    pub(super) fn take(&mut self, key: &[u8], value: &Value) {
        self.users = self.users.wrapping_sub(1);
        self.bytes = self.bytes.wrapping_sub(length(key, value));
        self.digest = self.digest.wrapping_sub(hash(key, value));
    }
}

fn length(key: &[u8], value: &Value) -> u64 {
    (key.len() + value.bytes.len()) as u64
}

fn hash(key: &[u8], value: &Value) -> u128 {
    let mut state = Xxh3Default::new();
    state.update(&(key.len() as u64).to_le_bytes());
    state.update(key);
    state.update(&value.tag.to_le_bytes());
    state.update(&value.bytes);
    state.digest128()
}

/// The newest seal first.
pub(super) fn encode(seals: &[Seal; 2]) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    for Seal { checkpoint, sum } in seals {
        bytes.extend(checkpoint.to_le_bytes());
        bytes.extend(sum.users.to_le_bytes());
        bytes.extend(sum.bytes.to_le_bytes());
        bytes.extend(sum.digest.to_le_bytes());
    }
    let crc = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// `None`: these are no seals.
pub(super) fn decode(bytes: &[u8]) -> Option<[Seal; 2]> {
    let (crc, body) = bytes.split_first_chunk()?;
    let [newest, before] = body.as_chunks::<SEAL>().0 else { return None };
    let whole = body.len() == 2 * SEAL && crc32fast::hash(body) == u32::from_le_bytes(*crc);
    whole.then_some([seal(newest)?, seal(before)?])
}

fn seal(mut bytes: &[u8]) -> Option<Seal> {
    let mut number = || {
        let (front, rest) = bytes.split_first_chunk()?;
        bytes = rest;
        Some(u64::from_le_bytes(*front))
    };
    let (checkpoint, users, length, low, high) = (number()?, number()?, number()?, number()?, number()?);
    Some(Seal { checkpoint, sum: Sum { users, bytes: length, digest: u128::from(high) << 64 | u128::from(low) } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sum(users: &[(&[u8], u64, &[u8])]) -> Sum {
        let mut sum = Sum::default();
        users.iter().for_each(|(key, tag, bytes)| sum.add(key, &Value { tag: *tag, bytes: bytes.to_vec() }));
        sum
    }

    #[test]
    fn an_old_value_in_the_place_of_a_new_one_is_missed() {
        let now = sum(&[(b"a", 2, b"x"), (b"b", 1, b"y")]);
        assert_eq!(now, sum(&[(b"b", 1, b"y"), (b"a", 2, b"x")]));
        for other in [&[(&b"a"[..], 1, &b"x"[..]), (b"b", 1, b"y")][..], &[(b"a", 2, b"x")], &[(b"a", 2, b"z"), (b"b", 1, b"y")], &[]] {
            assert_ne!(now, sum(other));
        }
        let mut taken = now;
        taken.take(b"b", &Value { tag: 1, bytes: b"y".to_vec() });
        assert_eq!(taken, sum(&[(b"a", 2, b"x")]));
    }

    proptest! {
        #[test]
        fn seals_survive_the_round_trip_and_no_other_bytes_are_seals(
            numbers in any::<[(u64, u64, u64, u128); 2]>(), at in any::<prop::sample::Index>(), bit in 0..8,
        ) {
            let seals = numbers.map(|(checkpoint, users, bytes, digest)| Seal { checkpoint, sum: Sum { users, bytes, digest } });
            let mut bytes = encode(&seals);
            prop_assert_eq!(decode(&bytes), Some(seals));
            prop_assert_eq!(decode(&bytes[..at.index(bytes.len())]), None);
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert_eq!(decode(&bytes), None);
        }
    }
}
