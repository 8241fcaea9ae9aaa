//! One look at the pipeline → metrics, so that `/metrics` and `rocketctl status` say the same.

use std::time::Duration;

use super::rewind::Live;
use crate::domain::{DropReason, Version};
use crate::pipeline::Status;
use crate::publish::Trial;
use crate::telemetry::names;

/// Scrapers usually come every 15 s or slower: each finds fresh figures.
const EVERY: Duration = Duration::from_secs(2);

/// Looks every [`EVERY`], until the task is dropped.
pub(super) async fn keep(live: Live) {
    let mut rounds = tokio::time::interval(EVERY);
    loop {
        rounds.tick().await;
        let Ok(control) = live.control() else { continue };
        // A status takes locks and copies positions: not on the threads that serve sockets.
        if let Ok(status) = tokio::task::spawn_blocking(move || control.status()).await {
            record(&status);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are f64; counts above 2^53 are out of reach")]
fn record(status: &Status) {
    metrics::counter!(names::EVENTS_READ).absolute(status.read);
    metrics::gauge!(names::EVENTS_PENDING).set(status.pending as f64);
    metrics::counter!(names::EVENTS_TRAINED).absolute(status.books.trained);
    metrics::counter!(names::EVENTS_DEAD_LETTERED).absolute(status.books.dead_lettered);
    metrics::counter!(names::SAMPLES_TRAINED).absolute(status.books.samples);
    // Every reason from the start, zeros included: a rate over a series that appears late misses its first events.
    for reason in DropReason::ALL {
        let dropped = status.books.dropped.get(&reason).copied().unwrap_or(0);
        metrics::counter!(names::EVENTS_DROPPED, "reason" => reason.name()).absolute(dropped);
    }
    metrics::gauge!(names::SAMPLES_PER_SECOND).set(status.samples_per_s);
    metrics::gauge!(names::TABLE_ROWS).set(status.table_rows as f64);
    metrics::gauge!(names::UPTIME).set(status.uptime_s);
    metrics::gauge!(names::READY).set(f64::from(u8::from(status.ready)));
    metrics::gauge!(names::PUBLISH_FAILING).set(f64::from(u8::from(status.publish_problem.is_some())));
    metrics::gauge!(names::CHECKPOINT_FAILING).set(f64::from(u8::from(status.checkpoint_problem.is_some())));
    metrics::gauge!(names::USERS_STORE_BYTES).set(status.users_store_bytes as f64);
    metrics::gauge!(names::USERS_LIVE_BYTES).set(status.users_live_bytes as f64);
    if let Some(Version(number)) = status.checkpoint {
        metrics::gauge!(names::CHECKPOINT_NUMBER).set(number as f64);
    }
    if let Some(at_ms) = status.checkpoint_ms {
        metrics::gauge!(names::CHECKPOINT_TIMESTAMP).set(at_ms as f64 / 1000.0);
    }
    if let Some(Version(number)) = status.published {
        metrics::gauge!(names::PUBLISHED_VERSION).set(number as f64);
        metrics::gauge!(names::PUBLISHED_PROMOTED).set(f64::from(u8::from(status.promoted)));
    }
    metrics::gauge!(names::CANARY_SECONDS).set(status.rollout.trial.as_ref().map_or(0.0, waited_seconds));
    quality(status);
}

/// While every server is pinned, nobody tries it and nothing is waited for.
fn waited_seconds(trial: &Trial) -> f64 {
    let waited = Duration::from_millis(u64::try_from(jiff::Timestamp::now().as_millisecond().saturating_sub(trial.since_ms)).unwrap_or(0));
    if trial.pinned { 0.0 } else { waited.as_secs_f64() }
}

#[expect(clippy::cast_precision_loss, reason = "as in `record`")]
fn quality(status: &Status) {
    let report = &status.report;
    for (head, figures) in &report.heads {
        for (name, value) in [
            (names::AUC, figures.auc),
            (names::GAUC, figures.gauc),
            (names::LOGLOSS, figures.logloss),
            (names::CALIBRATION, figures.calibration),
        ] {
            if let Some(value) = value {
                metrics::gauge!(name, "head" => head.clone()).set(value);
            }
        }
    }
    metrics::gauge!(names::GAUC_USERS_SKIPPED).set(report.gauc_users_skipped as f64);
    metrics::counter!(names::DRIFT).absolute(report.drift.rises);
    if let Some(mse) = report.hint.mse {
        metrics::gauge!(names::HINT_MSE).set(mse);
    }
    if let Some(share) = report.hint.gradient_share {
        metrics::gauge!(names::HINT_GRADIENT_SHARE).set(share);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_status_becomes_metrics_and_undefined_figures_stay_away() {
        let mut status = Status { read: 7, checkpoint: Some(Version(3)), ..Status::default() };
        status.books.trained = 5;
        status.books.dropped.insert(DropReason::LateClick, 2);
        let light = status.report.heads.entry("light".to_owned()).or_default();
        light.auc = Some(0.75);

        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || record(&status));
        let page = recorder.handle().render();
        for line in [
            "rocket_events_read_total 7",
            "rocket_events_trained_total 5",
            "rocket_events_dropped_total{reason=\"late_click\"} 2",
            "rocket_events_dropped_total{reason=\"tombstone\"} 0",
            "rocket_checkpoint_number 3",
            "rocket_auc{head=\"light\"} 0.75",
        ] {
            assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("rocket_gauc{"), "an undefined GAUC is absent, not 0");
    }
}
