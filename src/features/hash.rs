use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

/// Table, zero byte and value up to this length are hashed from the stack in one call; longer ones take the streaming path. Ids of real
/// streams are below it, and every byte of it is copied for each of them.
const STACK_BYTES: usize = 64;

/// Key of `value` in the table `table`: XXH3-64 of `table`, a zero byte, `value`, all UTF-8. Never 0 (0 becomes 1).
///
/// # Specification
/// `key = XXH3_64(seed 0, table ‖ 0x00 ‖ value)`, read as the unsigned 64-bit integer that the reference implementation returns; a result
/// of 0 is replaced by 1. `table` is the feature's key of that name or, where it has none, the feature's own name. No Unicode normalisation
/// and no change of case. What stands for `value`:
///
/// | feature kind | event has | `value` |
/// |---|---|---|
/// | categorical, bag | text | the text as it is; empty text is no value |
/// | categorical, bag | number with an integer value | its decimal digits, `-` before negative ones: `5`, `5.0` and `5e0` all give `5` |
/// | categorical, bag | another number | the shortest decimal that reads back as the same double, no exponent: `0.1` |
/// | categorical, bag | true, false | `true`, `false` |
/// | bag | separated text | each part without the white space around it; empty parts are no value |
/// | buckets | number x | index of its bucket in decimal: how many bounds are ≤ x |
/// | hour | – | hour of the day (UTC) of the event time: `0` to `23` |
/// | weekday | – | day of the week (UTC) of the event time: `0` (Monday) to `6` |
///
/// So the number 5 and the text `5` are one id, while the text `5.0` is another. A number without integer value must be below 2⁵³ in
/// magnitude, as must integers that JSON writes with a point or exponent.
#[must_use]
pub fn slot_key(table: &str, value: &str) -> u64 {
    let mut state = Xxh3Default::new();
    state.update(table.as_bytes());
    state.update(&[0]);
    state.update(value.as_bytes());
    state.digest().max(1)
}

/// [`slot_key`] of one table: what it begins with is laid out once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TableKeys {
    table: String,
    /// Table and zero byte, where they fit.
    start: [u8; STACK_BYTES],
    start_bytes: usize,
}

impl TableKeys {
    pub(super) fn new(table: &str) -> Self {
        let mut start = [0; STACK_BYTES];
        if let Some(place) = start.get_mut(..table.len()) {
            place.copy_from_slice(table.as_bytes());
        }
        TableKeys { table: table.to_owned(), start, start_bytes: table.len() + 1 }
    }

    pub(super) fn key(&self, value: &str) -> u64 {
        let length = self.start_bytes + value.len();
        if length > STACK_BYTES {
            return slot_key(&self.table, value);
        }
        let mut bytes = self.start;
        bytes[self.start_bytes..length].copy_from_slice(value.as_bytes());
        xxh3_64(&bytes[..length]).max(1)
    }
}

/// Key of several keys taken together: XXH3-64 of `slot`, a zero byte, and the keys one after the other, each as 8 bytes, lowest first.
/// Never 0 (0 becomes 1).
///
/// # Specification
/// What a cross or a click rate is known by: `slot` is its own name, `keys` are those of its parts ([`slot_key`], or this again where a
/// part is a cross), in the order of `of`. Of a bag there is one joint key for each of its values.
#[must_use]
pub fn joint_key(slot: &str, keys: impl Iterator<Item = u64>) -> u64 {
    let mut state = Xxh3Default::new();
    state.update(slot.as_bytes());
    state.update(&[0]);
    keys.for_each(|key| state.update(&key.to_le_bytes()));
    state.digest().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joint_keys_tell_slots_orders_and_numbers_of_parts_apart() {
        let keys = [
            joint_key("x", [1, 2].into_iter()),
            joint_key("x", [2, 1].into_iter()),
            joint_key("y", [1, 2].into_iter()),
            joint_key("x", [1].into_iter()),
        ];
        assert!((0..keys.len()).all(|i| !keys[..i].contains(&keys[i])), "{keys:?}");
        let bytes = [&b"x\0"[..], &1u64.to_le_bytes(), &2u64.to_le_bytes()].concat();
        assert_eq!(keys[0], xxh3_64(&bytes));
    }

    #[test]
    fn both_paths_agree_at_the_border() {
        for length in [0, 1, 50, STACK_BYTES - 6, STACK_BYTES - 5, STACK_BYTES - 4, STACK_BYTES, STACK_BYTES + 1, 1000] {
            let value = "v".repeat(length);
            let whole = [b"slot\0".as_slice(), value.as_bytes()].concat();
            assert_eq!(slot_key("slot", &value), xxh3_64(&whole), "{length} bytes");
            assert_eq!(TableKeys::new("slot").key(&value), xxh3_64(&whole), "{length} bytes");
            assert_eq!(TableKeys::new(&value).key("slot"), slot_key(&value, "slot"), "a table of {length} bytes");
        }
    }

    #[test]
    fn the_zero_byte_keeps_slots_apart() {
        assert_ne!(slot_key("ab", "c"), slot_key("a", "bc"));
    }
}
