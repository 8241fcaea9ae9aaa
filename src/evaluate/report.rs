use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Metrics since start and by window. What is not defined (no clicks, no users with both classes) is `null`, never 0.5 or 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Impressions measured.
    pub rows: u64,
    /// Of them clicked.
    pub clicks: u64,
    /// Users seen.
    pub users: u64,
    /// Users with one class only: in neither sum of GAUC.
    pub gauc_users_skipped: u64,
    /// Users of whom only the newest impressions are kept.
    pub gauc_users_truncated: u64,
    /// By head name.
    pub heads: BTreeMap<String, HeadReport>,
    /// Hint health.
    pub hint: HintReport,
    /// Whether the stream has left the model behind.
    #[serde(default)]
    pub drift: DriftReport,
    /// Tumbling windows, oldest first; the last of each length may be open.
    pub windows: Vec<WindowReport>,
}

/// Metrics of one head.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HeadReport {
    /// Area under the ROC curve (logits in steps of 1/1024 within ±32).
    pub auc: Option<f64>,
    /// Σ imp·AUC / Σ imp over users with both classes.
    pub gauc: Option<f64>,
    /// Users in it.
    pub gauc_users: u64,
    /// Its standard error.
    pub gauc_stderr: Option<f64>,
    /// Mean negative log likelihood, nats.
    pub logloss: Option<f64>,
    /// Predicted over observed clicks.
    pub calibration: Option<f64>,
    /// logloss over the entropy of the base rate (normalised entropy).
    pub ne: Option<f64>,
}

/// Hint health.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HintReport {
    /// mean((l − z)²).
    pub mse: Option<f64>,
    /// Mean share of the light head's gradient norm that the hint supplies.
    pub gradient_share: Option<f64>,
}

/// Rises of the served head's log loss, found by ADWIN.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct DriftReport {
    /// How many.
    pub rises: u64,
    /// The last one.
    pub last: Option<Rise>,
}

/// The log loss rose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Rise {
    /// Event time at which it was found, milliseconds.
    pub time_ms: i64,
    /// Mean before, nats.
    pub before: f64,
    /// Mean since, nats.
    pub after: f64,
}

/// Metrics of one tumbling window `[from_ms, to_ms)` of event time.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WindowReport {
    /// Start.
    pub from_ms: i64,
    /// End.
    pub to_ms: i64,
    /// Still filling.
    pub open: bool,
    /// Impressions.
    pub rows: u64,
    /// Clicks.
    pub clicks: u64,
    /// Users seen.
    pub users: u64,
    /// Users with one class only.
    pub gauc_users_skipped: u64,
    /// By head name.
    pub heads: BTreeMap<String, HeadReport>,
}

/// One user's part in GAUC since start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UserLine {
    /// User id.
    pub user: String,
    /// Impressions kept.
    pub impressions: u64,
    /// Clicks among them.
    pub clicks: u64,
    /// AUC by head name, where defined.
    pub auc: BTreeMap<String, f64>,
}
