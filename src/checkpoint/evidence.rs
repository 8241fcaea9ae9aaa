use serde::{Deserialize, Serialize};

/// A labelled sample with the light net's logit from before it was learnt from: what versions are judged on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceSample {
    /// Event time, milliseconds.
    pub time_ms: i64,
    /// Who saw it.
    pub user: String,
    /// Clicked or not.
    pub label: bool,
    /// Samples of the stream that it stands for: more than one where negatives are sampled.
    pub weight: f64,
    /// Of the stream's own odds, where negatives are sampled too.
    pub logit: f32,
    /// One per feature, as [`crate::wire::snapshot::field_to_json`] writes them.
    pub fields: Vec<serde_json::Value>,
}

/// What a version is judged on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Samples trained since the version before, spread evenly, oldest first.
    pub window: Vec<EvidenceSample>,
    /// Samples of the windows of versions that were promoted, oldest first.
    pub vouched: Vec<EvidenceSample>,
    /// The newest of those versions; 0 before the first.
    #[serde(default)]
    pub vouched_by: u64,
}
