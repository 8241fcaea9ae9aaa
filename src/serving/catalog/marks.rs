use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::wire::snapshot::Group;

/// How far a topic was read, as its own numbers say. Kept on disk by subscribers, so that an old copy of the topic, or an old record put
/// back after a restart, cannot take them back in time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Highest seq.
    pub seq: u64,
    /// Highest epoch.
    pub epoch: u64,
    /// Seq of `current`; 0 without one.
    pub current_seq: u64,
    /// Seq of the pin of all servers; 0 without one.
    pub pin_seq: u64,
    /// Seq of the canary; 0 without one.
    #[serde(default)]
    pub canary_seq: u64,
    /// Seqs of the groups' pins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub group_pin_seqs: BTreeMap<Group, u64>,
}

impl Marks {
    /// True where nothing in `self` is older than in `seen`.
    #[must_use]
    pub fn covers(&self, seen: &Marks) -> bool {
        let numbers = |marks: &Marks| [marks.seq, marks.epoch, marks.current_seq, marks.pin_seq, marks.canary_seq];
        let groups = seen.group_pin_seqs.iter().all(|(group, seq)| self.group_pin_seqs.get(group).is_some_and(|ours| ours >= seq));
        groups && numbers(self).iter().zip(numbers(seen)).all(|(ours, theirs)| *ours >= theirs)
    }
}
