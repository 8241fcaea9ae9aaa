use std::time::Duration;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration, written as people say it: `"10s"`, `"250ms"`, `"1h 30m"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    /// Whole milliseconds, the unit of event time; saturates at `i64::MAX`.
    #[must_use]
    pub fn as_millis(self) -> i64 {
        i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX)
    }

    /// From whole milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Span(Duration::from_millis(ms))
    }

    /// From whole seconds.
    #[must_use]
    pub const fn from_secs(s: u64) -> Self {
        Span(Duration::from_secs(s))
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;
        impl Visitor<'_> for Said {
            type Value = Span;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a duration like \"10s\", \"250ms\" or \"1h 30m\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                humantime::parse_duration(text)
                    .map(Span)
                    .map_err(|e| E::custom(format!("`{text}` is no duration: {e}; write it like \"10s\", \"250ms\" or \"1h 30m\"")))
            }
        }
        deserializer.deserialize_str(Said)
    }
}

/// A size in bytes, written as people say it: `"64MiB"`, `"512KiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteLength(pub u64);

impl std::fmt::Display for ByteLength {
    /// In the largest unit that says it exactly, so that what is written reads back as the same number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let units = [(1u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
        match units.iter().find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit)) {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteLength {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteLength {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Said;
        impl Visitor<'_> for Said {
            type Value = ByteLength;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size like \"64MiB\" or \"512KiB\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<ByteLength, E> {
                text.parse::<bytesize::ByteSize>()
                    .map(|size| ByteLength(size.0))
                    .map_err(|e| E::custom(format!("`{text}` is no size: {e}; write it like \"64MiB\" or \"512KiB\"")))
            }
        }
        deserializer.deserialize_str(Said)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back_the_same(bytes in any::<u64>(), shift in 0u32..40, ms in 0u64..1 << 50) {
            let length = ByteLength(bytes >> 24 << shift);
            let json = serde_json::to_string(&(length, Span::from_millis(ms))).unwrap();
            let back: (ByteLength, Span) = serde_json::from_str(&json).unwrap();
            prop_assert_eq!(back, (length, Span::from_millis(ms)), "{}", json);
        }
    }

    #[test]
    fn people_read_them() {
        assert_eq!(ByteLength(768 << 10).to_string(), "768KiB");
        assert_eq!(ByteLength(64 << 20).to_string(), "64MiB");
        assert_eq!(ByteLength(1025).to_string(), "1025B");
        assert_eq!(Span::from_secs(90).to_string(), "1m 30s");
    }
}
