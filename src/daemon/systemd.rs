//! Readiness and the watchdog of systemd. Without systemd (no `NOTIFY_SOCKET`) all of it does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::telemetry::Health;

/// How long systemd waits on for a start that waits for the broker: longer than an attempt and the pause before it, recovery included, as
/// `TimeoutStartSec=` of the units.
const START: Duration = Duration::from_secs(15 * 60);

/// Not ready, for this reason; another attempt follows.
pub(super) fn waiting(status: &str) {
    let extend_us = u32::try_from(START.as_micros()).unwrap_or(u32::MAX);
    tell(&[NotifyState::Status(status), NotifyState::ExtendTimeoutUsec(extend_us)]);
}

/// Recovered and reading.
pub(super) fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Leaving.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog at half its interval, only while the training loop makes progress: a stuck trainer is restarted, not kept warm.
/// Never returns; ends at once where no watchdog is asked for.
pub(super) async fn feed_watchdog(health: Health) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let mut rounds = tokio::time::interval(limit / 2);
    loop {
        rounds.tick().await;
        let verdict = health.live();
        if verdict.ok {
            tell(&[NotifyState::Watchdog]);
        } else {
            tracing::error!("systemd's watchdog is not fed: {}", verdict.why);
        }
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(e) = sd_notify::notify(states) {
        tracing::warn!("telling systemd: {e}");
    }
}
