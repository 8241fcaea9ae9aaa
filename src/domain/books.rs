use std::collections::BTreeMap;

use super::DropReason;

/// The books of conservation: every offset that is done stands in exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Books {
    /// Samples trained.
    pub samples: u64,
    /// Events in them (an impression with its click: two).
    pub trained: u64,
    /// Events dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Events acknowledged by the dead-letter topic.
    pub dead_lettered: u64,
}

impl Books {
    /// Events that are done.
    #[must_use]
    pub fn done(&self) -> u64 {
        self.trained + self.dropped.values().sum::<u64>() + self.dead_lettered
    }
}
