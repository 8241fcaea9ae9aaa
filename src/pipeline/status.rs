use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Freshness;
use crate::domain::{Books, PartitionPosition, Quarantine, Version};
use crate::evaluate::Report;
use crate::publish::Rollout;
use crate::wire::snapshot::Verdict;

/// One look at a running pipeline: what `rocketctl status -o json` prints.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Model name.
    pub model: String,
    /// Device of the learner, as configured.
    pub device: String,
    /// Seconds since start.
    pub uptime_s: f64,
    /// Recovered and reading.
    pub ready: bool,
    /// Events read since the last recovered commit's positions, those included: done + pending.
    pub read: u64,
    /// Events read that are not done yet: in the join, in a batch, on a channel.
    pub pending: u64,
    /// Where the done ones went.
    pub books: Books,
    /// Samples per second over the last ten seconds.
    pub samples_per_s: f64,
    /// Rows in the embedding table.
    pub table_rows: u64,
    /// Multiplications of one example's logit in the dense layers, by head.
    #[serde(default)]
    pub multiplications: BTreeMap<String, u64>,
    /// Last committed checkpoint.
    pub checkpoint: Option<Version>,
    /// When it was committed, milliseconds.
    pub checkpoint_ms: Option<i64>,
    /// Why the last checkpoint failed, until one is committed.
    #[serde(default)]
    pub checkpoint_problem: Option<String>,
    /// Bytes of the per-user store on disk.
    #[serde(default)]
    pub users_store_bytes: u64,
    /// Bytes of the users in it.
    #[serde(default)]
    pub users_live_bytes: u64,
    /// Checkpoint whose users this run exported last.
    #[serde(default)]
    pub users_export: Option<Version>,
    /// Last published version.
    pub published: Option<Version>,
    /// Last published version was made current.
    pub promoted: bool,
    /// How old what promoted versions have learnt was by then; of this run, where records bear the time of their production.
    #[serde(default)]
    pub freshness: Option<Freshness>,
    /// What a share of the servers tries before all get it.
    #[serde(default)]
    pub rollout: Rollout,
    /// Versions are held back by gates; the newest of them.
    #[serde(default)]
    pub held_back: Option<HeldBack>,
    /// Version whose booster teaches light (`train.teacher`).
    #[serde(default)]
    pub teacher: Option<Version>,
    /// Why publishing failed or held back last time.
    pub publish_problem: Option<String>,
    /// Input that is skipped for good, by event time.
    #[serde(default)]
    pub quarantine: Quarantine,
    /// Why metrics started afresh at the last start, if they did.
    #[serde(default)]
    pub metrics_restarted: Option<String>,
    /// What the last start could not take over from the checkpoint, after a change of schema or shapes.
    #[serde(default)]
    pub warm_started: Vec<String>,
    /// Why the last start went back to an earlier checkpoint, if it did.
    #[serde(default)]
    pub went_back: Option<String>,
    /// Positions as of now.
    pub positions: Vec<PartitionPosition>,
    /// Metrics.
    pub report: Report,
}

/// A version that a gate holds back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldBack {
    /// The newest one.
    pub version: Version,
    /// When the first one since the last promotion was held back, milliseconds; of this run.
    pub since_ms: i64,
    /// What the gates that hold it back found.
    pub gates: Vec<Verdict>,
}
