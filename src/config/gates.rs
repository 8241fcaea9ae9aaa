use serde::{Deserialize, Serialize};

/// Kept for each comparison: a difference of one in a hundred of the log loss shows at some thousand samples.
const SAMPLES: usize = 4096;
/// At ten thousand samples a second, a version a minute has seen far more than are kept.
const EVERY: u64 = 8;
/// Below it, differences between good versions are as large as those of bad ones.
const EVIDENCE: usize = 500;
/// Once in 700 versions by chance alone.
const SIGNIFICANCE: f64 = 3.0;
/// What a model that turns its mind does; one that learns moves by some tenths between two versions.
const CHANGE: f64 = 2.0;
/// A model that is off by a third bids so.
const CALIBRATION: f64 = 1.3;
/// Far above what a version forgets while the world moves on.
const FORGETTING: f64 = 0.05;

/// What a version has to show before it is promoted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatesConfig {
    /// False: finite weights and probes alone are asked for.
    pub enabled: bool,
    /// Samples kept of the window since the version before, and as many of those that promoted versions have vouched for.
    pub samples: usize,
    /// Every n-th trained sample may be kept; also for probes.
    pub every: u64,
    /// Samples that a figure needs before it can hold a version back.
    pub evidence: usize,
    /// Standard errors that a difference has to exceed.
    pub significance: f64,
    /// Root mean square by which logits may move from the served version's, unless the change is shown to be for the better.
    pub change: f64,
    /// Predicted over observed clicks may be this many times too high or too low.
    pub calibration: f64,
    /// AUC that may be lost on samples that promoted versions have vouched for.
    pub forgetting: f64,
}

impl Default for GatesConfig {
    fn default() -> Self {
        GatesConfig {
            enabled: true,
            samples: SAMPLES,
            every: EVERY,
            evidence: EVIDENCE,
            significance: SIGNIFICANCE,
            change: CHANGE,
            calibration: CALIBRATION,
            forgetting: FORGETTING,
        }
    }
}
