use std::fmt;

use crate::domain::{Mark, TopicPartition};

/// A position that reading cannot go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostPosition {
    /// Where.
    pub partition: TopicPartition,
    /// What is needed next.
    pub wanted: i64,
    /// First offset that the broker holds.
    pub low: i64,
    /// Offset after the last one it holds.
    pub high: i64,
    /// Why it is lost.
    pub loss: Loss,
}

/// Why a position is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loss {
    /// Retention has removed what is needed next.
    Removed,
    /// The partition ends below it, or is not there at all: the topic was made anew, has lost its end, or is another cluster's.
    Beyond,
    /// A record below it is another than the one that was read there: the topic was made anew, or its end was lost and written again.
    OtherRecord(
        /// The one that was read.
        Mark,
    ),
}

impl Loss {
    /// Of a position in a partition that holds `low` up to, but not with, `high`.
    #[must_use]
    pub fn of(wanted: i64, low: i64, high: i64) -> Option<Self> {
        match wanted {
            _ if wanted < low => Some(Loss::Removed),
            _ if wanted > high => Some(Loss::Beyond),
            _ => None,
        }
    }
}

impl fmt::Display for LostPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LostPosition { partition, wanted, low, high, loss } = self;
        let outside = format_args!("{partition}: position {wanted} is outside what the broker holds ({low} to {high})");
        match loss {
            Loss::Removed => write!(f, "{outside}: retention has removed what comes next"),
            Loss::Beyond => write!(f, "{outside}: the topic was made anew, has lost its end, or is another cluster's"),
            Loss::OtherRecord(Mark { offset, .. }) => {
                write!(f, "{partition}: the record at offset {offset} is not the one read on the way to position {wanted}: ")?;
                f.write_str("the topic was made anew, or its end was lost and written again")
            }
        }
    }
}

/// All of them, for the text of an error.
pub(super) fn list(lost: &[LostPosition]) -> String {
    lost.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_position_is_lost() {
        let loss = |wanted| Loss::of(wanted, 10, 20);
        assert_eq!(loss(9), Some(Loss::Removed));
        assert_eq!(loss(10), None);
        assert_eq!(loss(20), None, "the end itself is where the next event will be");
        assert_eq!(loss(21), Some(Loss::Beyond));
        assert_eq!(Loss::of(0, 0, 0), None, "of a partition that is not there nothing is lost at its beginning");
    }

    #[test]
    fn each_is_named_with_its_offsets() {
        let at = |partition, wanted, loss| LostPosition {
            partition: TopicPartition { topic: "t".into(), partition },
            wanted,
            low: 10,
            high: 20,
            loss,
        };
        let text = list(&[at(0, 9, Loss::Removed), at(1, 21, Loss::Beyond), at(2, 15, Loss::OtherRecord(Mark { offset: 12, hash: 1 }))]);
        for part in ["t[0]: position 9", "10 to 20", "t[1]: position 21", "t[2]: the record at offset 12", "position 15"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}
