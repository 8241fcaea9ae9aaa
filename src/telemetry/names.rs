//! Every metric name, with what it counts and its unit.
//!
//! Names bear the prefix `rocket_`, their base unit, and `_total` on counters. No label ever holds a user, an item or an impression.
//! `ops/metrics.md` lists the same names; a test reads it.

#[cfg(feature = "scorer")]
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Bucket bounds of every histogram of seconds: from half a millisecond (scoring one request) to a minute (a big checkpoint).
#[cfg(feature = "scorer")]
const SECONDS_BUCKETS: [f64; 16] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Goes both ways.
    Gauge,
    /// A distribution, in buckets.
    Histogram,
}

impl Kind {
    /// The word Prometheus uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// How it moves.
    pub kind: Kind,
    /// What it counts, its labels and unit.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($kind:ident $constant:ident = $name:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// Every metric of the three programs.
        pub const ALL: &[Metric] = &[$(Metric { name: $constant, kind: Kind::$kind, help: $help }),*];
    };
}

metrics! {
    // The trainer: set by the daemon from one look at the pipeline, so that metrics and `rocketctl status` cannot disagree.
    Counter EVENTS_READ = "rocket_events_read_total", "Events read, those of the recovered checkpoint included.";
    Gauge EVENTS_PENDING = "rocket_events_pending", "Events read that are not done yet: in the join, in a batch, on a channel.";
    Counter EVENTS_TRAINED = "rocket_events_trained_total", "Events that ended in a trained sample; an impression with its click is two.";
    Counter EVENTS_DROPPED = "rocket_events_dropped_total", "Events dropped, by `reason`.";
    Counter EVENTS_DEAD_LETTERED = "rocket_events_dead_lettered_total", "Events acknowledged by the dead-letter topic.";
    Counter SAMPLES_TRAINED = "rocket_samples_trained_total", "Samples trained.";
    Gauge SAMPLES_PER_SECOND = "rocket_samples_per_second", "Samples trained per second, over the last ten seconds.";
    Gauge TABLE_ROWS = "rocket_table_rows", "Rows in the embedding table.";
    Gauge AUC = "rocket_auc", "Prequential AUC since start, by `head`; absent while it is not defined.";
    Gauge GAUC = "rocket_gauc", "Prequential GAUC since start, by `head`; absent while it is not defined.";
    Gauge LOGLOSS = "rocket_logloss_nats", "Prequential log loss since start, by `head`; of the sampled stream where `train.negatives.keep` is below 1.";
    Gauge CALIBRATION = "rocket_calibration_ratio", "Predicted over observed clicks since start, by `head`; of the sampled stream likewise.";
    Gauge GAUC_USERS_SKIPPED = "rocket_gauc_users_skipped", "Users with one class only, who are in neither sum of GAUC.";
    Gauge HINT_MSE = "rocket_hint_mse", "Mean squared distance between the logits of light and booster.";
    Gauge HINT_GRADIENT_SHARE = "rocket_hint_gradient_share_ratio", "Mean share of the light head's gradient norm that the hint supplies.";
    Counter DRIFT = "rocket_drift_total", "Rises of the light head's prequential log loss that ADWIN found.";
    Gauge CHECKPOINT_NUMBER = "rocket_checkpoint_number", "Number of the last committed checkpoint.";
    Gauge CHECKPOINT_TIMESTAMP = "rocket_checkpoint_timestamp_seconds", "When the last checkpoint was committed, seconds since 1970.";
    Gauge CHECKPOINT_FAILING = "rocket_checkpoint_failing", "1 while the last attempt to commit a checkpoint failed.";
    Gauge USERS_STORE_BYTES = "rocket_users_store_bytes", "Bytes of the per-user store on disk, as of the last checkpoint.";
    Gauge USERS_LIVE_BYTES = "rocket_users_live_bytes", "Bytes of the users in it; the store takes some 5.6 times as much at a plateau.";
    Gauge PUBLISHED_VERSION = "rocket_published_version", "Last version published to the snapshot topic.";
    Gauge PUBLISHED_PROMOTED = "rocket_published_promoted", "1 if the last published version was made current, 0 if a pin or a canary held it back.";
    Gauge PUBLISH_FAILING = "rocket_publish_failing", "1 while the last attempt to publish failed or was held back by a gate.";
    Gauge CANARY_SECONDS = "rocket_canary_seconds", "How long the version tried by a share of the servers has waited to become current; 0 without one, and while a pin holds.";
    Counter CANARY_FALLBACKS = "rocket_canary_fallbacks_total", "Versions taken back from the share of the servers that tried them.";
    Gauge READY = "rocket_ready", "1 when recovered and reading.";
    Gauge UPTIME = "rocket_uptime_seconds", "Seconds since start.";
    // The trainer: measured where it happens.
    Counter STEPS_REFUSED = "rocket_steps_refused_total", "Steps not applied because something was not finite; their events are dead letters.";
    Histogram STEP_SECONDS = "rocket_step_seconds", "One co-training step.";
    Histogram CHECKPOINT_SECONDS = "rocket_checkpoint_seconds", "One checkpoint, from the copy of the state to the commit record.";
    Histogram CHECKPOINT_HOLD_SECONDS = "rocket_checkpoint_hold_seconds", "Each time training waited while a checkpoint's state was copied.";
    Histogram PUBLISH_SECONDS = "rocket_publish_seconds", "One publish, from reading the checkpoint to the pointer's acknowledgement.";
    Histogram FRESHNESS_SECONDS = "rocket_freshness_seconds", "From the production of the record that completed a sample to the promotion of the first version that learnt from it; up to 1,024 samples of each version, spread evenly.";
    Counter GATES_FAILED = "rocket_gates_failed_total", "Versions held back, by the `gate` that did; two gates count twice.";
    Gauge HELD_BACK = "rocket_held_back", "1 while the newest version is held back by a gate.";
    Counter PUBLISHED_BYTES = "rocket_published_bytes_total", "Bytes of snapshots sent, encoded, by `kind`: artifact or delta.";
    // The scorer and whoever else embeds the subscriber; refusals also of the trainer, which reads the topic too.
    Counter SCORE_REQUESTS = "rocket_score_requests_total", "Scoring requests, by `model` and HTTP `status`; of a gRPC call the one that HTTP would have had.";
    Counter SCORE_CANDIDATES = "rocket_score_candidates_total", "Candidates scored, by `model`.";
    Counter SCORE_REMEMBERED = "rocket_score_candidates_remembered_total", "Candidates of which the model remembered what they add to its first layer, by `model`.";
    Histogram SCORE_SECONDS = "rocket_score_seconds", "One scoring request, decoding and encoding included, by `model`.";
    Gauge SERVED_VERSION = "rocket_served_version", "Version being served, by `model`.";
    Counter SNAPSHOT_SWAPS = "rocket_snapshot_swaps_total", "Swaps of the served version, back and forth, by `model`.";
    Counter SNAPSHOT_REJECTED = "rocket_snapshot_rejected_total", "Records and versions of the snapshot topic refused, by `model` and `reason`; what was served stays.";
    Counter SERVER_REPORTS = "rocket_server_reports_total", "Reports of where this server stands, by `result`: sent or failed.";
    Counter SNAPSHOT_FETCHED_BYTES = "rocket_snapshot_fetched_bytes_total", "Bytes of snapshots fetched, as sent, by `kind`: artifact or delta.";
    Gauge SNAPSHOT_STALE = "rocket_snapshot_stale", "1 while the served version is past its expiry, by `model`; it is served on all the same.";
}

/// Tells the installed recorder the help text and kind of every metric.
pub fn describe_all() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Installs the process's Prometheus recorder and describes every metric; the handle renders what `/metrics` serves.
///
/// # Errors
/// [`BuildError`]: a recorder is installed already.
#[cfg(feature = "scorer")]
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle =
        PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)?.install_recorder()?;
    describe_all();
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_convention() {
        for metric in ALL {
            assert!(metric.name.starts_with("rocket_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}: help is a sentence", metric.name);
        }
        let distinct: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(distinct.len(), ALL.len());
    }

    /// The page lists each metric as a table row: | `name` | kind | help |.
    #[test]
    fn the_docs_list_exactly_these_metrics() {
        let page = include_str!("../../ops/metrics.md");
        let listed: Vec<&str> = page.lines().filter(|line| line.starts_with("| `rocket_")).collect();
        let expected: Vec<String> =
            ALL.iter().map(|metric| format!("| `{}` | {} | {} |", metric.name, metric.kind.name(), metric.help)).collect();
        assert_eq!(listed, expected);
    }
}
