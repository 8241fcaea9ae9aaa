use super::Group;
use crate::domain::Version;
use crate::keys::Role;

/// Chunks per version: what the six digits of a chunk's index can name.
pub const CHUNKS_MAX: u32 = 1_000_000;

/// Digits of a version or a seq in a key: all of `u64`, so that keys sort as their numbers do.
const NUMBER_DIGITS: usize = 20;
/// Digits of a chunk's index in a key.
const INDEX_DIGITS: usize = 6;

/// A parsed record key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A chunk of a version's artifact; its index is below [`CHUNKS_MAX`].
    Chunk(Version, u32),
    /// A version's manifest.
    Manifest(Version),
    /// Which version is served.
    Current,
    /// Which version a share of the servers serves ahead of the others.
    Canary,
    /// Which version is served regardless of `current`.
    PinAll,
    /// Likewise by the servers of this group.
    PinGroup(Group),
    /// Who publishes.
    Lease,
    /// One act of an operator or the trainer.
    Audit(u64),
}

impl Key {
    /// The record key's bytes.
    #[must_use]
    pub fn encode(&self) -> String {
        match self {
            Key::Chunk(version, index) => format!("c/{:0NUMBER_DIGITS$}/{index:0INDEX_DIGITS$}", version.0),
            Key::Manifest(version) => format!("m/{:0NUMBER_DIGITS$}", version.0),
            Key::Current => "a/current".to_owned(),
            Key::Canary => "a/canary".to_owned(),
            Key::PinAll => "p/all".to_owned(),
            Key::PinGroup(group) => format!("p/{group}"),
            Key::Lease => "e/publisher".to_owned(),
            Key::Audit(seq) => format!("h/{seq:0NUMBER_DIGITS$}"),
        }
    }

    /// Whose signature a record of this kind may bear. A pointer's direction and an audit entry's act narrow it further.
    #[must_use]
    pub const fn signers(&self) -> &'static [Role] {
        match self {
            Key::Chunk(..) => &[],
            Key::Manifest(_) | Key::Lease => &[Role::Trainer],
            Key::PinAll | Key::PinGroup(_) => &[Role::Operator],
            Key::Current | Key::Canary | Key::Audit(_) => &[Role::Trainer, Role::Operator],
        }
    }

    /// Parses a record key; `None` for keys of other kinds, which readers skip. Strict: what it accepts, [`Key::encode`] writes back.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Key> {
        let text = std::str::from_utf8(bytes).ok()?;
        match text {
            "a/current" => return Some(Key::Current),
            "a/canary" => return Some(Key::Canary),
            "p/all" => return Some(Key::PinAll),
            "e/publisher" => return Some(Key::Lease),
            _ => {}
        }
        match text.split_once('/')? {
            ("c", rest) => {
                let (version, index) = rest.split_once('/')?;
                let index = u32::try_from(number(index, INDEX_DIGITS)?).ok()?;
                Some(Key::Chunk(Version(number(version, NUMBER_DIGITS)?), index))
            }
            ("m", version) => Some(Key::Manifest(Version(number(version, NUMBER_DIGITS)?))),
            ("p", group) => Some(Key::PinGroup(group.parse().ok()?)),
            ("h", seq) => Some(Key::Audit(number(seq, NUMBER_DIGITS)?)),
            _ => None,
        }
    }
}

/// Exactly `digits` ASCII digits; the standard parser alone would take a sign and other widths.
fn number(text: &str, digits: usize) -> Option<u64> {
    (text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        prop_oneof![
            (any::<u64>(), 0..CHUNKS_MAX).prop_map(|(version, index)| Key::Chunk(Version(version), index)),
            any::<u64>().prop_map(|version| Key::Manifest(Version(version))),
            Just(Key::Current),
            Just(Key::Canary),
            Just(Key::PinAll),
            "[a-z0-9-]{1,32}".prop_filter_map("no group", |name| name.parse().ok().map(Key::PinGroup)),
            Just(Key::Lease),
            any::<u64>().prop_map(Key::Audit),
        ]
    }

    proptest! {
        #[test]
        fn what_is_encoded_parses_back(key in any_key()) {
            prop_assert_eq!(Key::parse(key.encode().as_bytes()), Some(key));
        }

        #[test]
        fn keys_of_one_kind_sort_as_their_versions(a in any::<u64>(), b in any::<u64>()) {
            prop_assert_eq!(a.cmp(&b), Key::Manifest(Version(a)).encode().cmp(&Key::Manifest(Version(b)).encode()));
        }

        #[test]
        fn whatever_parses_encodes_to_the_same_bytes(text in "[cmahpe]/[a-c0-9+/-]{0,34}") {
            if let Some(key) = Key::parse(text.as_bytes()) {
                prop_assert_eq!(key.encode(), text);
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(key) = Key::parse(&bytes) {
                prop_assert_eq!(key.encode().into_bytes(), bytes);
            }
        }
    }

    #[test]
    fn near_misses_are_other_kinds() {
        for text in [
            "",
            "/",
            "c/",
            "a/next",
            "a/current/",
            "p/",
            "p/EU",
            "p/eu/west",
            "m/7",
            "m/+0000000000000000007",
            "m/000000000000000000007",
            "m/18446744073709551616",
            "c/00000000000000000007",
            "c/00000000000000000007/7",
            "c/00000000000000000007/+00007",
            "c/00000000000000000007/000007/",
            "h/0000000000000000000x",
        ] {
            assert_eq!(Key::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Key::parse(b"m/18446744073709551615"), Some(Key::Manifest(Version(u64::MAX))));
    }
}
